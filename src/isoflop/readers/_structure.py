"""Rows that are runs, and rows that are points of a curve: decided from what varies within a group of rows.

Tokens that grow by the same step, many points and a learning rate that follows a schedule make a curve. Few points, and tokens that grow by a factor, make
runs of several lengths. Where both readings stay possible, nothing is decided: the user is asked.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import QuestionError, Reading
from isoflop.readers import _names
from isoflop.readers._collect import Rows
from isoflop.readers._columns import Plan, option
from isoflop.runs import Floats, Note

FEW = 8  # points of one size: no more than that many lengths are trained and called by one name (assumption)
MANY = 16  # points: above it, rows that share all their settings are a curve (assumption)
EVEN = 0.05  # by which equal steps differ, as a share (assumption: whole batches and a last step cut short)
MOSTLY = 0.8  # of the steps are equal
ANNEALED = 0.35  # of the peak rate: a schedule ends below it (a cosine ends at 0.1), and rules for the rate of longer runs stay above
RULE = 0.03  # by which a rate leaves a power of the length that it follows (assumption: three digits in the file)
DENSE = 0.2  # of the multiples of the first length are there (assumption: curves of lengths that are up to five times apart)
SAME = 0.03  # of the tokens: two columns that agree so far are one
WIDTH = 1e5  # a column d below it holds the widths of models (assumption)
LOOKED_AT = 200  # groups, the largest first
ASKED = 1  # points of evidence at which both readings stay possible; above it rows are curves, below it runs


class Structure(NamedTuple):
    """What rows are."""

    rows: Rows  # sorted by no rule; with a code of their run where they are points of curves
    curves: bool
    notes: tuple[Note, ...]
    planned: Floats | None  # (points,) tokens that the run of each point was to see, where a column says so


def decide(rows: Rows, plan: Plan, *, every_point: bool) -> Structure:
    """Return whether rows are runs or points of curves.

    Args:
        rows: Of a table.
        plan: What was read from where.
        every_point: Take every row as a run.

    Raises:
        QuestionError: Both are possible, or two columns of tokens contradict each other.
    """
    rows, planned, notes = _tokens(rows, plan)
    if every_point:
        return Structure(rows, curves=False, notes=notes, planned=None)
    source = plan.sources.get("run_id")
    certain = "run_id" in plan.chosen or (source is not None and _names.plain(source.column or "") in {_names.plain(name) for name in _names.CERTAIN_IDS})
    weak = source is None or (not certain and _names.plain(source.column or "") in {_names.plain(name) for name in _names.WEAK_IDS})
    if rows.run is not None and certain and np.unique(rows.run).size * MANY < rows.number.size:
        return Structure(rows, curves=True, notes=notes, planned=planned)
    group = _groups(rows, planned, by_settings=weak)
    scores = _scores(rows, group, planned, base=3 if certain else 0 if weak else 2)
    if not scores:
        return Structure(rows, curves=certain and rows.run is not None, notes=notes, planned=planned)
    score = _median(scores)
    score = score if weak or "run_id" not in plan.sources else max(score, ASKED)  # an id is not overruled in silence
    if "run_id" in plan.chosen:
        score = ASKED + 1
    as_curves, name = int(np.unique(group).size), source.column if source is not None else None
    if score == ASKED:
        raise _question(rows, group, plan)
    if score > ASKED:
        shown = rows if not weak and rows.run is not None else replace(rows, run=group, names=_labels(rows, group))
        text = f"{rows.number.size:,} rows are points of {as_curves:,} curves; the last point of each is a run. --every-point takes each row as a run."
        return Structure(shown, curves=True, notes=(*notes, *([] if certain else [Note("rows", text)])), planned=planned)
    named = rows.number.size if rows.run is None else int(np.unique(rows.run).size)
    text = f"each row is a run; {name!r} names several. {option('run_id', name or '')} would make them {named:,} curves."
    return Structure(rows, curves=False, notes=(*notes, *([Note("rows", text)] if named < rows.number.size else [])), planned=None)


class _Score(NamedTuple):
    """Evidence of one group of rows that they are a curve."""

    rows: int
    score: int


def _median(scores: Sequence[_Score]) -> int:
    """Return the score of the row in the middle."""
    ordered = sorted(scores, key=lambda one: one.score)
    counts = np.cumsum([one.rows for one in ordered])
    return ordered[int(np.searchsorted(counts, counts[-1] / 2))].score


def _scores(rows: Rows, group: NDArray[np.int64], planned: Floats | None, *, base: int) -> list[_Score]:
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order])) + 1
    parts = sorted((part for part in np.split(order, edges) if part.size > 1), key=lambda part: -part.size)[:LOOKED_AT]
    return [_Score(part.size, found) for part in parts if (found := _score(rows, part, planned, base=base)) is not None]


def _score(rows: Rows, part: NDArray[np.intp], planned: Floats | None, *, base: int) -> int | None:
    """Return the evidence that rows of one group are points of a curve; None where they are repeats at one length."""
    along = _along(rows, part)
    if along is None:
        return None
    part = part[np.argsort(along, kind="stable")]
    x = np.unique(along)
    if x.size < 0.6 * part.size and base < 3:
        return ASKED if _is_dense(x) else ASKED - 1  # several losses at each length: settings differ
    strong = base > 0
    score = base - (1 if part.size <= 4 and strong else 0) + (part.size > FEW + 4) + (part.size > MANY)
    if x.size > FEW or (strong and x.size >= 4):
        score += _evenness(x)
    if x.size > 2 and _is_geometric(x):
        score -= 2 if part.size <= MANY or strong else 1  # so many may be checkpoints that a run saved at growing distances
    if part.size > 4 and "lr" in rows.values:
        lr = rows.values["lr"][part]
        score += 2 * (_is_schedule(lr) and not _is_rule(lr, np.sort(along)))
    if planned is not None:
        score += 3
    return score


def _along(rows: Rows, part: NDArray[np.intp]) -> Floats | None:
    """Return what grows along a group: its tokens, else its steps; None where nothing does."""
    for role in ("tokens", "step"):
        if role in rows.values:
            values = rows.values[role][part]
            finite = values[np.isfinite(values)]
            if finite.size == values.size and finite.max() > finite.min() * (1 + 1e-9):
                falls = role == "tokens" or part.size > FEW
                return values if falls else None
    return None


def _evenness(x: Floats) -> int:
    """Return 2 for equal steps from nought on, 1 for equal steps from elsewhere, 0 for others."""
    steps = np.diff(x)
    typical = float(np.median(steps))
    even = float(np.mean(np.abs(steps - typical) <= EVEN * typical)) >= MOSTLY
    begins = abs(x[0] / typical - round(x[0] / typical)) <= 4 * EVEN and x[0] < 3 * typical
    return (2 if begins else 1) if even else 0


def _is_dense(x: Floats) -> bool:
    """Return whether many lengths are multiples of the first and fill much of the way to the last, as points logged every so many steps do."""
    multiples = x / x[0]
    return x.size > MANY and x[0] > 0 and bool(np.abs(multiples - np.round(multiples)).max() < EVEN) and x.size > DENSE * multiples[-1]


def _is_geometric(x: Floats) -> bool:
    ratios = np.diff(np.log(x[x > 0]))
    return bool(ratios.size >= 2 and ratios.min() > 0.15 and ratios.max() < 2 * ratios.min() and not _evenness(x))


def _is_schedule(lr: Floats) -> bool:
    """Return whether rates, in order of tokens, rise to a peak or come down as a schedule does."""
    rates = lr[np.isfinite(lr) & (lr >= 0)]
    if np.unique(rates).size < 3:
        return False
    peak = int(np.argmax(rates))
    return bool(rates[-1] < ANNEALED * rates[peak] or (peak > 0 and rates[0] < rates[peak] / 2))


def _is_rule(lr: Floats, x: Floats) -> bool:
    """Return whether rates are a power of the length, as rules for the peak rate are."""
    if not ((lr > 0) & (x > 0)).all():
        return False
    logs, logx = np.log(lr), np.log(x) - np.log(x).mean()
    slope = float(logx @ logs) / float(logx @ logx)
    return float(np.abs(logs - logs.mean() - slope * logx).max()) < RULE


def _groups(rows: Rows, planned: Floats | None, *, by_settings: bool) -> NDArray[np.int64]:
    """Return a code for each row: rows of one code could be points of one curve."""
    keys: list[NDArray[np.generic]] = [rows.values["params"]]
    keys += [np.nan_to_num(rows.values[role], nan=-1.0) for role in ("seed", "unique_tokens") if role in rows.values]
    if rows.run is not None:
        keys.append(rows.run)
    if planned is not None:
        keys.append(planned)
    if by_settings:
        keys += [factor.codes for factor in rows.extras.values() if any(not _is_number(label) for label in factor.labels)]
    code = np.zeros(rows.number.size, dtype=np.int64)
    for key in keys:
        values, back = np.unique(key, return_inverse=True)
        _, code = np.unique(code * values.size + back.reshape(-1), return_inverse=True)
    return code.astype(np.int64)


def _is_number(label: str) -> bool:
    try:
        float(label or "0")
    except ValueError:
        return False
    return True


def _labels(rows: Rows, group: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a name for each group that no column names."""
    _, first = np.unique(group, return_index=True)
    names = []
    for at in first.tolist():
        words = [rows.names[rows.run[at]]] if rows.run is not None and rows.names[rows.run[at]] else [f"{units.count(float(rows.values['params'][at]))} params"]
        names.append(", ".join([*words, f"row {rows.number[at]}"]))
    return tuple(names)


