"""Power laws through the optima that Approaches 1 and 2 read off the runs: many resamples at once, each a row of weights."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.laws.powerlaw import PowerLaw

Floats = NDArray[np.float64]

DECAYS = np.geomspace(0.03, 0.6, 400)  # exponents g tried; assumption: 0.05 to 0.2 in public sweeps, so an optimum at an end is not one
GOLDEN, GOLDEN_STEPS = (5**0.5 - 1) / 2, 40  # 1e-8 of a step of the grid, where squares are flat
FEWEST_FOR_E = 4  # optima: one more than the three constants of E + k x**-g
WORTH_E = 0.5  # E is kept if it leaves at most this share of the plain power law's squares (assumption)


class Line(NamedTuple):
    """y = middle + slope * x at each row."""

    middle: Floats  # (rows,)
    slope: Floats  # (rows,)


class Decay(NamedTuple):
    """E + k x**-g at each row."""

    E: Floats  # (rows,)
    k: Floats  # (rows,)
    g: Floats  # (rows,)


def power_laws(c0: float, params: Line, tokens: Line, decay: Decay) -> tuple[PowerLaw, ...]:
    """Return a law for each row whose constants are numbers; the lines are of log params and log tokens in log(C / c0).

    A resample of three noisy budgets may put an optimum at e**1000 params, which is no law.
    """
    columns = np.array([np.exp(params.middle), np.exp(tokens.middle), params.slope, tokens.slope, *decay])
    numbers = (columns[:2] > 0).all(axis=0) & np.isfinite(columns[:2]).all(axis=0) & ~np.isinf(columns).any(axis=0)
    rows = columns[:, numbers].T.tolist()
    return tuple(PowerLaw(c0=c0, n0=n0, d0=d0, a=a, b=b, E=E, k=k, g=g) for n0, d0, a, b, E, k, g in rows)


def line(x: Floats, y: Floats, weights: Floats) -> Line:
    """Least squares of y (rows, points) on x (points,) with weights (rows, points); NaN where a row has one x only."""
    total = weights.sum(axis=1)
    mean_x, mean_y = (weights @ x) / total, (weights * y).sum(axis=1) / total
    u = x[None, :] - mean_x[:, None]
    spread = (weights * u**2).sum(axis=1)
    slope = (weights * u * y).sum(axis=1) / np.where(spread > 1e-12 * total, spread, np.nan)
    return Line(mean_y - slope * mean_x, slope)


def decay(x: Floats, loss: Floats, weights: Floats) -> Decay:
    """E + k x**-g through loss (rows, points) at x = C / c0 (points,), by least squares; E >= 0.

    For each g of a grid, E and k are linear (variable projection). E is 0, a plain power law, where fewer than four optima, an optimum g at the end of
    the grid, or squares not halved say that E is not determined: five budgets over a decade often do not.
    """
    scale = loss.max(axis=1)
    loss = np.maximum(loss / scale[:, None], np.finfo(float).tiny)  # whatever their unit, squares are finite; logs, where one is nothing beside another, too
    plain = line(np.log(x), np.log(loss), weights)
    middle = np.exp(plain.middle)
    plain_squares = (weights * (loss - middle[:, None] * x[None, :] ** plain.slope[:, None]) ** 2).sum(axis=1)
    total = weights.sum(axis=1)
    centre = (weights * loss).sum(axis=1) / total
    y = loss - centre[:, None]  # taken off first: the squares left are small against the losses
    basis = x[None, :] ** -DECAYS[:, None]  # (grid, points)
    mean_b = weights @ basis.T / total[:, None]  # (rows, grid)
    spread = weights @ (basis**2).T - total[:, None] * mean_b**2
    cross = (weights * y) @ basis.T
    k = cross / np.where(spread > 0, spread, np.nan)
    E = centre[:, None] - k * mean_b
    squares = (weights * y**2).sum(axis=1)[:, None] - k * cross
    squares = np.where((E >= 0) & (k > 0), squares, np.inf)
    best = np.argmin(squares, axis=1)
    rows = np.arange(len(best))
    inside = (best > 0) & (best < DECAYS.size - 1) & np.isfinite(squares[rows, best])
    enough = np.array([np.unique(x[row > 0]).size >= FEWEST_FOR_E for row in weights], dtype=bool)  # said, for there may be no rows
    kept = inside & enough & (squares[rows, best] <= WORTH_E * plain_squares)
    g = np.where(kept, DECAYS[best], -plain.slope)
    E0, k0 = np.zeros_like(middle), middle
    if kept.any():
        fine = _refined(x, loss[kept], weights[kept], DECAYS[best[kept]])
        E0[kept], k0[kept], g[kept] = fine.E, fine.k, fine.g
    return Decay(E0 * scale, k0 * scale, g)


def _refined(x: Floats, loss: Floats, weights: Floats, g: Floats) -> Decay:
    """The best g between the neighbours on the grid, by golden section; to the last digit that squares can tell."""
    step = float(np.log(DECAYS[1] / DECAYS[0]))
    low, high = np.log(g) - step, np.log(g) + step
    for _ in range(GOLDEN_STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        better = _projected(x, loss, weights, np.exp(left))[0] < _projected(x, loss, weights, np.exp(right))[0]
        low, high = np.where(better, low, left), np.where(better, right, high)
    g = np.exp((low + high) / 2)
    _, E, k = _projected(x, loss, weights, g)
    whole = E >= 0  # at the edge of what is allowed the grid's neighbour is not
    return Decay(np.where(whole, E, 0.0), k, g)


def _projected(x: Floats, loss: Floats, weights: Floats, g: Floats) -> tuple[Floats, Floats, Floats]:
    """Squares, E and k of the best fit for given g (rows,)."""
    total = weights.sum(axis=1)
    centre = (weights * loss).sum(axis=1) / total
    y = loss - centre[:, None]
    basis = x[None, :] ** -g[:, None]
    mean = (weights * basis).sum(axis=1) / total
    u = basis - mean[:, None]
    k = (weights * u * y).sum(axis=1) / (weights * u * u).sum(axis=1)
    return (weights * (y - k[:, None] * u) ** 2).sum(axis=1), centre - k * mean, k
