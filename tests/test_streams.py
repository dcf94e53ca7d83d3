"""Standard output and standard error that are closed, full or read by nobody: one message, an exit status, and no stopped work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def run(words: str, redirection: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run the command line in a shell; both outputs go to pipes unless they are redirected."""
    command = f'set -o pipefail; "$0" -m isoflop {words} {redirection}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=cwd, env=os.environ | env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["laws --json", "compare --markdown", "--help", "fit r.csv --approach 3 --resamples 0 --out -"])
@pytest.mark.parametrize(
    ("redirection", "why"), [(">&-", "standard output is closed"), pytest.param(">/dev/full", "No space left on device", marks=needs_full)]
)
def test_an_answer_that_cannot_be_printed_is_one_message_and_status_1(redirection, why, words, unbuffered, tmp_path):
    points = [(n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28) for n in (1e6, 2e6, 4e6) for d in (1e8, 2e8, 4e8)]
    (tmp_path / "r.csv").write_text("params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in points))
    done = run(words, redirection, tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert f"isoflop: the answer could not be printed: {why}." in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_notes_that_nobody_can_read_do_not_change_the_answer(redirection, tmp_path):
    plain, done = (run("plan 1e21", how, tmp_path) for how in ("", redirection))
    assert (done.returncode, done.stdout) == (0, plain.stdout)


@pytest.mark.parametrize("words", ["plan nonsense", "laws nobody"])
@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-"])
def test_a_mistake_keeps_its_exit_status_where_nothing_can_be_printed(words, redirection, tmp_path):
    assert run(words, redirection, tmp_path).returncode == 2


def test_a_reader_that_has_seen_enough_is_no_error_to_print(tmp_path):
    done = run("laws --json", "| head -c 1", tmp_path, PYTHONUNBUFFERED="1")
    assert done.stdout == "["
    assert done.stderr == ""


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    """The next file that is opened would take number 1, and a worker's or a library's print would end up in it."""
    code = "from isoflop import _streams; _streams.guard(); f = open('kept', 'w'); import os; os.system('echo stray; echo stray >&2'); print(f.fileno() > 2)"
    subprocess.run(["bash", "-c", '"$0" -c "$1" >&- 2>&- <&-', sys.executable, code], cwd=tmp_path, check=True)
    assert (tmp_path / "kept").read_text() == ""


def test_an_answer_that_nobody_reads_does_not_end_a_sweep(study, tmp_path):
    """The table of the design goes to a full disk, to a closed descriptor or to `head`; what was to be trained is trained."""
    text = study.read_text().replace('["5e8", "1e9", "2e9"]', '["5e7", "1e8", "2e8"]').replace("[8, 12, 16, 20]", "[8, 10, 12]").replace("6e9", "6e8")
    (tmp_path / "text.txt").write_bytes((study.parent / "text.txt").read_bytes())
    (tmp_path / "s.toml").write_text(text.replace("seeds = 2", "seeds = 1"))
    done = run("train s.toml --folder F --launcher inline", ">&- 2>&-", tmp_path)
    assert done.returncode == 1
    records = list((tmp_path / "F/runs").glob("*/record.json"))
    assert len(records) == 9
