"""TensorBoard: folders of event files, each folder a run; scalars by step, hparams and short texts as settings of the run."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoflop.errors import FitError, not_importable
from isoflop.readers._logs import Log, Logs, quiet, table

_NAME = "tfevents"  # in the name of every event file; TensorBoard itself finds them by it
_FIRST = b"brain.Event:"  # in the first record of every event file
_LONGEST = 64  # characters of a text that is a setting; assumption: longer ones are notes
_FRAME = struct.Struct("<Q")  # length of a record; around it stand checksums of four bytes each


def certainty(path: Path, start: bytes) -> int:
    """A file by its first record; a folder by the files under it."""
    if path.is_file():
        return 2 if _FIRST in start[:256] and b"\0" in start[:64] else 0
    return 2 if any(path.rglob(f"*{_NAME}*")) else 0


def open(path: Path) -> Logs:  # noqa: A001  # readers.tensorboard.open is how it is said
    """Every run under a folder.

    Raises:
        FitError: No event file, or one that is damaged.
        MissingExtraError: TensorBoard is not installed.
    """
    try:
        with quiet():
            from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ImportError as error:
        raise not_importable(error, "tensorboard", extra="tensorboard", needed_for="reading TensorBoard's event files") from None
    files = [path] if path.is_file() else sorted(p for p in path.rglob(f"*{_NAME}*") if p.is_file())
    root = path.parent if path.is_file() else path
    logs: dict[Path, Log] = {}
    with quiet():
        for file in files:
            folder = file.parent
            name = folder.relative_to(root).as_posix()
            log = logs.setdefault(folder, Log(id=name if name != "." else folder.resolve().name, name="", status="finished"))
            if _cut(file):
                log.status = "cut short"
            try:
                for event in EventFileLoader(os.fspath(file)).Load():
                    _note(log, event)
            except Exception as error:  # protobuf and TensorBoard each raise classes of their own, which differ by version
                raise FitError(f"{file} is damaged: {error}. Leave that file out, or log the run again.") from error
    return table(list(_with_settings(logs)), source=path)


def _with_settings(logs: dict[Path, Log]) -> Iterator[Log]:
    """Runs with the settings that PyTorch's `add_hparams` put into a folder of their own below the run's."""
    for folder, log in logs.items():
        run = logs.get(folder.parent)
        if run is None or not log.constants or any(len(values) > 1 for values in log.series.values()):
            yield log
            continue
        once = {name: next(iter(values.values())) for name, values in log.series.items() if name not in run.series}
        run.constants = {**once, **log.constants, **run.constants}


def _note(log: Log, event: Any) -> None:
    for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        if plugin == "hparams":
            log.constants.update(_hparams(value.metadata.plugin_data.content))
        elif plugin == "text" and value.tensor.string_val:
            text = value.tensor.string_val[0].decode(errors="replace")
            if len(text) <= _LONGEST:
                log.constants[value.tag.removesuffix("/text_summary")] = text
        elif plugin == "scalars":
            number = _scalar(value.tensor)
            if number is not None:
                log.add(value.tag, event.step, number)


def _scalar(tensor: Any) -> float | None:
    from tensorboard.util import tensor_util

    array = tensor_util.make_ndarray(tensor)
    return float(array.reshape(-1)[0]) if array.size == 1 else None


def _hparams(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in data.session_start_info.hparams.items() if value.WhichOneof("kind")}


def _cut(file: Path) -> bool:
    """Whether a file ends inside a record, where TensorBoard stops reading without a word."""
    size, at = file.stat().st_size, 0
    with file.open("rb") as events:
        while at + _FRAME.size <= size:
            events.seek(at)
            at += _FRAME.size + 4 + _FRAME.unpack(events.read(_FRAME.size))[0] + 4
    return at != size
