"""Memory: what a run needs, what the machine can give, and which runs fit together. Where a system does not say, nothing is refused."""

import ctypes
import math
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from isoflop import arch, units
from isoflop.arch import ProcessMemory, _kernels
from isoflop.errors import TrainError, UnitError, UsageError
from isoflop.launch import _cgroups as groups
from isoflop.runs import Muon, RunSpec

CAP = "ISOFLOP_MEMORY"  # the user's word on how much all workers together may take, like 2GB
# Bytes of addresses that PyTorch's libraries and stacks take beside the memory itself, which RLIMIT_AS counts too; measured: 1.75 to 3.0e9.
ADDRESSES = 3.0e9
IDLE = arch.PROCESS_BASE  # bytes of a worker that has nothing to train
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" as a number near 2**63


def need(spec: RunSpec, *, halvings: int = 0) -> ProcessMemory:
    """What a worker takes at its peak that trains the run on a CPU, its batch halved so many times and worked through in parts."""
    rows = spec.batch // spec.shape.context
    return arch.process_memory(
        spec.shape,
        sequences=math.ceil(rows / min(rows, 2**halvings)),
        batch=spec.batch,
        steps=spec.steps,
        eval_tokens=spec.eval_tokens,
        value_bytes=2 if spec.precision == "bf16" else 4,
        muon=isinstance(spec.optimizer, Muon),
        kernels=spec.shape.arch == "llama" and spec.precision == "float32" and spec.threads == 1 and _kernels.load() is not None,
    )


def halvings(spec: RunSpec, free: float) -> int:
    """How many times the batch must be halved for the run to fit; nothing else about the run changes, but for rounding.

    Raises:
        TrainError: It does not fit even with one sequence at a time.
    """
    most = math.ceil(math.log2(spec.batch // spec.shape.context))
    found = next((n for n in range(most + 1) if need(spec, halvings=n).total <= free), None)
    if found is None:
        raise TrainError(_refusal(spec, free, need(spec, halvings=most)))
    return found


def fitting(needs: Sequence[float], free: float, *, most: int) -> tuple[int, ...]:
    """Which of some runs fit together, taken in their order; at most so many."""
    chosen: list[int] = []
    for i, bytes_ in enumerate(needs):
        if len(chosen) < most and bytes_ <= free:
            chosen.append(i)
            free -= bytes_
    return tuple(chosen)


def free(pids: Collection[int] = ()) -> float:
    """Bytes that processes of ours may take now, those included that these take already; infinite where nobody says."""
    own = sum(map(held, pids))
    known = [own + value for value in (_meminfo("MemAvailable"), *_cgroup_room()) if value is not None]
    return min([*known, _cap()])


def limit() -> float:
    """Bytes that all workers together could ever have, were nothing else running; infinite where nobody says."""
    known = [value for value in (_meminfo("MemTotal"), *(most for most, _ in _cgroups())) if value is not None]
    return min([*known, _cap(), of_one_process()])


def of_one_process() -> float:
    """Bytes that RLIMIT_AS leaves to one worker; infinite without such a limit."""
    if sys.platform == "win32":
        return math.inf
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else max(0.0, soft - ADDRESSES)


def held(pid: int) -> float:
    """Bytes that a process holds for itself now; 0 where the system does not say."""
    return _entry(Path(f"/proc/{pid}/status"), "RssAnon") or 0.0


def give_back() -> None:
    """Return to the system what the allocator keeps of a run that is over: the next may be smaller, or in another process."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every libc
        if trim is not None:
            trim(0)


def _refusal(spec: RunSpec, free: float, least: ProcessMemory) -> str:
    return (
        f"run {spec.id} ({units.count(spec.shape.params.total)} parameters, {spec.batch} tokens a step) needs {units.size(need(spec).total)} of memory, and "
        f"{units.size(least.total)} with one sequence of {spec.shape.context} tokens at a time, but only {units.size(free)} can be had. It would be killed by "
        f"the system, or slow it to a halt. Take smaller models or a shorter context, end other programs, or raise {CAP} if that is what holds it down."
    )


def _cap() -> float:
    said = os.environ.get(CAP, "").strip()
    if not said:
        return math.inf
    try:
        return units.read(said.upper().removesuffix("B"))
    except UnitError:
        raise UsageError(f"{CAP} is {said!r}, which is no number of bytes. Write it like 2GB or 500MB.") from None


def _meminfo(name: str) -> float | None:
    """One of Linux's figures; of all memory, also where there is no /proc."""
    value = _entry(Path("/proc/meminfo"), name)
    if value is None and name == "MemTotal" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # macOS, BSD
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return value


def _entry(path: Path, name: str) -> float | None:
    """Bytes of a line such as "RssAnon:   1024 kB"."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _cgroup_room() -> Iterator[float]:
    for most, used in _cgroups():
        yield max(0.0, most - used)


def _cgroups() -> Iterator[tuple[float, float]]:
    """Return limit and use of every control group around us that has a limit; use without cached files that can be dropped."""
    for version, folder in groups.folders("memory"):
        limit_name, use_name = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        match groups.numbers(folder / limit_name), groups.numbers(folder / use_name):
            case [float(most)], [float(used)] if most < _UNLIMITED:
                yield most, used - _droppable(folder / "memory.stat")


def _droppable(path: Path) -> float:
    try:
        entries = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0.0
    return float(entries.get("total_inactive_file", entries.get("inactive_file", 0)))
