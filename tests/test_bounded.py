"""Decompression takes the memory of its buffers, whatever comes out."""

import bz2
import contextlib
import gzip
import io
import lzma
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from isoflop import _bounded

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
PEAK = """
import pathlib, sys
from isoflop import _bounded

def peak():  # KiB; getrusage's peak is that of the parent process, if that is higher
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak()
size = 0
with open(sys.argv[1], "rb") as raw:
    stream = _bounded.decompressed(raw, sys.argv[2])
    while block := stream.read(1 << 18):
        size += len(block)
print(size, (peak() - before) // 1024)
"""


@pytest.mark.parametrize("suffix", PACK)
@given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=4), read=st.integers(1, 5000))
def test_streams_one_after_another_are_one_content(suffix, parts, read):
    stream = _bounded.decompressed(io.BytesIO(b"".join(PACK[suffix](part) for part in parts)), suffix)
    out = b""
    while block := stream.read(read):
        out += block
    assert out == b"".join(parts)


@pytest.mark.parametrize("suffix", PACK)
@given(content=st.binary(min_size=1, max_size=300), data=st.data())
def test_a_stream_that_is_cut_off_is_an_error(suffix, content, data):
    packed = PACK[suffix](content * 30)
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises((OSError, EOFError, lzma.LZMAError)):
        _bounded.decompressed(io.BytesIO(packed[:cut]), suffix).read()


def test_padding_between_xz_streams_is_no_content():
    packed = lzma.compress(b"one") + b"\0" * 8 + lzma.compress(b"two") + b"\0" * 70_000
    assert _bounded.decompressed(io.BytesIO(packed), ".xz").read() == b"onetwo"


def test_an_xz_file_that_demands_gigabytes_is_refused():
    packed = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16}])
    content = bytearray(packed.compress(b"a" * 1000) + packed.flush())
    at = content.index(b"\x21\x01")  # the filter's number, the size of its properties, then the dictionary's size
    content[at + 2] = 38  # 2 GiB
    header = content[12 : 12 + (content[12] + 1) * 4 - 4]
    content[12 + len(header) : 16 + len(header)] = zlib.crc32(bytes(header)).to_bytes(4, "little")
    with pytest.raises(lzma.LZMAError, match="usage limit"):
        _bounded.decompressed(io.BytesIO(bytes(content)), ".xz").read()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_takes_the_memory_of_its_buffers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "bomb"
    block = PACK[suffix](b"a" * (1 << 24))
    path.write_bytes(block * 10)
    out = subprocess.run([sys.executable, "-c", PEAK, path, suffix], capture_output=True, text=True, check=True)
    size, rise = map(int, out.stdout.split())
    assert size == 10 << 24
    assert rise < 120  # MiB; in one piece it is 160


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoded", ["plain", "dictionary"])
def test_the_largest_page_is_what_the_pages_declare(tmp_path: Path, version: str, encoded: str) -> None:
    path = tmp_path / "a.parquet"
    texts = ["small"] * 5000 + ["large " * 100_000] + ["small"] * 5000
    parquet.write_table(
        pa.table({"text": texts}), path, compression="zstd", data_page_version=version, use_dictionary=encoded == "dictionary", write_page_checksum=True
    )
    with path.open("rb") as file:
        (chunk,) = _bounded.chunks(file)
        assert 600_000 < _bounded.largest_page(file, chunk.start, chunk.end) < 700_000
        assert file.tell() == 0


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_pages_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert _bounded.largest_page(io.BytesIO(content), 0, len(content)) >= 0


@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_chunks_of_a_footer_are_those_that_pyarrow_reads(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"id": range(50), "text": [f"text {i}" for i in range(50)], "more": [{"a": [1.5, i]} for i in range(50)]})
    parquet.write_table(table, path, version=version, row_group_size=20, write_page_index=True)
    metadata = parquet.read_metadata(path)
    columns = [metadata.row_group(group).column(i) for group in range(3) for i in range(metadata.num_columns)]
    with path.open("rb") as file:
        found = list(_bounded.chunks(file))
    assert [(c.column, c.end - c.start, c.unpacked) for c in found] == [(c.path_in_schema, c.total_compressed_size, c.total_uncompressed_size) for c in columns]
    assert [c.start for c in found] == [min(c.data_page_offset, c.dictionary_page_offset or c.data_page_offset) for c in columns]


@given(st.binary(max_size=200))
def test_a_footer_of_any_bytes_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        list(_bounded.chunks(io.BytesIO(content + len(content).to_bytes(4, "little") + b"PAR1")))
