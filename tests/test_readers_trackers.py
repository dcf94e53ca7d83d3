"""What W&B, TensorBoard and MLflow write with their own libraries is read back, and what they leave half written is said."""

import builtins
import os
import warnings

import numpy as np
import pytest

from isoflop import readers
from isoflop.errors import FitError, MissingExtraError, UsageError

STEPS = range(1, 6)
SIZES = {"small": 1e7, "large": 2e7}


def loss(size, step):
    return 2 + 10 / step + 1e7 / size


def expect_two_curves(runs, *, rtol=0.0):
    """The two runs of SIZES; event files hold numbers of 32 bits, so that seven digits are left."""
    assert runs.params.tolist() == [1e7, 2e7]
    np.testing.assert_allclose(runs.tokens, [5e6, 5e6], rtol=rtol)
    for size, curve, final in zip(runs.params, runs.curves, runs.loss, strict=True):
        np.testing.assert_allclose(curve.loss, [loss(size, step) for step in STEPS], rtol=rtol)
        np.testing.assert_allclose(final, loss(size, 5), rtol=rtol)
    assert not runs.doubtful


# Weights & Biases


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Two runs and one that was never finished, logged offline by wandb itself."""
    folder = tmp_path_factory.mktemp("wandb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb

        quiet = wandb.Settings(console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True, silent=True, save_code=False)
        for name, size in SIZES.items():
            run = wandb.init(project="p", dir=folder, mode="offline", name=name, config={"model": {"n_params": size}, "seed": 3}, settings=quiet)
            for step in STEPS:
                run.log({"tokens": step * 1e6, "val/loss": loss(size, step)})
                run.log({"grad_norm": 1.0})
            run.finish()
        wandb.teardown()
    return folder


def test_wandb_offline_runs_are_read(offline):
    runs = readers.read(offline)
    expect_two_curves(runs)
    assert runs.seed.tolist() == [3, 3]
    assert {entry.reason for entry in runs.dropped} == {"no tokens"}  # the steps at which only the norm was logged
    one = next(offline.rglob("*.wandb"))
    assert len(readers.read(one)) == 1


def test_a_wandb_run_cut_anywhere_is_not_ended_or_damaged_and_never_a_traceback(offline, tmp_path):
    whole = next(offline.rglob("*.wandb")).read_bytes()
    path = tmp_path / "run-x.wandb"
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises((FitError, UsageError)):
            readers.read(path)
    path.write_bytes(whole[:500] + b"x" + whole[501:])
    with pytest.raises(FitError, match=r"byte \d+: a damaged record"):
        readers.read(path)


CHART = '"Step","small - val/loss","small - val/loss__MIN","small - val/loss__MAX","large - val/loss","large - val/loss__MIN","large - val/loss__MAX"\n'


def write_charts(folder):
    points = ((step, loss(1e7, step), loss(2e7, step)) for step in STEPS)
    (folder / "chart.csv").write_text(CHART + "".join(f'"{step}","{a}","{a}","{a}","{b}","{b}","{b}"\n' for step, a, b in points))
    tokens = CHART.replace("val/loss", "tokens")
    (folder / "tokens.csv").write_text(tokens + "".join(f'"{s}","{s}e6","{s}e6","{s}e6","{s}e6","{s}e6","{s}e6"\n' for s in STEPS))


def test_wandb_charts_beside_the_table_of_runs_are_joined_by_name(tmp_path):
    write_charts(tmp_path)
    (tmp_path / "runs.csv").write_text('"Name","State","n_params"\n"small","finished","10M"\n"large","finished","20M"\n')
    expect_two_curves(readers.read(tmp_path))


def test_wandb_charts_alone_lack_params_and_say_so(tmp_path):
    write_charts(tmp_path)
    with pytest.raises(UsageError, match="no column is known as params or tokens"):
        readers.read(tmp_path / "chart.csv")
    runs = readers.read(tmp_path / "chart.csv", columns={"params": "10M", "tokens": "step*1e6"})
    assert set(runs.ids) == {"large", "small"}


def test_a_wandb_table_of_runs_is_a_csv_like_any_other(tmp_path):
    (tmp_path / "runs.csv").write_text(
        '"Name","State","config.n_params","tokens","val/loss"\n"small","finished","1e7","2e8","4"\n"b","crashed","1e7","3e8","4"\n'
    )
    runs = readers.read(tmp_path / "runs.csv")
    assert runs.ids == ("small",)
    assert runs.dropped[0].id == "b"


def test_a_malformed_chart_names_its_line(tmp_path):
    (tmp_path / "chart.csv").write_text(CHART + '"1","2"\n')
    with pytest.raises(FitError, match="line 2: 2 fields"):
        readers.read(tmp_path)
    (tmp_path / "chart.csv").write_text(CHART + '"x","2","2","2","2","2","2"\n')
    with pytest.raises(FitError, match="line 2, column 1"):
        readers.read(tmp_path)


# TensorBoard


def write_events(folder, *, params="scalar"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.summary import Writer
    for name, size in SIZES.items():
        writer = Writer(str(folder / name))
        if params == "scalar":
            writer.add_scalar("n_params", size, step=0)
        for step in STEPS:
            writer.add_scalar("val/loss", loss(size, step), step=step)
            writer.add_scalar("tokens", step * 1e6, step=step)
        writer.close()


def test_tensorboard_scalars_are_read_and_one_logged_once_is_of_the_whole_run(tmp_path):
    write_events(tmp_path)
    runs = readers.read(tmp_path)
    expect_two_curves(runs, rtol=1e-6)
    assert set(runs.ids) == set(SIZES)
    assert not runs.dropped


def test_tensorboard_settings_of_pytorchs_writer_are_those_of_the_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    for name, size in SIZES.items():
        writer = SummaryWriter(tmp_path / name)
        for step in STEPS:
            writer.add_scalar("val/loss", loss(size, step), step)
            writer.add_scalar("tokens", step * 1e6, step)
        writer.add_text("tokenizer", "bytes")
        writer.add_hparams({"n_params": size, "arch": "llama"}, {"hparam/final": 1.0})  # into a folder of its own
        writer.close()
    expect_two_curves(readers.read(tmp_path), rtol=1e-6)


def test_tensorboard_without_params_says_what_to_map(tmp_path):
    write_events(tmp_path, params="")
    with pytest.raises(UsageError, match="no column is known as params"):
        readers.read(tmp_path)
    assert len(readers.read(tmp_path / "small", columns={"params": "10M"})) == 1


def test_an_event_file_cut_short_is_a_run_that_has_not_ended(tmp_path):
    write_events(tmp_path)
    file = next((tmp_path / "small").iterdir())
    file.write_bytes(file.read_bytes()[:-5])
    runs = readers.read(tmp_path)
    assert runs.ids == ("large",)
    assert ("small", "status 'cut short': it has not ended") in runs.dropped
    file.write_bytes(os.urandom(3))
    assert readers.read(tmp_path).ids == ("large",)


# MLflow


def log_to_mlflow(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri="databricks" if uri.startswith("sqlite") else uri)
        experiment = client.create_experiment("sweep")
        for name, size in SIZES.items():
            run = client.create_run(experiment, run_name=name).info.run_id
            metrics = [Metric(key, value, 0, step) for step in STEPS for key, value in (("val_loss", loss(size, step)), ("tokens", step * 1e6))]
            client.log_batch(run, metrics=metrics, params=[Param("n_params", f"{size:g}")])
            client.set_terminated(run)
        client.create_run(experiment, run_name="still running")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")


def test_an_mlflow_file_store_is_read_and_left_as_it_was(tmp_path, monkeypatch):
    store = tmp_path / "mlruns"
    log_to_mlflow(store.as_uri(), monkeypatch)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for path in (store, tmp_path):
        expect_two_curves(readers.read(path))
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ


@pytest.mark.slow  # MLflow makes its tables in some eight seconds
def test_an_mlflow_database_is_read_and_left_as_it_was(tmp_path, monkeypatch):
    database = tmp_path / "mlflow.db"
    log_to_mlflow(f"sqlite:///{database}", monkeypatch)
    before = database.read_bytes()
    for path in (database, tmp_path):
        expect_two_curves(readers.read(path))
    assert database.read_bytes() == before


def test_a_damaged_mlflow_store_is_an_error_of_ours(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(FitError, match="MLflow cannot read"):
        readers.read(tmp_path)
    (tmp_path / "mlruns/0").mkdir(parents=True)
    (tmp_path / "mlruns/0/meta.yaml").write_text("a: [")
    with pytest.raises(FitError):
        readers.read(tmp_path / "mlruns")


# Without the libraries


@pytest.mark.parametrize("kind", ["wandb", "tensorboard", "mlflow"])
def test_a_library_that_is_not_installed_is_named_with_what_installs_it(tmp_path, monkeypatch, kind):
    (tmp_path / "run-x.wandb").write_bytes(b":W&B")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == kind:
            raise ModuleNotFoundError(name, name=name.split(".")[0])
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf"not installed.*pip install .*{kind}"):
        readers.read(tmp_path, kind=kind)
