"""Which events become points: few while a run is trained, all that are missing when it has ended."""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.launch import Event, Finished, Lost, Progress, Skipped, Started
from isoflop.runs import RunRecord
from isoflop.store import files
from isoflop.track._marks import Mark, Marks
from isoflop.track._points import Point, Run, cell, of_curve

if TYPE_CHECKING:
    from isoflop.track import Tracker

LIVE = 5.0  # seconds; assumption: nobody watches a run that is shorter
PAUSE = 1.0  # seconds; assumption: nobody watches closer


@dataclass(kw_only=True)
class _UnderWay:
    """A run that is being trained."""

    run: Run
    mark: Mark
    since: float  # on the monotonic clock
    told: float = -math.inf
    points: dict[int, Point] = field(default_factory=dict)  # logged by this process


class Desk:
    """What one tracker is told of each run.

    Args:
        study: Name of the study.
        folder: Of the study.
        marks: What the tracker has already.
        live: Seconds after which a run is logged while it is trained.
        pause: Seconds between points of a run under way, at least.
    """

    def __init__(self, *, study: str, folder: Path, marks: Marks, live: float = LIVE, pause: float = PAUSE) -> None:
        self._study, self._folder, self._marks = study, folder, marks
        self._live, self._pause = live, pause
        self._under_way: dict[str, _UnderWay] = {}
        self._begun: dict[str, Run] = {}

    def busy(self, run: str) -> bool:
        """Whether a run is being trained."""
        return run in self._under_way

    def take(self, event: Event, tracker: "Tracker") -> None:
        """Log an event, if it is one to be logged."""
        match event:
            case Started():
                self._start(event, tracker)
            case Progress() if event.id in self._under_way:
                self._go_on(event, self._under_way[event.id], tracker)
            case Lost() | Skipped():
                self._under_way.pop(event.id, None)
            case Finished():
                self._finish(event.record, tracker)

    def clear(self, tracker: "Tracker") -> None:
        """Nothing comes any more: runs that have not ended are paused."""
        for run in self._begun.values():
            tracker.pause(run)
        self._begun.clear()

    def _start(self, event: Started, tracker: "Tracker") -> None:
        mark = self._marks.load(event.id, where=tracker.where)
        if mark.status not in {"", "ok"}:
            mark = Mark()  # what failed or diverged is trained anew
        run = Run(spec=event.spec, study=self._study)
        self._under_way[event.id] = _UnderWay(run=run, mark=replace(mark, status=""), since=time.monotonic())

    def _go_on(self, event: Progress, now: _UnderWay, tracker: "Tracker") -> None:
        clock = time.monotonic()
        part = cell(event.step, now.run.spec)
        if clock - now.since < self._live or clock - now.told < self._pause:
            return
        at_end = part == cell(event.steps, now.run.spec)  # that point is the record's
        if at_end or part in now.mark.cells or not math.isfinite(event.loss):
            return
        flops = event.tokens * now.run.spec.shape.flops_per_token.training
        point = Point(step=event.step, tokens=event.tokens, flops=flops, loss=event.loss, rate=event.tokens_per_second, time=time.time())
        self._begin(now.run, now.mark, tracker)
        now.mark, now.told, now.points[part] = now.mark.with_cell(part), clock, point
        self._marks.save(event.id, now.mark, where=tracker.where)  # first: a point that is lost with the process is better than one logged twice
        tracker.log(now.run, point)

    def _finish(self, record: RunRecord, tracker: "Tracker") -> None:
        now = self._under_way.pop(record.id, None)
        mark = now.mark if now else self._marks.load(record.id, where=tracker.where)
        if mark.status:
            return
        run = Run(spec=record.spec, study=self._study)
        points = of_curve(record, files.read_curve(self._folder / "runs" / record.id, record.curve_sha256)) | (now.points if now else {})
        self._begin(run, mark, tracker)
        every = [points[part] for part in sorted(points)]
        missing = [points[part] for part in sorted(points) if part not in mark.cells]
        del self._begun[run.id]
        tracker.end(run, record, missing=missing, every=every)
        self._marks.save(run.id, Mark(cells=frozenset(points), status=record.status), where=tracker.where)

    def _begin(self, run: Run, mark: Mark, tracker: "Tracker") -> None:
        if run.id not in self._begun:
            tracker.begin(run, logged=len(mark.cells))
            self._begun[run.id] = run
