"""Points -> runs: the points of one run id are a curve, and its last point counts; without ids every point is a run."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.readers._collect import Rows
from isoflop.runs import Curve, Floats

KEY = ("params", "seed")  # what one run cannot change
FEW = 8  # points to a run id: more are a curve for sure (assumption: nobody trains one size to more than eight lengths and logs the step)
_NONE = Curve(np.empty(0), np.empty(0))


@dataclass(kw_only=True)
class Grouped:
    """Runs with the points that they had."""

    last: Rows  # the last point of each run
    ids: tuple[str, ...]
    curves: tuple[Curve, ...]
    sizes: NDArray[np.int64]  # rows of each
    doubts: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # a reason, and the runs
    diverged: list[Rows] = field(default_factory=list)  # excluded for that: their settings were tried

    @property
    def nameless(self) -> NDArray[np.bool_]:
        """Runs that are single rows without an id, as a mask."""
        alone: NDArray[np.bool_] = self.sizes == 1
        return alone if self.last.run is None else alone & np.array([name == "" for name in self.last.names])[self.last.run]

    def drop(self, which: NDArray[np.bool_], reason: str) -> None:
        """Exclude runs, counted with their reason."""
        if not which.any():
            return
        if "diverged" in reason or reason.startswith("loss is"):
            self.diverged.append(self.last.take(which))
        nameless = which & self.nameless
        self.last.tally.rows(reason, self.last.number[nameless])
        self.last.tally.runs(reason, [self.ids[i] for i in np.flatnonzero(which & ~nameless)], points=int(self.sizes[which & ~nameless].sum()))
        kept = np.flatnonzero(~which)
        self.last, self.sizes = self.last.take(kept), self.sizes[kept]
        self.ids, self.curves = tuple(self.ids[i] for i in kept), tuple(self.curves[i] for i in kept)

    def doubt(self, which: NDArray[np.bool_], reason: str) -> None:
        """Keep runs, flagged with what is odd about them."""
        if which.any():
            self.doubts.append((reason, tuple(self.ids[i] for i in np.flatnonzero(which))))


def points(rows: Rows, *, every_point: bool) -> Grouped:
    """Return every row as a run.

    Args:
        rows: Of a table.
        every_point: The user took points of curves as runs; then a rate is that of a step, and nothing says which was the peak.
    """
    if every_point and "step" in rows.values:
        rows = replace(rows, values={role: values for role, values in rows.values.items() if role != "lr"})
    names = np.array([rows.names[i] for i in rows.run]) if rows.run is not None else np.full(rows.number.size, "")
    grouped = Grouped(last=rows, ids=_ids(rows, names), curves=(_NONE,) * rows.number.size, sizes=np.ones(rows.number.size, dtype=np.int64))
    if every_point:
        shared = (_count_of(names) > 1) & (names != "")
        grouped.doubt(shared, "shares its run id with other points: intervals draw them apart, and are too narrow if they lie on one curve")
    grouped.drop(np.isnan(rows.values["loss"]), "loss is NaN")
    grouped.drop(np.isinf(grouped.last.values["loss"]), "loss is infinite")
    return grouped


def curves(rows: Rows) -> Grouped:
    """Return the points of one run id, size and seed as a curve; points at the same tokens are one, with their mean loss."""
    run, size = rows.run, rows.number.size
    if run is None:
        raise FitError("there is no run id to group points by. Name its column with --map run_id=NAME.")
    rows = _spread(_within(rows, _starts(rows, alone=np.zeros(size, dtype=bool))))
    starts = _starts(rows, alone=_repeats(rows))
    at, ends = np.flatnonzero(starts), np.append(np.flatnonzero(starts)[1:], rows.number.size) - 1
    tokens, loss, first = _merged(rows, starts)
    last = rows.take(ends)
    spans = np.searchsorted(first, np.append(at, rows.number.size))
    # a loss that was logged once is that of the end, and no curve
    pieces = zip(spans[:-1].tolist(), spans[1:].tolist(), strict=True)
    found = tuple(Curve(tokens[a:b], loss[a:b]) if (loss[a:b] != loss[a]).any() else _NONE for a, b in pieces)
    final = loss[spans[1:] - 1] if at.size else loss
    peak = {"lr": np.fmax.reduceat(rows.values["lr"], at)} if "lr" in rows.values and at.size else {}
    last = replace(last, values={**last.values, "loss": final, **peak}, bad=np.maximum.reduceat(rows.bad, at) if at.size else rows.bad)
    names = np.array([rows.names[i] for i in last.run]) if last.run is not None and at.size else np.empty(0, dtype=str)
    grouped = Grouped(last=last, ids=_ids(last, names), curves=found, sizes=np.diff(np.append(at, rows.number.size)))
    _doubt(grouped, names, merged=np.diff(spans))
    grouped.drop(~np.isfinite(final), "diverged: its last loss is no finite number")
    return grouped


def _doubt(grouped: Grouped, names: NDArray[np.str_], *, merged: NDArray[np.int64]) -> None:
    lengths = np.array([curve.loss.size for curve in grouped.curves], dtype=np.int64)
    grouped.doubt((merged < grouped.sizes) & (lengths > 1), "has several losses at the same tokens, of which the mean is taken: perhaps two runs under one id")
    grouped.doubt((_count_of(names) > 1) & (names != ""), "its id is that of other runs too, of another size or seed or at the same tokens")
    if "step" not in grouped.last.values:
        few = (lengths > 1) & (lengths <= FEW)
        grouped.doubt(few, "its few points are taken as one curve, since they share a run id; --every-point takes each as a run")


def _starts(rows: Rows, *, alone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether each point is the first of its run."""
    if rows.run is None or not rows.number.size:
        return np.ones(rows.number.size, dtype=bool)
    new = rows.run[1:] != rows.run[:-1]
    for role in KEY:
        if role in rows.values:
            a, b = rows.values[role][:-1], rows.values[role][1:]
            new |= (a != b) & ~(np.isnan(a) & np.isnan(b))
    nameless: NDArray[np.bool_] = np.array([name == "" for name in rows.names])[rows.run]
    return np.concatenate([[True], new]) | alone | nameless


