"""Whether columns can be what they are read as: units, FLOPs and budgets, sizes and losses.

What one unit or one known factor explains in every row is converted, and said. What has two readings is asked, what has none is refused.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import FitError, QuestionError, Reading
from isoflop.readers._columns import NONE, Plan, counted_by, option, written
from isoflop.readers._grouped import Grouped
from isoflop.readers._names import FLOPS
from isoflop.runs import NATS, Floats, Note

FAR = 3.0  # times 6ND, either way; assumption: attention and embedding are less (small models with long contexts reach 2)
STRANGE = 30.0  # times 6ND, either way; beyond it no way of counting explains FLOPs, only a unit does (assumption)
CONSTANT = 0.02  # by which a ratio varies over rows that is the same in all of them (assumption: rounded columns)
NEAR = 0.03  # of a known factor
OWN_COUNT = 0.1  # by which 6ND may leave a budget; beyond it the budget was counted otherwise (assumption: as the tolerance of budgets)
FORWARD = 1 / 3  # 2ND over 6ND: forward alone. Kaplan et al. 2020, Sec. 2.1: forward 2N, backward 4N a token
RECOMPUTED = 4 / 3  # 8ND over 6ND: a second forward pass for activation recomputation
PARAMS = (100.0, 3e13)  # assumption: a tenth of the smallest model isoflop trains, and ten times the largest known
TOKENS = (1e3, 1e16)  # assumption: less than one batch of the smallest runs, and all text there is
TOKENS_PER_PARAM = (0.01, 1e6)  # of the run in the middle; assumption: known sweeps lie between 0.1 and 1e5
LEAST_TOKENS_PER_PARAM = 1e-4  # of any run; Porian et al. 2024 have one at 0.006
HIGHEST_LOSS = 15.0  # nats per token: chance in a vocabulary of three million
APART = 3.0  # times: a loss so far from every other is no loss of the same sweep (assumption: a sweep spans a factor of 2 to 3)
STRAY = 0.05  # of the runs, that can be so far
FEWEST = 8  # runs


def flops(grouped: Grouped, plan: Plan) -> tuple[Note, ...]:
    """Settle FLOPs and budgets against 6ND; changes them in place where a unit or a known factor explains every row.

    Raises:
        QuestionError: FLOPs or budgets that contradict 6ND or each other, and no known factor explains it.
    """
    values = dict(grouped.last.values)
    product = 6 * values["params"] * values["tokens"]
    notes: list[Note] = []
    derived = any("flops" in formula for formula in plan.derived.values())
    given = np.where(grouped.last.counted, np.nan, values["flops"])
    if np.isfinite(given).any() and not derived:
        checked = _checked("flops", given, product, grouped=grouped, plan=plan, notes=notes)
        values["flops"] = np.where(grouped.last.counted, values["flops"], checked)
    if "budget" in values and np.isfinite(values["budget"]).any():
        _check_budget(values, product, grouped, plan, notes)
    grouped.last = replace(grouped.last, values=values)
    for place, rival in enumerate(plan.rivals.get("flops", ()), start=1):
        notes += _beside(values["flops"], values[f"flops~{place}"], plan, str(rival))
    return tuple(notes)


def _checked(role: str, given: Floats, product: Floats, *, grouped: Grouped, plan: Plan, notes: list[Note]) -> Floats:
    """Return FLOPs or budgets in FLOPs."""
    known = np.isfinite(given)
    with np.errstate(all="ignore"):
        ratio = given[known] / product[known]
    middle, name = float(np.median(ratio)), str(plan.sources[role])
    alike = bool(np.abs(np.log(ratio / middle)).max() <= CONSTANT) and ratio.size > 2
    about = "budgets" if role == "budget" else "FLOPs"
    if alike and abs(math.log(middle / FORWARD)) <= NEAR and role not in plan.chosen:
        notes.append(Note(about, f"{name} is 2ND in every row: the forward pass alone. Training costs 6ND, which is taken."))
        grouped.doubt(known, f"{name} is 2ND, the FLOPs of the forward pass alone; 6ND is taken")
        return np.where(known, product, given) if role == "budget" else np.full(given.size, np.nan)
    unit = _unit_of(ratio)
    if unit is not None:
        called = {8.64e19: "PF-days", 8.64e22: "EF-days"}.get(unit, f"{unit:.0e} FLOPs")
        notes.append(Note(about, f"{name} is in {called} ({unit:g} FLOPs each) by its ratio to 6ND in every row; converted."))
        return given * unit
    if role not in plan.chosen and not 1 / FAR <= middle <= FAR:
        raise _far_question(role, name, middle)
    if alike and abs(math.log(middle)) > NEAR:
        why = ", which is 8ND: activation recomputation" if abs(math.log(middle / RECOMPUTED)) <= NEAR else ""
        notes.append(Note(about, f"{name} is {middle:.3g} times 6ND in every row{why}. It is taken as it is."))
    return given


def _far_question(role: str, name: str, middle: float) -> QuestionError:
    times = f"{units.times(middle)} times 6ND" if middle > 1 else f"6ND is {units.times(1 / middle)} times {name!r}"
    return QuestionError(
        f"{name!r} cannot be the FLOPs of these runs: {times} in the middle of all rows, and no unit explains it.",
        (
            Reading("the column is left out, and FLOPs are 6ND", option(role, NONE)),
            Reading("the column is in another unit, and this converts it", option(role, f"{written(name)} * FLOPS_PER_UNIT"))
            if not 1 / STRANGE <= middle <= STRANGE
            else Reading("the column is right, and params or tokens are counted otherwise", option(role, name)),
        ),
    )


def _check_budget(values: dict[str, Floats], product: Floats, grouped: Grouped, plan: Plan, notes: list[Note]) -> None:
    """Settle the budgets: in FLOPs, not far from the FLOPs, and the FLOPs themselves where 6ND is not what a budget held equal."""
    has_flops = np.isfinite(values["flops"]).any()
    paid = np.where(np.isfinite(values["flops"]), values["flops"], product)
    same = plan.sources.get("flops") == plan.sources["budget"]
    if same:
        values["budget"] = values["flops"]
        return
    budget = values["budget"]
    known = np.isfinite(budget)
    with np.errstate(all="ignore"):
        middle = float(np.median(budget[known] / paid[known]))
    if not 1 / FAR <= middle <= FAR or not has_flops:
        if has_flops and "budget" not in plan.chosen and _unit_of(budget[known] / paid[known]) is None:
            raise _contradiction(plan, middle)
        budget = values["budget"] = _checked("budget", budget, paid, grouped=grouped, plan=plan, notes=notes)
    if has_flops:
        return
    with np.errstate(all="ignore"):
        ratio = np.log(budget[known] / product[known])
    if ratio.size and np.abs(ratio).max() > OWN_COUNT and "flops" not in plan.chosen:
        values["flops"] = np.where(known, budget, np.nan)
        low, high = math.exp(ratio.min()), math.exp(ratio.max())
        by = f"{low:.3g} times 6ND" if high / low < 1 + CONSTANT else f"{low:.3g} to {high:.3g} times 6ND"
        notes[:] = [note for note in notes if note.about != "budgets"]
        notes.append(Note("FLOPs", f"from the budgets ({plan.sources['budget']}), which are {by}: their own count, for all approaches."))


def _unit_of(ratio: Floats) -> float | None:
    """Return the unit of compute that explains the ratio to 6ND in every row; None where no unit does."""
    if ratio.max() > FAR * ratio.min():  # numbers that do not follow the cost, such as 1, 2, 3 for budgets in order
        return None
    return next((scale for scale in sorted(set(FLOPS.values())) if (np.abs(np.log(ratio * scale)) <= math.log(FAR)).all()), None)


def _contradiction(plan: Plan, middle: float) -> QuestionError:
    budget, given = str(plan.sources["budget"]), str(plan.sources["flops"])
    apart = f"{units.times(middle)} times {given!r}" if middle > 1 else f"a {units.times(1 / middle)}th of {given!r}"
    return QuestionError(
        f"{budget!r} and {given!r} contradict each other: the budgets are {apart}.",
        (
            Reading(f"the runs cost what {given!r} says; budgets are found from it", option("budget", NONE)),
            Reading(f"the runs cost what {budget!r} says", f"{option('flops', budget)} {option('budget', budget)}"),
        ),
    )


def _beside(taken: Floats, other: Floats, plan: Plan, name: str) -> list[Note]:
    """Return a note about a second column of FLOPs."""
    both = np.isfinite(taken) & np.isfinite(other) & (other > 0)
    if not both.any() or "flops" in plan.chosen:
        return []
    ratio = other[both] / taken[both]
    low, high = float(ratio.min()), float(ratio.max())
    if max(high, 1 / low) < 1 + NEAR:
        return []
    words = f"{low:.3g}" if high / low < 1 + CONSTANT else f"{low:.3g} to {high:.3g}"
    return [Note("FLOPs", f"{plan.sources['flops']}, the file's own count; {name} is {words} times that. {option('flops', name)} takes it.")]


def params(grouped: Grouped, plan: Plan) -> None:
    """Compare the candidates for params.

    Raises:
        QuestionError: Two columns could be meant, and they differ.
    """
    if "params" in plan.chosen or "params" in plan.derived or "params" not in plan.sources:
        return
    mine, values = plan.sources["params"], grouped.last.values
    for place, rival in enumerate(plan.rivals.get("params", ()), start=1):
        other = values[f"params~{place}"]
        known = np.isfinite(other) & (other > 0)
        if not known.any() or counted_by(str(rival)) != counted_by(str(mine)):
            continue
        ratio = other[known] / values["params"][known]
        power = math.log10(float(np.median(ratio))) / 3
        if np.abs(np.log(ratio)).max() <= 2 * NEAR or abs(power) > 0.9:  # the same, or the same in millions
            continue
        at = int(np.flatnonzero(known)[0])
        raise QuestionError(
            f"{str(mine)!r} and {str(rival)!r} could both be the parameters, and they differ.",
            (
                Reading(f"{units.count(float(values['params'][at]))} parameters in the first run", option("params", str(mine))),
                Reading(f"{units.count(float(other[at]))} parameters in the first run", option("params", str(rival))),
            ),
        )


def sizes(grouped: Grouped, plan: Plan) -> None:
    """Check that parameters and tokens can be those of training runs.

    Raises:
        FitError: They cannot.
    """
    values = grouped.last.values
    if not grouped.ids:
        return
    N, D = (float(np.median(values[role])) for role in ("params", "tokens"))
    if _is_size(N, D) and TOKENS_PER_PARAM[0] * N <= D:
        _drop_other_units(grouped)
        return
    at = int(np.argsort(values["params"], kind="stable")[len(grouped.ids) // 2])
    shown = f"{_plain(values['params'][at])} parameters on {_plain(values['tokens'][at])} tokens"
    read = ", ".join(f"{role} from {plan.sources[role]}" for role in ("params", "tokens") if role in plan.sources)
    hints = " ".join(
        option(role, f"{written(source.column)} * {scale}")
        for role, scale in (("params", "1e6"), ("tokens", "1e9"))
        if (source := plan.sources.get(role)) is not None and source.column is not None and float(np.median(values[role])) < 1e6
    )
    if "flops" in plan.derived.get("tokens", "") and TOKENS[0] > D:
        flops = written(str(plan.sources["flops"].columns[0]))
        raise FitError(
            f"{shown} is no training run ({read}, tokens = {plan.derived['tokens']}; {grouped.ids[at]}). "
            f"If FLOPs are in another unit: {option('flops', f'{flops} * 8.64e19')} for PF-days, {option('flops', f'{flops} * 1e18')} for exaFLOPs."
        )
    more = f"If they are in millions and billions: {hints}." if hints else f"Map the right columns: {option('params', 'COLUMN')} {option('tokens', 'COLUMN')}."
    raise FitError(f"{shown} is no training run ({read}; {grouped.ids[at]}). {more}")


def _is_size(N: Any, D: Any) -> Any:
    """Return whether params and tokens can be those of a training run; of arrays a mask."""
    (low, high), (fewest, most) = PARAMS, TOKENS
    with np.errstate(all="ignore"):
        ratio = np.divide(D, N)
    return (low <= N) & (high >= N) & (fewest <= D) & (most >= D) & (ratio >= LEAST_TOKENS_PER_PARAM) & (TOKENS_PER_PARAM[1] >= ratio)


def _drop_other_units(grouped: Grouped) -> None:
    """Exclude the few rows that are written in another unit than the others."""
    values = grouped.last.values
    grouped.drop(~_is_size(values["params"], values["tokens"]), "invalid: its params and tokens are those of no training run; perhaps in another unit")
    with np.errstate(all="ignore"):
        product = 6 * grouped.last.values["params"] * grouped.last.values["tokens"]
        away = np.abs(np.log(grouped.last.values["flops"] / product))
    if np.mean(away > math.log(STRANGE)) < 0.5:  # else nothing says which are right
        grouped.drop(away > math.log(STRANGE), f"invalid: its FLOPs and 6ND are over {STRANGE:g} times apart, those of most runs are not")


def _plain(value: float) -> str:
    return f"{value:.3g}" if value < 1e3 else units.count(float(value))


def losses(grouped: Grouped, unit: str) -> None:
    """Exclude losses that no run of the sweep can have, by name.

    Raises:
        FitError: All losses are too high to be a loss per token.
    """
    loss = grouped.last.values["loss"]
    if not loss.size or not np.isfinite(loss).any():
        return
    with np.errstate(over="ignore"):  # the mean of two losses of 1e308 is infinite, and refused
        middle = float(np.median(loss[np.isfinite(loss)]))
    if unit == NATS and middle > HIGHEST_LOSS:
        hint = " If these are perplexities: --unit perplexity." if middle < 1e6 else ""
        raise FitError(f"a loss of {middle:.4g} (the median) is no loss per token: chance in any vocabulary is below {HIGHEST_LOSS:g} nats.{hint}")
    for side in ("below", "above"):
        which = _strays(grouped.last.values["loss"], side)
        if which.size >= FEWEST:
            grouped.drop(which, f"invalid: its loss is over {APART:g} times {side} every other")


def _strays(loss: Floats, side: str) -> NDArray[np.bool_]:
    """Return which few losses lie far below, or far above, all others."""
    finite = np.isfinite(loss)
    with np.errstate(all="ignore"):
        logs = np.where(finite, np.log(loss), np.nan) * (1 if side == "below" else -1)
    ordered = np.sort(logs[finite])
    most = max(1, int(STRAY * ordered.size))
    gaps = np.flatnonzero(np.diff(ordered)[:most] > math.log(APART))
    return finite & (logs <= ordered[gaps[-1]]) if gaps.size else np.zeros(loss.size, dtype=bool)
