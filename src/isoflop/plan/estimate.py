"""What published laws recommend for a goal, and how far beyond their data they are asked to go."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from isoflop import units
from isoflop.errors import ExtrapolationError, FitError, RefusedError
from isoflop.plan.budget import Goal
from isoflop.published import REACH, Interval, Published


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A recommendation by one published law, counted as its authors count."""

    fit: Published
    flops: float
    params: float
    tokens: float
    loss: float  # nats per token of the authors' tokens; NaN where the law says nothing of loss
    reach: float  # the budget over the largest budget fitted; below 1 is inside; NaN where the authors do not print it

    intervals: tuple[Interval, ...] = ()  # of params, tokens and loss, where the law has resamples

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    @property
    def interval(self) -> Interval | None:
        """The interval of the params where the law has resamples; else a printed one: of the exponent, or of the first constant that has one."""
        printed = sorted(self.fit.intervals, key=lambda i: i.quantity != "a")
        return self.interval_of("params") or (printed[0] if printed else None)

    def interval_of(self, quantity: str) -> Interval | None:
        """Return the interval of "params", "tokens" or "loss" at this budget."""
        return next((i for i in self.intervals if i.quantity == quantity), None)

    @property
    def outside(self) -> bool:
        """Whether the budget is more than 50 times beyond every run that backs the law, or as far below the smallest."""
        above, below = self.flops / self.fit.reach_flops, self.fit.fitted_flops[0] / self.flops
        return above > REACH or below > REACH


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """One goal by many laws."""

    goal: Goal
    rows: tuple[Estimate, ...]
    left_out: tuple[tuple[str, str], ...]  # law and reason


def estimates(fits: Iterable[Published], goal: Goal, *, extrapolate: bool = False) -> Estimates:
    """Return what each law recommends.

    Args:
        fits: Published laws.
        goal: A budget, or what it should reach.
        extrapolate: Accept budgets far beyond the data of every law.

    Raises:
        FitError: No law can say anything of the goal.
        ExtrapolationError: The goal is far outside the data of every law; the estimates are on the error.
        RefusedError: No law's answer can be right; the estimates are on the error.
    """
    rows: list[Estimate] = []
    left_out: list[tuple[str, str]] = []
    for fit in fits:
        try:
            rows.append(_estimate(fit, goal))
        except FitError as error:
            left_out.append((fit.name, str(error)))
    if not rows:
        raise FitError(_reasons(left_out))
    result = Estimates(goal=goal, rows=tuple(rows), left_out=tuple(left_out))
    if not extrapolate and all(row.outside for row in rows):
        words = _refusal(result) + (f" Left out: {_reasons(left_out)}" if left_out else "")
        raise ExtrapolationError(words, estimate=result, reach=min(row.reach for row in rows))
    return _without_refused(result)


def _without_refused(result: Estimates) -> Estimates:
    """Return the estimates without those that cannot be right; they are left out with the reason."""
    refused = {row.fit.name: row.fit.refusals(row.flops) for row in result.rows if row.fit.refusals is not None}
    reasons = {name: found for name, found in refused.items() if found}
    if not reasons:
        return result
    rows = tuple(row for row in result.rows if row.fit.name not in reasons)
    if not rows:
        every = tuple(dict.fromkeys(reason for found in reasons.values() for reason in found))
        raise RefusedError(f"there is no answer for {result.goal}. {' '.join(every)}", reasons=every, estimate=result)
    return Estimates(goal=result.goal, rows=rows, left_out=(*result.left_out, *((name, " ".join(found)) for name, found in reasons.items())))


def _estimate(fit: Published, goal: Goal) -> Estimate:
    if fit.law is None:
        msg = f"{fit.title} prints exponents only, so no size can be told. `isoflop laws` lists the laws that say one."
        raise FitError(msg)
    best = goal.best(fit.law)
    flops = float(best.flops)
    if not (0 < best.params < math.inf and 0 < best.tokens < math.inf):
        raise FitError(f"at {units.flops(flops)} FLOPs its optimum has no params, or infinitely many.")
    return Estimate(
        fit=fit,
        flops=flops,
        params=float(best.params),
        tokens=float(best.tokens),
        loss=float(best.loss),
        reach=flops / fit.fitted_flops[1],
        intervals=fit.spread(flops) if fit.spread else (),
    )


def _reasons(left_out: Iterable[tuple[str, str]]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out:
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def _refusal(result: Estimates) -> str:
    said = "; ".join(
        f"{row.fit.name} would say {units.count(row.params)} params on {units.count(row.tokens)} tokens"
        f" ({_distance(row)})" for row in result.rows
    )  # fmt: skip
    return f"{result.goal} is far outside the data of every law asked: {said}. Ask a law fitted nearer to it (`isoflop laws`), or accept it with --extrapolate."


def _distance(row: Estimate) -> str:
    low, high = row.fit.fitted_flops[0], row.fit.reach_flops
    if row.flops > high:
        return f"{units.times(row.flops / high)} times its largest run, {units.flops(high)} FLOPs"
    return f"{units.times(low / row.flops)} times below its smallest, {units.flops(low)} FLOPs" if math.isfinite(low) else "its data are not printed"
