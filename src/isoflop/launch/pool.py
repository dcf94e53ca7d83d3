"""Trains in a process for every core of this machine: long-lived single-threaded workers, the largest runs first.

Only this driver opens the store. Workers are told what to train through a pipe, and say what they did; a worker that dies is
noticed by the end of its pipe, at once, and its run goes on elsewhere from its last checkpoint. Where the system ended it for want of memory, its batch is
from then on worked through in twice as many parts; a run for which there is too little memory even for one sequence at a time is skipped.
"""

import contextlib
import math
import selectors
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from isoflop import _signals, errors
from isoflop.errors import IsoflopError, StoreError, TrainError
from isoflop.launch._attempt import LEASE
from isoflop.launch._events import Event, Finished, Lost, Mended, Progress, Skipped, Started
from isoflop.launch._means import USUAL, Means
from isoflop.launch._process import NO_FAULT, Process
from isoflop.launch._room import Room
from isoflop.launch._shortage import Shortage
from isoflop.runs import RunRecord, RunSpec
from isoflop.store import FINISHED, TRIES, Claim, Store, owner

TICK = 0.5  # seconds between looks at leases and silent workers
SILENCE = 900.0  # seconds; assumption: a worker that says nothing for that long hangs. It speaks several times a second, or once a step where steps are slower
GRACE = 8.0  # seconds a worker has to write a checkpoint after Ctrl-C or SIGTERM; `docker stop` kills after ten
STILLBORN = 3  # workers that die in a row before they are ready: it is no accident


def run(store: Store, specs: Sequence[RunSpec], corpus_folder: Path, *, workers: int, means: Means = USUAL, on_event: Callable[[Event], None]) -> None:
    """Train those of the runs that are not finished; see `Launcher`."""
    store.add(specs)
    pool = _Pool(store, specs, corpus_folder, means, on_event)
    with _signals.stopping(), _signals.suspending(pool.suspend, pool.resume):
        try:
            pool.work(workers)
        except BaseException as error:
            pool.stop(f"stopped: {str(error) or type(error).__name__}")
            raise
        finally:
            pool.kill()


