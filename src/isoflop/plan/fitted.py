"""A person's own fits, asked as published laws are: with the intervals that their resamples give."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isoflop.errors import FitError
from isoflop.laws import Allocation
from isoflop.published import Interval, Published

if TYPE_CHECKING:  # planning with published laws needs no fits
    from isoflop.fit import Forecast
    from isoflop.fit.result import Fit

LEVEL = 0.8  # of every interval: from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2


Refuse = Callable[[float], tuple[str, ...]]  # reasons why there is no answer at a budget


def published(fit: "Fit", *, title: str, source: str, smallest: float, refuse: Refuse | None = None) -> Published:
    """A fit as a published law.

    Args:
        fit: Of any approach.
        title: What the approach is called.
        source: Of its runs: a study, a file.
        smallest: FLOPs of the smallest run.
        refuse: Returns the reasons why there is no answer at a budget.
    """
    low, high = fit.interval(lambda law: law.a, level=LEVEL)
    return Published(
        name=fit.approach,
        title=f"{title}, {source}",
        source=f"{fit.n_runs} runs of {source}",
        law=fit.law,
        a=fit.law.a,
        b=fit.law.b,
        corpus=source,
        convention=f"{fit.convention} parameters, FLOPs of the runs",
        counts=fit.convention,
        fitted_flops=(smallest, fit.reach_flops),
        intervals=(Interval(quantity="a", low=low, high=high, level=LEVEL),) if math.isfinite(low) and math.isfinite(high) else (),
        spread=lambda flops: _spread(fit, flops),
        refusals=refuse,
    )


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The forecast of all fits as a law of the frontier."""

    forecast: "Forecast"

    @property
    def a(self) -> float:
        """NaN: it changes along the frontier."""
        return math.nan

    @property
    def b(self) -> float:
        """NaN: it changes along the frontier."""
        return math.nan

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:  # noqa: ARG002 - as every law is asked
        """Never known.

        Raises:
            FitError: Always: budgets were held out, and no single models.
        """
        msg = "a forecast is of the best model of a budget and says nothing of any other. Ask the parametric approach."
        raise FitError(msg)

    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params, tokens and loss that are expected; broadcasts.

        Raises:
            FitError: At some budget no law that takes part has an optimum.
        """
        C = np.asarray(flops, dtype=float)
        params, tokens = (self.forecast.size.centre(quantity, C) for quantity in ("params", "tokens"))
        if np.isnan(params).any():
            msg = f"none of the laws behind the forecast has an optimum at {C[np.isnan(params)].flat[0]:.3g} FLOPs. Ask for another budget."
            raise FitError(msg)
        return Allocation(flops=C, params=params, tokens=tokens, loss=self.forecast.loss.centre("loss", C))


def expected(forecast: "Forecast", *, source: str, smallest: float, refuse: Refuse | None = None) -> Published:
    """Return the forecast of all fits as a published law.

    Args:
        forecast: Of all fits.
        source: Of their runs.
        smallest: FLOPs of the smallest run.
        refuse: Returns the reasons why there is no answer at a budget.
    """
    fit = forecast.loss.members[0].fit
    return Published(
        name="forecast",
        title=f"By hold-out, {source}",
        source=f"{fit.n_runs} runs of {source}, {forecast.why}",
        law=Expected(forecast=forecast),
        a=math.nan,
        b=math.nan,
        corpus=source,
        convention=f"{fit.convention} parameters, FLOPs of the runs",
        counts=fit.convention,
        fitted_flops=(smallest, fit.reach_flops),
        spread=lambda flops: _expected_spread(forecast, flops),
        refusals=refuse,
    )


def _expected_spread(forecast: "Forecast", flops: float) -> tuple[Interval, ...]:
    found = forecast.at(flops, level=LEVEL)
    edges = {"params": found.params_interval, "tokens": found.tokens_interval, "loss": found.loss_interval}
    return tuple(Interval(quantity=name, low=low, high=high, level=LEVEL) for name, (low, high) in edges.items() if math.isfinite(low) and math.isfinite(high))


def _spread(fit: "Fit", flops: float) -> tuple[Interval, ...]:
    """Intervals of a fit at a budget; of the loss for one new run."""
    edges = {
        "params": fit.interval(lambda law: float(law.optimum(flops).params), level=LEVEL),
        "tokens": fit.interval(lambda law: float(law.optimum(flops).tokens), level=LEVEL),
        "loss": fit.prediction_interval(flops, level=LEVEL),
    }
    return tuple(Interval(quantity=name, low=low, high=high, level=LEVEL) for name, (low, high) in edges.items() if math.isfinite(low) and math.isfinite(high))
