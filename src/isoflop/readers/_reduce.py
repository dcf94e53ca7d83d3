"""Points -> runs -> columns: duplicates, failed and diverged runs are excluded, columns are checked, the best settings count, budgets are found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.readers import _budgets, _cells, _grouped, _mixed, _sense, _structure
from isoflop.readers._collect import NOT_ENDED, OWN, Rows
from isoflop.readers._columns import NONE, Plan, option, written
from isoflop.readers._grouped import KEY, Grouped
from isoflop.readers._tally import Tally
from isoflop.runs import NATS, Dropped, Floats, Group, Note, Runs

ROSE = 1.1  # times its lowest loss, and half the way back to its first: such a curve diverged. Assumption: noise between points is below 10 %
KNOWS_NOTHING = 8.0  # bits per byte, of a model that gives every byte the same chance
FAR = _sense.FAR
SWEEP = ("isoflop", "horizons", "noise")  # groups of a study's runs that a law is fitted to
FRESH = 4.0  # epochs that are nearly as good as new text: Muennighoff et al. 2023, Sec. 6
REACHED = 0.98  # of its planned tokens: a curve that stops before has not ended (assumption: whole batches)
Whole = Callable[[NDArray[np.int64]], Mapping[int, tuple[str | None, ...]]]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose about the rows."""

    tolerance: float
    every_point: bool = False
    every_run: bool = False  # keep all settings of one size and length
    pool: tuple[str, ...] = ()  # columns whose values may be fitted together


def reduce(rows: Rows, plan: Plan, choices: Choices, *, whole: Whole, tell: Callable[[str, float], None]) -> Runs:
    """Make runs out of points.

    Args:
        rows: Points.
        plan: What was read from where.
        choices: Of the user.
        whole: Reads all cells of some rows.
        tell: Gets what is done and what fraction of it.

    Raises:
        FitError: None is left, or they cannot be training runs.
        QuestionError: The rows can be read in two ways.
    """
    if not rows.number.size:
        raise _none_left(rows, plan)
    tell("sorting", 0.0)
    rows = _finals(rows)
    structure = _structure.decide(rows, plan, every_point=choices.every_point) if rows.number.size else None
    planned = {} if structure is None or structure.planned is None else {"planned": structure.planned}
    rows = _sorted(rows if structure is None else replace(structure.rows, values={**structure.rows.values, **planned}))
    rows = _without_duplicates(rows, whole)
    tell("sorting", 1.0)
    as_curves = structure is not None and structure.curves
    grouped = _grouped.curves(rows) if as_curves and rows.run is not None else _grouped.points(rows, every_point=choices.every_point)
    _drop_unfit(grouped, as_curves=as_curves)
    notes = list(structure.notes) if structure is not None else []
    if grouped.ids:
        _sense.params(grouped, plan)
        notes += _sense.flops(grouped, plan)
        _sense.sizes(grouped, plan)
    _sense.losses(grouped, plan.unit)
    _drop_diverged(grouped, plan.unit)
    tried = _cells.together(grouped.last, grouped.diverged)
    apart = [split.codes for split in _mixed.splits(tried, plan, ()) if split.named]
    notes += _cells.keep_best(grouped, tried, plan, apart, every_run=choices.every_run)
    notes += _mixed.check(grouped, _mixed.splits(grouped.last, plan, choices.pool))
    tell("grouping", 1.0)
    assert rows.total == rows.tally.points + int(grouped.sizes.sum()), "a row was lost in silence"
    if not grouped.ids:
        raise _none_left(rows, plan, grouped)
    return _runs(grouped, plan, choices.tolerance, (*_read_as(plan), *notes))


def _none_left(rows: Rows, plan: Plan, grouped: Grouped | None = None) -> FitError:
    """Return the error of a table of which every row is excluded."""
    states = grouped is not None and len(grouped.last.bad_names) > 1
    says = [role for role in ("status", *OWN) if role in plan.sources]
    way_out = f" If the status says nothing of that: {' '.join(option(role, NONE) for role in says)}." if says and states else ""
    negative = f"{plan.called('loss')} is zero or negative"
    if rows.tally.reasons == {negative} and (column := plan.sources["loss"].column) is not None:
        way_out = f" If it is a log-likelihood: {option('loss', f'-{written(column)}')}."
    return FitError(f"none of {rows.total:,} rows is left to fit. {rows.tally.sentence}.{way_out}")


