"""Shapes of tables that people really have: JSON of every make, Markdown, spaces, titles and comments, decimal commas, trainer states; and no tables."""

import io
import json
import pickle
import sqlite3
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from isoflop import readers
from isoflop.errors import FitError, QuestionError, UsageError

PARAMS, TOKENS, LOSS = [1e7, 2e7, 4e7], [4e8, 2e8, 1e8], [4.125, 3.5, 3.25]
ROWS = [{"params": n, "tokens": d, "loss": l} for n, d, l in zip(PARAMS, TOKENS, LOSS, strict=True)]
COLUMNS = {"params": PARAMS, "tokens": TOKENS, "loss": LOSS}


def write(folder, content, name="runs.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def expect_rows(runs):
    assert sorted(runs.params) == PARAMS
    assert sorted(runs.tokens) == sorted(TOKENS)
    assert sorted(runs.loss) == sorted(LOSS)
    assert not runs.dropped


# JSON


def by_index(names):
    return {column: dict(zip(names, values, strict=True)) for column, values in COLUMNS.items()}


SHAPES = {
    "records": ROWS,
    "columns": by_index("012"),
    "columns of named runs": by_index(["a", "b", "c"]),
    "index": dict(zip("012", ROWS, strict=True)),
    "split": {"columns": list(COLUMNS), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
    "table": {"schema": {"fields": [], "primaryKey": ["index"]}, "data": [{"index": i, **row} for i, row in enumerate(ROWS)]},
    "lists": COLUMNS,
    "lists and a constant": {**COLUMNS, "dataset": "c4"},
    "runs by name": {f"run {i}": row for i, row in enumerate(ROWS)},
    "one run by name": {"results": {f"run {i}": row for i, row in enumerate(ROWS)}},
    "a list in an object": {"created": "today", "runs": ROWS},
    "deeper": {"experiment": {"version": 2, "runs": ROWS}},
    "a header and rows": [list(COLUMNS), *(list(row.values()) for row in ROWS)],
    "settings beside results": {"runs": [{"config": {"params": row["params"]}, "result": {"tokens": row["tokens"], "loss": row["loss"]}} for row in ROWS]},
    "settings inside": [{"config": {"params": row["params"]}, "result": {"tokens": row["tokens"], "loss": row["loss"]}} for row in ROWS],
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_of_every_shape_is_the_same_runs(tmp_path, shape, indent):
    expect_rows(readers.read(write(tmp_path, json.dumps(SHAPES[shape], indent=indent), "runs.json")))


def test_names_of_runs_in_json_are_their_ids(tmp_path):
    for shape in ("columns of named runs", "runs by name"):
        runs = readers.read(write(tmp_path, json.dumps(SHAPES[shape]), "runs.json"))
        assert len(set(runs.ids)) == 3
        assert set(runs.ids) <= {"a", "b", "c", "run 0", "run 1", "run 2"}


@pytest.mark.parametrize(
    "curve",
    [
        {"history": [{"tokens": 1e8 * i, "loss": 5 - i / 4} for i in range(1, 9)]},
        {"tokens": [1e8 * i for i in range(1, 9)], "loss": [5 - i / 4 for i in range(1, 9)], "betas": [0.9, 0.95]},
    ],
)
def test_curves_inside_runs_are_curves(tmp_path, curve):
    runs = [{"run_id": f"r{i}", "params": n, **curve} for i, n in enumerate(PARAMS)]
    by_name = {f"r{i}": {"params": n, **curve} for i, n in enumerate(PARAMS)}
    for name, text in (
        ("a.json", json.dumps(runs)),
        ("b.json", json.dumps(by_name)),
        ("c.jsonl", "\n".join(map(json.dumps, runs))),
        ("d.json", json.dumps({"runs": runs}, indent=1)),
    ):
        found = readers.read(write(tmp_path, text, name))
        assert found.params.tolist() == PARAMS
        assert found.tokens.tolist() == [8e8] * 3
        assert found.loss.tolist() == [3.0] * 3
        assert [line.loss.size for line in found.curves] == [8] * 3


def test_a_file_for_each_run_holds_its_settings_beside_its_results(tmp_path):
    for row in ROWS:
        run = {"config": {"params": row["params"], "betas": [0.9, 0.95]}, "results": {"tokens": row["tokens"], "loss": row["loss"]}}
        (tmp_path / f"{row['params']:.0f}.json").write_text(json.dumps(run))
    expect_rows(readers.read(tmp_path))


def test_losses_of_training_and_validation_are_not_mixed(tmp_path):
    with pytest.raises(FitError, match="losses of train, val stand apart"):
        readers.read(write(tmp_path, json.dumps({"train": ROWS, "val": ROWS}), "runs.json"))


def test_points_of_runs_by_name_are_curves(tmp_path):
    points = {f"r{i}": [{"params": n, "tokens": 1e8 * j, "loss": 5 - j / 4} for j in range(1, 9)] for i, n in enumerate(PARAMS)}
    runs = readers.read(write(tmp_path, json.dumps(points), "runs.json"))
    assert (runs.ids, runs.tokens.tolist()) == (("r0", "r1", "r2"), [8e8] * 3)


@pytest.mark.parametrize("content", [[[1e7, 2e8, 4]], {"data": [[1e7, 2e8, 4]]}, [["a", "a"], [1, 2]]])
def test_json_without_names_of_columns_is_refused(tmp_path, content):
    with pytest.raises(FitError, match="without names of columns"):
        readers.read(write(tmp_path, json.dumps(content), "runs.json"))


@pytest.mark.parametrize(
    "content", [5, "text", {}, [], {"runs": []}, {"a": {}}, {"a": [{}]}, [[]], {"columns": ["a"], "data": [[1, 2]]}, {"a": {"b": {"c": {}}}}]
)
def test_json_of_no_shape_is_an_error_of_ours(tmp_path, content):
    with pytest.raises((FitError, UsageError)):
        readers.read(write(tmp_path, json.dumps(content), "runs.json"))


def test_a_list_is_read_block_by_block(tmp_path, monkeypatch):
    from isoflop.readers import jsonl

    rows = [{"params": 1e7 + i, "tokens": 2e8, "loss": 4 - i / 1000, "note": "é½" * (i % 7)} for i in range(500)]
    for block in (7, 64, 1000):
        monkeypatch.setattr(jsonl, "BLOCK", block)
        for indent in (None, 1):
            text = json.dumps(rows, indent=indent, ensure_ascii=False)
            assert len(readers.read(write(tmp_path, text, "runs.json"))) == 500
        with pytest.raises(FitError, match=r"line 2, column \d+: no JSON"):
            readers.read(write(tmp_path, "[" + json.dumps(rows[0]) + ",\n" + json.dumps(rows[1])[:-1] + "]", "bad.json"))
        with pytest.raises(FitError, match="Extra data"):
            readers.read(write(tmp_path, json.dumps(rows) + " x", "bad.json"))
        with pytest.raises(FitError, match="0xff is no UTF-8"):
            readers.read(write(tmp_path, json.dumps(rows).encode()[:-2] + b"\xff}]", "bad.json"))


# Markdown and spaces


MARKDOWN = """# Results

Losses of *three* runs | and a remark

| **Params** | `tokens` | Val loss |
|-----------:|:--------:|---|
| 10M | 400,000,000 | **4.125** |
| 20,000,000 | 0.2B | 3.5 |
| 4e7 | 1e8 | 3.25 |

The end.
"""


@pytest.mark.parametrize(
    "text",
    [
        MARKDOWN,
        "params | tokens | loss\n--- | --- | ---\n10M | 400M | 4.125\n20M | 200M | 3.5\n40M | 100M | 3.25",
        "|params|tokens|loss|note|\n|-|-|-|-|\n|10M|400M|4.125|a \\| b|\n|20M|200M|3.5||\n|40M|100M|3.25|c|\n",
        "+--+--+--+\n|params|tokens|loss|\n+==+==+==+\n|10M|400M|4.125|\n+--+--+--+\n|20M|200M|3.5|\n+--+--+--+\n|40M|100M|3.25|\n+--+--+--+\n",
        " params | tokens | loss\n--------+--------+------\n 1e7 | 4e8 | 4.125\n 2e7 | 2e8 | 3.5\n 4e7 | 1e8 | 3.25\n(3 rows)\n",
        "┏━━━┳━━━┳━━━┓\n┃params┃tokens┃loss┃\n┡━━━╇━━━╇━━━┩\n│10M│400M│4.125│\n│20M │200M│3.5│\n│40M│100M│3.25│\n└───┴───┴───┘\n",
        "|    | params | tokens | loss |\n|---:|---:|---:|---:|\n| 0 | 1e+07 | 4e+08 | 4.125 |\n| 1 | 2e+07 | 2e+08 | 3.5 |\n| 2 | 4e+07 | 1e+08 | 3.25 |\n",
        "params  tokens  loss\n------  ------  -----\n1e7     4e8     4.125\n2e7     2e8     3.5\n4e7     1e8     3.25\n",
        "===  ===  ===\nparams  tokens  loss\n===  ===  ===\n1e7  4e8  4.125\n2e7  2e8  3.5\n4e7  1e8  3.25\n===  ===  ===\n",
        "params tokens loss\n1e7 4e8 4.125\n2e7 2e8 3.5\n4e7 1e8 3.25\n",
        "# of July\n\n  params      tokens   loss\n  10000000  400000000  4.125\n  2e7         200M     3.5\n# a remark\n  40M         0.1B     3.25\n",
        "Model Size   Train tokens   Val loss\n10M          400M           4.125\n20M          200M           3.5\n40M          100M           3.25\n",
        "     params       tokens   loss\n0  10000000  400000000.0  4.125\n1  20000000  200000000.0  3.500\n2  40000000  100000000.0  3.250\n",
        "# params tokens loss\n1e7 4e8 4.125\n2e7 2e8 3.5\n4e7 1e8 3.25\n",
    ],
)
def test_tables_for_the_eye_are_read(tmp_path, text):
    expect_rows(readers.read(write(tmp_path, text)))


def test_two_markdown_tables_are_refused_by_their_lines(tmp_path):
    with pytest.raises(FitError, match="holds 2 tables, at lines 5, 13"):
        readers.read(write(tmp_path, MARKDOWN + "\n" + MARKDOWN.split("\n\n")[2]))


def test_a_row_of_a_markdown_table_with_too_few_cells_is_named(tmp_path):
    with pytest.raises(FitError, match="line 8: 2 fields, but the header names 3"):
        readers.read(write(tmp_path, MARKDOWN.replace("| 0.2B ", "")))


# Above and between the rows of a CSV


@pytest.mark.parametrize(
    "text",
    [
        "# swept in July\n# by us\nparams,tokens,loss\n1e7,4e8,4.125\n2e7,2e8,3.5\n4e7,1e8,3.25\n",
        "Sweep 3\n\nparams,tokens,loss\n1e7,4e8,4.125\n2e7,2e8,3.5\n4e7,1e8,3.25\n",
        "Sweep 3,,\nparams,tokens,loss\n1e7,4e8,4.125\n2e7,2e8,3.5\n4e7,1e8,3.25\n",
        "sep=;\r\nparams;tokens;loss\r\n1e7;4e8;4.125\r\n2e7;2e8;3.5\r\n4e7;1e8;3.25\r\n",
        "params,tokens,loss\n1e7,4e8,4.125\n# restarted, with more data\n2e7,2e8,3.5\n#, and again\n4e7,1e8,3.25",
        "# params,tokens,loss\n1e7,4e8,4.125\n2e7,2e8,3.5\n4e7,1e8,3.25\n",
        '\ufeff"params"\t"tokens"\t"loss"\r\n"1e7"\t"4e8"\t"4.125"\r\n"2e7"\t"2e8"\t"3.5"\r\n"4e7"\t"1e8"\t"3.25"\r\n',
        "params,tokens,loss\r1e7,4e8,4.125\r2e7,2e8,3.5\r4e7,1e8,3.25\r",
        "params,tokens,loss,\n1e7,4e8,4.125,\n2e7,2e8,3.5,\n4e7,1e8,3.25,\n",
    ],
)
def test_a_header_is_found_below_titles_and_comments(tmp_path, text):
    expect_rows(readers.read(write(tmp_path, text)))


def test_lines_are_those_of_the_file_though_comments_are_none_of_its_rows(tmp_path):
    runs = readers.read(write(tmp_path, "# a\n# b\nparams,tokens,loss\n1e7,4e8,4.1\n#c\n1e7,2e8,oops\n2e7,2e8,4\n"))
    assert [entry.id for entry in runs.dropped] == ["row 2, line 6"]
    with pytest.raises(FitError, match="line 7: 2 fields"):
        readers.read(write(tmp_path, "# a\n# b\nparams,tokens,loss\n1e7,4e8,4.1\n#c\n1e7,2e8,5\n2e7,2e8\n"))


def test_an_id_that_begins_as_a_comment_is_a_row(tmp_path):
    assert len(readers.read(write(tmp_path, "run,params,tokens,loss\n#1,1e7,4e8,4.125\n#2,2e7,2e8,3.5\n"))) == 2


def test_numbers_without_a_header_are_refused(tmp_path):
    with pytest.raises(FitError, match="line 1: the first row holds numbers alone"):
        readers.read(write(tmp_path, "1e7,4e8,4.125\n2e7,2e8,3.5\n"))


# Decimal commas


@pytest.mark.parametrize(
    "text",
    [
        "params;tokens;loss\n1e7;4e8;4,125\n2e7;2e8;3,5\n4e7;1e8;3,25\n",
        "params;tokens;loss\n10.000.000;400.000.000;4,125\n20.000.000;200.000.000;3,5\n40.000.000;100.000.000;3,25\n",
        "params\ttokens\tloss\n10 000 000\t400 000 000\t4,125\n20\u00a0000\u00a0000\t0,2B\t3,5\n40M\t1,0e8\t3,25\n",
        "params tokens loss\n1e7 4e8 4,125\n2e7 2e8 3,5\n4e7 1e8 3,25\n",
        'params,tokens,loss\n1e7,4e8,"4,125"\n2e7,2e8,"3,5"\n"40.000.000",1e8,"3,25"\n',
        "| params | tokens | loss |\n|---|---|---|\n| 10M | 400M | 4,125 |\n| 20M | 200M | 3,5 |\n| 40M | 100M | 3,25 |\n",
    ],
)
def test_decimal_commas_are_read(tmp_path, text):
    path = write(tmp_path, text)
    expect_rows(readers.read(path, decimal=","))
    expect_rows(readers.read(path))


def test_commas_that_may_be_of_thousands_are_asked_about(tmp_path):
    path = write(tmp_path, "params;tokens;loss\n1e7;4e8;4,125\n2e7;2e8;3,512\n")
    with pytest.raises(QuestionError, match=r"(?s)'4,125'.*--decimal ,\n +4.125.*--decimal \.\n +4125"):
        readers.read(path)
    assert sorted(readers.read(path, decimal=",").loss) == [3.512, 4.125]
    with pytest.raises(UsageError, match="--decimal"):
        readers.read(path, decimal=";")


def test_commas_of_thousands_stay(tmp_path):
    path = write(tmp_path, "params;tokens;loss\n10,000,000;400,000,000;4.125\n20,000,000;2e8;3.5\n4e7;1e8;3.25\n")
    expect_rows(readers.read(path))
    expect_rows(readers.read(path, decimal="."))


def test_numbers_of_both_kinds_are_refused(tmp_path):
    path = write(tmp_path, "params;tokens;loss\n1e7;4e8;4,125\n2e7;2e8;3.5\n")
    with pytest.raises(FitError, match=r"'3\.5' has a decimal point"):
        readers.read(path, decimal=",")


# Encodings


@pytest.mark.parametrize("name", ["runs.csv", "runs.json", "runs.md"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_with_a_byte_order_mark_is_read(tmp_path, name, encoding):
    text = {"runs.json": json.dumps(ROWS), "runs.md": MARKDOWN}.get(name, "params,tokens,loss\n1e7,4e8,4.125\n2e7,2e8,3.5\n4e7,1e8,3.25\n")
    expect_rows(readers.read(write(tmp_path, text.encode(encoding), name)))


# No tables


def zipped(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped("xl/workbook.xml"), r"Excel workbook \(\.xlsx\).*CSV"),
        (zipped("content.xml"), r"\.ods"),
        (zipped("archive/data.pkl"), "PyTorch file.*never runs"),
        (zipped("arr_0.npy"), r"\.npz"),
        (zipped("runs.csv"), "a ZIP archive.*Unpack"),
        (zipped("x")[:20], "damaged ZIP"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), r"\.xls"),
        (pickle.dumps({"params": [1]}), "pickle.*never runs"),
        (b"\x93NUMPY\x01\x00", r"\.npy"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"  <table><tr>", "HTML table"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xfd7zXZ\x00", "xz"),
        ("params,tokens,loss\n1,2,3\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        ("params,tokens,loss\n1,2,3\n".encode("utf-32"), "UTF-32"),
        (b"\\begin{tabular}{lll}", "LaTeX"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_refused_by_name(tmp_path, content, what):
    for name in ("runs.csv", "runs.bin"):
        with pytest.raises(FitError, match=f"(?s){what}"):
            readers.read(write(tmp_path, content, name))


def test_a_database_that_is_not_of_mlflow_is_refused_by_name(tmp_path):
    with sqlite3.connect(tmp_path / "runs.db") as database:
        database.execute("create table runs (params, tokens, loss)")
    database.close()
    with pytest.raises(FitError, match=r"SQLite.*\.mode csv"):
        readers.read(tmp_path / "runs.db")


# Hugging Face


def write_state(folder, *, step, total=100, tokens=True, size=2e7, **more):
    folder.mkdir(parents=True)
    history = []
    for at in range(10, step + 1, 10):
        seen = {"num_input_tokens_seen": at * 10_000} if tokens else {}
        history.append({"epoch": at / 100, "learning_rate": 1e-3, "loss": 9 - at / 20, "step": at, **seen})
        if at % 50 == 0:
            history.append({"epoch": at / 100, "eval_loss": 4.5 - at / 100, "eval_runtime": 1.0, "step": at, **seen})
    if step == total:
        history.append({"epoch": 1.0, "step": step, "total_flos": 6 * size * step * 10_000, "train_loss": 6.0, "train_runtime": 9.9})
    state = {"best_metric": None, "global_step": step, "log_history": history, "max_steps": total, "num_input_tokens_seen": step * 10_000 * tokens, **more}
    (folder / "trainer_state.json").write_text(json.dumps({**state, "total_flos": 6 * size * step * 10_000}, indent=2))


def test_trainer_states_are_runs_by_their_validation_loss(tmp_path):
    for size in (2e7, 4e7):
        write_state(tmp_path / f"gpt-{size / 1e6:.0f}M", step=100, size=size)
        write_state(tmp_path / f"gpt-{size / 1e6:.0f}M" / "checkpoint-50", step=50, size=size)
    runs = readers.read(tmp_path, name="gpt-{params}")
    assert runs.params.tolist() == [2e7, 4e7]
    assert runs.tokens.tolist() == [1e6, 1e6]
    assert runs.loss.tolist() == [3.5, 3.5]  # eval_loss, not loss
    np.testing.assert_allclose(runs.flops, [1.2e14, 2.4e14])
    assert set(runs.ids) == {"gpt-20M", "gpt-40M"}


def test_params_of_a_trainer_state_follow_from_its_flops_and_tokens(tmp_path):
    write_state(tmp_path / "a", step=100, size=2e7)
    runs = readers.read(tmp_path / "a" / "trainer_state.json")
    np.testing.assert_allclose(runs.params, [2e7])


def test_of_checkpoints_alone_the_last_counts_and_an_unfinished_run_is_none(tmp_path):
    for step in (50, 100, 90):
        write_state(tmp_path / "run" / f"checkpoint-{step}", step=step)
    write_state(tmp_path / "other" / "checkpoint-50", step=50)
    runs = readers.read(tmp_path)
    assert (runs.ids, runs.tokens.tolist()) == (("run",), [1e6])
    assert [entry.id for entry in runs.dropped if "interrupted" in entry.reason] == ["other"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"log_history": 3}', b'{"log_history": [3]}', b'{"log_history": []}', b"\xff"])
def test_a_malformed_trainer_state_is_an_error_of_ours(tmp_path, content):
    write(tmp_path, content, "trainer_state.json")
    with pytest.raises((FitError, UsageError)):
        readers.read(tmp_path)


# Weights & Biases


def test_names_of_runs_in_charts_may_hold_dashes(tmp_path):
    lines = [f"gpt - {size} - c4 - val/loss" for size in ("10M", "20M", "40M")]
    header = ",".join(f'"{line}","{line}__MIN","{line}__MAX"' for line in lines)
    rows = [",".join(f'"{5 - step / 4 - i / 10}"' for i in range(3) for _ in range(3)) for step in range(1, 5)]
    (tmp_path / "chart.csv").write_text(f'"Step",{header}\n' + "".join(f'"{step}",{row}\n' for step, row in enumerate(rows, start=1)))
    (tmp_path / "runs.csv").write_text('"Name","State","n_params"\n' + "".join(f'"gpt - {s} - c4","finished","{s}"\n' for s in ("10M", "20M", "40M")))
    for paths in (tmp_path, [tmp_path / "chart.csv", tmp_path / "runs.csv"], tmp_path / "*.csv"):
        runs = readers.read(paths, columns={"tokens": "step*1e6"})
        assert runs.params.tolist() == [1e7, 2e7, 4e7]
        assert set(runs.ids) == {f"gpt - {size} - c4" for size in ("10M", "20M", "40M")}


@pytest.mark.parametrize("value", ['"x"', "null", "[1]", '{"a": 1}', "1e999", "true", "1" * 5000, '"\\ud800"', "NaN"])
def test_values_of_wandb_of_any_type_are_no_traceback(tmp_path, value):
    import struct
    import zlib

    from wandb.proto import wandb_internal_pb2 as messages

    content = b":W&B" + b"\0\0\0"
    for step in range(3):
        record = messages.Record()
        for key in ("_step", "loss", "params"):
            item = record.history.item.add()
            item.key, item.value_json = key, value
        record.history.step.num = step
        data = record.SerializeToString()
        content += struct.pack("<IHB", zlib.crc32(data, zlib.crc32(b"\1")), len(data), 1) + data
    with pytest.raises((FitError, UsageError)):
        readers.read(write(tmp_path, content, "run-x.wandb"))


def test_arrow_files_are_refused_by_name(tmp_path):
    with pa.OSFile(str(tmp_path / "runs.feather"), "wb") as file, pa.ipc.new_file(file, pa.schema([("params", pa.float64())])):
        pass
    with pytest.raises(FitError, match="Feather"):
        readers.read(tmp_path / "runs.feather")


# The cases that others sent


@pytest.mark.parametrize("name", ["16-paper_table.md", "30-pandas_to_json_columns.json", "31b-whitespace.txt", "21-wandb_charts_dashes"])
def test_the_same_grid_in_other_spellings(shared, name):
    told = {"tokens": "step * tokens_per_step"} if "wandb" in name else {}
    runs = readers.read(shared / "cases/reading" / name, columns=told)
    plain = readers.read(shared / "cases/reading/08-units_in_cells.csv")
    assert len(runs) == 35
    np.testing.assert_allclose(sorted(runs.params), sorted(plain.params), rtol=2e-3)
    np.testing.assert_allclose(sorted(runs.loss), sorted(plain.loss), rtol=2e-3)
