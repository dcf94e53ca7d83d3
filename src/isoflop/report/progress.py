"""Progress of what may take long: a bar on stderr, once two seconds have passed, and gone when it is done."""

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0  # seconds without a sign of life that a person takes for nothing (assumption)


class Bar:
    """A bar with what is being done and the time that is left; shows nothing where stderr is no terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True)
        self._task = self._bar.add_task("", total=1.0)
        self._what = ""
        self._begin = threading.Timer(PATIENCE, self._bar.start) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._begin is not None:
            self._begin.daemon = True
            self._begin.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._begin is not None:
            self._begin.cancel()
            self._begin.join()
            self._bar.stop()  # a bar that never began would print an empty line

    def update(self, what: str, fraction: float) -> None:
        """Say what is being done, and how much of it is."""
        if what != self._what:  # the time left is of this, not of what was before
            self._bar.reset(self._task, description=what)
            self._what = what
        self._bar.update(self._task, completed=fraction)
