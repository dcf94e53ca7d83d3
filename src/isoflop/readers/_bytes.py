"""Bytes of a file, uncompressed where its suffix says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from isoflop.errors import FitError

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


class Stream(NamedTuple):
    """A file being read."""

    file: Any  # Arrow's, of the bytes uncompressed
    raw: Any  # Arrow's, of the bytes on disk
    size: int  # of those

    @property
    def fraction(self) -> float:
        return min(float(self.raw.tell()) / max(self.size, 1), 1.0)


@contextmanager
def stream(path: Path) -> Iterator[Stream]:
    """A file as Arrow reads it.

    Raises:
        FitError: A damaged archive, or a file that cannot be read.
    """
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as raw:
            codec = _CODECS.get(path.suffix)
            yield Stream(pa.CompressedInputStream(raw, codec) if codec else raw, raw, path.stat().st_size)
    except OSError as error:
        raise FitError(f"{path} cannot be read: {error}. Check that it is whole and that you may read it.") from error


def head(path: Path, size: int) -> bytes:
    """The first bytes of a file.

    Raises:
        FitError: A damaged archive, or a file that cannot be read.
    """
    with stream(path) as opened:
        return bytes(opened.file.read(size))


def lines(path: Path) -> Iterator[bytes]:
    """Lines of a file with their ends."""
    with stream(path) as opened:
        rest = b""
        while block := bytes(opened.file.read(1 << 20)):
            *whole, rest = (rest + block).splitlines(keepends=True)
            if rest.endswith(b"\n"):
                whole, rest = [*whole, rest], b""
            yield from whole
        if rest:
            yield rest


def is_text(start: bytes) -> bool:
    """Whether the beginning of a file could be text."""
    return bool(start) and b"\0" not in start
