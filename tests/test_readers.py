"""Runs are read right, whatever they are called and in, and nothing is left out in silence."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from isoflop import readers
from isoflop.errors import FitError, QuestionError, UnknownNameError, UsageError
from isoflop.readers import _budgets, _columns, delimited

FOUR = "params,tokens,loss\n1e7,2e8,4.0\n2e7,4e8,3.5\n4e7,8e8,3.1\n8e7,1.6e9,2.8\n"
SIZES = ((1e7, 4.0), (2e7, 3.5), (4e7, 3.1), (8e7, 2.8))
MIXED = """{"params": "10M", "tokens": 2e8, "loss": 4}

{"params": 2e7, "tokens": "400M", "loss": 3.5}
{"params": 4e7, "tokens": 8e8, "loss": 3.1}
{"params": 8e7, "tokens": 1.6e9, "loss": 2.8, "more": {"a": [1]}}
"""


def write(folder, text, name="runs.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def left_out(runs):
    """Rows left out, by reason; an entry for many says how many."""
    found = Counter()
    for entry in runs.dropped:
        many = re.fullmatch(r"([\d,]+) (rows|runs)", entry.id)
        found[entry.reason.split(" (the first")[0]] += int(many[1].replace(",", "")) if many else 1
    return found


# What a file may look like


def test_the_plainest_file_is_read(tmp_path):
    runs = readers.read(write(tmp_path, FOUR))
    assert runs.params.tolist() == [1e7, 2e7, 4e7, 8e7]
    assert runs.loss.tolist() == [4.0, 3.5, 3.1, 2.8]
    assert runs.flops_from == "6ND"
    assert runs.flops[0] == 6 * 1e7 * 2e8
    assert runs.ids[0] == "row 1"
    assert not runs.dropped
    assert not runs.doubtful


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.tsv", FOUR.replace(",", "\t")),
        ("semicolons.csv", FOUR.replace(",", ";")),
        ("bars.csv", FOUR.replace(",", "|")),
        ("bom.csv", "\ufeff" + FOUR),
        ("crlf.csv", FOUR.replace("\n", "\r\n")),
        ("no_end.csv", FOUR.rstrip("\n")),
        ("blank_lines.csv", FOUR.replace("\n", "\n\n")),
        ("a_wrong_suffix.txt", FOUR),
        ("quoted.csv", re.sub(r"([^,\n]+)", r'"\1"', FOUR)),
        ("runs.csv.gz", gzip.compress(FOUR.encode(), mtime=0)),
        ("spaced.csv", FOUR.replace(",", " , ")),
        ("suffixes.csv", "Params,Train Tokens,Val-Loss\n10M,200M,4.0\n20M,400M,3.5\n40M,800M,3.1\n80M,1.6B,2.8\n"),
        ("thousands.csv", 'n_params;tokens_seen;eval/loss\n"10,000,000";2e8;4.0\n2e7;4e8;3.5\n4e7;8e8;3.1\n8e7;1.6e9;2.8\n'),
        ("newlines.csv", 'note,params,tokens,loss\n"a\nb",1e7,2e8,4.0\n,2e7,4e8,3.5\n,4e7,8e8,3.1\n"c, ""d""",8e7,1.6e9,2.8\n'),
        ("runs.jsonl", "\n".join(json.dumps({"N": n, "D": 20 * n, "L": loss}) for n, loss in SIZES)),
        ("list.json", json.dumps([{"config": {"n_params": n}, "tokens": 20 * n, "loss": loss} for n, loss in SIZES])),
        ("mixed.jsonl", MIXED),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value and len(value) < 30 else "",
)  # fmt: skip
def test_the_same_runs_in_another_dress_are_the_same_runs(tmp_path, name, text):
    runs = readers.read(write(tmp_path, text, name))
    plain = readers.read(write(tmp_path, FOUR, "plain.csv"))
    for column in ("params", "tokens", "loss", "flops", "budget"):
        np.testing.assert_array_equal(getattr(runs, column), getattr(plain, column))
    assert not runs.dropped


