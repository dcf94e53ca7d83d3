"""What a fitted law recommends for a budget, and the real shape nearest to it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from isoflop import arch, units
from isoflop.arch import Shape
from isoflop.errors import ExtrapolationError
from isoflop.fit.result import Approach, Fit
from isoflop.laws import Law

REACH = 30.0  # assumption: beyond this many times the largest run, laws fitted to sweeps were off by up to 2x in N_opt on public data

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recommendation for one budget by one fit. Intervals are the 10th and 90th bootstrap percentiles."""

    approach: Approach
    flops: float
    params: float  # by the fit's convention
    tokens: float
    loss: float  # nats per token; NaN where the law says nothing of loss
    params_interval: Interval
    tokens_interval: Interval
    loss_interval: Interval  # for one new run, residual spread included
    loss_by: Approach  # whose loss that is
    shape: Shape  # the family's nearest
    shape_tokens: float  # that the budget pays for at that shape, by its own FLOPs
    reach: float  # the budget over the largest budget fitted

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params


def plan(fit: Fit, flops: float, *, family: str, vocab: int, context: int, extrapolate: bool = False) -> Plan:
    """What a fit recommends for a training budget in FLOPs.

    Args:
        fit: Any approach.
        flops: > 0.
        family: Architecture of the shape.
        vocab: Of the tokenizer.
        context: Tokens a sequence.
        extrapolate: Accept a budget more than 30 times the largest run.

    Raises:
        ExtrapolationError: Beyond that reach and not accepted; the plan is on the error as `estimate`.
    """
    best = fit.law.optimum(flops)
    params, tokens, loss = float(best.params), float(best.tokens), float(best.loss)
    shape = arch.nearest(family, params, vocab=vocab, context=context, convention=fit.convention)
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


def plan_all(fits: Iterable[Fit], flops: float, *, family: str, vocab: int, context: int, extrapolate: bool = False) -> tuple[Plan, ...]:
    """A plan by each fit."""
    return tuple(plan(fit, flops, family=family, vocab=vocab, context=context, extrapolate=extrapolate) for fit in fits)


def _scalar(law: Law, flops: float, field: str) -> float:
    return float(getattr(law.optimum(flops), field))
