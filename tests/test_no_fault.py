"""What is no fault of a run makes no run failed: text that is gone, files and threads that cannot be had, checkpoints of another version."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import STUDY
from isoflop import arch, launch, train
from isoflop.errors import StoreError
from isoflop.launch import Event, Finished, Mended, Progress, _attempt
from isoflop.runs import RunSpec
from isoflop.store import Store, files
from isoflop.train import _kept, checkpoint
from isoflop.train.checkpoint import Checkpoint, Writer


def spec_of(corpus, *, steps: int = 300, seed: int = 1, **changes: object) -> RunSpec:
    shape = arch.get("llama").at(8, vocab=corpus.vocab, context=32)
    return RunSpec(shape=shape, tokens=steps * 128, batch=128, lr=0.01, seed=seed, data=corpus.digest, eval_tokens=2048, budget=1e9, group="isoflop", **changes)


def statuses(folder: Path) -> set[str]:
    with Store(folder) as store:
        return {row.status for row in store.rows()}


def without_clock(record):
    return record.model_copy(update={"clock": None})


# --- the system refuses something


class Thief:
    """Takes the text away when a run moves, and brings it back once that is noticed, or never."""

    def __init__(self, text: Path, *, back: bool) -> None:
        self.text, self.back, self.taken, self.notes, self.records = text, back, False, [], []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and not self.taken:
            self.taken = True
            self.text.rename(self.text.with_name("away"))
        if isinstance(event, Mended):
            self.notes.append(event.note)
            if self.back:
                self.text.with_name("away").rename(self.text)
        if isinstance(event, Finished):
            self.records.append(event.record)


@pytest.fixture
def text(corpus, tmp_path) -> Path:
    """A copy of the tokens, which may be taken away."""
    (tmp_path / "text").mkdir()
    for path in corpus.folder.iterdir():
        (tmp_path / "text" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "text"


@pytest.mark.parametrize("launcher", ["inline", pytest.param("pool", marks=pytest.mark.slow)])
def test_text_that_is_gone_for_a_moment_is_waited_for(corpus, text, tmp_path, launcher):
    thief = Thief(text, back=True)
    spec = spec_of(corpus, steps=600)
    with Store(tmp_path / "study") as store, store.lock():
        launch.get(launcher).run(store, [spec], text, workers=1, on_event=thief)
    (record,) = thief.records
    assert (record.status, record.clock.attempt) == ("ok", 1)
    assert "val.bin: No such file or directory" in thief.notes[0]
    assert "Trying again in 1 s" in thief.notes[0]
    assert without_clock(record) == without_clock(train.train(spec, corpus, folder=tmp_path / "alone"))


def test_text_that_stays_away_stops_the_work_and_fails_no_run(corpus, text, tmp_path, monkeypatch):
    monkeypatch.setattr(_attempt, "PATIENCE", (0.1,))
    with Store(tmp_path / "study") as store, store.lock(), pytest.raises(StoreError, match=r"No run has failed. Fix the cause"):
        launch.get("inline").run(store, [spec_of(corpus, seed=1), spec_of(corpus, seed=2)], text, workers=1, on_event=Thief(text, back=False))
    assert statuses(tmp_path / "study") == {"interrupted", "pending"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(24, "Too many open files"), "ulimit -n"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError(28, "No space left on device"), "No space left"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate memory"), "memory ran out"),
        (RuntimeError("can't start new thread"), "no more threads"),
    ],
)
def test_what_the_system_refuses_is_said_and_fails_no_run(error, words):
    said = str(_attempt.outside(error))
    assert words in said
    assert "No run has failed" in said


def test_a_checkpoint_is_written_where_no_thread_can_be_had(tmp_path):
    code = f"""
import resource, threading
from pathlib import Path
import torch
from isoflop.train import checkpoint
from isoflop.train.checkpoint import Checkpoint, Writer
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (int(open("/proc/self/statm").read().split()[0]) * 4096 + (200 << 20),) * 2)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
with Writer(Path({str(tmp_path)!r})) as writer:
    print(writer.offer(Checkpoint(1, 1.0, {{"x": torch.ones(3)}})))
print(checkpoint.newest((Path({str(tmp_path)!r}),)).step)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "no thread\nTrue\n1\n", done.stderr


# --- checkpoints of another version


def stopped(corpus, spec: RunSpec, folder: Path) -> Path:
    """Train a run for a while; the folder of its checkpoints, of which there are two."""
    steps: list[int] = []
    for enough in (100, 200):
        with pytest.raises(train.Interrupted), contextlib.suppress(AssertionError):
            train.train(spec, corpus, folder=folder, on_progress=lambda p: steps.append(p.step), should_stop=lambda enough=enough: steps[-1] >= enough)
    return folder / "checkpoint"


def altered(place: Path, **changes: object) -> None:
    """Change a manifest as a version that writes it so would."""
    fields = json.loads((place / checkpoint.MANIFEST).read_text()) | changes
    del fields["digest"]
    (place / checkpoint.MANIFEST).write_bytes(files.canonical(fields | {"digest": _kept._digest(fields)}))


