"""Whatever a file holds: runs with every row accounted for, or an error of ours; never a traceback, never a silent drop."""

import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow
from pyarrow import parquet

from isoflop import readers
from isoflop.errors import IsoflopError

SETTINGS = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
POISON = [
    "",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1e308",
    "1e-320",
    "70M",
    "1,000",
    "1.234,5",
    "many",
    "#REF!",
    "None",
    "true",
    "½",
    "١٢",
    "0x10",
    "1_000",
    "9" * 400,
]
CELL = st.one_of(
    st.sampled_from(POISON),
    st.floats().map(repr),
    st.integers().map(str),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters='",;|\t\r\n\0'), max_size=8),
)
GOOD = [f"r{i % 7},{1e7 * (i % 7 + 1)},{1e8 * (i // 7 + 1)},{4 - i / 40},{i // 7}" for i in range(42)]
HEADER = "run_id,params,tokens,loss,step"
CURVES = "\n".join([HEADER, *GOOD, ""]).encode()


def count(runs):
    """Rows that are in the columns, or left out with a reason."""
    left_out = 0
    for entry in runs.dropped:
        many = re.fullmatch(r"([\d,]+) (?:rows|runs)", entry.id)
        left_out += int(many[1].replace(",", "")) if many else 1
    return len(runs) + left_out


def read(path, **told):
    try:
        return readers.read(path, **told)
    except IsoflopError as error:
        assert str(error)  # noqa: PT017  # that it is one of ours is the fact
        return None


