"""Whatever a table of runs holds: runs, or an error of ours; never another exception and never a warning."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import fuzz as invented
from fuzz import TEXT, answer_or_error, fuzz
from isoflop import readers

LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | TEXT | st.sampled_from([10**400, -(10**4000), 2**63, 2**64, 1e308, -0.0])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


def read(path, **told):
    """Read runs; whatever comes back is finite and positive."""
    runs = answer_or_error(lambda: readers.read(path, **told))
    if runs is not None:
        for column in (runs.params, runs.tokens, runs.loss, runs.flops, runs.budget):
            assert (np.isfinite(column) & (column > 0)).all()


def write(path, data):
    path.write_bytes(data)
    return path


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "where": st.sampled_from(["loss < 3", "params > 0", "status == 'finished'", "loss > 1e9", "step >= 2 or not diverged"]),
        "every_point": st.booleans(),
        "convention": st.sampled_from(["total", "nonembedding", "with_head"]),
        "columns": st.dictionaries(
            st.sampled_from(sorted(readers.ROLES)), st.sampled_from([*invented.HEADERS, "70M", "loss*2", "params*1e6", "step*0"]), max_size=2
        ),
    },
)


@fuzz
@given(table=invented.tables(), options=OPTIONS, delimiter=st.sampled_from(",;\t|"), damage=st.none() | st.tuples(st.floats(0, 1), st.binary(max_size=6)))
def test_a_csv_of_anything(tmp_path, table, options, delimiter, damage):
    header, rows = table
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    data = text.getvalue().encode()
    if damage:
        at = int(damage[0] * len(data))
        data = data[:at] + damage[1] + data[at + len(damage[1]) :]
    read(write(tmp_path / "runs.csv", data), **options)


ODD = st.lists(st.tuples(st.integers(0, 19), TEXT | st.sampled_from(invented.HEADERS), VALUES), max_size=3)
WRITERS = (
    json.dumps,
    lambda rows: "\n".join(json.dumps(row) for row in rows),
    lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
)


@fuzz
@given(table=invented.tables(), odd=ODD, options=OPTIONS, text=st.sampled_from(WRITERS))
def test_jsonl_of_anything(tmp_path, table, odd, options, text):
    header, rows = table
    entries = [dict(zip(header, map(invented.typed, row), strict=True)) for row in rows]
    for row, name, value in odd:
        if row < len(entries):
            entries[row][name] = value
    read(write(tmp_path / "runs.jsonl", text(entries).encode()), **options)


TRAPS = [
    '"\\ud800"', "9" * 5000, "NaN", "1e999", "-Infinity", "[" * 2000, '{"a":' * 2000, "[" * 200_000 + "]" * 200_000, '"\\u0000"', "null", '"\\udfff\\ud800": 1',
    "\ufeff", "", "1e", "tru",
]  # fmt: skip
ROW = '{"params": 1e7, "tokens": 1e9, "loss": 3.1, "name": "a"}'


@pytest.mark.parametrize("trap", TRAPS, ids=range(len(TRAPS)))
@pytest.mark.parametrize(
    "form", ['{"params": 1e7, "tokens": 1e9, "loss": %s}', '{"params": 1e7, "tokens": 1e9, "loss": 3, "name": %s}', "{%s: 1}", '[{"params": %s}]', "%s"]
)
def test_json_that_ends_other_parsers(tmp_path, form, trap):
    """As Arrow's: a segmentation fault at a null in place of an object, and at deep nesting."""
    for before in ("", ROW + "\n"):
        read(write(tmp_path / "runs.jsonl", (before + form % trap).encode()))
        read(tmp_path / "runs.jsonl", kind="jsonl")


TYPES = [
    pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.int8(), pa.uint64(), pa.string(), pa.large_string(), pa.bool_(), pa.binary(),
    pa.null(), pa.decimal128(38, 5), pa.timestamp("ns"), pa.date32(), pa.duration("s"), pa.list_(pa.float64()),
    pa.struct([("x", pa.float64())]), pa.dictionary(pa.int32(), pa.string()), pa.map_(pa.string(), pa.int64()),
]  # fmt: skip


def column(cells, kind):
    """Return cells as an Arrow column of a type; nulls where they are of no such type."""
    given = [invented.typed(cell) for cell in cells]
    if pa.types.is_list(kind) or pa.types.is_struct(kind):
        given = [[cell] if pa.types.is_list(kind) else {"x": cell} for cell in given]
    elif pa.types.is_binary(kind):
        given = [cell.encode() + b"\xff" for cell in cells]
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        given = cells
    try:
        if pa.types.is_integer(kind) or pa.types.is_temporal(kind):
            given = [int(cell) for cell in given]
        return pa.array(given, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.nulls(len(cells), kind)


@fuzz
@given(
    table=invented.tables(),
    types=st.lists(st.sampled_from(TYPES), max_size=9),
    options=OPTIONS,
    damage=st.none() | st.tuples(st.floats(0, 1), st.binary(max_size=4)),
)
def test_parquet_of_anything(tmp_path, table, types, options, damage):
    header, rows = table
    kinds = [*types, *[pa.float64()] * len(header)]
    columns = [column([row[i] for row in rows], kinds[i]) for i in range(len(header))]
    try:
        parquet.write_table(pa.Table.from_arrays(columns, names=header), tmp_path / "runs.parquet")
    except (pa.ArrowException, UnicodeEncodeError):
        return
    if damage:
        data = (tmp_path / "runs.parquet").read_bytes()
        at = int(damage[0] * len(data))
        (tmp_path / "runs.parquet").write_bytes(data[:at] + damage[1] + data[at + len(damage[1]) :])
    read(tmp_path / "runs.parquet", **options)
