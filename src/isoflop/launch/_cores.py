"""Cores that this process may use: by its affinity, and by the CPU quotas of the containers around it."""

import math
import os

from isoflop.launch import _cgroups


def cores() -> int:
    """Return how many runs may train at once at full speed, one a core; at least one.

    A quota of a part of a core counts as a whole one: workers that are throttled together lose nothing against fewer workers.
    """
    return max(1, min([_allowed(), *map(math.ceil, _quotas())]))


def _allowed() -> int:
    count = getattr(os, "process_cpu_count", None)  # since Python 3.13, where PYTHON_CPU_COUNT may lower it
    if count is not None:
        return int(count() or 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> list[float]:
    """Return the CPUs that each group around us may take; none where there is no limit."""
    found = []
    for version, folder in _cgroups.folders("cpu"):
        if version == 2:  # docs.kernel.org/admin-guide/cgroup-v2.html: "$MAX $PERIOD"
            quota = _cgroups.numbers(folder / "cpu.max")
        else:  # docs.kernel.org/scheduler/sched-bwc.html: -1 is no limit
            quota = [*_cgroups.numbers(folder / "cpu.cfs_quota_us"), *_cgroups.numbers(folder / "cpu.cfs_period_us")]
        match quota:
            case [float(most), float(period)] if most > 0 and period > 0:
                found.append(most / period)
    return found
