"""What is tracked is what was trained: once each, in order, read back equal; and no tracker stops or slows training."""

import importlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import simulated
from isoflop import _registry, arch, data, launch, readers, track
from isoflop.errors import MissingExtraError, UnknownNameError
from isoflop.launch import Finished, Lost, Progress, Started
from isoflop.runs import Curve, Runs, RunSpec
from isoflop.store import Store, files
from isoflop.track._desk import Desk
from isoflop.track._listener import FULL, Listener
from isoflop.track._marks import Marks
from isoflop.track._points import CELLS, WINDOW, Run, cell, of_curve

TRACKERS = _registry.names("isoflop.track")
HALF_BIT = 2.0**-24  # of a relative error: event files hold numbers of 32 bits
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's of SQLAlchemy, in a thread of its own


class Notebook:
    """A tracker that remembers; it is logged to as any other."""

    where = "memory"

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.said: list[tuple] = []
        self.steps: list[int] = []

    def begin(self, run, *, logged):
        if self.fails:
            raise OSError(28, "No space left on device")
        self.said.append(("begin", run.id, logged))

    def log(self, run, point):
        self.said.append(("log", run.id))
        self.steps.append(point.step)

    def end(self, run, record, *, missing, every):
        assert set(missing) <= set(every)
        self.said.append(("end", run.id, record.status))
        self.steps += [point.step for point in missing]

    def pause(self, run):
        self.said.append(("pause", run.id))

    def close(self):
        self.said.append(("close",))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No server, no account, and MLflow's quick store, which it wants to be asked for; its default makes tables for seconds."""
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(20):
        (folder / f"{i}.txt").write_text("\n".join(f"line {n} of text {i}: {n * n} is the square of {n}." for n in range(60 + i)))
    return data.prepare((str(folder / "*.txt"),), folder=folder / "tokens", tokenizer="bytes", validation=0.2, seed=0)


def specs(corpus):
    shapes = {width: arch.get("llama").at(width, vocab=corpus.vocab, context=16) for width in (8, 12)}
    return [
        RunSpec(
            shape=shapes[width],
            tokens=64 * steps,
            batch=64,
            lr=0.01,
            seed=seed,
            data=corpus.digest,
            eval_tokens=256,
            budget=64 * steps * shapes[width].flops_per_token.training,
            group="isoflop",
        )
        for width, seed, steps in ((8, 0, 50), (8, 1, 50), (12, 0, 300))
    ]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Runs that were trained with TensorBoard listening."""
    folder = tmp_path_factory.mktemp("trained")
    with track.open(["tensorboard"], study="tiny", folder=folder) as tell, Store(folder) as store, store.lock():
        launch.get("inline").run(store, specs(corpus), corpus.folder, workers=1, on_event=tell)
    return folder


def columns(folder: Path) -> Runs:
    """Of the store, in the readers' order."""
    with Store(folder) as store:
        runs = Runs.from_records(store.records(), curve=store.curve)
    return runs.take(np.lexsort((runs.loss, runs.tokens, runs.params, runs.flops)))


def log_later(name: str, folder: Path) -> None:
    with Store(folder) as store:
        records = store.records()
    with track.open([name], study="tiny", folder=folder, records=records):
        pass


def keep(folder: Path, *, status: str = "ok", losses=None):
    """A record with its curve, as a study keeps it: of 1000 steps, without training any."""
    record = simulated.record(8, 5e10, status=status, reason="" if status == "ok" else "the loss is nan by step 20")
    curve = simulated.curve(record) if losses is None else Curve(np.arange(1, len(losses) + 1) * float(record.spec.batch), np.array(losses))
    return files.write_record(folder / "runs" / record.id, record, curve)


def progress(spec, step):
    return Progress(id=spec.id, step=step, steps=spec.steps, tokens=step * spec.batch, loss=3.0, tokens_per_second=1e4)


def desk(folder: Path) -> Desk:
    return Desk(study="s", folder=folder, marks=Marks(folder / "marks"), live=0.0, pause=0.0)


def started(spec):
    return Started(id=spec.id, spec=spec, attempt=1)


# What is logged is read back


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.usefixtures("offline")
def test_what_was_trained_is_read_back_from_every_tracker(name, trained, monkeypatch):
    place = trained / "track" / name
    if name == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (place / "mlruns").as_uri())
    if name != "tensorboard":  # which listened while they were trained
        log_later(name, trained)
    expected, found = columns(trained), readers.read(place)
    exact = 0.0 if name != "tensorboard" else HALF_BIT
    for column in ("params", "tokens", "flops", "loss", "budget", "lr", "seed"):
        np.testing.assert_allclose(getattr(found, column), getattr(expected, column), rtol=exact, err_msg=column)
    assert found.flops_from == "as given"
    assert not found.doubtful
    assert not found.dropped