def _tokens(rows: Rows, plan: Plan) -> tuple[Rows, Floats | None, tuple[Note, ...]]:
    """Settle which of several columns of tokens were seen, and which were planned."""
    planned: Floats | None = None
    notes = []
    for place, rival in enumerate(plan.rivals.get("tokens", ()), start=1):
        values = rows.values
        seen, other = values["tokens"], values[f"tokens~{place}"]
        known = np.isfinite(other) & (other > 0)
        if not known.any() or "tokens" in plan.chosen:
            continue
        if len(_names.plain(str(rival))) == 1 and float(np.median(other[known])) < WIDTH:
            continue  # a column d of widths, not of tokens
        with np.errstate(all="ignore"):
            apart = np.log(other / seen)[known]
        if np.abs(apart).max() <= SAME:
            continue
        names = plan.sources["tokens"].columns[0], rival.columns[0]
        if apart.max() <= SAME and _varies(rows, other, seen):  # the other is what was seen
            seen, other, names = other, seen, names[::-1]
        elif not (apart.min() >= -SAME and _varies(rows, seen, other)):
            raise _contradiction(rows, plan, rival, place)
        rows = replace(rows, values={**values, "tokens": np.where(known, seen, values["tokens"])})
        planned = other
        notes.append(Note("tokens", f"{names[0]} was seen, {names[1]} was planned."))
    return rows, planned, tuple(notes)


