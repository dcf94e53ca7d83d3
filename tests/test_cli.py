"""The command line: what a person types wrong gets one clear message and an exit status, never a traceback; results go to stdout."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import STUDY

CODE = "from isoflop.cli import main; main()"


def isoflop(*words: object, cwd: Path | None = None, limit_kb: int | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CODE, *map(str, words)]
    if limit_kb is not None:  # no file may grow beyond this: what a full disk does, where no disk can be filled
        command = ["bash", "-c", f'ulimit -f {limit_kb}; exec "$@"', "bash", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


def refused(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    flat = " ".join(done.stderr.split())
    assert all(word in flat for word in words), done.stderr


@pytest.fixture
def place(study, tmp_path) -> Path:
    """A folder with the text and the study, nothing trained."""
    shutil.copy(study, tmp_path / "study.toml")
    shutil.copy(study.parent / "text.txt", tmp_path / "text.txt")
    return tmp_path


@pytest.fixture
def trained(undisturbed, tmp_path) -> Path:
    """A copy of a finished study, to be damaged."""
    return shutil.copytree(undisturbed[0], tmp_path / "study")


def edited(place: Path, old: str, new: str) -> Path:
    text = (place / "study.toml").read_text(encoding="utf-8")
    assert old in text
    (place / "study.toml").write_text(text.replace(old, new), encoding="utf-8")
    return place / "study.toml"


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ("seeds = 2", "sedes = 2", 2, ["unknown key 'sedes'", "Did you mean 'seeds'"]),
        ('"6e9"', '"a lot"', 2, ["'a lot' is not a quantity", "70M"]),
        ('corpus = "text.txt"', 'corpus = "none.txt"', 1, ["none.txt"]),
        ('corpus = "text.txt"', 'corpus = "*.none"', 1, ["*.none"]),
        ('corpus = "text.txt"', 'corpus = "empty.txt"', 1, ["empty.txt"]),
        ('corpus = "text.txt"', 'corpus = "binary.txt"', 1, ["binary.txt", "not"]),
        ('corpus = "text.txt"', 'corpus = "short.txt"', 1, ["short.txt", "another to measure on"]),
        ("eval_tokens = 4096", "eval_tokens = 10000000", 1, ["validation text has", "eval_tokens"]),
        ('"5e8", "1e9", "2e9"', '"1e6", "2e6", "4e6"', 1, ["steps at width"]),
        ('"5e8", "1e9", "2e9"', '"5e8", "1e9"', 1, ["2 budgets cannot show"]),
        ('"6e9"', '"4e9"', 1, ["at least 3"]),
        ("context = 16", 'arch = "gofer"', 2, ["no architecture 'gofer'", "Did you mean 'gopher'"]),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_spent(place, old, new, status, words):
    (place / "empty.txt").write_text("")
    (place / "binary.txt").write_bytes(bytes(range(256)) * 1000)
    (place / "short.txt").write_text("a few words, no more than that, on one line of text\n")
    refused(isoflop("run", edited(place, old, new), cwd=place), status, *words)
    assert not list(place.glob("studies/*/runs/*/record.json"))


def test_a_missing_study_and_misuse_are_refused(tmp_path):
    refused(isoflop("run", tmp_path / "none.toml"), 2, "there is no study file")
    refused(isoflop("run"), 2, "study")
    refused(isoflop("trian", tmp_path), 2, "trian")
    refused(isoflop("train", tmp_path, "--workers", "0"), 2, "workers")


def test_an_unknown_launcher_gets_the_list(place):
    done = isoflop("train", place / "study.toml", "--launcher", "pol", cwd=place)
    assert done.returncode == 2
    assert "Did you mean 'pool'" in done.stderr


def test_before_training_the_later_stages_say_what_to_do_first(place):
    for verb in ("fit", "plan", "report", "validate"):
        refused(isoflop(verb, place / "study.toml", cwd=place), 1, "isoflop train")


def test_a_budget_beyond_reach_is_refused_with_the_estimate(trained):
    refused(isoflop("plan", trained, "1e15"), 1, "times the largest run", "--extrapolate", "The law would say")
    done = isoflop("plan", trained, "1e15", "--extrapolate")
    assert done.returncode == 0
    refused(isoflop("plan", trained, "-1"), 2, "-1")


@pytest.mark.parametrize("keep", [0, 10, -3])
def test_a_damaged_record_is_named_and_trained_again(trained, keep):
    path = min(p for p in trained.glob("runs/*/record.json") if json.loads(p.read_bytes())["spec"]["group"] == "isoflop")
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    refused(isoflop("fit", trained), 1, path.parent.name)
    done = isoflop("train", trained)
    assert done.returncode == 0, done.stderr
    new, old = (json.loads(text) for text in (path.read_bytes(), content))
    assert {k: v for k, v in new.items() if k not in {"clock", "sha256"}} == {k: v for k, v in old.items() if k not in {"clock", "sha256"}}


def test_a_damaged_shard_is_named(trained):
    shard = trained / "data/train.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(isoflop("fit", trained), 1, "train.bin")


def test_a_damaged_database_is_rebuilt_from_the_records(trained):
    (trained / "runs.sqlite").write_bytes(b"not a database")
    for name in ("runs.sqlite-wal", "runs.sqlite-shm"):
        (trained / name).unlink(missing_ok=True)
    done = isoflop("train", trained)
    assert done.returncode == 0, done.stderr
    assert isoflop("fit", trained).returncode == 0


def test_a_folder_that_cannot_be_written_is_said(place):
    (place / "file").write_text("")
    refused(isoflop("run", place / "study.toml", "--folder", place / "file/study", cwd=place), 1, "file")


@pytest.mark.parametrize("limit_kb", [4, 40])
def test_no_space_is_said_and_nothing_half_written_stays(place, limit_kb):
    done = isoflop("run", place / "study.toml", cwd=place, limit_kb=limit_kb)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "isoflop: " in done.stderr
    for record in place.glob("studies/*/runs/*/record.json"):
        assert json.loads(record.read_text())["status"] == "ok"
    again = isoflop("train", place / "study.toml", "--dry-run", cwd=place)  # with space again, it goes on
    assert again.returncode == 0, again.stderr


def test_dry_run_says_what_it_would_take_and_trains_nothing(place):
    done = isoflop("run", place / "study.toml", "--dry-run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "13 runs to train: about" in done.stdout
    assert not list(place.glob("studies/*/runs/*"))


def test_exports_hold_every_run(trained, tmp_path):
    rows = list(csv.DictReader(io.StringIO(isoflop("runs", trained, "--csv", "-").stdout)))
    assert len(rows) == 15
    assert {row["status"] for row in rows} == {"ok"}
    assert len(json.loads(isoflop("runs", trained, "--json").stdout)) == 15
    done = isoflop("runs", trained, "--parquet", tmp_path / "runs.parquet")
    assert done.returncode == 0, done.stderr
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "runs.parquet").num_rows == 15


@pytest.mark.parametrize("verb", ["design", "fit", "plan", "validate"])
def test_json_is_all_that_stdout_holds(trained, verb):
    done = isoflop(verb, trained, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("verb", ["run", "study", "design", "train", "runs", "fit", "plan", "validate", "report"])
def test_every_verb_has_help_with_an_example(verb):
    words = [verb, "show"] if verb == "study" else [verb]
    done = isoflop(*words, "--help")
    assert done.returncode == 0
    assert f"Example: isoflop {' '.join(words)}" in " ".join(done.stdout.split())


def test_study_show_reads_back(place):
    shown = isoflop("study", "show", place / "study.toml")
    (place / "again.toml").write_text(shown.stdout, encoding="utf-8")
    assert isoflop("study", "show", place / "again.toml").stdout == shown.stdout
    assert "seeds = 2" in STUDY
    assert "seeds = 2" in shown.stdout