@pytest.mark.slow  # MLflow makes its tables in some eight seconds
@pytest.mark.usefixtures("offline")
def test_mlflow_keeps_a_database_in_the_studys_folder_by_default(trained, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    log_later("mlflow", trained)
    np.testing.assert_array_equal(readers.read(trained / "track/mlflow").loss, columns(trained).loss)
    assert not (tmp_path / "mlruns").exists()


def points(place: Path, name: str) -> list[tuple[float, float]]:
    """Steps and losses of the one run there, in order of writing."""
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        events = [e for file in sorted(place.rglob("*tfevents*")) for e in EventFileLoader(str(file)).Load()]
        return [(e.step, v.tensor.float_val[0]) for e in events for v in e.summary.value if v.tag == "train/loss"]
    log = importlib.import_module(f"isoflop.readers.{name}").open(place).logs
    found = [(tokens, one.series["train/loss"][at]) for one in log for at, tokens in one.series["tokens"].items()]
    return [(tokens / simulated.BATCH, loss) for tokens, loss in found]


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.usefixtures("offline")
def test_a_run_that_is_resumed_goes_on_in_the_same_run_and_nothing_is_logged_twice(name, tmp_path, monkeypatch):
    place = tmp_path / "track" / name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (place / "mlruns").as_uri())
    record = keep(tmp_path)
    spec, steps = record.spec, record.spec.steps
    for seen in (range(1, steps // 3, 10), range(steps // 4, steps + 1)):  # the second process begins at an earlier checkpoint
        tracker, table = track.get(name).open(place, study="s"), desk(tmp_path)
        table.take(started(spec), tracker)
        for step in seen:
            table.take(progress(spec, step), tracker)
        if seen.start > 1:
            table.take(Finished(record=record), tracker)
        table.clear(tracker)
        tracker.close()
    logged = points(place, name)
    assert len(logged) == CELLS
    assert len({cell(round(step), spec) for step, _ in logged}) == CELLS
    assert max(logged)[0] == steps
    if name == "tensorboard":
        assert logged == sorted(logged), "TensorBoard draws in order of writing"
    if name == "wandb":
        rows = [row for log in importlib.import_module("isoflop.readers.wandb").open(place).logs for row in log.series["tokens"]]
        assert sorted(rows) == list(range(CELLS)), "the server takes rows only in the order of their count"
    assert len(readers.read(place)) == 1
    folders = len(importlib.import_module(f"isoflop.readers.{name}").open(place).logs)
    assert folders == (2 if name == "wandb" else 1)  # offline, W&B writes into a folder for each start


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.usefixtures("offline")
def test_a_run_that_diverged_is_logged_with_its_reason_and_left_out_by_the_reader(name, tmp_path, monkeypatch):
    place = tmp_path / "track" / name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (place / "mlruns").as_uri())
    bad = keep(tmp_path, status="diverged", losses=[5.0] * 10 + [float("nan")] * 10)
    good = simulated.record(12, 5e10)
    good = files.write_record(tmp_path / "runs" / good.id, good, simulated.curve(good))
    with track.open([name], study="s", folder=tmp_path, records=[bad, good]):
        pass
    runs = readers.read(place)
    assert runs.tokens.tolist() == [good.tokens]
    assert all(entry.reason.startswith("no loss") for entry in runs.dropped)
    assert runs.dropped
    assert b"the loss is nan by step 20" in b"".join(p.read_bytes() for p in place.rglob("*") if p.is_file())


def test_a_finished_run_is_logged_only_once_however_often_it_is_shown(tmp_path):
    record, tracker = keep(tmp_path), Notebook()
    for _ in range(2):
        desk(tmp_path).take(Finished(record=record), tracker)
    assert len(tracker.steps) == CELLS
    assert [said[0] for said in tracker.said] == ["begin", "end"]


def test_a_run_that_diverged_is_logged_again_when_it_is_trained_again(tmp_path):
    tracker, table = Notebook(), desk(tmp_path)
    diverged = keep(tmp_path, status="diverged", losses=[5.0] * 600)
    table.take(Finished(record=diverged), tracker)
    before = len(tracker.steps)
    table.take(started(diverged.spec), tracker)
    table.take(Finished(record=keep(tmp_path)), tracker)
    assert [said[-1] for said in tracker.said if said[0] == "end"] == ["diverged", "ok"]
    assert before > 0
    assert len(tracker.steps) == before + CELLS


def test_a_run_that_is_stopped_is_paused_and_not_ended(tmp_path):
    tracker, table, spec = Notebook(), desk(tmp_path), keep(tmp_path).spec
    for event in (started(spec), progress(spec, 7), Lost(id=spec.id, attempt=1, reason="killed"), progress(spec, 40), started(spec), progress(spec, 90)):
        table.take(event, tracker)
    table.clear(tracker)
    assert tracker.said == [("begin", spec.id, 0), ("log", spec.id), ("log", spec.id), ("pause", spec.id)]


def test_short_runs_are_logged_once_at_their_end(tmp_path):
    record, tracker = keep(tmp_path), Notebook()
    table = Desk(study="s", folder=tmp_path, marks=Marks(tmp_path / "marks"))
    for event in (started(record.spec), *(progress(record.spec, step) for step in range(1, 900)), Finished(record=record)):
        table.take(event, tracker)
    assert [said[0] for said in tracker.said] == ["begin", "end"]


def test_a_point_of_the_curve_is_the_mean_that_a_launcher_told(tmp_path):
    from isoflop.train import divergence

    assert divergence.LOOK == WINDOW
    record = keep(tmp_path)
    curve = files.read_curve(tmp_path / "runs" / record.id, record.curve_sha256)
    last = of_curve(record, curve)[CELLS - 1]
    assert last.step == record.spec.steps
    assert last.loss == pytest.approx(curve.loss[-20:].mean(), rel=20 * 2.0**-53)  # a sum of twenty rounds twenty times, in whatever order
    assert last.flops == record.flops


@pytest.mark.parametrize("budget", [1.5e8, 1.5e9, 5e10])
def test_a_run_has_as_many_points_as_steps_or_cells_and_the_last_is_its_end(budget):
    record = simulated.record(8, budget)
    points = of_curve(record, simulated.curve(record))
    assert len(points) == min(record.spec.steps, CELLS)
    assert points[max(points)].step == record.spec.steps
    assert sorted(points) == list(range(len(points)))


def test_settings_are_flat_and_hold_the_whole_spec(tmp_path):
    record = keep(tmp_path)
    settings = Run(spec=record.spec, study="s").settings
    assert all(re.fullmatch(r"\w+", name) and isinstance(value, str | int | float) for name, value in settings.items())
    assert settings["params"] == record.params.total
    assert settings["schedule_name"] == "cosine"
    assert {"d_model", "lr", "tokens", "batch", "seed", "budget", "group", "data", "optimizer_beta1", "study"} <= set(settings)


# No tracker stops or slows training


def listener(tmp_path, tracker, warnings, records=()):
    return Listener("notebook", lambda: tracker, study="s", folder=tmp_path, marks=Marks(tmp_path / "marks"), records=records, warn=warnings.append)


def test_a_tracker_that_fails_is_off_after_one_warning(tmp_path):
    record, warnings, tracker = keep(tmp_path), [], Notebook(fails=True)
    told = listener(tmp_path, tracker, warnings)
    for _ in range(3):
        told.on_event(Finished(record=record))
    told.dismiss(hurry=False)
    told.wait()
    assert len(warnings) == 1
    assert "No space left" in warnings[0]
    assert "--track notebook" in warnings[0]
    assert tracker.said == [("close",)]


def test_training_goes_on_where_nothing_can_be_tracked(corpus, tmp_path, capfd):
    (tmp_path / "track").write_text("no folder")
    with track.open(["tensorboard"], study="tiny", folder=tmp_path) as tell, Store(tmp_path) as store, store.lock():
        launch.get("inline").run(store, specs(corpus)[:2], corpus.folder, workers=1, on_event=tell)
        assert [record.status for record in store.records()] == ["ok", "ok"]
    assert capfd.readouterr().err.count("warning: tracking by tensorboard is off") == 1


@pytest.mark.usefixtures("offline")
def test_nobody_logged_in_to_wandb_is_said_and_not_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    warnings = []
    with track.open(["wandb"], study="s", folder=tmp_path, records=[keep(tmp_path)], warn=warnings.append):
        pass
    assert len(warnings) == 1
    assert "wandb login" in warnings[0]
    assert "WANDB_MODE=offline" in warnings[0]


@pytest.mark.slow
def test_wandb_on_a_full_disk_is_off_after_one_warning_without_a_traceback(tmp_path):
    code = f"""
import resource, sys
from pathlib import Path
import wandb
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_store as t
from isoflop import track
from isoflop.launch import Finished
from isoflop.store import files
folder, spec = Path({str(tmp_path)!r}), t.spec_of(steps=50)
record = files.write_record(folder / "runs" / spec.id, t.record_of(spec), t.curve_of(spec))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with track.open(["wandb"], study="tiny", folder=folder) as tell:
    tell(Finished(record=record))
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"WANDB_MODE": "offline"}
    )
    assert done.returncode == 0
    assert done.stderr.count("warning: tracking by wandb is off") == 1
    assert "Traceback" not in done.stderr


def test_a_tracker_that_hangs_holds_nobody_up(tmp_path):
    record, free = keep(tmp_path), threading.Event()
    tracker = Notebook()
    tracker.begin = lambda *_, **__: free.wait(30)
    told = listener(tmp_path, tracker, [])
    told.on_event(started(record.spec))
    told.on_event(Finished(record=record))
    while told._events.qsize():
        time.sleep(0.001)
    for step in range(2 * FULL):  # returns each time, though the tracker does not
        told.on_event(progress(record.spec, 1 + step % 90))
    told.on_event(Finished(record=record))
    assert told._events.qsize() == FULL + 1, "progress that nobody logs must not fill the memory; what is finished is never left out"
    free.set()
    told.dismiss(hurry=True)
    told.wait()
    assert [said[0] for said in tracker.said] == ["end", "close"]


def test_a_missing_extra_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=rf"pip install '?{name}"), track.open([name], study="s", folder=tmp_path):
            pytest.fail("it was opened")


def test_an_unknown_tracker_is_named_with_those_there_are(study):
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        track.check(["tensorbord"])
    command = [sys.executable, "-m", "isoflop.cli", "train", str(study), "--track", "tensorbord"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=study.parent)
    assert done.returncode == 2
    assert "Known: mlflow, tensorboard, wandb" in done.stderr


def test_tensorboards_own_extra_is_all_it_needs(trained):
    code = f"""
    import sys
    sys.modules["torch"] = sys.modules["tensorflow"] = None  # not installed
    from pathlib import Path
    from isoflop import track
    from isoflop.store import Store
    folder = Path({str(trained)!r})
    with Store(folder) as store:
        records = store.records()
    with track.open(["tensorboard"], study="alone", folder=folder / "alone") as tell:
        pass
    with track.open(["tensorboard"], study="alone", folder=folder, records=records, warn=sys.exit):
        pass
    track.get("tensorboard").open(folder / "alone", study="alone").close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def marked(mark: str) -> list[int]:
    """Processes that were started with a mark in their environment, and live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and "\nState:\tZ" not in (folder / "status").read_text():
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def gone(mark: str, *, but: frozenset[int] | set[int] = frozenset()) -> None:
    until = time.monotonic() + 10
    while set(marked(mark)) - but and time.monotonic() < until:
        time.sleep(0.05)
    assert set(marked(mark)) == but


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.usefixtures("offline")
def test_wandb_leaves_no_process_behind(tmp_path, interrupted):
    keep(tmp_path)
    code = f"""
    import sys, time
    from pathlib import Path
    from isoflop import track
    from isoflop.launch import Finished
    from isoflop.store import files
    folder = Path({str(tmp_path)!r})
    record = files.read_record(next((folder / "runs").iterdir()))
    with track.open(["wandb"], study="s", folder=folder) as tell:
        tell(Finished(record=record))
        while not list(folder.rglob("{simulated.record(8, 5e10).id}.json")):
            time.sleep(0.01)
        print("logged", flush=True)
        time.sleep({60 if interrupted else 0})
    print("closed", flush=True)
    sys.stdin.readline()
    """
    mark = f"ISOFLOP_TRACK_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | dict([mark.split("=")]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout.readline() == "logged\n"
    if interrupted:
        assert len(marked(mark)) > 1  # W&B's own is among them
        os.killpg(process.pid, signal.SIGINT)
    else:
        assert process.stdout.readline() == "closed\n"
        gone(mark, but={process.pid})
    _, err = process.communicate(timeout=60)
    assert ("KeyboardInterrupt" in err) == interrupted
    assert "warning" not in err
    gone(mark)
