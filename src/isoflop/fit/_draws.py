"""Resamples of Approach 3: the law fitted anew to runs drawn with replacement, or to its own losses with noise put back."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _bootstrap
from isoflop.fit._problem import Problem, refit

Floats = NDArray[np.float64]
Intervals = Literal["noise", "runs"]

WORDS: dict[str, str] = {
    "noise": "the law fitted to its own losses with noise put back, as large as the residuals show it",
    "runs": "runs drawn with replacement within budgets",
}
MANY = 60  # runs from which on they are drawn from. In simulated studies of 25 and 42 runs drawing holds the truth too often (benchmarks/coverage.md)
BLOCK = 20_000_000  # losses held at a time: 160 MB however many resamples are asked for
NORMAL = math.sqrt(math.pi / 2)  # standard deviation of a normal over its mean absolute value


def usual(runs: int) -> Intervals:
    """How so many runs are resampled where nobody says."""
    return "noise" if runs < MANY else "runs"


def draw(asked: Problem, best: Floats, budget: Floats, *, intervals: Intervals, resamples: int, seed: int) -> Floats:
    """The optimum of each resample, a block at a time, so that memory does not grow with their number.

    Args:
        asked: What was fitted.
        best: (unknowns,) its optimum.
        budget: (runs,) in the problem's order.
        intervals: How.
        resamples: Rows.
        seed: Of the draw.

    Returns:
        (resamples, unknowns)
    """
    height = max(1, BLOCK // budget.size)
    blocks = []
    for block, first in enumerate(range(0, resamples, height)):
        rows, drawn = min(height, resamples - first), seed if not block else int(np.random.SeedSequence([seed, block]).generate_state(1)[0])
        if intervals == "runs":
            blocks.append(refit(asked, best, weights=_bootstrap.counts(budget, resamples=rows, seed=drawn)))
        else:
            blocks.append(_noisy(asked, best, rows, np.random.default_rng(drawn)))
    return np.vstack(blocks) if blocks else np.empty((0, best.size))


def _noisy(asked: Problem, best: Floats, rows: int, rng: np.random.Generator) -> Floats:
    """Refits to the fitted losses with normal noise.

    How large it is, residuals tell only as well as their number allows, and an estimator that bends to some runs leaves smaller ones. So the size is first
    taken as it looks; refits with it show what residuals it leaves, by chance a little more or less; and each resample gets the size that would have left,
    with that chance, the residuals seen.
    """
    fitted = asked.predict(best)[0]
    seen = _size(asked.points.log_loss[None] - fitted[None])[0]
    noisy = fitted + seen * rng.standard_normal((rows, fitted.size))
    left = _size(noisy - asked.predict(refit(asked, best, log_loss=noisy)))
    sizes = rng.permutation(np.where(left > 0, seen * seen / np.where(left > 0, left, 1.0), seen))
    return refit(asked, best, log_loss=fitted + sizes[:, None] * rng.standard_normal((rows, fitted.size)))


def _size(residuals: Floats) -> Floats:
    """(rows,) standard deviation of a normal with such a mean absolute value: a run that went wrong counts once, not squared."""
    return np.asarray(NORMAL * np.abs(residuals).mean(axis=1))
