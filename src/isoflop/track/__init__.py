"""Trackers: where runs are logged while they are trained, for people who watch. None is needed, and none can stop or slow training.

One file a tracker, chosen by its name: `tensorboard` (event files), `wandb` (Weights & Biases), `mlflow`. What they were given is read back
by `isoflop.readers`, so that `isoflop fit` works on what was tracked.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from isoflop import _registry
from isoflop.errors import MissingExtraError
from isoflop.launch import Event
from isoflop.runs import RunRecord
from isoflop.store import files
from isoflop.track._listener import Listener, complain
from isoflop.track._marks import Marks
from isoflop.track._points import Point, Run

__all__ = ["Menu", "Point", "Run", "Tracker", "check", "get", "open"]

FOLDER = "track"  # of a study


class Tracker(Protocol):
    """Takes the points of runs. Called in a thread of its own; what it raises turns it off, with a warning.

    Attributes:
        where: What tells its store from another; what is in one need not be in the other.
    """

    where: str

    def begin(self, run: Run, *, logged: int) -> None:
        """Open a run, or go on in it after so many points."""

    def log(self, run: Run, point: Point) -> None:
        """A point of a run under way, later than those before it."""

    def end(self, run: Run, record: RunRecord, *, missing: Sequence[Point], every: Sequence[Point]) -> None:
        """What came of a run that was begun, with the points that were not logged yet, and with all."""

    def pause(self, run: Run) -> None:
        """A run that was begun is not trained on for now."""

    def close(self) -> None:
        """Leave nothing open, no process least of all."""


class Menu(Protocol):
    """What a tracker's file offers.

    Attributes:
        NEEDS: Packages by the name of what they are imported as; the extra is called as the tracker is.
        TITLE: Its name, for people.
    """

    NEEDS: Mapping[str, str]
    TITLE: str

    def open(self, folder: Path, *, study: str) -> Tracker:
        """The tracker of a study; what it keeps on this machine goes into the folder."""


def get(name: str) -> Menu:
    """The tracker of a name.

    Raises:
        UnknownNameError: No such tracker; the message lists those there are.
    """
    return cast("Menu", _registry.load(__name__, name, noun="tracker"))


def check(names: Sequence[str]) -> None:
    """Whether these trackers can be used, before anything is trained.

    Raises:
        UnknownNameError: No such tracker.
        MissingExtraError: What it needs is not installed.
    """
    for name in names:
        menu = get(name)
        for module, package in menu.NEEDS.items():
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(package, extra=name, needed_for=f"Tracking by {menu.TITLE}")


@contextlib.contextmanager
def open(  # noqa: A001  # track.open is how it is said
    names: Sequence[str],
    *,
    study: str,
    folder: Path,
    records: Sequence[RunRecord] = (),
    warn: Callable[[str], None] = complain,
) -> Iterator[Callable[[Event], None]]:
    """Track runs while they are trained: gives what is to be told of a launcher's events.

    Args:
        names: Of trackers, each once or more.
        study: Name of the study.
        folder: The study's.
        records: Of runs that are finished; those that a tracker does not have yet are logged when there is time.
        warn: Told, in a sentence, that a tracker is off.

    Raises:
        UnknownNameError: No such tracker.
        MissingExtraError: What it needs is not installed.
    """
    check(names)
    for place in (folder / FOLDER, *(folder / FOLDER / name for name in names)):
        files.refuse_link(place)
    listeners = [_listener(name, study=study, folder=folder, records=records, warn=warn) for name in dict.fromkeys(names)]

    def tell(event: Event) -> None:
        for listener in listeners:
            listener.on_event(event)

    hurry = True
    try:
        yield tell
        hurry = False
    finally:
        for listener in listeners:
            listener.dismiss(hurry=hurry)
        for listener in listeners:
            listener.wait()


def _listener(name: str, *, study: str, folder: Path, records: Sequence[RunRecord], warn: Callable[[str], None]) -> Listener:
    place = folder / FOLDER / name
    return Listener(
        name,
        lambda: get(name).open(place, study=study),
        study=study,
        folder=folder,
        marks=Marks(place / "logged"),
        records=records,
        warn=warn,
    )
