"""A worker that ends for want of memory: its run continues with its batch in smaller parts, and is skipped where there are none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from isoflop import arch, data, launch
from isoflop.errors import MemoryShortError
from isoflop.launch import Finished, Lost, Started, _death, _memory
from isoflop.launch._death import Watch
from isoflop.launch._room import Room
from isoflop.runs import RunSpec
from isoflop.store import Store
from isoflop.train import Machine, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n".join(f"line {i}: {i * i} lazy dogs and {i % 7} hens" for i in range(2000)), encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


def spec_of(corpus, *, rows=4, steps=200) -> RunSpec:
    shape = arch.get("llama").at(8, vocab=256, context=32)
    batch = 32 * rows
    return RunSpec(shape=shape, tokens=steps * batch, batch=batch, lr=0.01, seed=1, data=corpus.digest, eval_tokens=2048, budget=1e9, group="isoflop")


class Kernel:
    """Kills as Linux does, and counts it where Linux counts."""

    def __init__(self, counts) -> None:
        self.counts, self.n = counts, 7
        self.say()

    def say(self) -> None:
        self.counts.write_text(f"nr_free_pages 4567\noom_kill {self.n}\noom_kill_disable 99\n")

    def kill(self, pid: int) -> None:
        self.n += 1
        self.say()
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> Kernel:
    monkeypatch.setattr(_death, "COUNTS", tmp_path / "vmstat")
    return Kernel(tmp_path / "vmstat")


# ---- what a worker died of


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_a_kill_that_the_system_counts_is_for_memory_and_another_is_not(tmp_path, kernel):
    for kill, starved in ((kernel.kill, True), (lambda pid: os.kill(pid, signal.SIGKILL), False)):
        watch = Watch(tmp_path / "log")
        with sleeper() as process:
            kill(process.pid)
            assert watch.starved(process.wait()) is starved


def test_of_a_kill_where_nobody_counts_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(_death, "COUNTS", tmp_path / "none")
    assert Watch(tmp_path / "log").starved(-signal.SIGKILL) is None
    assert Watch(tmp_path / "log").starved(-signal.SIGSEGV) is False


@pytest.mark.skipif(sys.platform != "linux", reason="what others say of kills for memory is nowhere")
def test_linux_counts():
    assert _death.kills() >= 0


def test_an_allocation_that_failed_is_known_by_its_last_words_and_not_by_those_of_a_run_before(tmp_path):
    log = tmp_path / "log"
    log.write_text("MemoryError\n")  # of a run before
    for code, starved in (
        ("bytearray(1 << 60)", True),
        ("import os; os.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\\n\"); os.abort()", True),
        ("import os; os.abort()", False),
        ("raise ValueError", False),
        ("import sys; sys.stderr.write('MemoryError')", False),  # and it ended well
    ):
        watch = Watch(log)
        with log.open("ab") as stderr:
            status = subprocess.run([sys.executable, "-c", code], stderr=stderr, check=False).returncode
        assert watch.starved(status) is starved, code


# ---- in how many parts a batch goes on


@pytest.mark.parametrize(("rows", "parts"), [(1, []), (2, [2]), (3, [2, 4]), (8, [2, 4, 8])])
def test_parts_are_halved_until_they_are_of_one_sequence(corpus, rows, parts):
    spec = spec_of(corpus, rows=rows)
    room = Room([spec])
    idle = SimpleNamespace(claim=None, pid=os.getpid())
    for n in parts:
        assert room.halve(spec.id) == n
        assert room.fits([spec.id], idle, [idle]) == {spec.id: n}
    assert room.halve(spec.id) == 0


def test_a_run_in_smaller_parts_is_given_less_memory(corpus, monkeypatch):
    spec = spec_of(corpus, rows=1024)
    monkeypatch.setenv(_memory.CAP, str(_memory.need(spec).total))
    room = Room([spec])
    monkeypatch.setenv(_memory.CAP, str(_memory.need(spec, halvings=1).total))
    idle = SimpleNamespace(claim=None, pid=os.getpid())
    assert room.fits([spec.id], idle, [idle]) == {}
    room.halve(spec.id)
    assert room.fits([spec.id], idle, [idle]) == {spec.id: 2}


# ---- the pool


class Killer:
    """Listens to a pool, and ends its first workers as it is told, each as soon as it has a run."""

    def __init__(self, store: Store, *ends) -> None:
        self.store, self.ends, self.lost, self.finished = store, list(ends), [], []

    def __call__(self, event) -> None:
        if isinstance(event, Started) and self.ends:
            self.ends.pop(0)(int(self.store.rows()[0].owner.rsplit(" ", 1)[1]))
        if isinstance(event, Lost):
            self.lost.append(event.reason)
        if isinstance(event, Finished):
            self.finished.append(event.record)


def pooled(corpus, folder, spec, *ends) -> Killer:
    with Store(folder) as store, store.lock():
        killer = Killer(store, *ends)
        launch.get("pool").run(store, [spec], corpus.folder, workers=1, on_event=killer)
    return killer


@pytest.fixture
def cell():
    """A control group that may hold 256 kB: whoever is put there and asks for more is killed by the kernel itself."""
    folder = Path("/sys/fs/cgroup/memory", f"isoflop-test-{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text("262144")
    except OSError as refused:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no memory group (cgroup v1) of our own to be had here: {refused}")
    yield folder
    for _ in range(100):  # until the dead are gone
        if not (folder / "cgroup.procs").read_text():
            break
        time.sleep(0.1)
    folder.rmdir()


def test_a_worker_that_the_kernel_itself_kills_for_memory_is_known_and_its_run_goes_on(corpus, tmp_path, cell):
    spec = spec_of(corpus)
    pool = pooled(corpus, tmp_path / "study", spec, lambda pid: (cell / "cgroup.procs").write_text(str(pid)))
    (record,) = pool.finished
    assert (record.status, record.clock.attempt, record.clock.micro) == ("ok", 2, 2)
    (reason,) = pool.lost
    assert "SIGKILL; memory had run out" in reason
    assert "in 2 parts" in reason
    parts = train(spec, corpus, folder=tmp_path / "alone", machine=Machine(micro=2))
    assert record.model_copy(update={"clock": None}) == parts.model_copy(update={"clock": None})


@pytest.mark.slow
def test_a_run_that_memory_runs_out_for_with_one_sequence_at_a_time_is_skipped_and_has_not_failed(corpus, tmp_path, kernel):
    spec = spec_of(corpus)
    with Store(tmp_path / "study") as store, store.lock():
        pool = Killer(store, *[kernel.kill] * 5)
        with pytest.raises(MemoryShortError, match="3 attempts ended for want of memory"):
            launch.get("pool").run(store, [spec], corpus.folder, workers=1, on_event=pool)
        assert [row.status for row in store.rows()] == ["interrupted"]
    assert [words for reason in pool.lost for words in ("in 2 parts", "in 4 parts", "cannot be worked through in smaller") if words in reason] == [
        "in 2 parts",
        "in 4 parts",
        "cannot be worked through in smaller",
        "cannot be worked through in smaller",
        "cannot be worked through in smaller",
    ]
    assert all("memory had run out" in reason for reason in pool.lost)


@pytest.mark.slow
def test_where_nobody_counts_the_second_kill_of_a_run_is_taken_for_one_for_memory(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(_death, "COUNTS", tmp_path / "none")
    pool = pooled(corpus, tmp_path / "study", spec_of(corpus), *[lambda pid: os.kill(pid, signal.SIGKILL)] * 2)
    (record,) = pool.finished
    assert (record.status, record.clock.attempt, record.clock.micro) == ("ok", 3, 2)
    assert ["parts" in reason for reason in pool.lost] == [False, True]
