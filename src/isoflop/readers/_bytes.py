"""Bytes of a file: uncompressed, and UTF-16 turned into UTF-8, whatever the suffix says."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import FitError

LONGEST_LINE = 1 << 25  # bytes; assumption: no row of a table of runs takes 32 MB
MOST_EXPANSION = 1000  # times its size on disk: gzip cannot do more, and tables of runs shrink 5 to 100 times
ALWAYS_READ = 1 << 28  # bytes of uncompressed text that are read however small they were on disk
ALWAYS_ROWS = 1 << 20  # that are read however small they were on disk

_BLOCK = 1 << 20
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}  # by their first bytes
_UTF32 = b"\xff\xfe\0\0"
_UTF16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # byte order marks, which the decoder drops


@dataclass
class Stream:
    """A file that is being read, block by block."""

    path: Path
    file: Any  # Arrow's stream of the text
    raw: Any  # Arrow's file of the bytes on disk
    size: int  # bytes on disk
    compressed: bool
    done: int = 0  # bytes of text so far

    @property
    def fraction(self) -> float:
        """Share of the bytes on disk that has been read."""
        return min(float(self.raw.tell()) / max(self.size, 1), 1.0)

    def read(self, size: int) -> bytes:
        """Read the next bytes of the text.

        Raises:
            FitError: The file expands to so much text that it holds no table.
        """
        block = bytes(self.file.read(size))
        self.done += len(block)
        if self.compressed and self.done > max(ALWAYS_READ, MOST_EXPANSION * self.size):
            raise FitError(
                f"{self.path} takes {self.size:,} bytes on disk and expands to over {self.done / 1e6:,.0f} MB. "
                f"No table of runs shrinks {MOST_EXPANSION} times, so isoflop stops here. If the file is sound, decompress it yourself and give the result."
            )
        return block

    # The rest is what Arrow asks of a Python file.
    closed = False

    def readable(self) -> bool:
        """Return that the file can be read."""
        return True

    def writable(self) -> bool:
        """Return that the file cannot be written."""
        return False

    def seekable(self) -> bool:
        """Return that the file is read from its start to its end."""
        return False

    def close(self) -> None:
        """Do nothing: the context manager closes the file."""


@contextmanager
def stream(path: Path) -> Iterator[Stream]:
    """Open a file as uncompressed UTF-8.

    Raises:
        FitError: A damaged archive, or a file that cannot be read.
    """
    import pyarrow as pa

    try:
        codec = _codec(path)
        encoding = _encoding(path, codec)
        with pa.OSFile(os.fsencode(path)) as raw:
            text = pa.CompressedInputStream(raw, codec) if codec else raw
            text = pa.transcoding_input_stream(text, encoding, "utf-8") if encoding else text
            yield Stream(path, text, raw, path.stat().st_size, codec is not None)
    except OSError as error:
        raise FitError(f"{path} cannot be read: {error}. Check that it is whole and that you may read it.") from error


def _codec(path: Path) -> str | None:
    """Return how a file is compressed, by its first bytes."""
    with path.open("rb") as opened:
        start = opened.read(4)
    return next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)


def _encoding(path: Path, codec: str | None) -> str | None:
    """Return the encoding that a byte order mark gives, where it is not UTF-8."""
    import pyarrow as pa

    with pa.OSFile(os.fsencode(path)) as raw:
        start = bytes((pa.CompressedInputStream(raw, codec) if codec else raw).read(4))
    return None if start == _UTF32 else _UTF16.get(start[:2])


def head(path: Path, size: int) -> bytes:
    """Return the first bytes of a file's text.

    Raises:
        FitError: A damaged archive, or a file that cannot be read.
    """
    with stream(path) as opened:
        return opened.read(size)


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends.

    Raises:
        FitError: A damaged archive, or a line too long for a row of a table.
    """
    number, parts, size = 1, list[bytes](), 0
    with stream(path) as opened:
        while block := opened.read(_BLOCK):
            pieces = block.splitlines(keepends=True)
            if parts and parts[-1].endswith(b"\r") and not block.startswith(b"\n"):
                yield b"".join(parts)
                number, parts, size = number + 1, [], 0
            for place, piece in enumerate(pieces, start=1):
                parts.append(piece)
                size += len(piece)
                check_line(path, number, size)
                if piece.endswith(b"\n") or (piece.endswith(b"\r") and place < len(pieces)):  # the last might go on with a line feed
                    yield b"".join(parts)
                    number, parts, size = number + 1, [], 0
        if parts:
            yield b"".join(parts)


def check_line(path: Path, number: int, size: int) -> None:
    """Refuse a line that no row of a table is as long as.

    Raises:
        FitError: The line is longer than LONGEST_LINE.
    """
    if size > LONGEST_LINE:
        raise FitError(
            f"{path}, line {number}: the line is longer than {LONGEST_LINE / 1e6:.0f} MB, so it is no row of a table. Write one row a line, or JSON as a list."
        )


def check_rows(path: Path, rows: int) -> None:
    """Refuse a table with more rows than bytes: each row of runs has a loss of its own, which no compression writes in less.

    Raises:
        FitError: There are more.
    """
    size = path.stat().st_size
    if rows > max(ALWAYS_ROWS, size):
        raise FitError(
            f"{path} takes {size:,} bytes on disk and holds over {rows:,} rows. A row with a loss of its own takes more than a byte, "
            "so these rows repeat each other. isoflop does not read them; leave the repeated rows out."
        )


def is_text(start: bytes) -> bool:
    """Return whether the beginning of a file could be text."""
    return bool(start) and b"\0" not in start