def test_parquet_of_any_number_type_is_read(tmp_path):
    table = pa.table(
        {
            "model_size": pa.array([10_000_000, 20_000_000], pa.int64()),
            "tokens": pa.array([2e8, 4e8], pa.float32()),
            "loss": pa.array(["4.0", "3.5"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "runs.bin")
    assert readers.read(tmp_path / "runs.bin").loss.tolist() == [4.0, 3.5]


def test_order_of_rows_does_not_matter(tmp_path):
    header, *rows = FOUR.split()
    a, b = (readers.read(write(tmp_path, "\n".join([header, *order]))) for order in (rows, rows[::-1]))
    for column in ("params", "tokens", "loss", "flops", "budget"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))


def test_units_are_the_users_choice(tmp_path):
    path = write(tmp_path, "size_M,D_billion,loss,steps\n10,0.2,4.0,100\n20,0.4,3.5,200\n")
    runs = readers.read(path, columns={"params": "size_M*1e6", "tokens": "D_billion * 1B"})
    assert runs.params.tolist() == [1e7, 2e7]
    assert runs.tokens.tolist() == [2e8, 4e8]
    assert readers.read(path, columns={"params": "70M", "tokens": "steps*524288"}).params.tolist() == [7e7, 7e7]


# Which column is which


def test_a_validation_loss_counts_before_a_plain_one_and_the_other_is_named(tmp_path):
    path = write(tmp_path, "params,tokens,loss,val_loss\n1e7,2e8,4,3\n")
    runs = readers.read(path)
    assert runs.loss.tolist() == [3.0]
    assert ("other candidates", "loss: loss") in runs.notes
    assert readers.read(path, columns={"loss": "loss"}).loss.tolist() == [4.0]


def test_the_training_loss_gives_way_to_the_validation_loss(tmp_path):
    assert readers.read(write(tmp_path, "params,tokens,train_loss,val_loss\n1e7,2e8,4,3\n")).loss.tolist() == [3.0]


def test_a_missing_column_is_named_with_those_there_and_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"no column is known as tokens.*Columns: params, tokn, loss.*--map tokens=tokn"):
        readers.read(write(tmp_path, "params,tokn,loss\n1e7,2e8,4\n"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"parms": "x"}, "Did you mean 'params'"), ({"params": "parms"}, "Did you mean 'params'"), ({"params": "nothing*1e6"}, "names no column")],
)
def test_a_map_that_names_nothing_says_what_is_near(tmp_path, columns, message):
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        readers.read(write(tmp_path, FOUR), columns=columns)


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in readers.ROLES.items() for name in names])
def test_every_usual_name_is_found_in_any_spelling(role, name):
    plain = {"params": "params", "tokens": "tokens", "loss": "loss"}
    plain.pop(role, None)
    for spelled in (name.upper(), name.replace("_", "-"), name.replace("_", " ").title()):
        plan = _columns.resolve((spelled, *plain.values()), {}, convention=None)
        assert plan.sources[role].column == spelled


@pytest.mark.parametrize(
    ("name", "unit"), [("val_bpb", "bits per byte"), ("bits_per_byte", "bits per byte"), ("bits_per_token", "bits per token"), ("loss", "nats per token")]
)
def test_the_unit_comes_from_the_name(tmp_path, name, unit):
    assert readers.read(write(tmp_path, FOUR.replace("loss", name))).unit == unit


# Ways of counting


def test_the_way_of_counting_comes_from_the_name_and_is_never_mixed(tmp_path):
    nonemb = write(tmp_path, FOUR.replace("params", "params_nonemb"))
    assert readers.read(nonemb).convention == "nonembedding"
    with pytest.raises(UsageError, match="nonembedding"):
        readers.read(nonemb, convention="total")
    both = write(tmp_path, "params,non_embedding_params,tokens,loss\n3e7,1e7,2e8,4\n")
    assert readers.read(both).params.tolist() == [3e7]
    assert readers.read(both, convention="nonembedding").params.tolist() == [1e7]


def test_rows_that_switch_the_way_of_counting_are_refused(tmp_path):
    path = write(tmp_path, "params,params_nonemb,tokens,loss\n3e7,,2e8,4\n,1e7,2e8,4\n")
    with pytest.raises(FitError, match="two ways of counting"):
        readers.read(path)
    assert len(readers.read(path, where="params > 0")) == 1


