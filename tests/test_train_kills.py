"""A run killed anywhere ends with the record, the curve and the weights of one that was left alone, byte for byte."""

import contextlib
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from conftest import records, start
from isoflop import arch, data, launch, train
from isoflop.data import Corpus
from isoflop.errors import StoreError
from isoflop.runs import RunSpec
from isoflop.store import Store, files
from isoflop.train import _kept, _safetensors, checkpoint, loop
from isoflop.train.checkpoint import Checkpoint, Writer

# begun once with PyTorch, then forked: a process that has yet to import it takes seconds
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "pyarrow.parquet", "safetensors.torch", "hypothesis", "isoflop.launch.inline", "isoflop.train"])
MARKS = frozenset({40, 96})


class Point(NamedTuple):
    """Where a run is killed: `after` seconds of a process, or at the n-th call that a place makes of something written in C."""

    place: str  # "time", "checkpoint", "trunk" or "record"
    after: float


PLACES = {
    "trunk": {_kept.__file__, _safetensors.__file__, checkpoint.__file__, files.__file__},
    "record": {files.__file__},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n".join(f"line {i}: the quick brown fox jumps over {i * i} lazy dogs and {i % 7} hens" for i in range(2000))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


def spec_of(corpus: Corpus, *, steps: int = 120, seed: int = 1, width: int = 16) -> RunSpec:
    return RunSpec(
        shape=arch.get("llama").at(width, vocab=corpus.vocab, context=32),
        tokens=128 * steps,
        batch=128,
        lr=0.01,
        schedule={"name": "cooldown", "warmup_steps": 10},
        seed=seed,
        data=corpus.digest,
        eval_tokens=4096,
        budget=1e9,
        group="isoflop",
    )


# --- the run that is killed


def kill_at(point: Point) -> None:
    """Have the kernel kill this process at a place, by counting what Python calls: nothing that is tested is replaced."""
    left = itertools.count(int(point.after), -1)

    def count(frame, event, _):
        if event == "c_call" and (point.place == "checkpoint" or frame.f_code.co_filename in PLACES[point.place]) and next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point.place == "checkpoint":
        threading.setprofile(count)  # of threads to come: the one that writes
    else:
        sys.setprofile(count)


def attempt(ready, folder: Path, corpus_folder: Path, spec: RunSpec, *, number: int, point: Point | None) -> None:
    """What a worker does, with a checkpoint as soon as the one before is written. It says when it is ready, and its first step."""
    loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE, loop.LOOK_SECONDS = 0.0, math.inf, 0.0
    trunk = train.Trunk(folder / "trunk", MARKS) if point else None
    earlier = tuple(folder / f"attempt-{n}" for n in range(1, number))
    corpus = data.load(corpus_folder)
    if point and point.place != "time":
        kill_at(point)
    said = [ready.send(None)]

    def say(now: train.Progress) -> None:
        if len(said) == 1:
            said.append(ready.send(now.step))

    train.train(spec, corpus, folder=folder / f"attempt-{number}", attempt=number, earlier=earlier, trunk=trunk, on_progress=say)
    os._exit(0)  # as a worker does


class End(NamedTuple):
    """Of an attempt at a run."""

    killed: bool
    first: int | None  # step; None if it came to none


def tried(folder: Path, corpus: Corpus, *, number: int, point: Point | None) -> End:
    """Begin an attempt at a run, and see how it ends."""
    first = None
    heard, ready = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=attempt, args=(ready, folder, corpus.folder, spec_of(corpus)), kwargs={"number": number, "point": point}, daemon=True)
    process.start()
    ready.close()
    with contextlib.suppress(EOFError):
        heard.recv()
        if point and point.place == "time":
            process.join(point.after)
            process.kill()
        first = heard.recv()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return End(process.exitcode != 0, first)


def furthest(folder: Path) -> int:
    """Steps that need not be trained again: those of the furthest checkpoint that has its name, for a kill damages none."""
    return max((int(path.name.removeprefix("step-")) for path in folder.rglob("step-*")), default=0)


