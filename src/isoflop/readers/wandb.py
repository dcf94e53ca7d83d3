"""Weights & Biases: folders of offline runs, and charts exported as CSV, alone or beside the table of their runs.

The table of runs by itself is read as any CSV, its JSON as any JSON.
"""

import csv
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from isoflop.errors import FitError, not_importable
from isoflop.readers._logs import Log, Logs, quiet, table

DEEPEST = 8  # settings in settings that are named, as of JSON
_MAGIC = b":W&B"
_BLOCK = 1 << 15  # bytes; a record that does not fit is continued in the next. This and the frame: LevelDB's log format, which W&B's own writer follows
_FRAME = struct.Struct("<IHB")  # checksum, length, kind
_HEAD = 7  # bytes: magic, a number of two bytes, a version
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CHART = "__MIN"  # beside every line of an exported chart stand its lowest and highest value
_BETWEEN = " - "  # of a run's name and the metric's


def certainty(path: Path, start: bytes) -> int:
    """An offline run by its first bytes, a chart by its header, a folder by either in it."""
    if path.is_file():
        header = start.split(b"\n", 1)[0].decode("utf-8", errors="ignore")
        return 2 if start.startswith(_MAGIC) or _is_header(header) else 0
    return 2 if any(path.rglob("*.wandb")) or any(is_chart(file) for file in path.glob("*.csv")) else 0


def open(path: Path) -> Logs:  # noqa: A001  # readers.wandb.open is how it is said
    """Every run of a file or folder.

    Raises:
        FitError: No run, or a damaged one.
        MissingExtraError: W&B is not installed, and runs were logged offline.
    """
    offline = [path] if path.is_file() and not is_chart(path) else sorted(path.rglob("*.wandb"))
    if offline:
        return table((_offline(file) for file in offline), source=path)
    return exported([path] if path.is_file() else sorted(path.glob("*.csv")))


def _offline(file: Path) -> Log:
    try:
        with quiet():
            from wandb.proto import wandb_internal_pb2 as messages
    except ImportError as error:
        raise not_importable(error, "wandb", extra="wandb", needed_for="reading offline runs of Weights & Biases") from None
    parse = cast("Any", messages).Record.FromString
    log = Log(id=file.stem.removeprefix("run-"), name="", status="running")
    summary: dict[str, Any] = {}
    for at, data in _records(file):
        try:
            record = parse(data)
        except Exception as error:  # protobuf has several errors of its own, by version
            raise FitError(f"{file}, byte {at}: a record that W&B cannot read ({error}). Fetch that run again, or leave it out.") from error
        _note(log, summary, record)
    log.constants = {**{name: value for name, value in summary.items() if name not in log.series}, **log.constants}
    return log


def _note(log: Log, summary: dict[str, Any], record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            log.id, log.name = record.run.run_id or log.id, record.run.display_name
            log.constants.update(_values(record.run.config.update))
        case "config":
            log.constants.update(_values(record.config.update))
        case "history":
            values = dict(_values(record.history.item))
            step = _step(values.get("_step"), record.history.step.num)
            for name, value in values.items():
                if not name.startswith("_"):
                    log.add(name, step, value)
        case "summary":
            summary.update((name, value) for name, value in _values(record.summary.update) if not name.startswith("_"))
        case "exit":
            log.status = "crashed" if record.exit.exit_code else "finished"


def _step(value: Any, otherwise: float) -> float:
    """Return the step of an entry; that of the record where the entry has no number."""
    try:
        return float(value) if isinstance(value, int | float) else float(otherwise)
    except OverflowError:
        return float(otherwise)


def _values(items: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values; nested values have names with points."""
    for item in items:
        name = ".".join(item.nested_key) or item.key
        try:
            value = json.loads(item.value_json)
        except (ValueError, RecursionError):
            value = item.value_json
        yield from _flat(name, value, DEEPEST)


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner, depth - 1)
    else:
        yield name, value


def _records(file: Path) -> Iterator[tuple[int, bytes]]:
    """Records with where they begin; the last, if a run was killed while writing it, is not there."""
    content = file.read_bytes()
    if not content.startswith(_MAGIC):
        raise FitError(f"{file} does not begin as a run of Weights & Biases does. Fetch it again, or leave it out.")
    at, record = _HEAD, b""
    while at + _FRAME.size <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _FRAME.size:
            at += left
            continue
        checksum, length, kind = _FRAME.unpack_from(content, at)
        data = content[at + _FRAME.size : at + _FRAME.size + length]
        if len(data) < length or (kind == 0 and not length):
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise FitError(f"{file}, byte {at}: a damaged record, whose checksum is not that of its bytes. Fetch that run again, or leave it out.")
        record = data if kind in {_WHOLE, _FIRST} else record + data
        at += _FRAME.size + length
        if kind in {_WHOLE, _LAST}:
            yield at - _FRAME.size - length, record


def is_chart(file: Path) -> bool:
    """Return whether a file is a chart that was exported as CSV."""
    with file.open("rb") as opened:
        return _is_header(opened.readline(1 << 20).decode("utf-8", errors="ignore"))


def _is_header(header: str) -> bool:
    return _CHART in header and _BETWEEN in header


def exported(files: Sequence[Path]) -> Logs:
    """Return charts, joined by the runs' names, with the settings of the table of runs where it is there.

    Raises:
        FitError: No run, or a malformed file.
    """
    logs: dict[str, Log] = {}
    charts = [file for file in files if is_chart(file)]
    for file in charts:
        _chart(file, logs)
    for file in files:
        if file not in charts:
            for row in _cells(file):
                name = next((text for key, text in row.items() if key.casefold() == "name"), "")
                if name in logs:
                    logs[name].constants.update((key, text) for key, text in row.items() if key.casefold() not in {"name", "state"})
                    logs[name].status = next((text for key, text in row.items() if key.casefold() == "state"), "finished")
    return table(logs.values(), source=charts[0].parent if charts else files[0])


def _chart(file: Path, logs: dict[str, Log]) -> None:
    for number, row in enumerate(_cells(file), start=2):
        if not row:
            continue
        axis, *lines = row
        try:
            step = float(row[axis] or "nan")
        except ValueError:
            raise FitError(f"{file}, line {number}, column 1: {row[axis]!r} is no number of {axis}. Export the chart again.") from None
        for line in lines:
            name, between, metric = line.rpartition(_BETWEEN)  # the last: names of runs hold it more often than names of metrics
            if between and row[line] and not metric.endswith((_CHART, "__MAX")):
                log = logs.setdefault(name, Log(id=name, name=name, status="finished"))
                log.add(metric, step, row[line])
                if axis.casefold() != "step":
                    log.add(axis, step, step)


def _cells(file: Path) -> Iterator[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.reader(opened, strict=True)
            header = next(rows, [])
            for row in rows:
                if row and len(row) != len(header):
                    raise FitError(f"{file}, line {rows.line_num}: {len(row)} fields, but the header names {len(header)}. Export it again.")
                yield dict(zip(header, row, strict=False))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FitError(f"{file} is malformed: {error}. Export it again.") from error
