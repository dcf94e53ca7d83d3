"""Answers: what fits say of a budget, and whether that can be acted on."""

import math
from dataclasses import dataclass

import numpy as np

from isoflop import units
from isoflop.errors import ExtrapolationError, FitError, RefusedError
from isoflop.fit import Fit, Fits, Prediction, refusals
from isoflop.fit._overflow import unwarned
from isoflop.fit.refusals import Refusal
from isoflop.laws import Allocation

LEVEL = 0.8  # from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2
NOWHERE = (math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The prediction that fits offer for a budget; refused where it cannot be right."""

    prediction: Prediction
    unit: str  # of the loss
    fit: Fit | None  # that it is by; None: the forecast of all fits
    refusals: tuple[Refusal, ...]  # empty: it can be acted on

    @property
    def given(self) -> bool:
        """Whether there is an answer."""
        return not self.refusals

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is none, a sentence or a few each."""
        return refusals.sentences(self.refusals)

    @property
    def extrapolated(self) -> bool:
        """Whether it is refused for its distance from the runs alone, which --extrapolate accepts."""
        return bool(self.refusals) and all(refusal.kind == "extrapolation" for refusal in self.refusals)

    def require(self) -> Prediction:
        """Return the prediction.

        Raises:
            ExtrapolationError: The budget is more than 50 times outside the runs, and nothing else is wrong.
            RefusedError: The prediction cannot be right; it is on the error as `estimate`.
        """
        if self.given:
            return self.prediction
        message = " ".join(self.reasons)
        if self.extrapolated:
            raise ExtrapolationError(message, estimate=self.prediction, reach=self.prediction.reach)
        raise RefusedError(f"there is no answer for {units.flops(self.prediction.flops)} FLOPs. {message}", reasons=self.reasons, estimate=self.prediction)


@unwarned
def answer(fits: Fits, flops: float, *, level: float = LEVEL, extrapolate: bool = False) -> Answer:
    """Return what fits say of a budget: by the forecast of them all; else by the fit whose size is the middle one, so that none that goes astray decides.

    Args:
        fits: Fits of some runs.
        flops: The budget, > 0.
        level: Share of the intervals.
        extrapolate: Accept a budget more than 50 times outside the runs.
    """
    unit = next(iter(fits)).unit
    found, fit = _offered(fits, flops, level)
    limit = refusals.within_limit(flops, fits.trained)
    near = found if limit == flops else _offered(fits, limit, level)[0]
    reasons = refusals.check(found, near, fits.trained, unit=unit, extrapolate=extrapolate)
    trend = _trend(fits, found) if fit is None else ()
    return Answer(prediction=found, unit=unit, fit=fit, refusals=(*refusals.one_budget(flops, _seen(fits)), *reasons, *trend))


def _optimum(fit: Fit, flops: float) -> Allocation:
    best = fit.law.optimum(flops)
    if not (0 < best.params < math.inf and 0 < best.tokens < math.inf):
        raise FitError("the optimum has no params, or infinitely many.")
    return best


def by_fit(fit: Fit, flops: float, *, level: float = LEVEL) -> Prediction:
    """Return what one fit says by itself; NaN where its law has no optimum."""
    try:
        best = _optimum(fit, flops)
        return Prediction(
            flops=flops,
            params=float(best.params),
            params_interval=fit.interval(lambda law: float(law.optimum(flops).params), level=level),
            tokens=float(best.tokens),
            tokens_interval=fit.interval(lambda law: float(law.optimum(flops).tokens), level=level),
            loss=float(best.loss),
            loss_interval=fit.prediction_interval(flops, level=level),
            level=level,
            reach=flops / fit.reach_flops,
        )
    except FitError:
        nan = math.nan
        return Prediction(
            flops=flops, params=nan, params_interval=NOWHERE, tokens=nan, tokens_interval=NOWHERE, loss=nan, loss_interval=NOWHERE, level=level,
            reach=flops / fit.reach_flops,
        )  # fmt: skip


def _offered(fits: Fits, flops: float, level: float) -> tuple[Prediction, Fit | None]:
    """Return the forecast and None, or the middle prediction of the fits and which it is."""
    found = _forecast(fits, flops, level)
    return (found, None) if found is not None else _middle(fits, flops, level)


def _forecast(fits: Fits, flops: float, level: float) -> Prediction | None:
    """Return what the forecast says; None where there is none, or where a law that takes part has no optimum."""
    try:
        return None if fits.forecast is None else fits.forecast.at(flops, level=level)
    except FitError:
        return None


def _middle(fits: Fits, flops: float, level: float) -> tuple[Prediction, Fit]:
    made = sorted(((by_fit(fit, flops, level=level), fit) for fit in fits), key=lambda pair: pair[0].params)
    sound = [pair for pair in made if math.isfinite(pair[0].params)] or made
    return sound[(len(sound) - 1) // 2]


def _seen(fits: Fits) -> tuple[float, float]:
    """Return the least and the most compute of the widest frontier."""
    ends = [(float(fit.frontier.flops.min()), float(fit.frontier.flops.max())) for fit in fits]
    return max(ends, key=lambda pair: pair[1] / pair[0])


def _trend(fits: Fits, found: Prediction) -> tuple[Refusal, ...]:
    """Return a refusal where the best model shrinks from the largest run to the budget."""
    if fits.forecast is None or fits.trained is None or not found.flops > fits.trained.flops[1]:
        return ()
    at = np.array([fits.trained.flops[1], found.flops])
    sizes, lengths = (fits.forecast.size.centre(quantity, at) for quantity in ("params", "tokens"))
    return refusals.shrinking(found.flops, float(at[0]), (float(sizes[0]), float(sizes[1])), (float(lengths[0]), float(lengths[1])))
