"""Trains in this process, one run after the other: for debugging, and for machines where nothing else may be started."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop import _signals
from isoflop.errors import MemoryShortError, TrainError
from isoflop.launch import _memory
from isoflop.launch._attempt import LEASE, attempt
from isoflop.launch._events import Event, Finished, Lost, Mended, Progress, Skipped, Started
from isoflop.launch._means import USUAL, Means
from isoflop.launch._shortage import Shortage
from isoflop.runs import RunRecord, RunSpec
from isoflop.store import Claim, Store, owner

if TYPE_CHECKING:
    from isoflop.data import Corpus


def run(store: Store, specs: Sequence[RunSpec], corpus_folder: Path, *, workers: int, means: Means = USUAL, on_event: Callable[[Event], None]) -> None:  # noqa: ARG001  # one: us
    """Train those of the runs that are not finished; see `Launcher`."""
    from isoflop import data

    store.add(specs)
    ids = {spec.id for spec in specs}
    corpus = data.load(corpus_folder)
    with _signals.wishing() as wish:
        short = Shortage()
        try:
            while (claim := store.claim(owner(), lease=LEASE, ids=ids - short.runs.keys())) is not None:
                on_event(Started(id=claim.spec.id, spec=claim.spec, attempt=claim.attempt))
                _train(store, claim, corpus, means=means, on_event=on_event, wish=wish, short=short)
                wish.check()  # it came when the run was at its end
        except BaseException as error:
            store.release_all(reason=f"stopped: {str(error) or type(error).__name__}")
            raise
        short.check()


def _train(store: Store, claim: Claim, corpus: "Corpus", *, means: Means, on_event: Callable[[Event], None], wish: _signals.Wish, short: Shortage) -> None:
    from isoflop import train

    try:
        micro = 2 ** _memory.halvings(claim.spec, _memory.limit()) if means.device == "cpu" else 1
    except TrainError as error:  # nothing will make room for it here
        _skip(store, claim, str(error), short, on_event)
        return
    renewed = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal renewed
        if time.monotonic() - renewed > LEASE / 4:
            store.renew(claim, lease=LEASE)
            renewed = time.monotonic()
        on_event(progress)

    try:
        if means.device == "cpu":  # what fits the machine, but not beside what else is on it now, ends the work and waits
            micro = max(micro, 2 ** _memory.halvings(claim.spec, _memory.free([os.getpid()])))
        trouble = attempt(
            claim.spec,
            corpus,
            number=claim.attempt,
            folder=claim.folder,
            earlier=claim.earlier,
            trunk=claim.trunk,
            marks=claim.marks,
            same_weights=claim.same_weights,
            means=means,
            micro=micro,
            on_progress=report,
            on_note=lambda note: on_event(Mended(note=note)),
            should_stop=wish.made,
        )
    except MemoryShortError as error:
        _skip(store, claim, str(error), short, on_event)
        return
    except train.Interrupted:
        store.release(claim, reason="stopped")
        raise wish.exception() from None
    _ended(claim, store.finish(claim) if trouble is None else store.fail(claim, reason=trouble), trouble, on_event)


def _skip(store: Store, claim: Claim, reason: str, short: Shortage, on_event: Callable[[Event], None]) -> None:
    store.release(claim, reason=reason)
    short.runs[claim.spec.id] = reason
    on_event(Skipped(id=claim.spec.id, reason=reason))


def _ended(claim: Claim, record: RunRecord | None, trouble: str | None, on_event: Callable[[Event], None]) -> None:
    if record is not None:
        on_event(Finished(record=record))
    elif trouble is not None:
        on_event(Lost(id=claim.spec.id, attempt=claim.attempt, reason=trouble))