def test_a_checkpoint_of_a_later_format_is_passed_over_with_a_note(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(train.loop, "LOOK_SECONDS", 0.0)
    spec = spec_of(corpus)
    kept = stopped(corpus, spec, tmp_path / "stopped")
    before, last = checkpoint.steps(kept)
    altered(_kept.place(kept, last), format=7)
    notes: list[str] = []
    first: list[int] = []
    record = train.train(spec, corpus, folder=tmp_path / "stopped", on_note=notes.append, on_progress=lambda p: first.append(p.step))
    assert notes == [f"the checkpoint {_kept.place(kept, last)} has format 7, and this version of isoflop reads format 1; it is passed over"]
    assert first[0] == before + 1
    assert without_clock(record) == without_clock(train.train(spec, corpus, folder=tmp_path / "alone"))


def test_a_checkpoint_with_tensors_of_another_version_is_passed_over_with_a_note(corpus, tmp_path):
    spec = spec_of(corpus)
    with Writer(tmp_path / "checkpoint", run=spec.id) as writer:
        made = train.state.State.begin(spec, corpus, resume=None).checkpoint()
        writer.save(Checkpoint(50, 1.0, {"weights": made.tensors["params"], "losses": made.tensors["losses"]}, made.notes))
    notes: list[str] = []
    record = train.train(spec, corpus, folder=tmp_path, on_note=notes.append)
    assert record.status == "ok"
    (note,) = notes
    assert "has format 1" in note
    assert "not those of this version" in note


def test_a_checkpoint_without_a_format_is_of_the_first_one(corpus, tmp_path):
    spec = spec_of(corpus)
    with Writer(tmp_path, run=spec.id) as writer:
        writer.save(train.state.State.begin(spec, corpus, resume=None).checkpoint())
    (step,) = checkpoint.steps(tmp_path)
    place = _kept.place(tmp_path, step)
    fields = json.loads((place / checkpoint.MANIFEST).read_text())
    del fields["format"], fields["digest"]
    (place / checkpoint.MANIFEST).write_bytes(files.canonical(fields | {"digest": _kept._digest(fields)}))
    assert checkpoint.newest((tmp_path,)).step == step


# --- the command line


def command(folder: Path, words: str, limits: str = "") -> subprocess.CompletedProcess[str]:
    script = f'{limits} exec "$0" -m isoflop {words}'
    return subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, check=False, cwd=folder, timeout=300)


@pytest.fixture
def small_study(study, tmp_path) -> Path:
    """A study of nine runs that take no time."""
    small = STUDY.replace('["5e8", "1e9", "2e9"]', '["5e7", "1e8", "2e8"]').replace("[8, 12, 16, 20]", "[8, 10, 12]").replace("seeds = 2", "seeds = 1")
    (tmp_path / "s.toml").write_text(small.replace("6e9", "6e8"))
    (tmp_path / "text.txt").write_bytes((study.parent / "text.txt").read_bytes())
    return tmp_path


def test_a_sweep_with_diverged_runs_is_trained_to_its_end_and_exits_with_one(small_study):
    path = small_study / "s.toml"
    path.write_text(path.read_text().replace("[proof]", "lr_scale = 1000.0\n[proof]"))
    done = command(small_study, "train s.toml --folder F --launcher inline")
    flat = " ".join(done.stderr.split())
    assert done.returncode == 1, flat
    assert "of 9 runs. `isoflop runs s.toml --folder F` says why" in flat
    assert "isoflop train s.toml --folder F --retry" in flat
    assert "diverged" in statuses(small_study / "F")
    assert not statuses(small_study / "F") & {"pending", "running", "interrupted"}


@pytest.mark.slow
@pytest.mark.parametrize("limits", ["ulimit -n 12;", "ulimit -n 16;", "ulimit -n 24;", "ISOFLOP_MEMORY=100MB", "ulimit -v 3500000;"])
def test_a_limit_of_one_start_fails_no_run(small_study, limits):
    assert command(small_study, "design s.toml --folder F").returncode == 0
    done = command(small_study, "train s.toml --folder F --workers 2", limits)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.rstrip().splitlines()[-1]
    assert "failed" not in statuses(small_study / "F")
    again = command(small_study, "train s.toml --folder F --workers 2")
    assert again.returncode == 0, again.stderr
    assert statuses(small_study / "F") == {"ok"}


@pytest.fixture
def few_threads():
    """A control group that may hold few threads and processes."""
    folder = Path("/sys/fs/cgroup/pids", f"isoflop-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as refused:
        pytest.skip(f"no group of processes (cgroup v1) of our own to be had here: {refused}")
    yield folder
    for _ in range(100):  # until the dead are gone
        if not (folder / "cgroup.procs").read_text():
            break
        time.sleep(0.1)
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 2, 3, 4, 6])
def test_where_no_more_threads_can_be_had_no_run_fails_and_nobody_sees_a_traceback(small_study, few_threads, most):
    assert command(small_study, "design s.toml --folder F").returncode == 0
    (few_threads / "pids.max").write_text(str(most))
    done = command(small_study, "train s.toml --folder F --workers 2", f"echo $$ > {few_threads}/cgroup.procs; export OPENBLAS_NUM_THREADS=1;")
    assert "Traceback" not in done.stderr
    if (small_study / "F/runs.sqlite").exists():
        assert "failed" not in statuses(small_study / "F")
