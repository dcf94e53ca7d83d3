"""Compressed files in bounded memory, whatever they decompress to."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from isoflop.errors import not_importable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_READ = 1 << 16  # compressed bytes read at once
_BLOCK = 1 << 18  # decompressed bytes handed on at once
_XZ_MEMORY = 1 << 27  # `xz -9` needs 65 MiB; a header can demand 4 GB
_ZSTD_FEED = 1 << 10  # four bytes of zstd can mean 128 kB, so this much means 32 MB at most
_LONGEST_FOOTER = 1 << 26  # of a Parquet file
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


class Chunk(NamedTuple):
    """A column of a row group in a Parquet file."""

    column: str  # its path in the schema, with dots
    start: int  # offset of its first page
    end: int  # offset after its last page
    unpacked: int  # bytes of its pages, decompressed


def chunks(file: IO[bytes]) -> Iterator[Chunk]:
    """Yield the column chunks of a Parquet file from its footer.

    pyarrow gives the same, but where a footer is damaged it ends the process ("terminate called after throwing").

    Args:
        file: The open Parquet file; its position is kept.

    Raises:
        ValueError: The file has no Parquet footer.
    """
    before = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length > min(size - 8, _LONGEST_FOOTER):
            raise ValueError("it has no Parquet footer")
        file.seek(size - 8 - length)
        yield from _chunks(file.read(length))
    finally:
        file.seek(before)


def _chunks(footer: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a `FileMetaData`; the numbers are those of the fields in parquet.thrift."""
    try:
        for group in _Thrift(footer).struct()[4]:
            for column in group[1]:
                known = column[3]
                start = min(known[9], known.get(11) or known[9])
                yield Chunk(b".".join(known[3]).decode(errors="replace"), start, start + known[7], known[6])
    except (IndexError, KeyError, TypeError, AttributeError):
        raise ValueError("its footer is damaged") from None


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
        file.seek(max(start, 0))
        header = file.read(size)
        try:
            thrift = _Thrift(header)
            fields = thrift.struct()
        except IndexError:
            if len(header) < size or size >= _LONGEST_HEADER:
                raise ValueError("a page header is cut off") from None
            size *= 16
            continue
        unpacked, packed = fields.get(2), fields.get(3)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise ValueError("a page header has no sizes")
        return unpacked, packed, thrift.at


class _Thrift:
    """Reads values in Thrift's compact protocol.

    Attributes:
        at: Bytes that have been read.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct by number.

        Raises:
            IndexError: The data end before it does.
            ValueError: Not a struct.
        """
        if depth > 12:
            raise ValueError("a header is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in {1, 2} else self._value(kind, depth)  # booleans have their value in the kind
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()
                return [self._value(head & 15, depth + 1) for _ in range(count)]
            case 12:
                return self.struct(depth + 1)
            case _:
                raise ValueError(f"a header has a field of kind {kind}")

    def _bytes(self, n: int) -> bytes:
        value = self._data[self.at : self.at + n]
        if len(value) < n:
            raise IndexError
        self.at += n
        return value

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
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
                raise ValueError("a header has an integer of over 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)  # zigzag
