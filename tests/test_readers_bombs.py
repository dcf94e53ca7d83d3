"""Small files that would fill the memory: each is read or refused within a bound, in a process of its own."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")

HEADER = b"params,tokens,loss\n"
MEGABYTE = 1 << 20
BOUND = 1000  # MB of the process at the most; Python with Arrow takes 120 of them
CODE = """
import sys
from isoflop import readers
from isoflop.errors import IsoflopError
try:
    print(len(readers.read(sys.argv[1])))
except IsoflopError as error:
    print(error)
with open("/proc/self/status") as status:  # getrusage would count the process that started this one
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def read(path):
    """What reading printed, with the peak of its memory in MB."""
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    *message, peak = done.stdout.splitlines()
    assert not done.stderr
    return "\n".join(message), int(peak)


def packed(path, content, *, times):
    """Write a file of one text many times over."""
    with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as file:
        for _ in range(times):
            file.write(content)
    return path


def expect(path, message, *, bound=BOUND):
    said, peak = read(path)
    assert message in said
    assert peak < bound


def test_gigabytes_of_zeros_in_a_few_kilobytes(tmp_path):
    path = packed(tmp_path / "zeros.csv.zst", HEADER + b"0" * MEGABYTE, times=600)
    assert path.stat().st_size < 1e5
    expect(path, "expands to over")


def test_rows_that_repeat_without_end(tmp_path):
    path = tmp_path / "rows.csv.zst"
    with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as file:
        file.write(HEADER)
        for _ in range(60):
            file.write(b"1e7,1e9,3.5\n" * 100_000)
    expect(path, "so these rows repeat each other")


def test_objects_that_repeat_without_end(tmp_path):
    expect(packed(tmp_path / "rows.jsonl.zst", b'{"params": 1e7, "tokens": 1e9, "loss": 3}\n' * 30_000, times=100), "so these rows repeat each other")


@pytest.mark.slow
def test_a_list_without_end(tmp_path):
    path = tmp_path / "list.json.zst"
    with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as file:
        file.write(b"[{}")
        for _ in range(20):
            file.write(b",{}" * 100_000)
    expect(path, "so these rows repeat each other")


@pytest.mark.slow
def test_a_line_of_150_megabytes(tmp_path):
    for name, content in (("line.csv", HEADER + b"1" * 150 * MEGABYTE), ("line.jsonl", b'{"params": 1}\n{"a": "' + b"x" * 150 * MEGABYTE + b'"}')):
        (tmp_path / name).write_bytes(content)
        expect(tmp_path / name, "line 2: the line is longer than 34 MB")
    (tmp_path / "cell.csv").write_bytes(HEADER + b'1,2,"' + b"x" * 150 * MEGABYTE + b'"\n')
    expect(tmp_path / "cell.csv", "line 2")
    (tmp_path / "object.json").write_bytes(b'{"a": [' + b"[]," * 12 * MEGABYTE + b"1]}")
    expect(tmp_path / "object.json", "one JSON object of over 34 MB is not read")


@pytest.mark.slow
def test_an_object_that_python_holds_in_many_times_its_size(tmp_path):
    (tmp_path / "object.json").write_bytes(b'{"runs": [' + b"{}," * 9 * MEGABYTE + b"{}]}")
    expect(tmp_path / "object.json", "no column is known as params", bound=2500)


def test_a_name_for_every_value(tmp_path):
    (tmp_path / "names.jsonl").write_text("".join(json.dumps({f"loss {i}": 3.0}) + "\n" for i in range(100_000)))
    expect(tmp_path / "names.jsonl", "different names, so they are no table")


def test_a_curve_beside_a_thousand_settings(tmp_path):
    run = {"tokens": [1e6] * 100_000, "loss": [3.0] * 100_000} | {f"setting {i}": i for i in range(1000)}
    (tmp_path / "run.json").write_text(json.dumps([run]))
    expect(tmp_path / "run.json", "is too large")


@pytest.mark.slow
def test_a_parquet_file_of_a_hundred_million_rows(tmp_path):
    zero = pa.array([1e7] * MEGABYTE)
    with parquet.ParquetWriter(tmp_path / "a.parquet", pa.schema([(name, pa.float64()) for name in ("params", "tokens", "loss")])) as file:
        for _ in range(100):
            file.write_table(pa.table({"params": zero, "tokens": zero, "loss": zero}), row_group_size=100 * MEGABYTE)
    assert (tmp_path / "a.parquet").stat().st_size < 2e6
    expect(tmp_path / "a.parquet", "so these rows repeat each other")


@pytest.mark.parametrize("size", [10_000, MEGABYTE, pytest.param(300 * MEGABYTE, marks=pytest.mark.slow)])
def test_a_parquet_file_of_long_texts_that_are_written_once(tmp_path, size):
    rows = 1000 if size > 1e8 else 100_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))
    columns = {"params": [1e7 + i for i in range(rows)], "tokens": [1e9] * rows, "loss": [3.0] * rows, "status": text}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd")
    message, peak = read(tmp_path / "a.parquet")
    assert peak < BOUND
    assert ("a cell holds" in message) == (size == MEGABYTE)
    assert ("in memory" in message) == (size > MEGABYTE)


def test_gzip_of_gzip_is_not_unpacked_twice(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(gzip.compress(b"0" * 10 * MEGABYTE)))
    message, peak = read(tmp_path / "a.csv.gz")
    assert "not text" in message
    assert peak < BOUND


def test_too_little_memory_is_said_as_such(tmp_path):
    (tmp_path / "a.csv").write_bytes(HEADER + b"".join(b"%d,%d,3.%d\n" % (10**7 + i, 10**9 + i, i) for i in range(2_000_000)))
    code = "import resource, pyarrow.csv; resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n" + CODE
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.csv")], capture_output=True, text=True, check=False, timeout=300)
    assert "too little memory" in done.stdout, done.stdout + done.stderr