def result(folder: Path) -> tuple[dict, bytes, bytes]:
    """The record without its clock and the digest that covers it; the curve; the weights."""
    record = json.loads((folder / files.RECORD).read_bytes())
    files.read_record(folder)
    timeless = {key: value for key, value in record.items() if key not in {"clock", "sha256"}}
    return timeless, (folder / files.CURVE).read_bytes(), (folder / files.WEIGHTS).read_bytes()


class Whole(NamedTuple):
    result: tuple[dict, bytes, bytes]
    seconds: float


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory) -> Whole:
    """A run left alone, with neither kills nor a trunk."""
    folder = tmp_path_factory.mktemp("whole")
    assert tried(folder, corpus, number=1, point=None) == End(killed=False, first=1)
    shutil.rmtree(folder / "attempt-1/checkpoint")
    began = time.perf_counter()
    assert tried(folder, corpus, number=2, point=None) == End(killed=False, first=1)
    return Whole(result(folder / "attempt-1"), time.perf_counter() - began)


def points(draw: random.Random, *, seconds: float) -> Iterator[Point]:
    """Anywhere in time, within the writing of checkpoints, of a trunk's marks, and of the record."""
    while True:
        yield Point("time", draw.uniform(0, seconds))
        yield Point("checkpoint", draw.choice((draw.randrange(120), draw.randrange(1500))))
        yield Point("trunk", draw.randrange(250))
        yield Point("record", draw.randrange(60))


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_points_gives_the_bytes_of_one_left_alone(corpus, whole, tmp_path, kills):
    done, met, resumed = 0, set(), 0
    folder, number = tmp_path / "0", 1
    for point in points(random.Random(kills), seconds=whole.seconds):
        last, before = done >= kills, furthest(folder)
        end = tried(folder, corpus, number=number, point=Point("time", 60.0) if last else point)
        assert end.first in {None, min(before + 1, spec_of(corpus).steps)}
        resumed += (end.first or 1) > 1
        if end.killed:
            done, number = done + 1, number + 1
            met.add(point.place)
            continue
        assert result(folder / f"attempt-{number}") == whole.result
        if last:
            break
        folder, number = tmp_path / str(done), 1  # it was quicker than the blow: begin again, that every kill meets a living run
    assert met == {"time", "checkpoint", "trunk", "record"}
    assert resumed > kills / 4  # blows before the first step, and before the first checkpoint, say nothing of that
    assert sorted(step.name for step in (folder / "trunk").glob("step-*")) == [f"step-{mark:09d}" for mark in sorted(MARKS)]


# --- a full disk


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here ({error})")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def full(disk: Path, *, but_for: int) -> Iterator[None]:
    """Leave so many bytes free, in whole pages."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - but_for)))
    try:
        yield
    finally:
        filler.unlink()


def refusal(act: Callable[[], object]) -> str:
    """Why it could not be written, or nothing."""
    try:
        act()
    except StoreError as error:
        return str(error)
    return ""


def halves(folder: Path) -> list[Path]:
    """What is there under another name than that of a finished file."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_checkpoint_that_does_not_fit_is_said_and_the_one_before_kept(disk):
    folder, size = disk / "checkpoint", 15_000  # three tensors of it: 180 kB a checkpoint
    tensors = {name: torch.full((size,), 1.0) for name in ("params", "exp_avg.0", "exp_avg_sq.0")}
    checkpoint.save(folder, Checkpoint(1, 1.0, tensors))
    said = 0
    for room in range(0, 200_000, 12_288):
        with full(disk, but_for=room), Writer(folder) as writer:
            writer.offer(Checkpoint(2, 2.0, tensors))
            why = refusal(writer.close)
        if why:
            assert re.fullmatch(r"no space left to write .*step-000000002 \(free: \d+ MB\)\..* Make room, then run the same command again\.", why)
            said += 1
            assert checkpoint.newest((folder,)).step == 1
            assert halves(folder) == []
    assert 14 <= said < 17
    assert checkpoint.newest((folder,)).step == 2


