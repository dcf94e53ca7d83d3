"""Logs of runs, as trackers keep them -> one table: a row for each step of each run."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from isoflop.errors import FitError

_OURS = ("run_id", "name", "status", "step")


@dataclass(kw_only=True)
class Log:
    """What a tracker kept of one run."""

    id: str
    name: str
    status: str  # "finished" of a run that ended well
    constants: dict[str, Any] = field(default_factory=dict)  # settings, and what was logged of the run as a whole
    series: dict[str, dict[float, Any]] = field(default_factory=dict)  # by name, by step

    def add(self, name: str, step: float, value: Any) -> None:
        """One value at one step; a later one at the same step replaces it, as trackers show it."""
        self.series.setdefault(name, {})[step] = value


@dataclass(frozen=True)
class Logs:
    """Logs as a table: what was logged once is of the whole run, what was not logged at a step is empty there."""

    logs: tuple[Log, ...]
    columns: tuple[str, ...]

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Columns, a run at a time."""
        import pyarrow as pa

        for done, log in enumerate(self.logs, start=1):
            rows = _rows(log)
            yield {name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in wanted}, done / len(self.logs)


def with_names(logs: Logs, found: Sequence[Mapping[str, str]]) -> Logs:
    """Return logs with what their names say as settings, a mapping for each log."""
    named = tuple(replace(log, constants={**log.constants, **said}) for log, said in zip(logs.logs, found, strict=True))
    return Logs(named, tuple(dict.fromkeys([*logs.columns, *(name for said in found for name in said)])))


def table(logs: Iterable[Log], *, source: object) -> Logs:
    """Logs, in order of their ids.

    Raises:
        FitError: There is none.
    """
    found = tuple(sorted(logs, key=lambda log: log.id))
    if not found:
        raise FitError(f"{source} holds no runs. Give the folder that the tracker wrote them to.")
    names = dict.fromkeys(_named(name) for log in found for name in (*log.constants, *log.series))
    return Logs(found, (*_OURS, *names))


def _rows(log: Log) -> list[dict[str, Any]]:
    repeated = {name: values for name, values in log.series.items() if len(values) > 1}
    steps = sorted({step for values in (repeated or log.series).values() for step in values})
    once = {name: next(iter(values.values())) for name, values in log.series.items() if name not in repeated}
    fixed = {_named(name): value for name, value in {**log.constants, **once}.items()} | {"run_id": log.id, "name": log.name, "status": log.status}
    rows = [{**fixed, "step": step, **{_named(name): values.get(step) for name, values in repeated.items()}} for step in steps]
    return rows or [fixed]


def _named(name: str) -> str:
    written = name.encode(errors="replace").decode()
    return f"logged.{written}" if written in _OURS else written


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return repr(float(value))
        except OverflowError:
            return "inf" if value > 0 else "-inf"
    return str(value).encode(errors="replace").decode()  # half of a pair of UTF-16 is no character


@contextmanager
def quiet() -> Iterator[None]:
    """A tracker's own library warns of its own future, which is not for who reads a log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
