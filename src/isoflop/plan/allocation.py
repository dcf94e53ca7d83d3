"""What a fitted law recommends for a budget, and the real shape nearest to it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from isoflop import units
from isoflop.errors import ExtrapolationError
from isoflop.laws import Law
from isoflop.published import REACH

if TYPE_CHECKING:  # planning with published laws needs no fits
    from collections.abc import Iterable

    from isoflop.arch import Convention, Kind, Shape
    from isoflop.fit import Fit, Forecast

Interval = tuple[float, float]
By = Literal["envelope", "isoflop", "parametric", "forecast"]  # an approach, or what predicted held-out budgets best


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recommendation for one budget by one fit, or by the forecast of all. Intervals are from the 10th to the 90th percentile."""

    approach: By
    flops: float
    params: float  # by the fit's convention
    tokens: float
    loss: float  # nats per token; NaN where the law says nothing of loss
    params_interval: Interval
    tokens_interval: Interval
    loss_interval: Interval  # for one new run, residual spread included
    loss_by: By  # whose loss that is
    kind: "Kind"  # of the model
    shape: "Shape"  # the family's nearest
    shape_tokens: float  # that the budget pays for at that shape, by its own FLOPs
    reach: float  # the budget over the largest budget fitted

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params


def plan(fit: "Fit", flops: float, *, kind: "Kind", extrapolate: bool = False) -> Plan:
    """What a fit recommends for a training budget in FLOPs.

    Args:
        fit: Any approach.
        flops: > 0.
        kind: Of the model, for its real shape.
        extrapolate: Accept a budget more than 50 times the largest run.

    Raises:
        ExtrapolationError: Beyond that reach and not accepted; the plan is on the error as `estimate`.
    """
    best = fit.law.optimum(flops)
    params, tokens, loss = float(best.params), float(best.tokens), float(best.loss)
    shape = kind.nearest(params, fit.convention)
    result = Plan(
        approach=fit.approach,
        flops=flops,
        params=params,
        tokens=tokens,
        loss=loss,
        params_interval=fit.interval(lambda law: _scalar(law, flops, "params")),
        tokens_interval=fit.interval(lambda law: _scalar(law, flops, "tokens")),
        loss_interval=fit.prediction_interval(flops) if math.isfinite(loss) else (math.nan, math.nan),
        loss_by=fit.approach,
        kind=kind,
        shape=shape,
        shape_tokens=flops / shape.flops_per_token.training,
        reach=flops / fit.reach_flops,
    )
    return _within_reach(result, extrapolate=extrapolate)


def expected(forecast: "Forecast", flops: float, *, kind: "Kind", convention: "Convention", extrapolate: bool = False) -> Plan:
    """What the forecast of all fits recommends: of what predicted held-out budgets best, with intervals as wide as that showed.

    Args:
        forecast: Of a study or of any runs.
        flops: > 0.
        kind: Of the model, for its real shape.
        convention: How the runs count params.
        extrapolate: Accept a budget more than 50 times the largest run.

    Raises:
        ExtrapolationError: Beyond that reach and not accepted; the plan is on the error as `estimate`.
    """
    best = forecast.at(flops)
    shape = kind.nearest(best.params, convention)
    result = Plan(
        approach="forecast",
        flops=flops,
        params=best.params,
        tokens=best.tokens,
        loss=best.loss,
        params_interval=best.params_interval,
        tokens_interval=best.tokens_interval,
        loss_interval=best.loss_interval,
        loss_by="forecast",
        kind=kind,
        shape=shape,
        shape_tokens=flops / shape.flops_per_token.training,
        reach=best.reach,
    )
    return _within_reach(result, extrapolate=extrapolate)


def _within_reach(plan: Plan, *, extrapolate: bool) -> Plan:
    if plan.reach > REACH and not extrapolate:
        msg = (
            f"{units.flops(plan.flops)} FLOPs is {plan.reach:.0f} times the largest run fitted ({units.flops(plan.flops / plan.reach)}). The law would say "
            f"{units.count(plan.params)} params and {units.count(plan.tokens)} tokens. Add larger budgets to the study, or accept it with --extrapolate."
        )
        raise ExtrapolationError(msg, estimate=plan, reach=plan.reach)
    return plan


def plan_all(fits: "Iterable[Fit]", flops: float, *, kind: "Kind", forecast: "Forecast | None" = None, extrapolate: bool = False) -> tuple[Plan, ...]:
    """A plan by each fit, and last by the forecast of them, where there is one."""
    made = tuple(plan(fit, flops, kind=kind, extrapolate=extrapolate) for fit in fits)
    if forecast is None:
        return made
    convention = forecast.loss.members[0].fit.convention
    return (*made, expected(forecast, flops, kind=kind, convention=convention, extrapolate=extrapolate))


def _scalar(law: Law, flops: float, field: str) -> float:
    return float(getattr(law.optimum(flops), field))