def _read_as(plan: Plan) -> tuple[Note, ...]:
    """Return what each quantity was read from, with the other candidates."""
    shown = []
    for role in ("params", "total_params", "tokens", "loss", "flops", "budget"):
        if role in plan.derived:
            shown.append(f"{role} = {plan.derived[role]}")
        elif role in plan.sources:
            source = plan.sources[role]
            is_column = source.column is not None
            name = {"total_params": "all params", "budget": "budgets"}.get(role, role)
            unit = f" (unit in the name: {source.factor:g})" if is_column and source.factor != 1 else ""
            shown.append(f"{name} {'from' if is_column else '='} {source.column or source}{unit}")
        elif role == "params":
            shown.append("params counted from the shape")
    others = [f"{role}: {', '.join(map(str, rivals))}" for role, rivals in plan.rivals.items() if rivals]
    if plan.other_params:
        others.append(f"params: {plan.other_params}")
    if plan.unit == "perplexity":
        shown.append("loss = ln(perplexity)")
    return (Note("read as", "; ".join(shown)), *([Note("other candidates", "; ".join(others))] if others else []))


def _finals(rows: Rows) -> Rows:
    """Exclude rows that the file's own column says are not the ends of runs."""
    if rows.final is None:
        return rows
    rows.tally.rows("not the last point of its run, by the file's own column", rows.number[~rows.final])
    return rows.take(rows.final)


def _sorted(rows: Rows) -> Rows:
    """Sort by run, then tokens, so that neither the order of rows nor that of runs changes anything."""
    values = rows.values
    inner = [values[role] for role in ("flops", "loss", "step", "tokens", *reversed(KEY)) if role in values]
    keys: list[NDArray[Any]] = [rows.number, *inner, *([] if rows.run is None else [rows.run])]
    return rows if _in_order(keys) else rows.take(np.lexsort(keys))


def _in_order(keys: list[NDArray[Any]]) -> bool:
    """Return whether rows are in order of the keys, the last first; logs mostly are, and sorting ten million takes seconds."""
    if not keys[0].size:
        return True
    undecided = np.ones(keys[0].size - 1, dtype=bool)
    for key in reversed(keys):
        if (undecided & ~(key[1:] >= key[:-1])).any():  # NaN is not in order either
            return False
        undecided &= key[1:] == key[:-1]
    return True


def _without_duplicates(rows: Rows, whole: Whole) -> Rows:
    """Exclude rows of which every cell is that of another row; equal size, tokens and loss are not enough."""
    if not rows.number.size:
        return rows
    same = np.ones(rows.number.size - 1, dtype=bool)
    for role, values in rows.values.items():
        if "~" not in role:
            a, b = values[:-1], values[1:]
            same &= (a == b) | (np.isnan(a) & np.isnan(b))
    if rows.run is not None:
        same &= rows.run[1:] == rows.run[:-1]
    if not same.any():
        return rows
    candidates = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    again, cells = np.zeros(rows.number.size, dtype=bool), whole(rows.number[candidates])
    seen: set[tuple[int, tuple[str | float | None, ...]]] = set()
    for at in candidates[np.argsort(rows.number[candidates])].tolist():
        key = (0 if rows.run is None else int(rows.run[at]), tuple(map(_value, cells[int(rows.number[at])])))
        again[at] = key in seen
        seen.add(key)
    rows.tally.rows("the same again as another row, which is kept", np.sort(rows.number[again]))
    return rows.take(~again) if again.any() else rows


def _value(cell: str | None) -> str | float | None:
    """Return a cell as it counts for duplicates: 4 and 4.0 are the same."""
    try:
        return None if cell is None else float(cell)
    except ValueError:
        return cell


def _drop_unfit(grouped: Grouped, *, as_curves: bool) -> None:
    """Exclude runs that the file itself says are not for a fit: by group, by status, or stopped before their planned end."""
    rows = grouped.last
    if rows.group is not None and {name for name in rows.group_names if name} <= set(get_args(Group)):
        for code, name in enumerate(rows.group_names):
            if name and name not in SWEEP:
                grouped.drop(np.asarray(grouped.last.group == code), f"of the group {name!r}: no run of the sweep")
    for code, status in enumerate(grouped.last.bad_names):
        if code:
            why = "it has not ended" if status.casefold() in NOT_ENDED else "no finished run, as far as is known"
            own = OWN["diverged"] if status == "diverged" else status
            grouped.drop(grouped.last.bad == code, own if own in OWN.values() else f"status {status!r}: {why}")
    if as_curves and "planned" in grouped.last.values:
        reached = grouped.last.values["tokens"] / grouped.last.values["planned"]
        grouped.drop(reached < REACHED, "unfinished: it stops before its planned tokens")


