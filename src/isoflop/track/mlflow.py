"""MLflow: a run for each run in an experiment for each study, on the server that MLFLOW_TRACKING_URI names or in a database in the study's folder."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from isoflop.runs import RunRecord
from isoflop.track._points import Point, Run, outcome

TITLE = "MLflow"
NEEDS = {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"}
DATABASE = "mlflow.db"  # which `mlflow ui` looks for where it is started
TAG = "isoflop.id"
AT_ONCE = 1000  # metrics in one request, by MLflow's REST interface


def open(folder: Path, *, study: str) -> "MLflow":  # noqa: A001  # as in all of the menu
    """The experiment of the study, made if it is not there."""
    return MLflow(folder, study)


class MLflow:
    """Logs with MLflow's client, request by request; nothing of MLflow's global state is set."""

    def __init__(self, folder: Path, study: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own future
            from mlflow import entities
            from mlflow.tracking import MlflowClient
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they tell of each table
        own = f"sqlite:///{(folder / DATABASE).absolute()}"
        self.where = os.environ.get("MLFLOW_TRACKING_URI") or own
        if self.where == own:
            folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=self.where, registry_uri=self.where)
        self._metric, self._param = entities.Metric, entities.Param
        known = self._client.get_experiment_by_name(study)
        beside = (folder / "artifacts").absolute().as_uri() if self.where == own else None
        self._experiment = known.experiment_id if known else self._client.create_experiment(study, artifact_location=beside)
        self._open: dict[str, str] = {}  # MLflow's ids by ours

    def begin(self, run: Run, *, logged: int) -> None:  # noqa: ARG002  # the store itself knows whether it has the run
        """Find the run of that id, or make it."""
        found = self._client.search_runs([self._experiment], filter_string=f"tags.`{TAG}` = '{run.id}'", max_results=1)
        if found:
            self._open[run.id] = found[0].info.run_id
            self._client.update_run(self._open[run.id], status="RUNNING")
            return
        made = self._client.create_run(self._experiment, run_name=run.name, tags={TAG: run.id, "isoflop.group": run.spec.group})
        self._open[run.id] = made.info.run_id
        self._client.log_batch(made.info.run_id, params=[self._param(name, str(value)) for name, value in run.settings.items()])

    def log(self, run: Run, point: Point) -> None:
        """One request."""
        self._client.log_batch(self._open[run.id], metrics=list(self._metrics(point.metrics, point)))

    def end(self, run: Run, record: RunRecord, *, missing: Sequence[Point], every: Sequence[Point]) -> None:
        """The rest of the curve, and the outcome."""
        metrics = [metric for point in missing for metric in self._metrics(point.metrics, point)]
        metrics += self._metrics(outcome(record), every[-1]) if every else ()
        id_ = self._open.pop(run.id)
        for at in range(0, len(metrics), AT_ONCE):
            self._client.log_batch(id_, metrics=metrics[at : at + AT_ONCE])
        self._client.set_tag(id_, "status", record.status)
        self._client.set_tag(id_, "reason", record.reason)
        self._client.set_terminated(id_, status="FINISHED" if record.status == "ok" else "FAILED")

    def pause(self, run: Run) -> None:
        """Its state is "KILLED" until it goes on."""
        self._client.set_terminated(self._open.pop(run.id), status="KILLED")

    def close(self) -> None:
        """Nothing is open: every request stands for itself."""

    def _metrics(self, values: dict[str, float], point: Point) -> Iterator[Any]:
        for name, value in values.items():
            yield self._metric(name, value, int(1000 * point.time), point.step)
