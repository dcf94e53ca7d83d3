"""Standard output and standard error that may be closed, on a full disk, or a pipe whose reader has left.

A failed write never stops a command half-way: training continues without its display. The first failure is kept and sets the exit status at the end.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Guarded(io.RawIOBase):
    """A stream that keeps the first failure to write, and discards what is written after it.

    Args:
        raw: The stream behind it; None where the descriptor is closed.
    """

    def __init__(self, raw: io.RawIOBase | None) -> None:
        self._raw = raw
        self.failure: OSError | None = None

    def write(self, data: "Buffer", /) -> int | None:
        """Write to the stream behind, or discard the data if that has failed before."""
        if self._raw is None:
            self.failure = OSError(errno.EBADF, "standard output is closed")
        elif self.failure is None:
            try:
                return self._raw.write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw is not None and self._raw.isatty()

    def fileno(self) -> int:
        if self._raw is None:
            raise io.UnsupportedOperation("fileno")
        return self._raw.fileno()


def guard() -> None:
    """Put guarded streams in place of standard output and standard error, and open closed descriptors on the null device.

    A closed descriptor would be given to the next file that is opened, and a worker's messages would end up in that file. Streams that a test or a notebook
    has put in their place stay as they are.
    """
    closed = _open_missing()
    sys.stdout = _guarded(sys.stdout, closed=1 in closed)
    sys.stderr = _guarded(sys.stderr, closed=2 in closed)


def finish() -> OSError | None:
    """Flush both streams; return the first failure to write standard output, or None."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, Guarded) else None


def _open_missing() -> list[int]:
    """Open the null device on those of the descriptors 0, 1 and 2 that are closed, and return them."""
    missing = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            missing.append(number)
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number, which is this one
    return missing


def _guarded(stream: TextIO | None, *, closed: bool) -> TextIO:
    if stream is None or closed:
        return _text(Guarded(None), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED there is no buffer between them
    if not isinstance(raw, io.FileIO):
        return stream
    return _text(Guarded(raw), encoding=stream.encoding, line_buffering=stream.line_buffering, write_through=stream.write_through)


def _text(raw: Guarded, *, encoding: str, line_buffering: bool = False, write_through: bool = False) -> TextIO:
    """Return a text stream in which a terminal without a dash or a proportion sign gets a question mark."""
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="replace", line_buffering=line_buffering, write_through=write_through)