@SETTINGS
@given(cells=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=30))
def test_rows_in_are_rows_kept_and_rows_left_out(tmp_path, cells):
    path = tmp_path / "poisoned.csv"
    path.write_text("params,tokens,loss\n5e7,1e9,3.0\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in cells), encoding="utf-8")
    runs = read(path)  # refused where what is left is no training run
    if runs is None:
        return
    assert count(runs) == 1 + len(cells)
    for column in (runs.params, runs.tokens, runs.loss, runs.flops, runs.budget):
        assert (np.isfinite(column) & (column > 0)).all()


@SETTINGS
@given(cells=st.lists(st.tuples(CELL, CELL, CELL, CELL, CELL), max_size=20), every_point=st.booleans())
def test_poison_in_curves_is_never_a_traceback_and_the_whole_runs_stay(tmp_path, cells, every_point):
    path = tmp_path / "poisoned.csv"
    path.write_text("\n".join([HEADER, *GOOD, *(",".join(f'"{cell}"' for cell in row) for row in cells)]), encoding="utf-8")
    runs = readers.read(path, every_point=every_point)  # that rows add up is asserted inside, for curves too
    assert len(runs) >= (42 if every_point else 1)


@SETTINGS
@given(cut=st.integers(0, len(CURVES)))
@example(cut=0)
@example(cut=len(HEADER))
@example(cut=len(HEADER) + 1)
def test_a_file_cut_at_any_byte(tmp_path, cut):
    (tmp_path / "cut.csv").write_bytes(CURVES[:cut])
    read(tmp_path / "cut.csv")


@SETTINGS
@given(content=st.binary(max_size=200), at=st.integers(0, len(CURVES)))
def test_any_bytes_anywhere(tmp_path, content, at):
    for kind in ("delimited", "jsonl", "parquet", None):
        (tmp_path / "any").write_bytes(content)
        read(tmp_path / "any", kind=kind)
    (tmp_path / "any").write_bytes(CURVES[:at] + content + CURVES[at:])
    read(tmp_path / "any")


@pytest.mark.parametrize("name", ["runs.parquet", "runs.jsonl", "list.json"])
def test_other_formats_cut_at_any_byte(tmp_path, name):
    rows = [{"params": 1e7 * (i + 1), "tokens": 1e9, "loss": 4 - i / 10} for i in range(8)]
    path = tmp_path / name
    match name:
        case "runs.parquet":
            parquet.write_table(pa.Table.from_pylist(rows), path)
        case "runs.jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows))
        case _:
            path.write_text(json.dumps(rows))
    whole = path.read_bytes()
    assert len(readers.read(path)) == 8
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        read(path)
        path.write_bytes(whole[:cut] + b"\xff\x00\x7f" + whole[cut + 3 :])
        read(path)


LEAF = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
RUN = st.fixed_dictionaries({"params": JSON, "tokens": JSON, "loss": JSON}, optional={"run": JSON, "seed": JSON, "flops": JSON, "status": JSON})


@SETTINGS
@given(rows=st.lists(RUN, max_size=8))
def test_json_of_any_values(tmp_path, rows):
    good = {"params": 1e7, "tokens": 1e9, "loss": 3.0}
    for name, text in (("a.jsonl", "\n".join(json.dumps(row) for row in [good, *rows])), ("a.json", json.dumps([good, *rows]))):
        (tmp_path / name).write_text(text)
        read(tmp_path / name)


WORDS = ["params", "loss", " ", "(", ")", "<", "=", "==", "1", "'a'", " and ", " or ", " not ", " in ", ",", "`x y`", "+", "-", "*", "/", ".", "\n", "#"]


@SETTINGS
@given(where=st.lists(st.sampled_from(WORDS), max_size=12).map("".join) | st.text(max_size=12))
def test_any_text_as_a_filter(tmp_path_factory, where):
    path = tmp_path_factory.getbasetemp() / "filtered.csv"
    if not path.exists():
        path.write_text("params,tokens,loss\n1e7,2e8,4\n")
    read(path, where=where)


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_rows_of_curves_does_not_matter(tmp_path, seed):
    order = np.random.default_rng(seed).permutation(len(GOOD))
    (tmp_path / "a.csv").write_bytes(CURVES)
    (tmp_path / "b.csv").write_text("\n".join([HEADER, *(GOOD[i] for i in order)]))
    a, b = readers.read(tmp_path / "a.csv"), readers.read(tmp_path / "b.csv")
    assert a.digest == b.digest
    for one, other in zip(a.curves, b.curves, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_hundred_thousand_rows_of_one_budget(tmp_path):
    params = np.geomspace(3e6, 1e9, 100_000)  # below, a run would see over a million tokens for each parameter, and be no training run
    table = pa.table({"params": params, "tokens": 1e19 / 6 / params, "loss": 2 + np.abs(np.log(params / 3e7)) / 10})
    arrow.write_csv(table, tmp_path / "many.csv")
    runs = readers.read(tmp_path / "many.csv")
    assert len(runs) == 100_000
    assert len(set(runs.budget)) == 1
    assert not runs.dropped


def write_points(path, points, runs):
    """Curves of `runs` runs, `points` in all, with ten columns as a tracker has them; rows of runs interleaved in blocks."""
    per = points // runs
    draw = np.random.default_rng(0)
    writer = None
    for first in range(0, runs, 50):
        run = np.repeat(np.arange(first, min(first + 50, runs)), per)
        step = np.tile(np.arange(1.0, per + 1), run.size // per)
        params = np.round(10 ** (7 + 3 * (run % 97) / 97))
        tokens = step * 524288
        loss = 1.8 + 400 / params**0.34 + 2000 / tokens**0.37 + draw.normal(0, 0.01, run.size)
        table = pa.table(
            {"run_id": [f"run-{i:05d}" for i in run], "params": params, "tokens": tokens, "step": step, "val_loss": loss, "lr": 3e-4 * (1 - step / per) + 3e-5}
            | {"seconds": draw.random(run.size), "grad_norm": draw.random(run.size), "dataset": ["c4"] * run.size, "seed": run % 3}
        )
        if writer is None:
            writer = arrow.CSVWriter(path, table.schema) if path.suffix == ".csv" else parquet.ParquetWriter(path, table.schema)
        writer.write(table)
    writer.close()


@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_two_hundred_thousand_points_of_curves(tmp_path, name):
    write_points(tmp_path / name, 200_000, 200)
    runs = readers.read(tmp_path / name)
    assert len(runs) == 200
    assert {curve.loss.size for curve in runs.curves} == {1000}
    assert not runs.dropped


@pytest.mark.slow
@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_ten_million_points_fit_into_four_gigabytes(tmp_path, name):
    write_points(tmp_path / name, 10_000_000, 1000)
    code = (
        f"from isoflop import readers; r = readers.read({str(tmp_path / name)!r}); import resource; "
        "print(len(r), sum(c.loss.size for c in r.curves), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    runs, points, kilobytes = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert (runs, points) == (1000, 10_000_000)
    assert kilobytes < 4e6  # of the process that read; ru_maxrss is in kB on Linux
