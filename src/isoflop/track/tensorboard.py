"""TensorBoard: event files in a folder for each run, with the run's settings as hparams."""

import contextlib
import datetime
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from isoflop.runs import RunRecord
from isoflop.track._points import Point, Run, outcome

TITLE = "TensorBoard"
NEEDS = {"tensorboard": "tensorboard"}
FLUSH = 5  # seconds after which what is written can be seen


def open(folder: Path, *, study: str) -> "TensorBoard":  # noqa: A001, ARG001  # as in all of the menu; the settings of a run name the study
    """Event files under a folder."""
    return TensorBoard(folder)


class TensorBoard:
    """Writes with TensorBoard's own writer, which needs neither PyTorch nor TensorFlow."""

    where = ""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own future
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
            from tensorboard.summary.writer import event_file_writer
        self._events, self._summaries = event_pb2, summary_pb2
        self._api, self._metadata, self._data, self._hparams = api_pb2, metadata, plugin_data_pb2, summary_v2.hparams_pb
        self._writer = event_file_writer.EventFileWriter
        self._folder = folder
        self._open: dict[str, Any] = {}
        self._last: dict[str, float] = {}  # step that was logged

    def begin(self, run: Run, *, logged: int) -> None:
        """A new event file in the run's folder."""
        self._open[run.id] = self._writer(str(self._folder / run.file), flush_secs=FLUSH)
        self._last[run.id] = math.inf if logged else 0  # not known: another process logged it
        if not logged:
            self._introduce(run)

    def log(self, run: Run, point: Point) -> None:
        """One event."""
        self._add(run, point.metrics, point)

    def end(self, run: Run, record: RunRecord, *, missing: Sequence[Point], every: Sequence[Point]) -> None:
        """The rest of the curve; all of it in a new file if the rest comes before what is there, since TensorBoard draws in order of writing."""
        former: Iterable[Path] = ()
        if missing and missing[0].step < self._last[run.id]:
            self._open.pop(run.id).close()
            former = list((self._folder / run.file).glob("*tfevents*"))
            self.begin(run, logged=0)
            missing = every
        for point in missing:
            self._add(run, point.metrics, point)
        if every:
            self._add(run, outcome(record), every[-1])
        self._conclude(run, record)
        self._open.pop(run.id).close()
        for file in former:
            file.unlink()

    def pause(self, run: Run) -> None:
        """Close its file."""
        self._open.pop(run.id).close()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            with contextlib.suppress(OSError):  # the disk is full, which was said
                self._open.popitem()[1].close()

    def _add(self, run: Run, metrics: dict[str, float], point: Point) -> None:
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(run, self._summaries.Summary(value=values), step=point.step, time=point.time)
        self._last[run.id] = point.step

    def _introduce(self, run: Run) -> None:
        self._write(run, self._hparams(run.settings, trial_id=run.id))
        self._open[run.id].flush()

    def _conclude(self, run: Run, record: RunRecord) -> None:
        status = self._api.STATUS_SUCCESS if record.status == "ok" else self._api.STATUS_FAILURE
        info = self._data.SessionEndInfo(status=status, end_time_secs=datetime.datetime.fromisoformat(record.clock.finished).timestamp())
        ended = self._metadata.create_summary_metadata(self._data.HParamsPluginData(session_end_info=info))
        end = self._summaries.Summary.Value(tag=self._metadata.SESSION_END_INFO_TAG, metadata=ended, tensor=self._metadata.NULL_TENSOR)
        self._write(run, self._summaries.Summary(value=[end, self._text("status", record.status), self._text("reason", record.reason)]))

    def _text(self, tag: str, text: str) -> Any:
        value = self._summaries.Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING, by tensorboard/compat/proto/types.proto
        value.tensor.tensor_shape.dim.add(size=1)
        value.tensor.string_val.append(text.encode())
        return value

    def _write(self, run: Run, summary: Any, *, step: int = 0, time: float | None = None) -> None:
        event = self._events.Event(step=step, summary=summary)
        if time is not None:
            event.wall_time = time
        self._open[run.id].add_event(event)
