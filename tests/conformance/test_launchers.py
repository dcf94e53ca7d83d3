"""Every launcher of the menu: the same records, whoever trained them and whatever was killed meanwhile."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from isoflop import _registry, arch, data, launch
from isoflop.data import Corpus
from isoflop.errors import CorpusError, TrainError, UnknownNameError
from isoflop.launch import Event, Finished, Lost, Progress, Started, View
from isoflop.runs import RunRecord, RunSpec
from isoflop.store import Store
from isoflop.train import checkpoint

LAUNCHERS = _registry.names("isoflop.launch")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(20):
        words = (f"line {n} of text {i}: {n * n} is the square of {n}." for n in range(60 + i))
        (folder / f"{i}.txt").write_text("\n".join(words))
    return data.prepare((str(folder / "*.txt"),), folder=folder / "tokens", tokenizer="bytes", validation=0.2, seed=0)


def runs(corpus: Corpus, *, steps: tuple[int, int, int] = (50, 50, 50)) -> list[RunSpec]:
    return [
        RunSpec(
            shape=arch.get("llama").at(width, vocab=corpus.vocab, context=16),
            tokens=64 * n,
            batch=64,
            lr=0.01,
            seed=seed,
            data=corpus.digest,
            eval_tokens=256,
            budget=1e9,
            group="isoflop",
        )
        for width, seed, n in zip((8, 8, 12), (0, 1, 0), steps, strict=True)
    ]


def long_runs(corpus: Corpus) -> list[RunSpec]:
    return runs(corpus, steps=(600, 900, 3600))  # the last takes over a second, and tells of itself four times in each


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    with Store(tmp_path_factory.mktemp("undisturbed")) as store, store.lock():
        launch.get("inline").run(store, [*runs(corpus), *long_runs(corpus)], corpus.folder, workers=1, on_event=lambda _: None)
        return but_for_the_clock(store.records())


def but_for_the_clock(records: tuple[RunRecord, ...]) -> dict[str, dict[str, object]]:
    return {record.id: record.model_dump(exclude={"clock"}) for record in records}


def pid_of(store: Store, run: str) -> int:
    """The worker of the pool that trains a run."""
    return int(next(row.owner for row in store.rows() if row.id == run).rsplit(" ", 1)[1])


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # what is dead but not yet reaped is a zombie
    except OSError:
        return False


def test_an_unknown_launcher_gets_the_menu():
    with pytest.raises(UnknownNameError, match="Did you mean 'pool'"):
        launch.get("pol")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_gives_the_same_records_and_trains_nothing_twice(name, corpus, undisturbed, tmp_path, monkeypatch):
    # as on a laptop that slept: every lease has run out, and a worker of the pool is idle while another trains the last run
    monkeypatch.setattr(f"isoflop.launch.{name}.LEASE", -1.0)
    specs = [*runs(corpus)[:2], long_runs(corpus)[2]]
    events: list[Event] = []
    with Store(tmp_path) as store, store.lock():
        launch.get(name).run(store, specs, corpus.folder, workers=2, on_event=events.append)
        records = but_for_the_clock(store.records())
        assert records == {spec.id: undisturbed[spec.id] for spec in specs}
        started = [event.id for event in events if isinstance(event, Started)]
        finished = [event.record.id for event in events if isinstance(event, Finished)]
        assert sorted(started) == sorted(finished) == sorted(records)
        assert started[0] == specs[2].id  # the largest
        assert any(isinstance(event, Progress) and event.steps == 50 for event in events)
        events.clear()
        launch.get(name).run(store, specs, corpus.folder, workers=2, on_event=events.append)
        assert events == []


@pytest.mark.parametrize("name", LAUNCHERS)
def test_text_that_has_changed_stops_every_launcher_and_fails_no_run(name, corpus, tmp_path):
    specs = [spec.model_copy(update={"data": "f" * 16}) for spec in runs(corpus)]
    with Store(tmp_path) as store, store.lock():
        with pytest.raises(CorpusError, match="changed"):
            launch.get(name).run(store, specs, corpus.folder, workers=1, on_event=lambda _: None)
        assert {row.status for row in store.rows()} <= {"pending", "interrupted"}


@pytest.mark.parametrize(
    "end",
    [
        pytest.param((signal.SIGKILL, "killed by SIGKILL"), id="killed"),
        pytest.param((signal.SIGSTOP, "said nothing for"), id="hangs", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_ends_in_the_middle_costs_one_attempt(corpus, undisturbed, tmp_path, monkeypatch, end):
    number, words = end
    monkeypatch.setattr("isoflop.launch.pool.SILENCE", 5.0)
    specs = [runs(corpus)[0], long_runs(corpus)[2]]
    victim = specs[1].id
    lost: list[Lost] = []
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-1.log").write_text("words of an earlier start")
    with Store(tmp_path) as store, store.lock():

        def on_event(event: Event) -> None:
            if isinstance(event, Progress) and event.id == victim and not lost and event.step < event.steps:
                os.kill(pid_of(store, victim), number)
            if isinstance(event, Lost):
                lost.append(event)

        launch.get("pool").run(store, specs, corpus.folder, workers=1, on_event=on_event)
        records = store.records()
        assert but_for_the_clock(records) == {r.id: undisturbed[r.id] for r in records}
        assert {r.id: r.clock.attempt for r in records} == {spec.id: 1 + (spec.id == victim) for spec in specs}
    (event,) = lost
    assert (event.id, event.attempt) == (victim, 1)
    assert words in event.reason
    # the two had nothing to say, and the earlier words are gone: logs do not grow from start to start
    assert {log.name: log.read_text() for log in (tmp_path / "logs").iterdir()} == {"worker-1.log": "", "worker-2.log": ""}


@pytest.mark.slow
def test_a_run_that_kills_its_worker_three_times_is_failed_and_the_others_go_on(corpus, tmp_path):
    culprit = long_runs(corpus)[2].id
    with Store(tmp_path) as store, store.lock():

        def on_event(event: Event) -> None:
            if isinstance(event, Started) and event.id == culprit:
                os.kill(pid_of(store, culprit), signal.SIGKILL)

        launch.get("pool").run(store, long_runs(corpus), corpus.folder, workers=1, on_event=on_event)
        assert {r.id: r.status for r in store.records()} == {spec.id: "failed" if spec.id == culprit else "ok" for spec in long_runs(corpus)}
        (failed,) = (r for r in store.records() if r.status == "failed")
        assert "3 attempts failed" in failed.reason
        assert "SIGKILL" in failed.reason


def test_workers_that_cannot_start_are_one_message_with_their_last_words(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "rubbish")  # the interpreter refuses to start
    with Store(tmp_path) as store, store.lock():
        with pytest.raises(TrainError, match=r"before they can train.*PYTHONHASHSEED"):
            launch.get("pool").run(store, runs(corpus), corpus.folder, workers=1, on_event=lambda _: None)
        assert [row.status for row in store.rows()] == ["pending"] * 3


def drive(name: str, folder: Path, corpus: Corpus) -> subprocess.Popen[str]:
    """A driver in a process of its own, which says when a run starts and when it moves."""
    code = f"""
        import sys
        from pathlib import Path
        from isoflop import launch
        from isoflop.store import Store
        with Store(Path({str(folder)!r})) as store, store.lock():
            specs = [row.spec for row in store.rows()]
            say = lambda event: print(type(event).__name__, flush=True)
            launch.get({name!r}).run(store, specs, Path({str(corpus.folder)!r}), workers=2, on_event=say)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def interrupted(corpus: Corpus, tmp_path: Path) -> Callable[[str, signal.Signals], str]:
    """Starts a study in a driver, sends it a signal when a run is finished and another moves, and gives what it said on stderr."""
    with Store(tmp_path) as store:
        store.add(long_runs(corpus))

    def interrupt(name: str, number: signal.Signals) -> str:
        with drive(name, tmp_path, corpus) as driver:
            said = iter(driver.stdout)
            next(line for line in said if line == "Finished\n")
            next(line for line in said if line == "Progress\n")
            workers = children(driver.pid)
            driver.send_signal(number)
            driver.wait(timeout=30)
            until = time.monotonic() + 5
            while any(map(alive, workers)):
                assert time.monotonic() < until, "a worker outlived its driver"
                time.sleep(0.05)
            return driver.stderr.read()

    return interrupt