def test_a_run_that_meets_a_full_disk_goes_on_to_the_same_bytes_once_there_is_room(corpus, whole, disk, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    spec, stopped, steps = spec_of(corpus), disk / "stopped", []
    with pytest.raises(train.Interrupted):
        train.train(spec, corpus, folder=stopped, on_progress=lambda p: steps.append(p.step), should_stop=lambda: steps[-1] >= 110)
    before = checkpoint.newest((stopped / "checkpoint",))
    named = set()
    for n, room in enumerate((0, 4096, *range(40_960, 90_000, 4096))):
        folder = disk / str(n)
        for seconds in (0.0, 1e9):  # with checkpoints, which fail first; and without, so that the record does
            monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
            monkeypatch.setattr(loop, "CHECKPOINT_SHARE", math.inf)
            told = []
            with full(disk, but_for=room):
                why = refusal(lambda folder=folder, told=told: train.train(spec, corpus, folder=folder, attempt=2, earlier=(stopped,), on_progress=told.append))
            assert told[0].step == before.step + 1
            if why:
                assert why.startswith(f"no space left to write {folder}")
                named.add(Path(why.split()[5]).name)
                assert not (folder / files.RECORD).exists()
                assert halves(disk) == []
                assert checkpoint.newest((stopped / "checkpoint",)).step == before.step
            else:
                assert result(folder) == whole.result
            shutil.rmtree(folder, ignore_errors=True)
    assert {files.RECORD, files.CURVE, files.WEIGHTS} <= named
    assert any(name.startswith("step-") for name in named)
    train.train(spec, corpus, folder=disk / "last", attempt=3, earlier=(stopped,))
    assert result(disk / "last") == whole.result


# --- two processes on one study


def drive(folder: Path, corpus_folder: Path, specs: tuple[RunSpec, ...], log: Path) -> None:
    """Insist on being the driver until every run is trained."""
    while True:
        try:
            with Store(folder) as store, store.lock():
                launch.get("inline").run(store, specs, corpus_folder, workers=1, on_event=lambda event: note(log, type(event).__name__))
        except StoreError as error:
            note(log, str(error))
            time.sleep(0.01)
        else:
            return


def note(log: Path, words: str) -> None:
    with log.open("a") as file:
        file.write(words + "\n")


def test_two_processes_that_race_for_one_study_train_every_run_once(corpus, tmp_path):
    specs = tuple(spec_of(corpus, steps=20, seed=seed, width=8) for seed in range(6))
    for spec in specs:
        train.train(spec, corpus, folder=tmp_path / "alone" / spec.id)

    def started(name: str) -> multiprocessing.Process:
        process = CONTEXT.Process(target=drive, args=(tmp_path / "raced", corpus.folder, specs, tmp_path / name), daemon=True)
        process.start()
        return process

    racers = [started("one"), started("two")]
    while "Finished" not in (said := "".join((tmp_path / name).read_text() for name in ("one", "two") if (tmp_path / name).exists())):
        time.sleep(0.005)
    first = 0 if "Started" in (tmp_path / "one").read_text() else 1  # the driver dies, and the other takes over
    racers[first].kill()
    racers.append(started("three"))
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [-signal.SIGKILL if i == first else 0 for i in range(3)]
    told = [path for name in ("one", "two", "three") if (path := tmp_path / name).exists()]  # the last has nothing to say where all is done
    said = [line for path in told for line in path.read_text().splitlines()]
    assert len(specs) - 1 <= said.count("Finished") <= len(specs)  # the one it was killed with may have been accepted unsaid
    refused = [line for line in said if line not in {"Started", "Progress", "Finished"}]
    assert refused
    assert all(re.match(r"another isoflop \(pid \d+ on .*\) is working on the study", line) or "another isoflop (just started)" in line for line in refused)
    with Store(tmp_path / "raced") as store:
        assert [record.id for record in store.records()] == [spec.id for spec in specs]
    for spec in specs:
        assert result(tmp_path / "raced/runs" / spec.id) == result(tmp_path / "alone" / spec.id)


@pytest.mark.slow
def test_two_commands_begun_at_once_on_one_study_end_with_its_records(study, undisturbed):
    folder = study.parent / "raced-from-the-start"
    ends = []
    for _ in range(2):  # together, and then whoever was refused again
        both = [start(study, folder) for _ in range(2)]
        ends += [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert {code for _, code in ends} <= {0, 1}
    assert all("another isoflop" in err for err, code in ends if code == 1)
    assert any(code == 0 for _, code in ends[:2])
    assert records(folder) == records(undisturbed)
