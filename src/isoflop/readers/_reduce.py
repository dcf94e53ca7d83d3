"""Points -> runs -> columns: duplicates out, runs that diverged out, FLOPs as given, else counted, else 6ND, budgets by tolerance."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.readers import _budgets, _grouped
from isoflop.readers._collect import NOT_ENDED, Rows
from isoflop.readers._columns import Plan
from isoflop.readers._grouped import KEY, Grouped
from isoflop.readers._tally import Tally
from isoflop.runs import Dropped, Floats, Runs

ROSE = 1.1  # times its lowest loss, and half the way back to its first: such a curve diverged. Assumption: noise between points is below 10 %
KNOWS_NOTHING = 8.0  # bits per byte, of a model that gives every byte the same chance
FAR = 3.0  # times 6ND, either way; assumption: attention and embedding are less (small models with long contexts reach 2)


def reduce(rows: Rows, plan: Plan, *, tolerance: float, every_point: bool, tell: Callable[[str, float], None]) -> Runs:
    """Runs out of points.

    Raises:
        FitError: None is left.
    """
    if not rows.number.size:
        raise _none_left(rows)
    tell("sorting", 0.0)
    rows = _without_duplicates(_sorted(rows))
    tell("sorting", 1.0)
    grouped = _grouped.points(rows, every_point=every_point) if every_point or rows.run is None else _grouped.curves(rows)
    _drop_diverged(grouped, plan.unit)
    tell("grouping", 1.0)
    assert rows.total == rows.tally.points + int(grouped.sizes.sum()), "a row went in silence"
    if not grouped.ids:
        raise _none_left(rows)
    return _runs(grouped, plan, tolerance)


def _none_left(rows: Rows) -> FitError:
    return FitError(f"none of {rows.total:,} rows is left to fit. {rows.tally.sentence}.")


def _sorted(rows: Rows) -> Rows:
    """By run, then tokens, so that neither the order of rows nor that of runs changes anything."""
    values = rows.values
    inner = [values[role] for role in ("flops", "loss", "step", "tokens", *reversed(KEY)) if role in values]
    keys: list[NDArray[Any]] = [rows.number, *inner, *([] if rows.run is None else [rows.run])]
    return rows if _in_order(keys) else rows.take(np.lexsort(keys))


def _in_order(keys: list[NDArray[Any]]) -> bool:
    """Whether rows are in order of the keys, the last first; as logs mostly are, and sorting ten million takes seconds."""
    if not keys[0].size:
        return True
    undecided = np.ones(keys[0].size - 1, dtype=bool)
    for key in reversed(keys):
        if (undecided & ~(key[1:] >= key[:-1])).any():  # NaN is not in order either
            return False
        undecided &= key[1:] == key[:-1]
    return True


def _without_duplicates(rows: Rows) -> Rows:
    if not rows.number.size:
        return rows
    same = np.ones(rows.number.size - 1, dtype=bool)
    for role in (*KEY, "tokens", "loss", "flops"):
        if role in rows.values:
            a, b = rows.values[role][:-1], rows.values[role][1:]
            same &= (a == b) | (np.isnan(a) & np.isnan(b))
    if rows.run is not None:
        same &= rows.run[1:] == rows.run[:-1]
    again = np.concatenate([[False], same])
    rows.tally.rows("the same again as another row, which is kept", rows.number[again])
    return rows.take(~again) if again.any() else rows


def _drop_diverged(grouped: Grouped, unit: str) -> None:
    """By the stated rules, in this order: by its status, risen again, no better than chance."""
    for code, status in enumerate(grouped.last.bad_names):
        if code:
            why = "it has not ended" if status.casefold() in NOT_ENDED else "it did not end well"
            grouped.drop(grouped.last.bad == code, "diverged, by the file's own column" if status == "diverged" else f"status {status!r}: {why}")
    risen = np.array([_risen(curve.loss) for curve in grouped.curves], dtype=bool)
    grouped.drop(risen, "diverged: it ends over 10 % above its lowest loss, and half the way back to its first")
    loss = grouped.last.values["loss"]
    chance = np.full(loss.size, np.inf)
    if unit == "bits per byte":
        chance[:] = KNOWS_NOTHING
    elif unit == "nats per token" and "vocab" in grouped.last.values:
        with np.errstate(all="ignore"):
            logs = np.log(grouped.last.values["vocab"])
        chance = np.where(logs > 0, logs, np.inf)
    grouped.drop(loss > chance, "diverged: its loss is above that of a model that gives every token the same chance")


def _risen(loss: Floats) -> bool:
    if loss.size < 3:
        return False
    low, first, last = float(loss.min()), float(loss[0]), float(loss[-1])
    return last > ROSE * low and last - low > (first - low) / 2


def _runs(grouped: Grouped, plan: Plan, tolerance: float) -> Runs:
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
        unit=plan.unit,
        dropped=last.tally.entries,
        doubtful=_doubts(grouped),
    )
    order = np.lexsort((runs.loss, runs.tokens, runs.params, runs.flops))
    return replace(runs.take(order), flops_from=_flops_from(last, values["flops"]))


def _flops_from(last: Rows, flops: Floats) -> str:
    sources = {"as counted": last.counted.any(), "as given": (~np.isnan(flops) & ~last.counted).any(), "6ND": np.isnan(flops).any()}
    return ", else ".join(name for name in ("as given", "as counted", "6ND") if sources[name])


def _unique(grouped: Grouped) -> Floats | None:
    unique = grouped.last.values.get("unique_tokens")
    if unique is None or np.isnan(unique).all():
        return None
    unsaid = np.isnan(unique)
    grouped.doubt(unsaid, "nothing says how many of its tokens are unique; all are taken to be")
    return np.where(unsaid, grouped.last.values["tokens"], unique)


def _rates(lr: Floats | None) -> Floats | None:
    """Peak learning rates, if every run has one."""
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
