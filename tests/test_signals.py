"""Signals and lost displays, with real processes: a sweep stops with its checkpoints, is suspended whole, and needs nobody who watches."""

import contextlib
import os
import pty
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isoflop import _signals

ISOFLOP = [sys.executable, "-m", "isoflop.cli"]
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def edited(study: Path, folder: Path, *, budgets: str, target: str) -> Path:
    """Copy the study of all tests and its text, with other budgets."""
    shutil.copy(study.parent / "text.txt", folder / "text.txt")
    text = study.read_text().replace('["5e8", "1e9", "2e9"]', budgets).replace('"6e9"', f'"{target}"')
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


@pytest.fixture
def long_study(study, tmp_path) -> Path:
    """A study of which every run takes a minute or more."""
    return edited(study, tmp_path, budgets='["2e10", "4e10", "8e10"]', target="4e11")


@pytest.fixture
def short_study(study, tmp_path) -> Path:
    """A study of runs that take a second each."""
    return edited(study, tmp_path, budgets='["5e8", "1e9", "2e9"]', target="6e9")


class Terminal:
    """A terminal in which a shell with job control runs a command."""

    def __init__(self, script: str, folder: Path) -> None:
        self.text = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.chdir(folder)
            os.execvp("bash", ["bash", "--norc", "-c", f"set -m; {script}"])

    def until(self, done: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, self.text[-2000:].decode(errors="replace")
            if select.select([self._fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # the other side is gone
                    self.text += os.read(self._fd, 1 << 16)

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def hang_up(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminal(tmp_path) -> Iterator[Callable[[str], Terminal]]:
    opened: list[Terminal] = []

    def open_(script: str) -> Terminal:
        opened.append(Terminal(script, tmp_path))
        return opened[-1]

    yield open_
    for one in opened:
        with contextlib.suppress(OSError):
            one.hang_up()
        with contextlib.suppress(OSError):
            os.kill(one.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(one.pid, 0)


def rows(folder: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as db:
        return db.execute("SELECT id, status FROM runs").fetchall()


def checkpointed(folder: Path) -> bool:
    return any(folder.glob("runs/*/attempt-*/checkpoint/step-*/manifest.json"))


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def state(pid: int) -> str:
    """The letter that Linux has for the state of a process; X where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def started(study: Path, verb: str = "train", *words: str, **streams: object) -> subprocess.Popen[str]:
    command = [*ISOFLOP, verb, str(study), "--folder", str(study.parent / "folder"), "--workers", "2", *words]
    return subprocess.Popen(command, text=True, cwd=study.parent, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})


def wait_for(done: Callable[[], bool], process: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


# --- signals to stop


@pytest.mark.parametrize(
    ("words", "number", "status"),
    [
        ((), signal.SIGTERM, 143),
        pytest.param(("--launcher", "inline"), signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param((), signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param((), signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(("--launcher", "inline"), signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(("--launcher", "inline"), signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_stop_writes_checkpoints_and_leaves_no_run_running(long_study, words, number, status):
    folder = long_study.parent / "folder"
    with started(long_study, "train", *words) as process:
        wait_for(lambda: checkpointed(folder), process)
        workers = children(process.pid)
        process.send_signal(number)
        if number != signal.SIGINT:
            process.send_signal(number)  # `timeout` and shells send it twice, to the process and to its group
        _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in said
    assert "stopped; nothing is lost" in said
    left = {state for _, state in rows(folder)}
    assert left <= {"pending", "interrupted"}
    assert "interrupted" in left
    stopped = [run for run, state in rows(folder) if state == "interrupted"]
    assert all(any((folder / "runs" / run).glob("attempt-1/checkpoint/step-*/manifest.json")) for run in stopped)
    assert all(state(worker) in "XZ" for worker in workers)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "tune"])
def test_every_verb_that_trains_stops_in_this_way(long_study, verb):
    folder = long_study.parent / "folder"
    with started(long_study, verb) as process:
        wait_for(lambda: checkpointed(folder), process)
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in said) == (143, False)
    assert {state for _, state in rows(folder)} <= {"pending", "interrupted", "ok"}


@pytest.mark.slow
def test_a_signal_to_the_workers_alone_costs_no_step(short_study):
    folder = short_study.parent / "folder"
    with started(short_study) as process:
        wait_for(lambda: checkpointed(folder), process)
        for worker in children(process.pid):
            os.kill(worker, signal.SIGTERM)  # as a scheduler that stops all processes of a job
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert {state for _, state in rows(folder)} == {"ok"}


def test_a_hangup_that_is_ignored_stays_ignored():
    code = "import signal; from isoflop import _signals\nwith _signals.stopping(): print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    done = subprocess.run(["bash", "-c", 'trap "" HUP; exec "$@"', "-", sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_second_signal_at_once_is_the_same_one_and_a_later_one_stops_at_once(monkeypatch):
    with _signals.stopping():
        with pytest.raises(_signals.Stopped) as stopped:
            signal.raise_signal(signal.SIGTERM)
        assert stopped.value.status == 143
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(_signals, "REPEATED", 0.0)
        with pytest.raises(_signals.Stopped):
            signal.raise_signal(signal.SIGHUP)


def test_handlers_are_as_before_afterwards():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
    before = [signal.getsignal(number) for number in numbers]
    with _signals.stopping(), _signals.wishing() as wish, _signals.suspending(lambda: None, lambda: None):
        assert not wish.made()
        signal.raise_signal(signal.SIGINT)
        assert wish.made()
        with pytest.raises(KeyboardInterrupt):
            wish.check()
    assert [signal.getsignal(number) for number in numbers] == before


# --- Ctrl-Z


def test_ctrl_z_suspends_the_workers_too_and_shows_the_cursor_until_the_command_resumes(long_study, terminal):
    command = " ".join([*ISOFLOP, "train", "study.toml", "--folder", "folder", "--workers", "2"])
    shell = terminal(f"{command} & echo pid $!; fg %1; echo suspended; read; fg %1; echo status $?")
    shell.until(lambda: checkpointed(long_study.parent / "folder"))
    driver = int(shell.text.split(b"pid ")[1].split()[0])
    shell.until(lambda: len(children(driver)) == 2)
    workers = children(driver)
    shell.type(b"\x1a")
    shell.until(lambda: b"suspended" in shell.text)
    assert [state(pid) for pid in (driver, *workers)] == ["T"] * 3
    assert shell.text.rfind(SHOW) > shell.text.rfind(HIDE)
    before = len(shell.text)
    shell.type(b"\n")
    shell.until(lambda: HIDE in shell.text[before:] and all(state(pid) in "RSD" for pid in (driver, *workers)))
    os.kill(driver, signal.SIGTERM)
    shell.until(lambda: b"status 143" in shell.text)
    assert shell.text.rfind(SHOW) > shell.text.rfind(HIDE)
    assert {state for _, state in rows(long_study.parent / "folder")} <= {"pending", "interrupted"}


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_no_run_running(long_study, terminal):
    folder = long_study.parent / "folder"
    shell = terminal(" ".join([*ISOFLOP, "train", "study.toml", "--folder", "folder", "--workers", "2"]))
    shell.until(lambda: checkpointed(folder))
    shell.hang_up()
    end = time.monotonic() + 30
    while "running" in {state for _, state in rows(folder)}:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "interrupted" in {state for _, state in rows(folder)}


# --- displays that cannot be written


@pytest.mark.parametrize(
    "display",
    [
        "2>/dev/full",
        pytest.param("2>&1 | head -1", marks=pytest.mark.slow),
        pytest.param("| head -1", marks=pytest.mark.slow),
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param("--launcher inline 2>/dev/full", marks=pytest.mark.slow),
    ],
)
def test_a_display_that_cannot_be_written_ends_no_sweep(short_study, display):
    command = " ".join([*ISOFLOP, "train", "study.toml", "--folder", "folder", "--workers", "2"])
    done = subprocess.run(["bash", "-c", f"{command} {display}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False, cwd=short_study.parent)
    assert done.returncode == int("head" in display)  # its reader left before the whole answer was printed
    assert "Traceback" not in done.stderr
    assert {state for _, state in rows(short_study.parent / "folder")} == {"ok"}