def _repeats(rows: Rows) -> NDArray[np.bool_]:
    """Return the points of a run id that has one length only: repeated runs, no curve."""
    starts = _starts(rows, alone=np.zeros(rows.number.size, dtype=bool))
    at = np.flatnonzero(starts)
    if not at.size:
        return starts
    tokens = rows.values["tokens"]
    same: NDArray[np.bool_] = np.minimum.reduceat(tokens, at) == np.maximum.reduceat(tokens, at)
    return np.repeat(same, np.diff(np.append(at, tokens.size)))


def _spread(rows: Rows) -> Rows:
    """Compute tokens by step where a run gives one number of tokens for all its steps, as trackers do that keep it among the settings."""
    step = rows.values.get("step")
    one = _repeats(rows)
    if step is None or not one.any():
        return rows
    starts = np.flatnonzero(_starts(rows, alone=np.zeros(rows.number.size, dtype=bool)))
    lengths = np.diff(np.append(starts, step.size))
    first, last = (np.repeat(f.reduceat(step, starts), lengths) for f in (np.minimum, np.maximum))
    begin = np.where(first == 0, 1.0, 0.0)  # steps counted from zero
    rises = one & (last > first) & (first >= 0) & np.isfinite(last)
    with np.errstate(all="ignore"):
        part = np.where(rises, (step + begin) / (last + begin), 1.0)
    return replace(rows, values={**rows.values, "tokens": rows.values["tokens"] * part})


def _within(rows: Rows, starts: NDArray[np.bool_]) -> Rows:
    """Exclude losses that are no numbers inside runs that went on; at the end of a run they say that it diverged."""
    finite = np.isfinite(rows.values["loss"])
    if finite.all():
        return rows
    run = np.cumsum(starts) - 1
    furthest = np.full(run[-1] + 1, -1)
    furthest[run[finite]] = np.flatnonzero(finite)  # the last assignment stands, and rows are in order of tokens
    inside = ~finite & (np.arange(finite.size) < furthest[run])
    rows.tally.rows("its loss is no finite number, inside a run that went on", rows.number[inside])
    return rows.take(~inside)


def _merged(rows: Rows, starts: NDArray[np.bool_]) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return tokens and mean loss of each point, and its first row."""
    tokens, loss = rows.values["tokens"], rows.values["loss"]
    if not tokens.size:
        return tokens, loss, np.empty(0, dtype=np.intp)
    first = np.flatnonzero(starts | np.concatenate([[True], tokens[1:] != tokens[:-1]]))
    if first.size == tokens.size:
        return tokens, loss, first
    with np.errstate(all="ignore"):
        return tokens[first], np.add.reduceat(loss, first) / np.diff(np.append(first, loss.size)), first


def _ids(rows: Rows, names: NDArray[np.str_]) -> tuple[str, ...]:
    """Return names where they tell runs apart, else with the row."""
    twice = _count_of(names) > 1
    numbers = rows.number.tolist()
    return tuple(
        f"row {number}" if not name else f"{name} (row {number})" if also else name
        for name, number, also in zip(names.tolist(), numbers, twice.tolist(), strict=True)
    )


def _count_of(values: NDArray[np.generic]) -> NDArray[np.int64]:
    _, back, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[back] if values.size else np.empty(0, dtype=np.int64)
