"""Looking at a study changes nothing of it; records count for every design that wants them; a read-only folder can be read."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import isoflop
from conftest import STUDY, start
from isoflop.errors import FitError, StudyError
from isoflop.store import Store, studies

CODE = "from isoflop.cli import main; main()"


def command(*words: object, before: tuple[str, ...] = (), cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([*before, sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def flat(text: str) -> str:
    return " ".join(text.split())


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def trained(undisturbed, tmp_path) -> Path:
    """A copy of a finished study."""
    return shutil.copytree(undisturbed, tmp_path / "study")


@pytest.fixture
def other(study, tmp_path) -> Path:
    """Another study of the same text: two of the trained budgets, and a smaller one."""
    (tmp_path / "other.toml").write_text(
        STUDY.replace('"text.txt"', f'"{study.parent / "text.txt"}"').replace('["5e8", "1e9", "2e9"]', '["2.5e8", "5e8", "1e9"]'), encoding="utf-8"
    )
    return tmp_path / "other.toml"


LOOKS = ["design", "design --json", "train --dry-run", "run --dry-run", "tune --dry-run", "runs", "runs --json"]


def test_no_look_through_another_study_changes_a_byte(trained, other):
    before = contents(trained)
    for look in LOOKS:
        verb, *options = look.split()
        done = command(verb, other, "--folder", trained, *options)
        assert done.returncode == 0, (look, done.stderr)
        if verb != "tune":
            assert f"note: {trained} holds another study, which differs in budgets. To use that one: isoflop {verb} {trained}" in flat(done.stderr)
        assert contents(trained) == before, look
    for verb in ("fit", "plan", "report"):
        done = command(verb, other, "--folder", trained)
        assert done.returncode == 1
        assert "4 of 13 runs are not trained yet" in done.stderr
        assert f"To use that one: isoflop fit {trained}" in flat(done.stderr)
        assert contents(trained) == before, verb


def test_no_look_at_the_study_itself_changes_a_byte(trained, tmp_path):
    before = contents(trained)
    looks = [["design"], ["runs", "--csv", "-"], ["fit", "--json"], ["plan"], ["train", "--dry-run"], ["report", "--out", tmp_path / "page"], ["study", "show"]]
    for verb, *options in looks:
        words = [verb, options[0], trained] if verb == "study" else [verb, trained, *options]
        done = command(*words)
        assert done.returncode == 0, done.stderr
        assert "note:" not in done.stderr
        assert contents(trained) == before, verb
    assert (tmp_path / "page/report.html").is_file()


def test_a_folder_with_nothing_trained_is_not_made_by_a_look(study, tmp_path):
    for verb in ("fit", "plan", "runs", "report"):
        done = command(verb, study, "--folder", tmp_path / "new")
        assert done.returncode == 1
        assert f"nothing was trained in {tmp_path / 'new'} yet" in flat(done.stderr)
        assert not (tmp_path / "new").exists()


def test_a_design_in_an_empty_folder_builds_the_text_and_is_no_study_yet(study, tmp_path):
    isoflop.open(study, folder=tmp_path / "new").design()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"data"}
    with pytest.raises(StudyError, match="nothing was trained"):
        isoflop.open(tmp_path / "new")


def test_records_count_for_every_design_that_wants_them(trained, other):
    work, before = isoflop.open(other, folder=trained), isoflop.open(trained).results()
    assert len(work.unfinished(work.design().specs)) == 4  # four sizes at the new budget; the noise stays where it was measured
    notes = []
    work.train(launcher="inline", on_event=lambda event: notes.append(getattr(event, "note", "")))
    former = trained / "former/study-1.toml"
    (note,) = filter(None, notes)
    assert note.endswith(f"To go back to it: {shlex.join(['isoflop', 'train', str(former), '--folder', str(trained)])}")
    assert isoflop.open(trained).study == work.study
    assert len(work.runs()) == 13
    back = isoflop.open(former, folder=trained)
    again = back.results()
    assert (again.runs.digest, again.validation) == (before.runs.digest, before.validation)
    assert back.unfinished(back.design().specs) == ()
    back.train(launcher="inline")  # nothing is trained; the folder holds the first study again
    assert isoflop.open(trained).study == before.study
    assert [path.name for path in studies.former(trained)] == ["study-1.toml", "study-2.toml"]
    assert isoflop.open(trained).held("fit") == ""


def test_a_study_that_was_only_begun_names_the_one_before(trained, other):
    work = isoflop.open(other, folder=trained)
    work.train(work.design().specs[-1:], launcher="inline")
    with pytest.raises(FitError, match=r"The study that was trained there before: isoflop fit .*former/study-1\.toml --folder"):
        isoflop.open(trained).fit()


def test_a_study_that_was_exchanged_by_a_former_version_names_the_trained_one(trained, other):
    shutil.copy(other, trained / "study.toml")
    note = isoflop.open(trained).held("fit")
    assert note.endswith(f"isoflop fit {trained / 'trained.toml'} --folder {trained}")
    assert isoflop.open(trained / "trained.toml", folder=trained).held("fit") == ""


def test_another_name_is_no_other_study(trained, study, tmp_path):
    shutil.copy(study.parent / "text.txt", tmp_path / "text.txt")
    (tmp_path / "renamed.toml").write_text(STUDY.replace('"tiny"', '"renamed"'), encoding="utf-8")
    before = contents(trained)
    work = isoflop.open(tmp_path / "renamed.toml", folder=trained)
    assert work.held("fit") == ""
    assert len(work.runs()) == 13
    assert contents(trained) == before  # though the text has another path
    work.train(launcher="inline")
    assert json.loads((trained / "data/meta.json").read_text())["sources"] == [str(tmp_path / "text.txt")]


def test_a_sweep_under_way_is_looked_at_without_a_write(study, tmp_path):
    process = start(study, tmp_path / "live")
    try:
        while not list((tmp_path / "live").glob("runs/*/record.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        rows = isoflop.open(study, folder=tmp_path / "live").rows()
        assert len(rows) == 13
        assert "ok" in {row["status"] for row in rows}
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = contents(tmp_path / "live")
    assert (tmp_path / "live/runs.sqlite-wal").stat().st_size  # what was not yet written back
    assert [row["id"] for row in isoflop.open(study, folder=tmp_path / "live").rows()] == [row["id"] for row in rows]
    assert contents(tmp_path / "live") == before


def test_a_damaged_table_is_read_from_the_files_and_left_as_it_is(trained):
    expected = isoflop.open(trained).runs().digest
    (trained / "runs.sqlite").write_bytes(b"not a database")
    before = contents(trained)
    with Store(trained, read_only=True) as store:
        assert "is damaged" in store.notes[0]
    assert isoflop.open(trained).runs().digest == expected
    assert contents(trained) == before


@pytest.fixture
def read_only(trained):
    """Words before a command for which the study's folder is read-only; for root, who may write everywhere, by a mount."""
    if os.getuid():
        folders = [trained, *(path for path in trained.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        yield ()
        for folder in folders:
            folder.chmod(0o755)
        return
    before = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"', str(trained))
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no read-only mount")
    yield before


def test_a_read_only_study_is_fitted_planned_listed_and_reported(trained, read_only, tmp_path):
    denied = subprocess.run([*read_only, "touch", str(trained / "x")], capture_output=True, check=False)
    assert denied.returncode
    for verb, *options in (["fit"], ["plan", "--json"], ["runs"], ["design"], ["report", "--out", tmp_path / "page"], ["train", "--dry-run"]):
        done = command(verb, trained, *options, before=read_only)
        assert done.returncode == 0, (verb, done.stderr)
    assert (tmp_path / "page/report.html").is_file()
    done = command("report", trained, before=read_only)
    assert done.returncode == 1
    assert "--out" in done.stderr
    assert command("train", trained, before=read_only).returncode == 1