# inline the driver is all there is, and its death that of tests/test_store.py, at a higher price
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "inline")) for name in LAUNCHERS])
def test_a_killed_driver_leaves_no_process_and_what_was_finished(name, corpus, undisturbed, interrupted, tmp_path):
    interrupted(name, signal.SIGKILL)
    with Store(tmp_path) as store, store.lock() as notes:
        assert notes == ()
        before = {r.id: r.clock for r in store.records()}
        assert 1 <= len(before) <= 3
        launch.get("inline").run(store, long_runs(corpus), corpus.folder, workers=1, on_event=lambda _: None)
        records = store.records()
        assert but_for_the_clock(records) == {spec.id: undisturbed[spec.id] for spec in long_runs(corpus)}
        assert {r.id: r.clock for r in records if r.id in before} == before


@pytest.mark.slow
def test_ten_kills_of_the_driver_at_random_moments_change_no_record(corpus, tmp_path):
    specs = [spec for steps in (3000, 4000) for spec in runs(corpus, steps=(steps, steps, steps))]
    rng, kills = random.Random(0), 0
    with Store(tmp_path / "killed") as store:
        store.add(specs)
    while kills < 10:
        with drive("pool", tmp_path / "killed", corpus) as driver:
            try:
                driver.wait(timeout=rng.uniform(2, 6))
                break  # all done before the tenth kill
            except subprocess.TimeoutExpired:
                driver.kill()
                kills += 1
    for name in ("killed", "undisturbed"):
        with Store(tmp_path / name) as store, store.lock() as notes:
            launch.get("pool").run(store, specs, corpus.folder, workers=2, on_event=lambda _: None)
            assert notes == ()
    with Store(tmp_path / "killed") as killed, Store(tmp_path / "undisturbed") as undisturbed:
        assert but_for_the_clock(killed.records()) == but_for_the_clock(undisturbed.records())
        assert len(killed.records()) == len(specs)
    assert kills >= 3


