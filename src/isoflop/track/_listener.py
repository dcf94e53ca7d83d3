"""Between a launcher and a tracker: events go into a queue, and a thread of its own logs them, so that nothing waits for a tracker."""

import contextlib
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.launch import Event, Finished, Progress
from isoflop.runs import RunRecord
from isoflop.track._desk import Desk
from isoflop.track._marks import Marks

if TYPE_CHECKING:
    from isoflop.track import Tracker

FULL = 1000  # events that wait, beyond which a run's progress is not logged any more: its curve is, when it has ended
PATIENCE = 60.0  # seconds that one event may take at the end; assumption: a server that needs longer does not answer
GRACE = 10.0  # seconds after Ctrl-C, as the pool's
TICK = 0.2  # seconds


def complain(sentence: str) -> None:
    """To a person; the live view passes on what is written to stderr."""
    sys.stderr.write(f"{sentence}\n")


class Listener:
    """Takes a launcher's events and gives them to a tracker, until that fails.

    Args:
        name: Of the tracker.
        opened: Opens it.
        study: Name of the study.
        folder: Of the study.
        marks: What it has already.
        records: Of runs that were finished before; logged when nothing else is to be.
        warn: Told why it is off.
    """

    def __init__(
        self,
        name: str,
        opened: "Callable[[], Tracker]",
        *,
        study: str,
        folder: Path,
        marks: Marks,
        records: Sequence[RunRecord],
        warn: Callable[[str], None],
    ) -> None:
        self._name, self._opened, self._warn = name, opened, warn
        self._desk = Desk(study=study, folder=folder, marks=marks)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._earlier = deque(records)
        self._off = False
        self._hurried = False
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"track {name}", daemon=True)  # a tracker that hangs must not keep the process
        try:
            self._thread.start()
        except RuntimeError as error:  # no thread to be had
            self._turn_off(str(error))

    def on_event(self, event: Event) -> None:
        """Note an event; takes microseconds."""
        if not self._off and (self._events.qsize() < FULL or not isinstance(event, Progress)):
            self._events.put(event)

    def dismiss(self, *, hurry: bool) -> None:
        """No event comes any more.

        Args:
            hurry: Leave to the next start what was not logged of runs that were finished earlier.
        """
        self._hurried = hurry
        self._heard = time.monotonic()
        self._events.put(None)

    def wait(self) -> None:
        """Until all is logged, as long as the tracker answers."""
        until = self._heard + GRACE if self._hurried else float("inf")
        while self._thread.is_alive():
            self._thread.join(TICK)
            now = time.monotonic()
            if now > min(until, self._heard + PATIENCE) and self._thread.is_alive():
                self._turn_off(f"it did not answer for {now - self._heard:.0f} s")
                return

    def _work(self) -> None:
        try:
            with contextlib.closing(self._opened()) as tracker:
                for event in self._items():
                    self._desk.take(event, tracker)
                    self._heard = time.monotonic()
                self._desk.clear(tracker)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a tracker raises, training goes on
            self._turn_off(" ".join(str(error).split())[:300] or type(error).__name__)

    def _items(self) -> Iterator[Event]:
        """What is to be logged: what happens, and in between what happened earlier."""
        dismissed = False
        while True:
            try:
                event = self._events.get(block=not self._earlier and not dismissed)
            except queue.Empty:
                if not self._earlier or (dismissed and self._hurried):
                    return
                record = self._earlier.popleft()
                if not self._desk.busy(record.id):  # it is being trained once more
                    yield Finished(record=record)
                continue
            if event is None:
                dismissed = True
            elif not (self._hurried and isinstance(event, Progress)):
                yield event

    def _turn_off(self, why: str) -> None:
        if not self._off:
            self._off = True
            again = f"The next start with --track {self._name} logs what is missing."
            self._warn(f"warning: tracking by {self._name} is off: {why.rstrip('.')}. Training is not affected. {again}")
