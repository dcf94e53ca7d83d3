"""Compressed files in bounded memory, whatever they decompress to."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, cast

from isoflop.errors import not_importable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_READ = 1 << 16  # compressed bytes read at once
_BLOCK = 1 << 18  # decompressed bytes handed on at once
_XZ_MEMORY = 1 << 27  # `xz -9` needs 65 MiB; a header can demand 4 GB
_ZSTD_FEED = 1 << 10  # four bytes of zstd can mean 128 kB, so this much means 32 MB at most
_LONGEST_HEADER = 1 << 24  # of a Parquet page, whose header can hold its least and greatest value


def decompressed(raw: IO[bytes], suffix: str) -> IO[bytes]:
    """Return a stream of the decompressed bytes, which takes at most 200 MB of memory.

    Args:
        raw: The open file.
        suffix: One of `COMPRESSIONS`; any other means that the file is not compressed.

    Raises:
        MissingExtraError: zstandard is not installed.
        OSError, EOFError, zlib.error, lzma.LZMAError: While it is read, if the file is damaged, cut off, or demands more memory.
    """
    match suffix:
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        case ".bz2":
            return bz2.BZ2File(raw)
        case ".xz":
            return buffered(_xz(raw))
        case ".zst":
            return buffered(_zstd(raw, _zstandard()))
        case _:
            return raw


def buffered(blocks: Iterable[bytes]) -> IO[bytes]:
    """Return a stream over blocks of bytes."""
    return io.BufferedReader(_Blocks(iter(blocks)), buffer_size=_BLOCK)


class _Blocks(io.RawIOBase):
    """Blocks of bytes as one stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._ready = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        while not self._ready:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._ready = memoryview(block)
        n = min(len(view), len(self._ready))
        view[:n], self._ready = self._ready[:n], self._ready[n:]
        return n


def _xz(raw: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of each xz stream of a file."""
    packed = raw.read(_READ)
    while packed:
        stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        while not stream.eof:
            if stream.needs_input and not packed:
                packed = raw.read(_READ)
                if not packed:
                    raise EOFError("the last xz stream is cut off")
            yield stream.decompress(packed, _BLOCK)
            packed = b""
        packed = stream.unused_data.lstrip(b"\0")  # streams are padded with NULs
        while not packed and (more := raw.read(_READ)):
            packed = more.lstrip(b"\0")


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise not_importable(error, "zstandard", extra="train", needed_for="Reading .zst files") from None
    return zstandard


def _zstd(raw: IO[bytes], zstandard: Any) -> Iterator[bytes]:
    """Yield the content of each zstd frame of a file. zstandard's own reader ends a truncated file in silence."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    started = False
    while block := raw.read(_READ):
        for start in range(0, len(block), _ZSTD_FEED):
            packed = block[start : start + _ZSTD_FEED]
            while packed:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    content = frame.decompress(packed)
                except zstandard.ZstdError as error:
                    raise OSError(str(error)) from None
                packed, started = frame.unused_data, True
                yield content
    if started and not frame.eof:
        raise EOFError("the last zstd frame is cut off")


def largest_page(file: IO[bytes], start: int, end: int) -> int:
    """Return the bytes of the largest page of a Parquet column chunk, decompressed, as the pages themselves declare it.

    Readers allocate what a page declares, and 65 kB can declare 2 GB. The sizes in the file's footer say nothing about single pages.

    Args:
        file: The open Parquet file; its position is kept.
        start: Offset of the chunk's first page.
        end: Offset after its last page.

    Raises:
        ValueError: These are not Parquet pages.
    """
    before = file.tell()
    try:
        largest = 0
        while start < end:
            unpacked, packed, header = _page(file, start)
            largest = max(largest, unpacked)
            start += header + packed
        return largest
    finally:
        file.seek(before)


def _page(file: IO[bytes], start: int) -> tuple[int, int, int]:
    """Return a page's size decompressed, its size in the file, and that of its header."""
    size = 1 << 10
    while True:
        file.seek(start, os.SEEK_SET)
        header = file.read(size)
        try:
            fields, length = _Thrift(header).struct()
        except IndexError:
            if len(header) < size or size >= _LONGEST_HEADER:
                raise ValueError("a page header is cut off") from None
            size *= 16
            continue
        sizes = fields.get(2), fields.get(3)
        if None in sizes or min(cast("tuple[int, int]", sizes)) < 0:
            raise ValueError("a page header has no sizes")
        return *cast("tuple[int, int]", sizes), length


class _Thrift:
    """A struct in Thrift's compact protocol, of which only the integers of the outermost level are kept."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, int], int]:
        """Return its integers by field number, and the offset after it.

        Raises:
            IndexError: The data end before it does.
            ValueError: Not a struct.
        """
        if depth > 8:
            raise ValueError("a page header is nested too deeply")
        fields: dict[int, int] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            if kind in {4, 5, 6}:
                fields[number] = self._integer()
            elif kind not in {1, 2}:  # booleans have their value in the kind
                self._skip(kind, depth)
        return fields, self._at

    def _skip(self, kind: int, depth: int) -> None:
        match kind:
            case 1 | 2 | 3:
                self._byte()
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self._jump(8)
            case 8:
                self._jump(self._varint())
            case 9 | 10:
                head = self._byte()
                for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
                    self._skip(head & 15, depth + 1)
            case 12:
                self.struct(depth + 1)
            case _:
                raise ValueError(f"a page header has a field of kind {kind}")

    def _jump(self, n: int) -> None:
        self._at += n
        if self._at > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a page header has an integer of over 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)  # zigzag
