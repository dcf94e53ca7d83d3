"""Several files of runs: folders, patterns, lists of files, and what file names say."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from isoflop import readers
from isoflop.errors import FitError, UsageError
from isoflop.readers import _file_names
from test_fit_cli import asked, refused

SIZES = {"70M": 7e7, "160M": 1.6e8, "1.4B": 1.4e9}


def loss(params, tokens):
    return 1.8 + 400 / params**0.34 + 2000 / tokens**0.37


def curve(params, tokens, *, points=5, header="tokens_seen,loss"):
    rows = (tokens * (place + 1) / points for place in range(points))
    return header + "\n" + "".join(f"{seen:.0f},{loss(params, seen):.6f}\n" for seen in rows)


def write_curves(folder, name, *, tokens=2e9, suffix=".csv", header="tokens_seen,loss"):
    folder.mkdir(parents=True, exist_ok=True)
    for written, params in SIZES.items():
        (folder / (name.format(params=written, n=int(params), d=int(tokens)) + suffix)).write_text(curve(params, tokens, header=header))
    return folder


def expect_sizes(runs, *, tokens=2e9):
    assert runs.params.tolist() == sorted(SIZES.values())
    assert runs.tokens.tolist() == [tokens] * 3
    np.testing.assert_allclose(runs.loss, loss(runs.params, tokens), rtol=1e-5)
    assert {curve.loss.size for curve in runs.curves} == {5}


@pytest.mark.parametrize(
    "name",
    [
        "curve_N{n}_D{d}",
        "n={params}-d=2B",
        "{params}_2B",
        "gpt/N{n}",
        "c4_params{n}_seed3",
        "run-{params}-c4-2.0B",
        "N{n}.D{d}",
        "size={params},tokens=2B",
        "params-{n}_tokens-{d}",
    ],
)
def test_a_file_for_each_run_has_its_size_in_its_name(tmp_path, name):
    (tmp_path / "gpt").mkdir()
    runs = readers.read(write_curves(tmp_path, name))
    expect_sizes(runs)
    assert len(set(runs.ids)) == 3
    assert not runs.dropped


@pytest.mark.parametrize("name", ["run{n}", "width_{n}", "m{params}_{params}", "{params}", "N{n}_params7", "n12_d768_{n}", "8B_{params}"])
def test_a_name_that_is_not_plain_is_not_guessed(tmp_path, name):
    with pytest.raises(UsageError, match=r"no column is known as params.*--name 'N\{params\}_D\{tokens\}'"):
        readers.read(write_curves(tmp_path, name))


def test_a_pattern_reads_columns_from_names(tmp_path):
    folder = write_curves(tmp_path / "runs", "x_{params}_lr3e-4_c4")
    runs = readers.read(folder, name="x_{params}_lr{lr}_{corpus}")
    expect_sizes(runs)
    assert runs.lr.tolist() == [3e-4] * 3
    assert len(readers.read(folder, name="*_{params}_*_{corpus}", where="`corpus in the file name` == 'c4'")) == 3
    with pytest.raises(UsageError, match=r"does not have the pattern.*'N\{params\}_D\{tokens\}'"):
        readers.read(folder, name="N{params}")
    with pytest.raises(UsageError, match="has 2 times"):
        readers.read(write_curves(tmp_path / "twice", "70M_{params}"), name="{params}")
    for pattern in ("", "N", "N{params", "N{params}_{params}", "{}"):
        with pytest.raises(UsageError, match="--name"):
            readers.read(folder, name=pattern)


def test_tokens_in_names_count_only_where_the_files_have_none(tmp_path):
    folder = write_curves(tmp_path, "N{n}_D{d}", header="step,loss")
    runs = readers.read(folder, name="N{params}_D{tokens}")
    assert runs.tokens.tolist() == [2e9] * 3
    assert readers.read(folder).digest == runs.digest


def test_a_pattern_of_files_a_folder_and_the_files_are_the_same_runs(tmp_path):
    folder = write_curves(tmp_path / "a" / "runs", "N{n}")
    files = sorted(folder.iterdir())
    wanted = readers.read(folder).digest
    for paths in (folder / "*.csv", tmp_path / "**" / "*.csv", files, [str(file) for file in reversed(files)], [folder, files[0]]):
        assert readers.read(paths).digest == wanted
    with pytest.raises(UsageError, match=r"no file matches .*\.tsv"):
        readers.read(folder / "*.tsv")
    with pytest.raises(UsageError, match=r"there is no file or folder .*nowhere"):
        readers.read([files[0], tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="no file was given"):
        readers.read([])


def test_a_name_with_brackets_is_the_file_itself(tmp_path):
    (tmp_path / "runs[1].csv").write_text("params,tokens,loss\n1e7,2e8,4\n")
    assert len(readers.read(tmp_path / "runs[1].csv")) == 1


def test_formats_of_the_files_may_differ(tmp_path):
    (tmp_path / "N10M.csv").write_text(curve(1e7, 2e9))
    (tmp_path / "N20M.jsonl").write_text("".join(json.dumps({"tokens_seen": 1e9 * i, "loss": loss(2e7, 1e9 * i)}) + "\n" for i in (1, 2)))
    (tmp_path / "N30M.csv.gz").write_bytes(gzip.compress(curve(3e7, 2e9).encode()))
    (tmp_path / "N40M.json").write_text(json.dumps({"tokens_seen": [1e9, 2e9], "loss": [4.0, 3.5]}))
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.4")  # of no kind that a table has
    runs = readers.read(tmp_path)
    assert runs.params.tolist() == [1e7, 2e7, 3e7, 4e7]
    assert set(runs.tokens) == {2e9}


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path):
    folder = write_curves(tmp_path, "N{n}")
    (folder / "N1000000.csv").write_text("")
    (folder / "N2000000.csv").write_text("tokens_seen,loss\n")
    (folder / "N3000000.csv").write_text("tokens_seen,loss\n1,2\n3")
    (folder / "N4000000.csv").write_bytes(gzip.compress(curve(4e6, 1e9).encode())[:-20])
    (folder / "N5000000.csv").write_text("epoch,accuracy\n1,2\n")
    runs = readers.read(folder)
    expect_sizes(runs)
    reasons = {entry.id: entry.reason for entry in runs.dropped}
    assert set(reasons) == {f"N{size}000000.csv" for size in (1, 2, 3, 4, 5)}
    assert "is empty" in reasons["N1000000.csv"]
    assert "no row" in reasons["N2000000.csv"]
    assert "line 3: 1 fields" in reasons["N3000000.csv"]
    assert "other columns than the other files: epoch, accuracy" in reasons["N5000000.csv"]
    for file in folder.iterdir():
        file.write_text("")
    with pytest.raises(FitError, match=r"none of 8 files .*is empty"):
        readers.read(folder)


def test_a_row_that_is_excluded_is_named_with_its_file_and_line(tmp_path):
    folder = write_curves(tmp_path, "N{n}")
    file = sorted(folder.iterdir())[1]
    file.write_text(file.read_text() + "3e9,oops\n")
    (entry,) = readers.read(folder).dropped
    assert entry.reason == f"column 'loss' holds 'oops' where a number should be: {file.stem}, line 7"


def test_files_called_alike_have_the_names_of_their_folders(tmp_path):
    for size, params in SIZES.items():
        (tmp_path / size / "logs").mkdir(parents=True)
        (tmp_path / size / "logs" / "metrics.csv").write_text(curve(params, 2e9))
    runs = readers.read(tmp_path, name="{params}/logs")
    expect_sizes(runs)
    assert set(runs.ids) == {f"{size}/logs" for size in SIZES}


def test_lightning_keeps_the_size_of_a_run_beside_its_metrics(tmp_path):
    for version, params in enumerate(SIZES.values()):
        folder = tmp_path / f"lightning_logs/version_{version}"
        folder.mkdir(parents=True)
        settings = f"# settings\nn_params: {params:.0f}\ntokens_per_step: 1000000\nnote: 'a: b'\nbetas:\n- 0.9\nnested:\n  lr: 3\nx: null\n"
        (folder / "hparams.yaml").write_text(settings)
        rows = (f"0,{step},{9 - step / 10},{loss(params, step * 1e6) if step % 5 == 0 else ''}\n" for step in range(1, 21))
        (folder / "metrics.csv").write_text("epoch,step,train_loss,val_loss\n" + "".join(rows))
    runs = readers.read(tmp_path / "lightning_logs")
    assert runs.params.tolist() == sorted(SIZES.values())
    assert runs.tokens.tolist() == [2e7] * 3
    np.testing.assert_allclose(runs.loss, loss(runs.params, 2e7))
    assert set(runs.ids) == {"version_0", "version_1", "version_2"}


def test_tables_of_many_runs_are_one_table_and_a_file_is_no_run(tmp_path):
    rows = [(params, 1e9 * length) for params in SIZES.values() for length in (1, 2, 3)]
    for part in range(3):
        text = "".join(f"{n},{d},{loss(n, d)}\n" for n, d in rows[part::3])
        (tmp_path / f"part{part}.csv").write_text("params,tokens,loss\n" + text)
    runs = readers.read(tmp_path)
    assert len(runs) == 9
    assert len(readers.read(tmp_path, where="part != 'part1'")) == 6


def test_a_run_id_inside_the_files_goes_before_their_names(tmp_path):
    for part, rows in enumerate((range(1, 4), range(4, 6))):  # one run, whose log goes on in a second file
        text = "".join(f"a,1e7,{step}e8,{5 - step / 10}\n" for step in rows)
        (tmp_path / f"part{part}.csv").write_text("run_id,params,tokens,loss\n" + text)
    runs = readers.read(tmp_path)
    assert (runs.ids, runs.tokens.tolist()) == (("a",), [5e8])


def test_names_are_text_though_they_be_no_utf8(tmp_path):
    for size in ("70M", "160M"):
        (tmp_path / os.fsdecode(f"caf\xe9_{size}".encode("latin-1") + b".csv")).write_text(curve(1e7, 1e9))
    runs = readers.read(tmp_path, name="_{params}")
    assert runs.ids == ("caf\\xe9_70M", "caf\\xe9_160M")
    for file in tmp_path.iterdir():
        assert len(readers.read(file, columns={"params": "10M"})) == 5
    packed = tmp_path / os.fsdecode(b"\xff.parquet")
    with packed.open("wb") as file:
        parquet.write_table(pa.table({"params": [1e7], "tokens": [1e8], "loss": [4.0]}), file)
    assert len(readers.read(packed)) == 1


def test_suffixes_that_are_numbers_stay():
    files = [Path(name) for name in ("N70M_D1.4B", "a.b.csv", "c.csv.gz", "d.jsonl")]
    assert _file_names.short(files, Path.cwd()) == ["N70M_D1.4B", "a.b", "c", "d"]


def test_the_case_of_curves_named_by_size(shared):
    folder = shared / "cases/reading/03-curves_named_by_size"
    runs = readers.read(folder, name="N{params}_D{tokens}")
    assert len(runs) == 12
    assert sorted(set(runs.params)) == [1238144, 2869504, 8886784, 33506304]
    assert sorted(set(runs.tokens)) == [5e6, 2e7, 8e7]
    assert readers.read(folder).digest == runs.digest


def test_the_command_takes_several_files_a_folder_or_a_pattern(tmp_path):
    for params in (1e7, 2e7, 4e7, 8e7):
        for tokens in (2e8, 4e8, 8e8, 1.6e9):
            (tmp_path / f"n{params:.0f}-d{tokens:.0f}.csv").write_text(curve(params, tokens, header="step,loss", points=9))
    files = sorted(tmp_path.iterdir())
    answers = []
    for words in ([tmp_path], [tmp_path / "*.csv"], files):
        status, out, err = asked("fit", *words, "--name", "n{params}-d{tokens}", "--resamples", 0, "--json")
        assert status == 0, err
        answers.append(json.loads(out)["runs"]["digest"])
    assert len(set(answers)) == 1
    assert "does not have the pattern" in refused(2, "fit", *files[:2], "--name", "n{params}x")
    assert "is a study, which is fitted by itself" in refused(2, "fit", files[0], "study.toml")
    assert "--name and --decimal" in refused(2, "fit", write_empty_study(tmp_path), "--name", "n{params}", "--decimal", ",")


def write_empty_study(folder):
    (folder / "text.txt").write_text("some text " * 1000)
    (folder / "study.toml").write_text('name = "s"\ncorpus = "text.txt"\nbudgets = ["1e9", "2e9"]\ntarget = "1e10"\n')
    return folder / "study.toml"
