"""MLflow: a folder `mlruns` as its file store keeps it, or its SQLite database."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoflop.errors import FitError, IsoflopError, not_importable
from isoflop.readers._logs import Log, Logs, quiet, table

_SQLITE = b"SQLite format 3\0"
_TABLE = b"alembic_version"  # in every MLflow database
_PAGE = 1000  # runs asked for at once
_ALLOWED = "MLFLOW_ALLOW_FILE_STORE"  # MLflow 3 refuses its own file store without it


def certainty(path: Path, start: bytes) -> int:
    """A database by its first bytes; a folder by a store's files in it or in its `mlruns`."""
    if path.is_file():
        return 2 if start.startswith(_SQLITE) else 0
    return 2 if _store(path) else 0


def open(path: Path) -> Logs:  # noqa: A001  # readers.mlflow.open is how it is said
    """Every run of every experiment; params are columns, metrics are columns by step.

    Raises:
        FitError: No store, or one that MLflow cannot read.
        MissingExtraError: MLflow is not installed.
    """
    _refuse_other_databases(path)
    try:
        with quiet():
            import mlflow.tracking  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise not_importable(error, "mlflow-skinny", extra="mlflow", needed_for="reading an MLflow store") from None
    with quiet(), _uri(path) as uri:
        try:
            return table(_logs(uri), source=path)
        except IsoflopError:
            raise
        except ImportError as error:
            raise not_importable(error, error.name or "sqlalchemy", extra="mlflow", needed_for="reading an MLflow database") from error
        except Exception as error:  # of MLflow, SQLAlchemy, SQLite or YAML
            raise FitError(f"{path}: MLflow cannot read its store ({str(error)[:300]}). A database of an older MLflow needs `mlflow db upgrade`.") from error


def _refuse_other_databases(path: Path) -> None:
    """Refuse a database that is not MLflow's, before MLflow adds its tables to a copy.

    Raises:
        FitError: The database has no table of experiments.
    """
    if not path.is_file():
        return
    rest = b""
    with path.open("rb") as database:
        while block := database.read(1 << 20):
            if _TABLE in rest + block:
                return
            rest = block[-len(_TABLE) :]
    if rest and path.stat().st_size >= 512:
        advice = "Write its table as CSV: sqlite3 FILE '.headers on' '.mode csv' 'SELECT * FROM runs' > runs.csv."
        raise FitError(f"{path} is an SQLite database, and not one of MLflow, so isoflop does not know its tables. {advice}")


def _store(path: Path) -> Path | None:
    """The folder or database of the store in a folder."""
    for folder in (path, path / "mlruns"):
        if any(folder.glob("*/meta.yaml")):
            return folder
    return path / "mlflow.db" if (path / "mlflow.db").is_file() else None


@contextmanager
def _uri(path: Path) -> Iterator[str]:
    """Where MLflow finds the store; of a database a copy, since opening one can change its tables."""
    store = path if path.is_file() else _store(path)
    if store is None:
        raise FitError(f"{path} holds no MLflow store. Give its folder `mlruns`, or its database `mlflow.db`.")
    if store.is_file():
        with tempfile.TemporaryDirectory() as folder:
            for part in (store, store.with_name(store.name + "-wal")):
                if part.is_file():
                    shutil.copyfile(part, Path(folder) / part.name.replace(store.name, "copy.db"))
            yield f"sqlite:///{folder}/copy.db"
        return
    before = os.environ.get(_ALLOWED)
    os.environ[_ALLOWED] = "true"
    try:
        yield store.resolve().as_uri()
    finally:
        if before is None:
            del os.environ[_ALLOWED]
        else:
            os.environ[_ALLOWED] = before


def _logs(uri: str) -> list[Log]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri if uri.startswith("file:") else "databricks")  # never asked, but it must have a known form
    experiments = [e.experiment_id for e in client.search_experiments()]
    logs, token = [], None
    while experiments:
        page = client.search_runs(experiments, max_results=_PAGE, page_token=token)
        logs += [_log(client, run) for run in page]
        token = page.token
        if not token:
            break
    return logs


def _log(client: Any, run: Any) -> Log:
    log = Log(id=run.info.run_id, name=run.info.run_name or "", status=run.info.status.lower(), constants=dict(run.data.params))
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            log.add(name, point.step, point.value)
    return log