AGE = 1e6  # seconds


def aged(folder: Path) -> int:
    """Make the newest checkpoint in a folder one of a run that has been trained for days: who goes on from it takes that time over; its step."""
    newest = checkpoint.newest((folder,))
    shutil.rmtree(folder)
    checkpoint.save(folder, newest._replace(seconds=AGE))
    return newest.step


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ctrl_c_writes_checkpoints_and_leaves_runs_interrupted_which_then_go_on_from_them(name, corpus, undisturbed, interrupted, tmp_path):
    assert "KeyboardInterrupt" in interrupted(name, signal.SIGINT)
    events: list[Event] = []
    with Store(tmp_path) as store, store.lock():
        left = [row for row in store.rows() if row.status == "interrupted"]
        assert {row.status for row in store.rows()} <= {"ok", "pending", "interrupted"}
        assert left
        kept = {row.id: aged(tmp_path / "runs" / row.id / "attempt-1" / "checkpoint") for row in left}
        launch.get(name).run(store, long_runs(corpus), corpus.folder, workers=1, on_event=events.append)
        assert but_for_the_clock(store.records()) == {spec.id: undisturbed[spec.id] for spec in long_runs(corpus)}
        assert {record.id for record in store.records() if record.clock.seconds > AGE} == set(kept)
    for run, step in kept.items():
        first = next(event for event in events if isinstance(event, Progress) and event.id == run)
        assert first.step >= min(step + 1, first.steps)


def test_the_view_says_in_plain_lines_what_was_done_where_there_is_no_terminal(corpus, tmp_path):
    out = io.StringIO()
    with Store(tmp_path) as store, store.lock(), View(runs(corpus), console=Console(file=out, width=200)) as view:
        launch.get("inline").run(store, runs(corpus), corpus.folder, workers=1, on_event=view.on_event)
    lines = out.getvalue().splitlines()
    assert lines[0] == "train: 3 of 3 runs to train"
    assert [line[:5] for line in lines[1:4]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert lines[4].startswith("train: 3 of 3 runs finished after")
    assert len(lines) == 5


def test_the_view_on_a_terminal_names_runs_losses_and_time_left(corpus):
    specs = runs(corpus)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=20)
    with View(specs, seconds={spec.id: 10.0 for spec in specs}, workers=2, console=console) as view:
        view.on_event(Started(id=specs[0].id, spec=specs[0], attempt=1))
        view.on_event(Progress(id=specs[0].id, step=25, steps=50, tokens=1600, loss=2.345, tokens_per_second=0.0))
        console.print(view._draw())
        assert view.tally.seconds_left == pytest.approx((5.0 + 10.0 + 10.0) / 2)
        view.on_event(Progress(id=specs[0].id, step=30, steps=50, tokens=1920, loss=2.2, tokens_per_second=64.0))
        slow = 50 * 64 / 64.0  # seconds of one run of the small size at the speed just measured; the larger is paced by it too
        scale = specs[2].flops / specs[0].flops
        assert view.tally.seconds_left == pytest.approx(max((0.4 + 1 + scale) * slow / 2, scale * slow))
    text = out.getvalue()
    assert "0/3 runs" in text
    assert "25/50" in text
    assert "2.345" in text
    assert "12 s left" in text
