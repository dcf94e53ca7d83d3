"""Signals that stop or suspend a command: SIGTERM and SIGHUP stop it as Ctrl-C does, and Ctrl-Z suspends what it started as well."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGHUP)
REPEATED = 2.0  # seconds; assumption: `timeout`, shells and schedulers send one signal twice at once, to the process and to its group; a person takes longer


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked this process to stop. It stops as it does after Ctrl-C.

    Attributes:
        status: Exit status that shells expect of it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Wish:
    """A request to stop, noted by a signal handler and honoured when the work can be left."""

    def __init__(self) -> None:
        self._number = 0
        self._since = 0.0

    def made(self) -> bool:
        """Return whether a signal has come."""
        return self._number != 0

    def exception(self) -> KeyboardInterrupt:
        """Return what to raise once the work is left."""
        return _exception(self._number or signal.SIGINT)

    def check(self) -> None:
        """Raise if a signal has come.

        Raises:
            KeyboardInterrupt: It was Ctrl-C; `Stopped` for another signal.
        """
        if self.made():
            raise self.exception()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self._number:
            self._number, self._since = number, time.monotonic()
        elif number == signal.SIGINT or time.monotonic() - self._since > REPEATED:
            raise _exception(number)


@contextmanager
def stopping() -> Iterator[None]:
    """Raise `Stopped` in the main thread on SIGTERM and SIGHUP. Handlers of the caller stay, and a signal that is ignored (nohup) stays ignored."""
    last = -REPEATED

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > REPEATED:
            raise Stopped(number)

    with ExitStack() as stack:
        for number in STOPPING:
            if _main_thread() and signal.getsignal(number) is signal.SIG_DFL:
                stack.enter_context(_handled(number, stop))
        yield


@contextmanager
def wishing() -> Iterator[Wish]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a wish; a second one raises at once."""
    wish = Wish()
    with ExitStack() as stack:
        for number in (signal.SIGINT, *STOPPING):
            if _main_thread() and signal.getsignal(number) is not signal.SIG_IGN:
                stack.enter_context(_handled(number, wish._note))  # noqa: SLF001  # its own
        yield wish


@contextmanager
def suspending(before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Call `before` when Ctrl-Z suspends this process, and `after` when it resumes. Contexts nest: all of them are called."""
    if not _main_thread() or (previous := signal.getsignal(signal.SIGTSTP)) in {signal.SIG_IGN, None}:
        yield
        return

    def suspend(number: int, frame: FrameType | None) -> None:
        before()
        try:
            if callable(previous):
                previous(number, frame)
            else:
                with _handled(signal.SIGTSTP, signal.SIG_DFL):
                    # to this thread: it stops here, before the handler is back. Not SIGSTOP: nobody could resume a process without a shell
                    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        finally:  # also where a signal to stop came meanwhile
            after()

    with _handled(signal.SIGTSTP, suspend):
        yield


def send(pid: int, number: int) -> None:
    """Send a signal to a child of ours that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextmanager
def _handled(number: int, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


def _main_thread() -> bool:
    """Return whether handlers may be set: only the main thread may."""
    return threading.current_thread() is threading.main_thread()
