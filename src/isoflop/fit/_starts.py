"""Where descents begin: the valley of the additive law, looked up on a grid of both exponents (variable projection)."""

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._huber import Points

Floats = NDArray[np.float64]

GRID = np.geomspace(0.05, 2.0, 9)  # of alpha and of beta; assumption: within 0.2 to 0.8 in every public sweep
STARTS = 4  # assumption: the lowest lies in the valley of the optimum on every sweep tried; the others are against a second valley
PASSES = 4  # of reweighted least squares, towards least absolute deviations, so that a run that diverged does not choose the valley
FARTHEST = 100.0  # of a log: what lies beyond is no start's business, and its square still fits in a double
LOOKED_AT = 600  # runs; for the choice of a start more tell no more (assumption)


def spread(points: Points) -> Floats:
    """(4, 5) unknowns of the additive law: the lowest of 81 pairs of exponents, no two of them neighbours.

    At given exponents the law is linear in E, A and B, so these are solved for (Golub and Pereyra 1973), by relative residuals; a negative one becomes small.
    """
    part = points.part(slice(None, None, max(1, points.x.size // LOOKED_AT)))
    alpha, beta = (each.ravel() for each in np.meshgrid(GRID, GRID, indexing="ij"))
    level = float(np.median(part.log_loss))
    target = np.exp(np.clip(part.log_loss - level, -FARTHEST, FARTHEST))
    with np.errstate(over="ignore", invalid="ignore"):
        powers = [np.exp(np.minimum(-exponent[:, None] * axis, FARTHEST)) for exponent, axis in ((alpha, part.x), (beta, part.y))]
        columns = np.stack([np.ones_like(powers[0]), *powers], axis=1) / target  # (pairs, 3, runs)
    size = np.sqrt((columns**2).sum(axis=2, keepdims=True))
    unit = columns / size  # of length one each, or steep powers would drown the others
    weights = np.ones((alpha.size, 1, target.size))
    for _ in range(PASSES):
        heavy = unit * weights
        normal = heavy @ unit.swapaxes(1, 2) + 1e-9 * np.eye(3)
        terms = np.linalg.solve(normal, heavy.sum(axis=2)[:, :, None])
        terms = np.maximum(terms, 1e-3 * np.abs(terms).max(axis=1, keepdims=True))
        off = np.abs((unit * terms).sum(axis=1, keepdims=True) - 1)
        usual = np.median(off, axis=2, keepdims=True) + 1e-12
        weights = usual / np.maximum(off, usual)
    misfit = off.sum(axis=(1, 2))
    logs = np.log(terms[:, :, 0] / size[:, :, 0]) + level
    return np.column_stack([logs, alpha, beta])[_lowest(misfit)]


def _lowest(misfit: Floats) -> NDArray[np.intp]:
    """Indices of the lowest pairs, each at least two steps of the grid from those before it."""
    taken: list[int] = []
    for pair in np.argsort(misfit, kind="stable"):
        here = np.array(divmod(int(pair), GRID.size))
        if all(np.abs(here - np.array(divmod(other, GRID.size))).max() >= 2 for other in taken):
            taken.append(int(pair))
        if len(taken) == STARTS:
            break
    return np.array(taken)
