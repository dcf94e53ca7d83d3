"""What is logged of a run: its name, its settings, and at most so many points of its curve, the same ones however it is trained."""

import datetime
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from isoflop import units
from isoflop.runs import Curve, RunRecord, RunSpec

CELLS = 200  # points of a run at most, one in each equal part of its steps; assumption: more than a chart has pixels for is for the store
WINDOW = 20  # steps whose mean loss is logged: as many as a launcher's progress is the mean of


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, as trackers know it."""

    spec: RunSpec
    study: str

    @cached_property
    def id(self) -> str:
        """That of its spec, so that a run that is resumed is the same run."""
        return self.spec.id

    @property
    def name(self) -> str:
        spec = self.spec
        part = f"{spec.group}/{spec.label}" if spec.label else spec.group
        return f"{part} {units.count(spec.shape.params.total)} params {units.count(spec.tokens)} tokens"

    @property
    def file(self) -> str:
        """Its name and id as the name of a folder."""
        return re.sub(r"[^\w.]+", "-", f"{self.name} {self.id}")

    @property
    def settings(self) -> dict[str, str | float | bool]:
        """The spec, flat; what is the shape's has no name before it, as in `isoflop runs --csv`.

        Joined by underscores: readers take what stands behind a point for a name of its own.
        """
        fields = self.spec.model_dump(mode="json")
        params = self.spec.shape.params
        counted = {"params": params.total, "params_nonembedding": params.count("nonembedding"), "flops": self.spec.flops, "steps": self.spec.steps}
        return {"study": self.study, **_flat(fields.pop("shape")), **counted, **_flat(fields)}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a run was."""

    step: int  # steps done
    tokens: float
    flops: float
    loss: float  # nats per token, mean over the last steps
    rate: float = 0.0  # tokens per second; 0 where nobody measured
    time: float  # seconds since 1970

    @property
    def metrics(self) -> dict[str, float]:
        """By the names they are logged under."""
        rate = {"train/tokens_per_second": self.rate} if self.rate > 0 else {}
        return {"train/loss": self.loss, "tokens": self.tokens, "flops": self.flops, **rate}


def outcome(record: RunRecord) -> dict[str, float]:
    """What came of a run, in numbers, by the names they are logged under."""
    found = {"final/loss": record.loss, "final/bits_per_byte": record.bits_per_byte, "final/seconds": record.clock.seconds, "final/epochs": record.epochs}
    return {name: float(value) for name, value in found.items() if value is not None}


def cell(step: int, spec: RunSpec) -> int:
    """The part of the run that a step lies in."""
    return (step - 1) * min(CELLS, spec.steps) // spec.steps


def of_curve(record: RunRecord, curve: Curve) -> dict[int, Point]:
    """The points of a finished run by cell: the last step of each, as it was seen then.

    A loss that is no number is no point; status and reason say what became of the run.
    """
    spec, size = record.spec, curve.loss.size
    ends = {cell(step, spec): step for step in range(1, size + 1)}
    finished = datetime.datetime.fromisoformat(record.clock.finished).timestamp()
    points = {}
    for part, step in ends.items():
        loss = float(np.mean(curve.loss[max(0, step - WINDOW) : step]))
        if np.isfinite(loss):
            tokens = float(curve.tokens[step - 1])
            time = finished - record.clock.seconds * (1 - step / size)
            points[part] = Point(step=step, tokens=tokens, flops=tokens * spec.shape.flops_per_token.training, loss=loss, time=time)
    return points


def _flat(fields: dict[str, Any], before: str = "") -> dict[str, str | float | bool]:
    found: dict[str, str | float | bool] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}_")
        elif value is not None:
            found[before + name] = value
    return found