def _drop_diverged(grouped: Grouped, unit: str) -> None:
    """Exclude runs that have risen again, or that end no better than chance."""
    risen = np.array([_risen(curve.loss) for curve in grouped.curves], dtype=bool)
    grouped.drop(risen, "diverged: it ends over 10 % above its lowest loss, and half the way back to its first")
    loss = grouped.last.values["loss"]
    chance = np.full(loss.size, np.inf)
    if unit == "bits per byte":
        chance[:] = KNOWS_NOTHING
    elif unit in {NATS, "perplexity"}:
        chance[:] = _sense.HIGHEST_LOSS
        if "vocab" in grouped.last.values:
            with np.errstate(all="ignore"):
                logs = np.log(grouped.last.values["vocab"])
            chance = np.where(logs > 0, np.minimum(logs, chance), chance)
    grouped.drop(loss > chance, "diverged: its loss is above that of a model that gives every token the same chance")


def _risen(loss: Floats) -> bool:
    if loss.size < 3:
        return False
    low, first, last = float(loss.min()), float(loss[0]), float(loss[-1])
    return last > ROSE * low and last - low > (first - low) / 2


def _runs(grouped: Grouped, plan: Plan, tolerance: float, notes: tuple[Note, ...]) -> Runs:
    last, values = grouped.last, grouped.last.values
    product = 6 * values["params"] * values["tokens"]
    flops = np.where(np.isnan(values["flops"]), product, values["flops"])
    with np.errstate(all="ignore"):
        away = np.abs(np.log(flops / product))
    grouped.doubt(away > np.log(FAR), f"its FLOPs and 6ND are over {FAR:g} times apart")
    if last.counting:
        grouped.doubt(np.ones(flops.size, dtype=bool), f"its parameters are counted by {last.counting!r}, taken as {last.convention}")
    unique = _unique(grouped)
    budget = values.get("budget", np.full(flops.size, np.nan))
    if np.unique(budget[~np.isnan(budget)]).size > budget.size / 2:  # the cost of each run, not what it was to cost
        budget = np.full(flops.size, np.nan)
    runs = Runs.from_columns(
        params=values["params"],
        tokens=values["tokens"],
        loss=values["loss"],
        flops=flops,
        budget=np.where(np.isnan(budget), _budgets.group(flops, tolerance=tolerance), budget),
        seed=_seeds(values.get("seed"), flops.size),
        ids=grouped.ids,
        curves=grouped.curves,
        unique_tokens=unique,
        lr=_rates(values.get("lr")),
        convention=last.convention,
        unit=NATS if plan.unit == "perplexity" else plan.unit,
        dropped=last.tally.entries,
        doubtful=_doubts(grouped),
    )
    order = np.lexsort((runs.loss, runs.tokens, runs.params, runs.flops))
    total = values.get("total_params")
    return replace(replace(runs, total_params=total).take(order), flops_from=_flops_from(last, values["flops"]), notes=notes)


def _flops_from(last: Rows, flops: Floats) -> str:
    sources = {"as counted": last.counted.any(), "as given": (~np.isnan(flops) & ~last.counted).any(), "6ND": np.isnan(flops).any()}
    return ", else ".join(name for name in ("as given", "as counted", "6ND") if sources[name])


def _unique(grouped: Grouped) -> Floats | None:
    unique = grouped.last.values.get("unique_tokens")
    if unique is None or np.isnan(unique).all():
        return None
    unsaid = np.isnan(unique)
    with np.errstate(all="ignore"):
        repeated = grouped.last.values["tokens"] > FRESH * unique
    grouped.doubt(repeated, f"saw its text over {FRESH:g} times, which only --law data_constrained takes into account")
    grouped.doubt(unsaid, "nothing says how many of its tokens are unique; all are taken to be")
    return np.where(unsaid, grouped.last.values["tokens"], unique)


def _rates(lr: Floats | None) -> Floats | None:
    """Return peak learning rates, if every run has one."""
    return lr if lr is not None and (np.isfinite(lr) & (lr > 0)).all() else None


def _seeds(seed: Floats | None, size: int) -> NDArray[np.int64]:
    if seed is None:
        return np.zeros(size, dtype=np.int64)
    return np.where(np.abs(np.nan_to_num(seed, nan=0.0)) < 2.0**62, np.nan_to_num(seed, nan=0.0, posinf=0.0, neginf=0.0), 0.0).astype(np.int64)


def _doubts(grouped: Grouped) -> tuple[Dropped, ...]:
    kept, tally = set(grouped.ids), Tally()
    for reason, ids in grouped.doubts:
        tally.runs(reason, [id_ for id_ in ids if id_ in kept], points=0)
    return tally.entries