# FLOPs and budgets


def test_flops_are_as_given_else_counted_else_6nd(tmp_path):
    given = readers.read(write(tmp_path, "params,tokens,loss,flops\n1e7,2e8,4,2e16\n2e7,2e8,4,\n"))
    assert given.flops.tolist() == [2e16, 6 * 2e7 * 2e8]
    assert given.flops_from == "as given, else 6ND"
    shape = "d_model,n_layers,n_heads,ffw_size,vocab,context,arch"
    counted = readers.read(
        write(tmp_path, f"{shape},tokens,loss\n64,4,4,256,256,128,llama\n".replace("\n64,4,4,256,256,128,llama", "\n64,4,4,256,256,128,llama,1e7,4"))
    )
    from isoflop.arch import Shape

    expected = Shape(arch="llama", d_model=64, n_layers=4, n_heads=4, kv_size=16, ffw_size=256, vocab=256, context=128)
    assert counted.flops_from == "as counted"
    assert counted.flops.tolist() == [expected.flops_per_token.training * 1e7]
    assert counted.params.tolist() == [expected.params.total]


def test_flops_far_from_6nd_are_doubted(tmp_path):
    runs = readers.read(write(tmp_path, "run,params,tokens,loss,flops\na,1e7,2e8,4,1.2e16\nb,2e7,2e8,4,2.4e1\n"))
    assert [entry.id for entry in runs.doubtful] == ["b"]
    assert "6ND" in runs.doubtful[0].reason


def test_budgets_are_grouped_by_tolerance():
    flops = np.array([9.9e18, 1.0e19, 1.02e19, 3e19, 2.9e19, 1e20])
    budget = _budgets.group(flops)
    assert len(set(budget[:3])) == 1
    assert budget[0] == pytest.approx(np.exp(np.log(flops[:3]).mean()))
    assert budget[3] == budget[4]
    assert budget[5] == flops[5]
    assert len(set(_budgets.group(flops, tolerance=0.001))) == flops.size


def test_a_group_is_never_wider_than_the_tolerance_and_equal_flops_stay_as_they_are():
    flops = np.geomspace(1e18, 1e20, 500)
    budget = _budgets.group(flops)
    for value in set(budget):
        members = flops[budget == value]
        assert members.max() / members.min() <= 1.1**2 * (1 + 1e-9)
    assert _budgets.group(np.full(7, 1.25e16)).tolist() == [1.25e16] * 7


def test_a_budget_column_is_taken_as_it_is(tmp_path):
    assert readers.read(write(tmp_path, "params,tokens,loss,budget\n1e7,2e8,4,1e16\n1e7,2.1e8,4,2e16\n")).budget.tolist() == [1e16, 2e16]


# Which rows


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("good", [1, 3]),
        ("not good", [2, 4]),
        ("params <= 2e7", [1, 2]),
        ("params <= '20M'", [1, 2]),
        ("1e7 < params <= 4e7", [2, 3]),
        ("2e7 >= params", [1, 2]),
        ("set == 'a b'", [1, 2]),
        ("'a b' != set", [3, 4]),
        ("set in ('c', 'd') and not good", [4]),
        ("params not in (1e7, 2e7)", [3, 4]),
        ("(good or params > 4e7) and loss < 4", [3, 4]),
        ("`eval/x` == 1", [1]),
        ("tokens / params > 20", [4]),
        ("good == True", [1, 3]),
        ("-params < -4e7", [4]),
    ],
)
def test_rows_are_chosen_in_words_of_the_files_own_columns(tmp_path, where, expected):
    path = write(
        tmp_path, "run_id,params,tokens,loss,good,set,eval/x\n1,1e7,2e8,4,True,a b,1\n2,2e7,4e8,3.5,no,a b,2\n3,4e7,8e8,3.1,1,c,\n4,8e7,2e9,2.8,,d,x\n"
    )
    runs = readers.read(path, where=where)
    assert sorted(int(id_) for id_ in runs.ids) == expected
    assert left_out(runs) == ({f"not chosen by --where {where!r}": 4 - len(expected)})


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "params.real > 1",
        "[x for x in params]",
        "params[0]",
        "params = 1",
        "params ** 2 > 1",
        "params",
        "loss is None",
        "loss in 3",
        "loss in ()",
        "params <",
        "3",
        "",
        "'a' == 'a'",
        "not 'x'",
        "loss < 'many'",
        "f'{loss}' == 'x'",
        "(loss := 3) > 2",
        "True and",
        "\0",
        "((((" * 400,
        "not " * 490 + "loss",
        "loss > 1 or " * 1000,
        "-" * 1900 + "1 < loss",
        "loss < " + "9" * 400,
    ],
)
def test_what_is_no_filter_is_refused_and_never_run(tmp_path, where):
    with pytest.raises(UsageError):
        readers.read(write(tmp_path, FOUR), where=where)


