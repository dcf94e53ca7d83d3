"""Checkpoints: written in the background while training goes on, the last two kept, the newest sound one found again."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Self

from isoflop.train import _kept
from isoflop.train._kept import FORMAT, MANIFEST, TENSORS, Checkpoint, steps

__all__ = ["FORMAT", "KEEP", "MANIFEST", "TENSORS", "Checkpoint", "Writer", "at", "newest", "save", "steps"]

KEEP = 2
BYTES_PER_SECOND = 1e9  # hashed and written per CPU second, until it is measured: 192 MB took 0.19 s on an EPYC with SHA instructions


class Writer:
    """Writes checkpoints of one run into a folder, in a thread of its own. A context manager, which waits for the thread in the end.

    Attributes:
        folder: Where they go.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run: str | None = None,
        keep: int | None = KEEP,
        every: float = 0.0,
        share: float = math.inf,
        earlier: tuple[Path, ...] = (),
    ) -> None:
        """Start the clock of `due`.

        Args:
            folder: Made when the first is written.
            run: The id that its checkpoints note. Those of another run are none of the `keep`: they go once one of this run is durable. None: all count.
            keep: How many; None for all.
            every: Seconds between checkpoints, at least.
            share: Of the time since now, at most, that checkpoints may cost.
            earlier: Folders of earlier attempts at the run; emptied once this one holds all that it is to keep.
        """
        self.folder = folder
        self._run, self._keep, self._every, self._share, self._earlier = run, keep, every, share, earlier
        self._began = self._last = time.perf_counter()
        self._copying = self._writing = self._price = 0.0
        self._thread: threading.Thread | None = None
        self._trouble: Exception | None = None
        self._sound: set[int] | None = None  # steps known to be whole and of the run, once something was written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._wait()
        if kind is None:
            self._raise()

    @property
    def cost(self) -> float:
        """Seconds spent so far: the training thread's time for copies, and the CPU time of the writing one."""
        return self._copying + self._writing

    def due(self) -> bool:
        """Whether a checkpoint may be offered now; cheap enough to be asked every step.

        Raises:
            StoreError: The one before could not be written.
        """
        self._raise()
        now = time.perf_counter()
        return now - self._last >= self._every and self._affordable(now) and not self._busy()

    def offer(self, checkpoint: Checkpoint) -> bool:
        """Copy a checkpoint and write the copy in the background; False, and nothing done, if the one before is still being written or it would cost too much.

        Raises:
            StoreError: The one before could not be written.
        """
        self._raise()
        began = time.perf_counter()
        self._price = self._price or sum(t.nbytes for t in checkpoint.tensors.values()) / BYTES_PER_SECOND
        if self._busy() or not self._affordable(began):
            return False
        # an asynchronous save of the tensors themselves can write values of later steps: pytorch/pytorch#144657
        copy = checkpoint._replace(tensors={name: t.detach().to("cpu", copy=True).contiguous() for name, t in checkpoint.tensors.items()})
        copied = time.perf_counter() - began
        self._copying += copied
        self._thread = threading.Thread(target=self._work, args=(copy, copied), name="checkpoint", daemon=True)  # a second Ctrl-C need not wait for it
        try:
            self._thread.start()
        except RuntimeError:  # no thread to be had: training waits for this one
            self._thread = None
            self._work(copy, copied)
        self._last = time.perf_counter()
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and return once it would outlive a power cut. What became of the one before no longer matters.

        Raises:
            StoreError: No space, or the folder cannot be written.
        """
        self._wait()
        self._trouble = None
        began = time.thread_time()
        self._write(checkpoint._replace(tensors={name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}))
        self._copying += time.thread_time() - began
        self._last = time.perf_counter()

    def close(self) -> None:
        """Wait until the last one is durable.

        Raises:
            StoreError: It could not be written.
        """
        self._wait()
        self._raise()

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wait(self) -> None:
        if self._busy():
            assert self._thread is not None
            self._thread.join()

    def _raise(self) -> None:
        if not self._busy() and self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble

    def _affordable(self, now: float) -> bool:
        return self.cost + self._price <= self._share * (now - self._began)

    def _work(self, checkpoint: Checkpoint, copied: float) -> None:
        try:
            self._write(checkpoint)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised in the training thread
            self._trouble = error
        spent = time.thread_time()  # of this thread, which does nothing else
        self._writing += spent
        self._price = copied + spent

    def _write(self, checkpoint: Checkpoint) -> None:
        if self._sound is None:
            _kept.clear(self.folder)
            self._sound = set() if self._keep is None else {step for step in steps(self.folder) if _kept.read(self.folder, step, run=self._run)}
        _kept.write(self.folder, checkpoint, run=self._run)
        self._sound.add(checkpoint.step)
        if self._keep is not None:
            self._prune(sorted(self._sound)[-self._keep :])

    def _prune(self, kept: list[int]) -> None:
        """Remove all others, and those of earlier attempts once there are enough here."""
        for step in steps(self.folder):
            if step not in kept:
                _kept.remove(_kept.place(self.folder, step))
        if len(kept) == self._keep:
            for folder in self._earlier:
                _kept.clear(folder)
                for step in steps(folder):
                    _kept.remove(_kept.place(folder, step))
            self._earlier = ()


def save(folder: Path, checkpoint: Checkpoint, *, keep: int | None = KEEP) -> None:
    """Write one checkpoint and return once it is durable; see `Writer`.

    Raises:
        StoreError: No space, or the folder cannot be written.
    """
    Writer(folder, keep=keep).save(checkpoint)


def newest(
    folders: Iterable[Path], *, run: str | None = None, but_for: Collection[Path] = (), on_note: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """Return the furthest checkpoint in any of the folders that is whole and unaltered. Others are passed over.

    Args:
        folders: To look in.
        run: The run that it must be of; any if not given.
        but_for: Checkpoints to pass over in silence.
        on_note: Called with the reason why one is passed over.
    """
    found = sorted(((step, i, folder) for i, folder in enumerate(folders) for step in steps(folder)), reverse=True)
    places = ((folder, step) for step, _, folder in found if _kept.place(folder, step) not in but_for)
    return next((c for folder, step in places if (c := _usable(folder, step, run, on_note)) is not None), None)


def at(folder: Path, step: int, *, on_note: Callable[[str], None] | None = None) -> Checkpoint | None:
    """Return the checkpoint after exactly that many steps, if it is there, whole and unaltered."""
    return _usable(folder, step, None, on_note)


def _usable(folder: Path, step: int, run: str | None, on_note: Callable[[str], None] | None) -> Checkpoint | None:
    try:
        return _kept.inspect(folder, step, run=run)
    except _kept.Unreadable as reason:
        if on_note is not None:
            on_note(f"{reason}; it is passed over")
        return None
