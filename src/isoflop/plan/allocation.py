"""What a fitted law recommends for a budget, and the real shape nearest to it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop import units
from isoflop.errors import ExtrapolationError
from isoflop.laws import Law
from isoflop.published import REACH

if TYPE_CHECKING:  # planning with published laws needs no fits
    from collections.abc import Iterable

    from isoflop.arch import Kind, Shape
    from isoflop.fit.result import Approach, Fit

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recommendation for one budget by one fit. Intervals are the 10th and 90th bootstrap percentiles."""

    approach: "Approach"
    flops: float
    params: float  # by the fit's convention
    tokens: float
    loss: float  # nats per token; NaN where the law says nothing of loss
    params_interval: Interval
    tokens_interval: Interval
    loss_interval: Interval  # for one new run, residual spread included
    loss_by: "Approach"  # whose loss that is
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
    if result.reach > REACH and not extrapolate:
        msg = (
            f"{units.flops(flops)} FLOPs is {result.reach:.0f} times the largest run fitted ({units.flops(fit.reach_flops)}). The law would say "
            f"{units.count(params)} params and {units.count(tokens)} tokens. Add larger budgets to the study, or accept it with --extrapolate."
        )
        raise ExtrapolationError(msg, estimate=result, reach=result.reach)
    return result


def plan_all(fits: "Iterable[Fit]", flops: float, *, kind: "Kind", extrapolate: bool = False) -> tuple[Plan, ...]:
    """A plan by each fit."""
    return tuple(plan(fit, flops, kind=kind, extrapolate=extrapolate) for fit in fits)


def _scalar(law: Law, flops: float, field: str) -> float:
    return float(getattr(law.optimum(flops), field))