def test_a_filter_over_a_name_that_is_not_there_says_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'tokens'"):
        readers.read(write(tmp_path, FOUR), where="token > 3")


# What is left out


def of_lines(runs) -> dict[int, str]:
    """What was left out, by the line that it is said to stand on."""
    return {int(re.fullmatch(r"row \d+, line (\d+)", entry.id)[1]): entry.reason for entry in runs.dropped}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["runs.csv", "runs.csv.gz"])
def test_a_cell_that_is_no_number_is_named_by_its_line_and_column(tmp_path, name, end):
    """Empty lines and lines inside quotes count as they do in an editor."""
    plain = ["", "size,tokens,score", "1e7,2e8,3.2", "", "", "1e7,2e8,oops", "2e7,2e8,3", "3e7,2e8,-3", "4e7,2e8,99"]
    quoted = ["size,tokens,score,note", '1e7,2e8,3.2,"one', 'two"', "1e7,2e8,oops,", "", '2e7,2e8,3,"a', "", 'b"', "3e7,2e8,-3,", "4e7,2e8,99,"]
    for lines, told in ((plain, (6, 8, 9)), (quoted, (4, 9, 10))):
        text = end.join(lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        runs = readers.read(tmp_path / name, columns={"params": "size", "loss": "score", "vocab": "32"})
        assert runs.params.tolist() == [1e7, 2e7]
        assert of_lines(runs) == dict(
            zip(
                told,
                (
                    "column 'score' holds 'oops' where a number should be",
                    "loss (column 'score') is zero or negative",
                    "diverged: its loss is above that of a model that gives every token the same chance",
                ),
                strict=True,
            )
        )


def test_a_line_of_jsonl_is_named(tmp_path):
    path = write(tmp_path, '{"params": 1e7, "tokens": 2e8, "loss": 4}\n\n{"params": 1e7, "tokens": 2e8, "loss": "oops"}\n', "runs.jsonl")
    assert of_lines(readers.read(path)) == {3: "column 'loss' holds 'oops' where a number should be"}
    path = write(tmp_path, '[{"params": 1e7, "tokens": 2e8, "loss": 4},\n{"params": 1e7, "tokens": 2e8, "loss": 0}]', "runs.json")
    assert [entry.id for entry in readers.read(path).dropped] == ["row 2"]  # of a list: nothing says that a row is a line


def test_many_rows_of_one_reason_name_the_line_of_the_first(tmp_path):
    runs = readers.read(write(tmp_path, "params,tokens,loss\n1e7,2e8,4\n\n" + "1e7,2e8,oops\n" * 2000))
    (many,) = [entry for entry in runs.dropped if entry.id == "1,980 rows"]
    assert many.reason == "column 'loss' holds text where a number should be (the first is row 22, line 24)"  # twenty are named with their text
    with pytest.raises(FitError, match=r"5 rows: column 'loss' holds 'oops' where a number should be \(the first is row 1, line 3\)"):
        readers.read(write(tmp_path, "params,tokens,loss\n\n" + "1e7,2e8,oops\n" * 5))


@given(cells=st.lists(st.sampled_from(["4", "x", '"4"', '"x\ny"', None]), min_size=1, max_size=30), end=st.sampled_from(["\n", "\r\n"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_that_is_named_is_that_of_its_cell(tmp_path, cells, end):
    """Lines are made by hand; None is an empty one."""
    path, text, wrong = tmp_path / "runs.csv", f"params,tokens,loss{end}1e6,2e8,5{end}", []
    for size, cell in enumerate(cells, start=1):
        if cell is not None and "x" in cell:
            wrong.append(text.count("\n") + 1)
        text += "" + (end if cell is None else f"{size}e7,2e8,{cell.replace(chr(10), end)}{end}")
    path.write_bytes(text.encode())
    assert sorted(of_lines(readers.read(path))) == wrong


def test_every_row_left_out_has_its_reason(tmp_path):
    rows = ["1e7,2e8,4", "1e7,2e8,4", "1e7,2e8,nan", "1e7,2e8,inf", "1e7,2e8,0", "1e7,-2e8,3", "1e7,,3", "many,2e8,3", "1e300,1e300,3", "2e7,2e8,3"]
    runs = readers.read(write(tmp_path, "params,tokens,loss\n" + "\n".join(rows)))
    assert runs.params.tolist() == [1e7, 2e7]
    assert {entry.id: entry.reason for entry in runs.dropped} == {
        "row 2, line 3": "the same again as another row, which is kept",
        "row 3, line 4": "loss is NaN",
        "row 4, line 5": "loss is infinite",
        "row 5, line 6": "loss is zero or negative",
        "row 6, line 7": "tokens is zero or negative",
        "row 7, line 8": "no tokens",
        "row 8, line 9": "column 'params' holds 'many' where a number should be",
        "row 9, line 10": "6ND is no finite number of FLOPs",
    }


def test_many_rows_of_one_reason_are_one_entry(tmp_path):
    runs = readers.read(write(tmp_path, FOUR + "1e7,2e8,4\n" * 1000))
    assert [entry.id for entry in runs.dropped] == ["1,000 rows"]


def test_what_a_file_says_of_its_runs_is_heard(tmp_path):
    runs = readers.read(
        write(
            tmp_path,
            "Name,State,diverged,params,tokens,loss\na,finished,no,1e7,2e8,4\nb,crashed,no,1e7,3e8,4\nc,running,no,1e7,4e8,4\nd,finished,yes,1e7,5e8,9\n",
        )
    )
    assert runs.ids == ("a",)
    assert {entry.id for entry in runs.dropped} == {"b", "c", "d"}


def test_a_loss_above_chance_is_a_run_that_diverged(tmp_path):
    runs = readers.read(write(tmp_path, "params,tokens,loss,vocab\n1e7,2e8,4,256\n1e7,3e8,5.6,256\n"))  # ln 256 = 5.545
    assert runs.loss.tolist() == [4.0]
    assert "diverged" in runs.dropped[0].reason
    assert len(readers.read(write(tmp_path, "params,tokens,bpb\n1e7,2e8,1.1\n1e7,3e8,8.5\n"))) == 1


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    with pytest.raises(FitError, match=r"none of 2 rows.*loss is NaN"):
        readers.read(write(tmp_path, "params,tokens,loss\n1e7,2e8,nan\n1e7,3e8,nan\n"))


# Curves


def curve_file(folder, rows):
    return write(folder, "run_id,params,tokens,loss,lr,step\n" + "\n".join(rows))


def test_points_of_one_run_are_a_curve_and_the_last_counts(tmp_path):
    rows = [f"{run},{size},{step * 1e6},{8 / step + size / 1e8},{1 - step / 10},{step}" for run, size in (("a", 1e7), ("b", 2e7)) for step in range(1, 11)]
    runs = readers.read(curve_file(tmp_path, rows))
    assert runs.ids == ("a", "b")
    assert runs.tokens.tolist() == [1e7, 1e7]
    assert runs.loss.tolist() == pytest.approx([0.9, 1.0])
    assert runs.curves[0].tokens.tolist() == [step * 1e6 for step in range(1, 11)]
    assert not runs.dropped
    assert runs.lr.tolist() == [0.9, 0.9]  # the peak
    shuffled = readers.read(curve_file(tmp_path, rows[::-1]))
    np.testing.assert_array_equal(shuffled.curves[1].loss, runs.curves[1].loss)
    every = readers.read(curve_file(tmp_path, rows), every_point=True)
    assert len(every) == len(rows)


def test_a_run_whose_last_loss_is_nan_diverged_and_one_that_went_on_did_not(tmp_path):
    rows = ["a,1e7,1e6,5,1,1", "a,1e7,2e6,nan,1,2", "b,1e7,1e6,5,1,1", "b,1e7,2e6,nan,1,2", "b,1e7,3e6,4,1,3"]
    runs = readers.read(curve_file(tmp_path, rows))
    assert runs.ids == ("b",)
    assert left_out(runs) == {"diverged: its last loss is no finite number": 1, "its loss is no finite number, inside a run that went on": 1}


def test_a_curve_that_ends_halfway_back_up_diverged(tmp_path):
    down = [f"a,1e7,{i}e6,{5 - i / 10},1,{i}" for i in range(1, 10)]
    up = [f"b,1e7,{i}e6,{5 - i / 2 if i < 5 else i},1,{i}" for i in range(1, 10)]
    runs = readers.read(curve_file(tmp_path, down + up))
    assert runs.ids == ("a",)
    assert [entry.id for entry in runs.dropped] == ["b"]


def test_one_id_for_several_sizes_is_several_runs_and_doubted(tmp_path):
    rows = [f"x,{size},{i}e6,{5 - i / 10},1,{i}" for size in (1e7, 2e7) for i in range(1, 10)]
    runs = readers.read(curve_file(tmp_path, rows))
    assert runs.params.tolist() == [1e7, 2e7]
    assert len(runs.doubtful) == 2


def test_points_of_one_run_taken_as_runs_are_doubted_for_their_intervals(tmp_path):
    path = curve_file(tmp_path, ["a,1e8,1e9,4,1e-3,1", "a,1e8,2e9,3,1e-3,2", "b,1e8,4e9,2.5,1e-3,1"])
    runs = readers.read(path, every_point=True)
    assert len(runs) == 3
    assert [entry.id for entry in runs.doubtful if "too narrow" in entry.reason] == ["a (row 1)", "a (row 2)"]


def test_losses_at_the_same_tokens_of_a_curve_are_averaged_and_doubted(tmp_path):
    runs = readers.read(curve_file(tmp_path, ["a,1e7,1e6,5,1,1", "a,1e7,2e6,4,1,2", "a,1e7,2e6,3,1,2"]))
    assert runs.loss.tolist() == [3.5]
    assert "mean" in runs.doubtful[0].reason


def test_repeats_of_one_length_are_runs_and_no_curve(tmp_path):
    runs = readers.read(write(tmp_path, "name,params,tokens,loss\na,1e7,2e8,4.0\na,1e7,2e8,4.1\n"))
    assert runs.loss.tolist() == [4.0, 4.1]
    assert all("its id" in entry.reason for entry in runs.doubtful)
    seeded = readers.read(write(tmp_path, "name,params,tokens,loss,seed\na,1e7,2e8,4.0,1\na,1e7,2e8,4.0,2\n"))
    assert seeded.seed.tolist() == [1, 2]


def test_one_number_of_tokens_for_all_steps_is_that_of_the_last(tmp_path):
    runs = readers.read(write(tmp_path, "run_id,params,tokens,loss,step\n" + "\n".join(f"a,1e7,1e9,{5 - i},{i}" for i in (1, 2, 4))))
    assert runs.loss.tolist() == [1.0]
    assert runs.curves[0].tokens.tolist() == [2.5e8, 5e8, 1e9]


def test_a_column_that_says_which_points_are_final_is_heard(tmp_path):
    runs = readers.read(write(tmp_path, "params,tokens,loss,final\n1e7,1e8,5,no\n1e7,2e8,4,yes\n"))
    assert runs.loss.tolist() == [4.0]


def test_unique_tokens_are_kept(tmp_path):
    runs = readers.read(write(tmp_path, "params,tokens,loss,unique_tokens\n1e7,2e8,4,1e8\n2e7,2e8,4,\n"))
    assert runs.unique_tokens.tolist() == [1e8, 2e8]
    assert len(runs.doubtful) == 1


# What is malformed


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.csv", b"params,tokens,loss\n", "no row"),
        ("a.csv", b"params,tokens,loss\n1,2,3\n1,2\n", r"line 3: 2 fields.*names 3; column 3 \(loss\)"),
        ("a.csv", b"params,tokens,loss\n\n1,2,3,4\n", r"line 3: 4 fields.*column 4 has no name"),
        ("a.csv", b'note,params,tokens,loss\n"x\ny",1,2,3\nz,1,2\n', r"line 4: 3 fields"),
        ("a.csv", b'params,tokens,loss\n1,2,3\n1,2,"3\n', r"line 3: .*quote"),
        ("a.csv", b"params,tokens,loss\n1,2,3\n1,\xff,3\n", r"line 3, column 2: byte 0xff is no UTF-8"),
        ("a.csv", b"params,tok\xffens,loss\n1,2,3\n", r"line 1, column 2"),
        ("a.csv", b"params,tokens,loss,loss\n1,2,3,4\n", r"line 1, column 4: the name 'loss'"),
        ("a.csv", FOUR.encode("utf-16-le"), "UTF-16"),
        ("a.jsonl", b'{"params": 1}\n{"params": \n', r"line 2, column 12: no JSON"),
        ("a.jsonl", b'{"params": 1}\n[1]\n', r"line 2, column 1.*no JSON object"),
        ("a.jsonl", b'{"params": 1}\n{"a": "\xff"}\n', r"line 2, column 8: byte 0xff"),
        ("a.json", b'[{"params": 1},\n {"params" 2}]', r"line 2, column 12: no JSON"),
        ("a.json", b"[1, 2]", "entry 1"),
        ("a.json", b"[" * 100_000, "line 1"),
        ("a.parquet", b"PAR1 cut", "no whole Parquet"),
        ("a.csv.gz", gzip.compress(FOUR.encode(), mtime=0)[:-12], "cannot be read|uncompressed"),
    ],
)  # fmt: skip
def test_a_malformed_file_names_line_and_column(tmp_path, name, text, message):
    with pytest.raises(FitError, match=message) as caught:
        readers.read(write(tmp_path, text, name))
    assert str(caught.value).count(name) == 1


def test_what_is_not_there_or_of_no_format_is_said(tmp_path):
    with pytest.raises(UsageError, match="no file or folder"):
        readers.read(tmp_path / "none.csv")
    with pytest.raises(FitError, match="a folder with neither"):
        readers.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="a pipe or a device"):
        readers.read(tmp_path / "pipe.csv")
    with pytest.raises(UnknownNameError, match="Did you mean 'parquet'"):
        readers.read(write(tmp_path, FOUR), kind="parqet")
    with pytest.raises(UsageError, match="tolerance"):
        readers.read(write(tmp_path, FOUR), tolerance=0)
    with pytest.raises(FitError, match="no whole Parquet"):
        readers.read(write(tmp_path, FOUR), kind="parquet")


def test_reading_is_light_to_import():
    code = "import sys, isoflop.readers; print([m for m in ('pyarrow', 'wandb', 'mlflow', 'tensorboard') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_header_of_a_hundred_thousand_names_is_read_in_no_time(tmp_path):
    path = write(tmp_path, ",".join(f"c{i}" for i in range(100_000)) + "\n")
    begin = time.process_time()
    assert len(delimited.open(path).columns) == 100_000
    assert time.process_time() - begin < 10  # comparing each with each takes minutes


def test_progress_is_told_and_ends_at_the_end(tmp_path):
    told = []
    readers.read(write(tmp_path, FOUR), on_progress=lambda what, fraction: told.append((what, fraction)))
    assert told[0] == ("reading", 1.0)
    assert all(0 <= fraction <= 1 for _, fraction in told)


# The public files (../shared/data/runs): counts and totals taken from the files themselves


def test_hoffmanns_points(shared):
    runs = readers.read(shared / "data/runs/hoffmann2022_figure4.csv", where="in_published_fit")
    assert len(runs) == 240  # Besiroglu et al. 2024: 240 of 245 points
    assert left_out(runs) == {"not chosen by --where 'in_published_fit'": 5}
    fullest = [budget for budget, _ in Counter(runs.budget.tolist()).most_common(9)]
    for printed in (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21):  # Hoffmann et al. 2022, Fig. 3; 3e21 has nine points in Figure 4
        assert min(abs(np.log(budget / printed)) for budget in fullest) < 0.11  # the digitised points lie up to 10 % low


def test_gadres_runs(shared):
    path = shared / "data/runs/gadre2024_overtraining.csv"
    runs = readers.read(path, columns={"loss": "loss_c4_val"}, pool=["dataset"])
    assert len(runs) == 104
    assert (runs.convention, runs.flops_from, runs.dropped, runs.doubtful) == ("total", "as given", (), ())
    with pytest.raises(QuestionError, match="'dataset' holds 3 sorts"):
        readers.read(path, columns={"loss": "loss_c4_val"})
    assert len(readers.read(path, columns={"loss": "loss_c4_val"}, where="dataset == 'c4_original' and multiplier >= 1")) < 104
    assert readers.read(path, convention="nonembedding", pool=["all"]).params.max() < runs.params.max()


def test_porians_budgets(shared):
    path = shared / "data/runs/porian2024_isoflop.csv"
    runs = readers.read(path, where="config == 'rw/base/long/kaplan/kaplan/train'")
    assert len(runs) == 107
    assert sorted(set(runs.budget)) == sorted(set(runs.flops))
    assert sorted(set(runs.budget)) == pytest.approx([1.25e16 * 2**i for i in range(11)])
    with pytest.raises(QuestionError, match="'config' holds 4 sorts"):
        readers.read(path)
    assert len(readers.read(path, pool=["all"])) == 442


def test_gemstones_curves(shared):
    path = shared / "data/runs/gemstones2025_curves.csv"
    runs = readers.read(path, where="set == 'cool_end'")
    assert len(runs) == 20
    assert sum(curve.loss.size for curve in runs.curves) == 199
    assert all((np.diff(curve.tokens) > 0).all() for curve in runs.curves)
    assert len(readers.read(path, where="set == 'cool_end'", every_point=True)) == 199
    assert {"two runs under one id" in entry.reason for entry in readers.read(path).doubtful} == {True}


def test_olmos_curves(shared):
    path = shared / "data/runs/olmo2024_ladder_curves.csv"
    with pytest.raises(UsageError, match=r"no column is known as loss.*c4_loss"):
        readers.read(path)
    runs = readers.read(path, columns={"loss": "c4_loss"})
    assert (len(runs), runs.convention, runs.flops_from) == (24, "nonembedding", "as given")
    assert sum(curve.loss.size for curve in runs.curves) == 2459


def test_multipower_lacks_tokens_and_is_mapped(shared):
    path = shared / "data/runs/multipower2025_curves.csv"
    with pytest.raises(UsageError, match=r"known as tokens.*--map 'tokens=step \* TOKENS_PER_STEP'"):
        readers.read(path)
    told = {"tokens": "step*524288"}
    runs = readers.read(path, columns={**told, "run_id": "schedule"})
    assert len(runs) == 27
    assert set(runs.params) == {25e6, 100e6, 400e6}
    alone = readers.read(path, columns=told, pool=["all"])  # the schedule tells the curves of one size apart
    assert len(alone) == 27
    np.testing.assert_array_equal(alone.loss, runs.loss)


def test_nanochats_optima_are_refused_until_one_way_of_counting_is_chosen(shared):
    path = shared / "data/runs/nanochat2026_optima.csv"
    told = {"params": "params_opt", "tokens": "tokens_opt", "loss": "loss_bpb_opt"}
    with pytest.raises(FitError, match=r"3 ways.*--where"):
        readers.read(path, columns=told)
    runs = readers.read(path, columns=told, where="param_count == 'transformer_only'")
    assert (len(runs), runs.unit, runs.convention) == (4, "bits per byte", "nonembedding")
    assert readers.read(path, columns=told, where="param_count == 'kaplan_style'").doubtful