class _Pool:
    """The workers of one call of `run`."""

    def __init__(self, store: Store, specs: Sequence[RunSpec], corpus_folder: Path, means: Means, on_event: Callable[[Event], None]) -> None:
        self._store, self._corpus_folder, self._means, self._on_event = store, corpus_folder, means, on_event
        self._ids = {spec.id for spec in specs}
        self._room = Room(specs) if means.device == "cpu" else None  # of a card's memory PyTorch says when it runs out
        self._left: set[str] = set()
        self._pipes = selectors.DefaultSelector()
        self._started = 0
        self._stillborn = 0
        self._killed: set[str] = set()  # runs of which a worker was killed, nobody knows why
        self._short = Shortage()
        self._most = math.inf  # workers, where the system starts no more
        self._bus_errors = 0
        self._renewed = time.monotonic()

    def work(self, workers: int) -> None:
        """Train until every run is finished, or skipped for want of memory.

        Raises:
            MemoryShortError: Some were skipped.
        """
        self._look()
        while self._left:
            self._refuse()
            for _ in range(self._missing(workers)):
                self._try_to_start()
            self._assign()
            self._make_room()
            self._listen(TICK)
            self._tend()
            if not any(w.claim for w in self._workers):
                self._look()
        self._short.check()

    def stop(self, reason: str) -> None:
        """Let busy workers write checkpoints, for a while; their runs are pending again."""
        for worker in self._workers:
            worker.ask_to_stop()
        until = time.monotonic() + GRACE
        try:
            while any(w.claim for w in self._workers) and time.monotonic() < until:
                with contextlib.suppress(IsoflopError):  # what stopped us is already on its way up
                    self._listen(TICK)
        finally:  # also after a second Ctrl-C
            with contextlib.suppress(StoreError):  # the next driver's lock sees to it
                self._store.release_all(reason=reason)

    def suspend(self) -> None:
        """Stop all workers where they are."""
        for worker in self._workers:
            worker.suspend()

    def resume(self) -> None:
        """Let all workers continue."""
        for worker in self._workers:
            worker.resume()

    def kill(self) -> None:
        """Leave no process behind."""
        for worker in self._workers:
            worker.kill()
            worker.bury()
        self._pipes.close()

    @property
    def _workers(self) -> list[Process]:
        return [key.fileobj for key in self._pipes.get_map().values() if isinstance(key.fileobj, Process)]

    def _look(self) -> None:
        self._left = {row.id for row in self._store.rows() if row.id in self._ids - self._short.runs.keys() and row.status not in FINISHED}

    def _try_to_start(self) -> None:
        """Start a worker; where the system starts no more, do with those there are."""
        try:
            self._start()
        except IsoflopError as error:
            if not self._workers:
                raise
            self._most = len(self._workers)
            self._on_event(Mended(note=f"{error} Training continues with {self._most} workers."))

    def _start(self) -> None:
        self._started += 1
        worker = Process(self._corpus_folder, log=self._store.folder / "logs" / f"worker-{self._started}.log", means=self._means)
        self._pipes.register(worker, selectors.EVENT_READ)

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.claim is None:
                # leases are in wall time, and their renewals are not: while a laptop sleeps, those of our own workers run out
                held = {w.claim.spec.id for w in self._workers if w.claim}
                parts = self._fits(worker, self._ids - held - self._short.runs.keys())
                claim = self._store.claim(f"{owner()}, worker {worker.pid}", lease=LEASE, ids=parts.keys())
                if claim is None:
                    return
                worker.train(claim, micro=parts[claim.spec.id])
                self._on_event(Started(id=claim.spec.id, spec=claim.spec, attempt=claim.attempt))

    def _fits(self, worker: Process, ids: Collection[str]) -> Mapping[str, int]:
        """Those of the runs that there is memory for, and in how many parts a batch of theirs."""
        return dict.fromkeys(ids, 1) if self._room is None else self._room.fits(ids, worker, self._workers)

    def _missing(self, workers: int) -> int:
        """Workers to start."""
        most = int(min(workers, len(self._left), self._most))
        if self._room is not None and len(self._workers) < most:
            most = self._room.wanted(self._left - {w.claim.spec.id for w in self._workers if w.claim}, self._workers, most=most)
        return max(0, most - len(self._workers))

    def _refuse(self) -> None:
        """Skip what there is never enough memory for here, so that the others go on."""
        refused = self._room.refused if self._room else {}
        for id_ in sorted(self._left & refused.keys()):
            self._skip(id_, refused[id_])

    def _make_room(self) -> None:
        """Where nothing runs, though all workers could, and nothing fits: fewer workers, and then smaller parts of a batch."""
        workers = self._workers
        if self._room is None or not workers or any(w.claim or not w.ready for w in workers) or self._fits(workers[0], self._left):
            return
        for worker in workers[1:]:
            self._pipes.unregister(worker)
            worker.kill()
            worker.bury()
        if len(workers) == 1:
            self._room.squeeze(self._left, workers[0])

    def _listen(self, seconds: float) -> None:
        for key, _ in self._pipes.select(seconds):
            worker = key.fileobj
            assert isinstance(worker, Process)
            try:
                for message in worker.hear():
                    self._take(worker, message)
            except EOFError:
                self._lose(worker)

    def _tend(self) -> None:
        now = time.monotonic()
        if now - self._renewed > LEASE / 4:
            self._renewed = now
            for worker in self._workers:
                if worker.claim:
                    self._store.renew(worker.claim, lease=LEASE)
        for worker in self._workers:
            if worker.claim and now - worker.heard > SILENCE:
                worker.kill(f"its worker said nothing for {SILENCE / 60:.0f} min and was stopped")

    def _take(self, worker: Process, message: dict[str, Any]) -> None:
        match message.pop("kind"):
            case "ready":
                worker.ready, self._stillborn = True, 0
            case "progress":
                self._on_event(Progress(**message))
            case "done":
                self._finished(self._store.finish(worker.put_down()))
            case "note":
                self._on_event(Mended(**message))
            case "short":
                claim = worker.put_down()
                self._store.release(claim, reason=message["reason"])
                self._skip(claim.spec.id, message["reason"])
            case "failed":
                self._fail(worker.put_down(), message["reason"])
            case "stopped":
                self._store.release(worker.put_down(), reason="stopped")
            case "error":
                if worker.claim:
                    self._store.release(worker.put_down(), reason=message["message"])
                raise _error(message["error"], message["message"])

    def _lose(self, worker: Process) -> None:
        self._pipes.unregister(worker)
        status = worker.bury()
        if worker.claim is None:
            self._stillborn += not worker.ready
            if self._stillborn >= STILLBORN:
                why = f"workers die before they can train: {worker.cause(status)}"
                raise TrainError(f"{why}. No run has failed. See {worker.log}, fix the cause, then run the same command again.")
        elif -status in NO_FAULT:
            self._give_back(worker.put_down(), worker.cause(status))
        elif -status == signal.SIGBUS:
            self._unmapped(worker.put_down(), worker.cause(status))
        elif self._starved(worker, status):
            self._divide(worker.put_down(), worker.cause(status))
        else:
            self._fail(worker.put_down(), worker.cause(status))

    def _starved(self, worker: Process, status: int) -> bool:
        """Whether a worker died of a lack of memory. Where nobody says, a run's first kill may be anybody's; the second is taken for one."""
        assert worker.claim is not None
        found, id_ = worker.starved(status), worker.claim.spec.id
        if found is None:
            found = id_ in self._killed
            self._killed.add(id_)
        return found

    def _divide(self, claim: Claim, reason: str) -> None:
        """Have a run continue with its batch in smaller parts; where there are none, it is tried as often as others and then skipped.

        On a card parts would not spare the system's memory.
        """
        parts = self._room.halve(claim.spec.id) if self._room else 0
        if parts:
            self._give_back(claim, f"{reason}; from now on its batch is worked through in {parts} parts")
            return
        self._give_back(claim, f"{reason}; its batch cannot be worked through in smaller parts")
        if self._short.again(claim.spec.id) >= TRIES:
            self._skip(claim.spec.id, f"{TRIES} attempts ended for want of memory; the last: {reason}")

    def _unmapped(self, claim: Claim, reason: str) -> None:
        """A file that was mapped could not be read (mmap(2), SIGBUS): no fault of the run.

        Raises:
            StoreError: It happened several times.
        """
        self._give_back(claim, reason)
        self._bus_errors += 1
        if self._bus_errors >= TRIES:
            raise StoreError(
                f"files of the text in {self._corpus_folder} cannot be read, or became shorter while they were read ({reason}). No run has failed. "
                "Fix the cause, then run the same command again."
            )

    def _skip(self, id_: str, reason: str) -> None:
        self._short.runs[id_] = reason
        self._left.discard(id_)
        self._on_event(Skipped(id=id_, reason=reason))

    def _give_back(self, claim: Claim, reason: str) -> None:
        self._store.release(claim, reason=reason)
        self._on_event(Lost(id=claim.spec.id, attempt=claim.attempt, reason=reason))

    def _fail(self, claim: Claim, reason: str) -> None:
        record = self._store.fail(claim, reason=reason)
        if record is None:
            self._on_event(Lost(id=claim.spec.id, attempt=claim.attempt, reason=reason))
        self._finished(record)

    def _finished(self, record: RunRecord | None) -> None:
        if record is not None:
            self._left.discard(record.id)
            self._on_event(Finished(record=record))


def _error(name: str, message: str) -> IsoflopError:
    kind = vars(errors).get(name, TrainError)
    error = kind.__new__(kind, message)  # as it was raised over there, whatever its constructor takes
    assert isinstance(error, IsoflopError)
    return error