def _varies(rows: Rows, seen: Floats, planned: Floats) -> bool:
    """Return whether one column grows while the other stays, in most groups of a size and a planned length."""
    code = _groups(rows, planned, by_settings=False)
    low, high = np.full(code.max() + 1, np.inf), np.full(code.max() + 1, -np.inf)
    np.minimum.at(low, code, seen)
    np.maximum.at(high, code, seen)
    return bool(np.mean(high > 1.5 * low) > 0.5)


def _contradiction(rows: Rows, plan: Plan, rival: object, place: int) -> QuestionError:
    mine, other = plan.sources["tokens"].columns[0], str(rival)
    a, b = (float(rows.values[role][0]) for role in ("tokens", f"tokens~{place}"))
    return QuestionError(
        f"{mine!r} and {other!r} could both be the tokens, and they differ.",
        (
            Reading(f"{units.count(a)} tokens in row {rows.number[0]}", option("tokens", mine)),
            Reading(f"{units.count(b)} tokens in row {rows.number[0]}", option("tokens", other)),
        ),
    )


def _question(rows: Rows, group: NDArray[np.int64], plan: Plan) -> QuestionError:
    n, as_curves = rows.number.size, int(np.unique(group).size)
    name = plan.sources["run_id"].column if "run_id" in plan.sources else None
    size = plan.sources["params"].column if "params" in plan.sources else None
    lengths = np.unique(np.stack([group, np.unique(rows.values["tokens"], return_inverse=True)[1].reshape(-1)]), axis=1).shape[1]
    if name is None and size is not None and lengths == n and as_curves == np.unique(rows.values["params"]).size:
        curve = f"{option('run_id', size)} {option('params', size)}"  # each size is one curve
    else:
        curve = option("run_id", name or "COLUMN")
    many = f"{as_curves:,} curves" if lengths == n else f"{as_curves:,} curves or more, which a column must tell apart"
    what = f"share {name!r}" if name else "share their size and settings"
    return QuestionError(
        f"{n:,} rows {what}, and they could be runs or points of curves.",
        (
            Reading(f"{n:,} runs, each with the loss of its row", "--every-point"),
            Reading(f"{many}; the last point of each is a run", curve),
        ),
    )
