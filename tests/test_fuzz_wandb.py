"""Whatever an offline run or an exported chart of Weights & Biases holds: runs, or an error of ours."""

import csv
import io
import json
import struct
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuzz as invented
from fuzz import TEXT, answer_or_error, fuzz
from isoflop import readers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")

LEAVES = (
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT | st.sampled_from(["70M", "nan", "Infinity", "\ud800", 10**400, -(10**4000), 2**64, {}, []])
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=5)
RAW = st.sampled_from(["", "{", "nul", "NaN", "-Infinity", "1e999", "9" * 5000, "[" * 5000, '"\\ud800"', '{"a": {"b": 1}}', "1e7", "2.5"])
JSON = VALUES.map(json.dumps) | RAW
KEYS = st.sampled_from(["n_params", "tokens", "val/loss", "loss", "_step", "_runtime", "step", "state", "seed", "lr", "name", "run_id", ""]) | TEXT
GOOD = {"n_params": "1e7", "seed": "3"}


def fill(items, pairs):
    for key, value in pairs:
        item = items.add()
        parts = key.split("/")
        if len(parts) > 1 and parts[0] == "nested":
            item.nested_key.extend(parts)
        else:
            item.key = key.encode(errors="replace").decode()
        item.value_json = value.encode(errors="replace").decode()


def framed(records):
    """Return records as W&B writes them: LevelDB's log format, one whole record a frame while it fits."""
    data = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for record in records:
        body = record.SerializeToString()
        data += struct.pack("<IHB", zlib.crc32(body, zlib.crc32(b"\x01")), len(body), 1) + body
    return data


def run_of(config, points, summary, code):
    """Return the records of one run: its settings, what it logged, its summary, and how it ended."""
    first = messages.Record()
    first.run.run_id = "abc"
    fill(first.run.config.update, config)
    records = [first]
    for step, point in enumerate(points):
        record = messages.Record()
        record.history.step.num = step
        fill(record.history.item, point)
        records.append(record)
    last = messages.Record()
    fill(last.summary.update, summary)
    records.append(last)
    if code is not None:
        end = messages.Record()
        end.exit.exit_code = code
        records.append(end)
    return records


PAIRS = st.lists(st.tuples(KEYS, JSON), max_size=3)


@st.composite
def runs(draw):
    """Draw a run of five points with odd settings and values, as bytes."""
    points = [{"tokens": f"{1e6 * (i + 1)}", "val/loss": f"{3 - i / 10}"} for i in range(5)]
    for at, key, value in draw(st.lists(st.tuples(st.integers(0, 4), KEYS, JSON), max_size=4)):
        points[at][key] = value
    code = draw(st.sampled_from([None, 0, 1, 255]))
    return framed(run_of([*GOOD.items(), *draw(PAIRS)], [point.items() for point in points], draw(PAIRS), code))


@fuzz
@given(data=runs(), damage=st.just(b"") | st.binary(max_size=4))
def test_an_offline_run_of_anything(tmp_path, data, damage):
    middle = len(data) // 2
    (tmp_path / "run-abc.wandb").write_bytes(data[:middle] + damage + data[middle + len(damage) :])
    answer_or_error(lambda: readers.read(tmp_path / "run-abc.wandb"))


@pytest.mark.parametrize("value", ["[" * 5000, '{"a": ' * 500 + "1" + "}" * 500, "9" * 5000, '"\\ud800"', "NaN", "1e999"], ids=range(6))
def test_values_that_end_other_parsers(tmp_path, value):
    points = [{"tokens": f"{1e6 * (i + 1)}", "val/loss": f"{3 - i / 10}", "odd": value, "_step": value} for i in range(5)]
    data = framed(run_of([*GOOD.items(), ("odd", value)], [point.items() for point in points], [("more", value)], 0))
    (tmp_path / "run-abc.wandb").write_bytes(data)
    assert readers.read(tmp_path / "run-abc.wandb").params.tolist() == [1e7]


LINE = st.sampled_from(["small", "large", "a - b", "", "\u2028", " - ", "small - val/loss__MIN"])
METRIC = st.sampled_from(["val/loss", "tokens", "loss__MIN", "loss__MAX", "n_params", "", "Step"])


@st.composite
def charts(draw):
    """Draw an exported chart as rows of cells."""
    lines = draw(st.lists(st.tuples(LINE, METRIC), min_size=1, max_size=4))
    axis = draw(st.sampled_from(["Step", "tokens", "Relative Time (Process)", "", "\ufeffStep"]))
    header = [axis, *(f"{run} - {metric}" for run, metric in lines), "small - val/loss", "small - val/loss__MIN"]
    rows = [[str(i + 1), *(str(3 - i / 10) for _ in header[1:])] for i in range(5)]
    for row, column, cell in draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), invented.CELLS), max_size=4)):
        rows[row][column % len(header)] = cell
    return [header, *rows]


TABLE = [["Name", "State", "n_params"], ["small", "finished", "10M"]]


@fuzz
@given(
    chart=charts(),
    table=st.just(TABLE) | invented.tables().map(lambda table: [table[0], *table[1]]),
    columns=st.sampled_from([{}, {"params": "10M", "tokens": "step*1e6"}]),
)
def test_charts_of_anything_beside_any_table(tmp_path, chart, table, columns):
    for name, content in (("chart.csv", chart), ("runs.csv", table)):
        text = io.StringIO()
        csv.writer(text).writerows(content)
        (tmp_path / name).write_bytes(text.getvalue().encode())
    answer_or_error(lambda: readers.read(tmp_path, columns=columns))
    answer_or_error(lambda: readers.read(tmp_path / "chart.csv", columns=columns))
