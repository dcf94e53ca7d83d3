"""Limits: how far the runs let the quantities of Approach 3 go, by its resamples and by profile likelihood."""

from dataclasses import dataclass

from isoflop.fit import parametric
from isoflop.fit._likelihood import Quantity
from isoflop.fit.result import Fit
from isoflop.laws import Law
from isoflop.runs import Runs

Interval = tuple[float, float]

CONSTANTS: tuple[Quantity, ...] = ("E", "alpha", "beta", "a")
OPTIMA: tuple[Quantity, ...] = ("params_opt", "loss")  # of a budget


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A quantity of a fit, and how far the runs let it go."""

    quantity: Quantity
    flops: float | None  # budget of params_opt and loss; None of a constant
    value: float  # the fit's own
    by_resamples: Interval  # NaN where there are none
    by_profile: Interval  # 0 or infinite where no limit was found


def limits(runs: Runs, fit: Fit, flops: float, *, level: float = 0.8, estimator: str = "huber", delta: float = parametric.DELTA) -> tuple[Limits, ...]:
    """Of each constant that is asked about, and of the optimum at a budget.

    Args:
        runs: Those of the fit.
        fit: By Approach 3, of the additive law.
        flops: Budget of the optimum.
        level: Of the intervals.
        estimator: As for the fit.
        delta: As for the fit.

    Raises:
        FitError: A law other than the additive one.
    """

    def of(quantity: Quantity, budget: float | None) -> Limits:
        return Limits(
            quantity=quantity,
            flops=budget,
            value=_value(fit.law, quantity, flops),
            by_resamples=fit.interval(lambda law: _value(law, quantity, flops), level=level),
            by_profile=parametric.profile(runs, fit, quantity, level=level, flops=flops, estimator=estimator, delta=delta),
        )

    return (*(of(quantity, None) for quantity in CONSTANTS), *(of(quantity, flops) for quantity in OPTIMA))


def _value(law: Law, quantity: Quantity, flops: float) -> float:
    match quantity:
        case "params_opt":
            return float(law.optimum(flops).params)
        case "loss":
            return float(law.optimum(flops).loss)
        case _:
            return float(getattr(law, quantity))
