"""Launchers: where runs are trained. They start things and stop them; what is true of a run is the store's word alone.

One file a launcher, chosen by its name: `inline` (this process, one run after the other), `pool` (a process for every core).
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from isoflop import _registry
from isoflop.errors import MissingExtraError, TrainError
from isoflop.launch import _memory, _time
from isoflop.launch._cores import cores
from isoflop.launch._events import Event, Finished, Lost, Mended, Progress, Skipped, Started
from isoflop.launch._means import USUAL, Means
from isoflop.launch._view import View
from isoflop.runs import RunSpec
from isoflop.store import Store

__all__ = [
    "USUAL",
    "Event",
    "Finished",
    "Launcher",
    "Lost",
    "Means",
    "Mended",
    "Progress",
    "Skipped",
    "Started",
    "View",
    "certainty",
    "cores",
    "fits_now",
    "get",
    "give_back",
    "parts",
    "require_torch",
    "step_seconds",
    "too_large",
]

MARGIN = 1.25  # over a run's predicted memory, which was 0.91 to 1.17 times the measured one: benchmarks/memory.md
give_back, step_seconds = _memory.give_back, _time.step_seconds


def require_torch() -> None:
    """Check that PyTorch is there, without loading it.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", extra="train", needed_for="Training")


class Launcher(Protocol):
    """What a launcher's file offers."""

    def run(
        self, store: Store, specs: Sequence[RunSpec], corpus_folder: Path, *, workers: int, means: Means = USUAL, on_event: Callable[[Event], None]
    ) -> None:
        """Train those of the runs that are not finished, the largest first, until each has its record.

        An attempt that dies of its run is tried again, from its last checkpoint; the third time the run is recorded as failed and the
        others go on. A run that there is too little memory for is skipped, and said at the end. Whatever else is no fault of a run (no space,
        damaged text, no more files or threads, Ctrl-C) ends the work, with all unfinished runs pending.

        Args:
            store: Whose lock the caller holds.
            specs: Added to the store if it does not know them.
            corpus_folder: Tokens, with the digest that the specs name.
            workers: Runs at once, at most.
            means: What they train with.
            on_event: Called in this thread.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when everything has stopped.
            StoreError: No space, or the folder cannot be written.
            CorpusError: The text is not the one that the runs were designed for.
            MemoryShortError: Some runs were skipped; all others are finished.
            TrainError: Workers cannot be started.
        """


def parts(spec: RunSpec, device: str) -> int:
    """Parts that a batch is worked through in for want of memory; one where even they would not fit, which training then says."""
    try:
        return 2 ** _memory.halvings(spec, _memory.limit()) if device == "cpu" else 1
    except TrainError:
        return 1


def fits_now(spec: RunSpec) -> bool:
    """Whether a run surely fits into the memory that is free now, its batch in parts if need be."""
    try:
        return MARGIN * _memory.need(spec, halvings=_memory.halvings(spec, _memory.limit())).total <= _memory.free()
    except TrainError:
        return False


def too_large(specs: Sequence[RunSpec]) -> tuple[str, ...]:
    """Return why runs can never be trained on this machine for want of memory, for each of those; workers do not try them."""
    reasons = []
    for spec in specs:
        try:
            _memory.halvings(spec, _memory.limit())
        except TrainError as error:
            reasons.append(str(error))
    return tuple(reasons)


def certainty() -> str:
    """Return how sure a predicted time is."""
    near = f"Predicted: within {_time.FACTOR} times for {round(10 * _time.SHARE)} of 10 shapes, on cores with nothing else to do."
    return " ".join(filter(None, (near, _time.busy(cores()))))


def get(name: str) -> Launcher:
    """The launcher of a name.

    Raises:
        UnknownNameError: No such launcher; the message lists those there are.
    """
    return cast("Launcher", _registry.load(__name__, name, noun="launcher"))
