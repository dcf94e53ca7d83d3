"""Bootstrap by run: how often each run is drawn, so that a resample is a row of weights and whole curves stay whole."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 400  # assumption: the 10th percentile of 400 has a standard error of 1.5 points
SMALLEST_STRATUM = 3  # runs; assumption: drawing from fewer would mostly return the runs themselves


def counts(budget: Floats, *, resamples: int, seed: int) -> Floats:
    """How often each run is drawn in each resample, drawn with replacement within its budget.

    Budgets are kept apart so that no resample lacks one. Those of fewer than three runs (runs made elsewhere, each with its own FLOPs) are drawn from
    together.

    Args:
        budget: (runs,) FLOPs aimed at.
        resamples: Rows.
        seed: Of the draw.

    Returns:
        (resamples, runs) whole numbers.
    """
    rng = np.random.default_rng(seed)
    _, level, size = np.unique(budget, return_inverse=True, return_counts=True)
    level = np.where(size[level] >= SMALLEST_STRATUM, level, -1).reshape(-1)
    strata = [np.flatnonzero(level == one) for one in np.unique(level)]
    weights = np.zeros((resamples, budget.size))
    for members in strata:
        weights[:, members] = rng.multinomial(members.size, np.full(members.size, 1 / members.size), size=resamples)
    return weights
