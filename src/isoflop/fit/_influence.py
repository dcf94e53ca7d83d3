"""Influence: what the fit would say without each of its runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.fit._estimators import DELTA
from isoflop.fit._overflow import unwarned
from isoflop.fit._problem import Problem, problem, solve, without
from isoflop.fit.result import Fit
from isoflop.laws import Law
from isoflop.runs import Runs

Floats = NDArray[np.float64]

MOST = 500  # runs left out one by one; of more, those furthest off the law
NOTABLE = 0.05  # of N_opt; assumption: sizes are not chosen more finely than that
NAMED = 3  # runs named in the warning
LEVEL = 0.8  # of the interval that a shift is held against


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What leaving out one run does; columns of shape (runs,), NaN for runs that were not left out, which lie near the law.

    Attributes:
        a: Shift of the exponent of N_opt.
        params_opt: N_opt at the largest budget without the run over that with it, less 1.
        warnings: Runs that move N_opt by more than half the width of its 80 % interval, and by more than 5 %.
    """

    a: Floats
    params_opt: Floats
    warnings: tuple[str, ...]


@unwarned
def influence(runs: Runs, fit: Fit, *, estimator: str = "huber", delta: float = DELTA) -> Influence:
    """Fit anew without each run in turn.

    Args:
        runs: Those of the fit.
        fit: By Approach 3, of the same estimator and delta; its resamples say how sure N_opt is.
        estimator: As for the fit.
        delta: As for the fit.
    """
    asked = problem(runs, law=fit.form, estimator=estimator, delta=delta)
    theta = solve(asked).theta
    return held_against(runs, asked, theta, fit.resamples)


def held_against(runs: Runs, asked: Problem, theta: Floats, resamples: tuple[Law, ...]) -> Influence:
    """The same, of a problem already solved."""
    largest = float(runs.flops.max())
    which = _candidates(asked, theta)
    others = [asked.law(row) for row in without(asked, theta, which)]
    law = asked.law(theta)
    a, params_opt = np.full(len(runs), np.nan), np.full(len(runs), np.nan)
    a[asked.order[which]] = [each.a - law.a for each in others]
    here = law.optimum(largest).params
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # an optimum of no params, or of infinitely many, is refused where it is printed
        params_opt[asked.order[which]] = np.array([each.optimum(largest).params for each in others]) / here - 1
        resampled = np.array([each.optimum(largest).params for each in resamples]) / here
    return Influence(a=a, params_opt=params_opt, warnings=_warning(runs, params_opt, largest, resampled[np.isfinite(resampled)]))


def _candidates(asked: Problem, theta: Floats) -> NDArray[np.intp]:
    """Points to leave out: all, or those furthest off the law."""
    count = asked.points.x.size
    if count <= MOST:
        return np.arange(count)
    size = np.abs(asked.points.log_loss - asked.predict(theta)[0])  # bounded by Huber's loss, but so is what these can do
    return np.sort(np.argsort(-size, kind="stable")[:MOST])


def _warning(runs: Runs, shift: Floats, flops: float, resampled: Floats) -> tuple[str, ...]:
    if not resampled.size:
        return ()
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    limit = max(NOTABLE, float(high - low) / 2)
    moved = np.flatnonzero(np.abs(np.where(np.isfinite(shift), shift, 0.0)) > limit)
    if not moved.size:
        return ()
    shown = "; ".join(f"without {runs.ids[i]} it is {100 * shift[i]:+.0f} %" for i in moved[np.argsort(-np.abs(shift[moved]))][:NAMED])
    message = f"the optimum at {units.flops(flops)} FLOPs hangs on single runs, more than its 80 % interval allows: {shown}. Repeat them with another seed."
    return (message,)
