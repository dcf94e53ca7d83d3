"""Weights & Biases: a run for each run, grouped by study; offline if the environment says so (WANDB_MODE=offline)."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isoflop.errors import UsageError
from isoflop.runs import RunRecord
from isoflop.track._points import Point, Run, outcome

TITLE = "Weights & Biases"
NEEDS = {"wandb": "wandb"}
PROJECT = "isoflop"  # unless WANDB_PROJECT names another


def open(folder: Path, *, study: str) -> "WeightsAndBiases":  # noqa: A001  # as in all of the menu
    """Runs on the server that the environment names, or in the folder.

    Raises:
        UsageError: Nobody is logged in, and it is not offline.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return WeightsAndBiases(folder, study)


class WeightsAndBiases:
    """Logs with W&B's own library, which starts a process of its own and is told to end it."""

    def __init__(self, folder: Path, study: str) -> None:
        import wandb

        logging.raiseExceptions = False  # W&B keeps a log of its own; where that cannot be written, Python would print a traceback for each line of it
        self._wandb, self._folder, self._study = wandb, folder, study
        self.where = os.environ.get("WANDB_PROJECT") or PROJECT
        # what it would tell of this machine is in the record's clock, and what it would print is not asked for
        off = dict.fromkeys(("disable_git", "disable_code", "x_disable_stats", "x_disable_meta", "x_disable_machine_info"), True)
        self._quiet = wandb.Settings(silent=True, console="off", x_save_requirements=False, **off)
        self._open: dict[str, Any] = {}
        self._logged: dict[str, int] = {}
        if wandb.setup().settings.mode not in {"offline", "dryrun", "disabled"} and not wandb.login(prompt=False, verify=False):
            wandb.teardown()
            raise UsageError("nobody is logged in to Weights & Biases. Log in with `wandb login`, or keep runs on this machine with WANDB_MODE=offline.")

    def begin(self, run: Run, *, logged: int) -> None:
        """Open the run of that id, or go on in it."""
        made = self._wandb.init(
            project=self.where,
            group=self._study,
            job_type=run.spec.group,
            name=run.name,
            id=run.id,
            dir=str(self._folder),
            config=run.settings,
            resume="allow",
            reinit="create_new",  # several are open at once
            settings=self._quiet,
        )
        made.define_metric("step", hidden=True)
        made.define_metric("*", step_metric="step")
        self._open[run.id], self._logged[run.id] = made, logged

    def log(self, run: Run, point: Point) -> None:
        """One row of its history."""
        # W&B wants its own count to rise, also over what was logged before, though points that were missed come late
        self._open[run.id].log({"step": point.step, **point.metrics}, step=self._logged[run.id])
        self._logged[run.id] += 1

    def end(self, run: Run, record: RunRecord, *, missing: Sequence[Point], every: Sequence[Point]) -> None:  # noqa: ARG002  # charts sort by step
        """The rest of the curve, and the outcome as its summary."""
        for point in missing:
            self.log(run, point)
        made = self._open.pop(run.id)
        made.summary.update({**outcome(record), "status": record.status, "reason": record.reason, "tokens": record.tokens, "flops": record.flops})
        made.finish(exit_code=int(record.status != "ok"))

    def pause(self, run: Run) -> None:
        """Its state is "preempted" until it goes on."""
        made = self._open.pop(run.id)
        made.mark_preempting()
        made.finish(exit_code=1)

    def close(self) -> None:
        """End W&B's process."""
        self._wandb.teardown()
