"""Time: how long a run's steps take on this machine, predicted without training anything."""

import functools
import os

from isoflop.arch import _kernels, _time
from isoflop.runs import RunSpec

BUSY = 0.7  # assumption: load over cores from which runs would wait for each other
FACTOR, SHARE = 1.3, 0.9  # predicted and measured lie within this factor of each other for so many shapes: benchmarks/step_time.md


def step_seconds(spec: RunSpec) -> float:
    """Return the predicted seconds of one step of a run on a core of this machine that does nothing else."""
    return _time.step_seconds(spec.shape, batch=spec.batch, path=path_of(spec), speed=_speed())


def path_of(spec: RunSpec) -> _time.Path:
    """Return what computes the blocks of a run."""
    if spec.precision == "bf16":
        return "bf16"
    if spec.shape.arch != "llama":
        return "gopher"
    return "kernels" if spec.threads == 1 and _kernels.load() is not None else "operations"


def busy(cores: int) -> str:
    """Return a sentence if other programs have kept this machine's cores busy for the last minute; predicted times know nothing of them."""
    load = os.getloadavg()[0]
    return f"Other programs keep this machine busy (load {load:.1f}, {cores} cores), so it may take longer." if load > BUSY * cores else ""


@functools.cache
def _speed() -> float:
    return _time.core_speed()
