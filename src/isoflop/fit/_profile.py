"""One IsoFLOP profile: the window, the parabola in it, and how noise moves its minimum."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.fit.result import Profile
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST_POINTS = 3  # a parabola
WANTED_POINTS = 5  # two more than a parabola, so that its noise shows
MOVES = 8  # times the window is moved onto the minimum found in it; it settles in two or three


class Parabola(NamedTuple):
    """Loss in log params, least squares through some points."""

    centre: float  # log params; coefficients count from here, where they are best conditioned
    coefficients: Floats  # (3,) highest power first
    low: float  # log params of the smallest and the largest point
    high: float

    @property
    def vertex(self) -> float:
        """Log params of the minimum; the lower end of the points where the parabola has none between them."""
        return float(minima(self.coefficients[None], self.low - self.centre, self.high - self.centre)[0][0]) + self.centre

    @property
    def interior(self) -> bool:
        return bool(self.coefficients[0] > 0) and self.low < self.vertex < self.high

    def at(self, log_params: Floats) -> Floats:
        return np.asarray(np.polyval(self.coefficients, log_params - self.centre))


class Wobble(NamedTuple):
    """A profile's minimum moved by noise."""

    log_params: Floats  # (draws,)
    loss: Floats  # (draws,)


def through(x: Floats, loss: Floats) -> Parabola:
    """The parabola of least squares."""
    centre = float(x.mean())
    return Parabola(centre, np.linalg.pinv(np.vander(x - centre, 3)) @ loss, float(x.min()), float(x.max()))


def minima(coefficients: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Where in [low, high] each parabola (rows, 3) is least, and its value there."""
    bend, tilt, level = coefficients.T
    where = np.where(bend > 0, np.clip(-tilt / np.where(bend > 0, 2 * bend, 1.0), low, high), np.where(tilt < 0, high, low))
    return where, bend * where**2 + tilt * where + level


def profile(runs: Runs, members: NDArray[np.intp], window: float) -> Profile:
    """The profile of one budget.

    Args:
        runs: All runs.
        members: Those of the budget.
        window: Either side of the minimum, in log params.
    """
    params, which = np.unique(runs.params[members], return_inverse=True)
    which = which.reshape(-1)
    seeds = np.bincount(which)
    tokens = np.exp(np.bincount(which, weights=np.log(runs.tokens[members])) / seeds)
    loss = np.bincount(which, weights=runs.loss[members]) / seeds
    x = np.log(params)
    used, parabola = _settle(x, loss, window) if x.size >= FEWEST_POINTS else (np.zeros(x.size, dtype=bool), None)
    note = _why_not(x, loss, parabola)
    log_opt = float(x[np.argmin(loss)]) if parabola is None or note else parabola.vertex
    return Profile(
        flops=float(runs.budget[members[0]]),
        params=params,
        tokens=tokens,
        loss=loss,
        used=used,
        coefficients=np.full(3, np.nan) if parabola is None else _uncentred(parabola),
        params_opt=math.exp(log_opt),
        # the budget buys tokens in inverse proportion to a power of params, so logs are all but a straight line
        tokens_opt=float(np.exp(np.interp(log_opt, x, np.log(tokens)))),
        loss_opt=float(loss.min()) if parabola is None or note else float(parabola.at(np.array(log_opt))),
        interior=not note,
        note=note,
    )


def residuals(profile: Profile) -> Floats:
    """(points,) loss less parabola at the points used, over sqrt(1 - leverage) so that each is as large as a new point's error; NaN elsewhere."""
    x, used = np.log(profile.params), profile.used
    left = np.full(x.size, np.nan)
    design = np.vander(x[used] - x[used].mean(), 3)
    free = 1 - np.einsum("ij,ji->i", design, np.linalg.pinv(design))
    raw = profile.loss[used] - through(x[used], profile.loss[used]).at(x[used])
    left[used] = np.where(free > 1e-6, raw / np.sqrt(np.maximum(free, 1e-6)), np.nan)
    return left


def wobble(profile: Profile, noise: Floats) -> Wobble:
    """The minimum of the parabola refitted to its own values plus noise (draws, points used), kept between the points used."""
    x = np.log(profile.params[profile.used])
    parabola = through(x, profile.loss[profile.used])
    solve = np.linalg.pinv(np.vander(x - parabola.centre, 3))
    where, loss = minima(parabola.coefficients + noise @ solve.T, parabola.low - parabola.centre, parabola.high - parabola.centre)
    return Wobble(where + parabola.centre, loss)


def _settle(x: Floats, loss: Floats, window: float) -> tuple[Mask, Parabola]:
    """Move the window from the best point onto the parabola's minimum until the points in it stay the same."""
    used = _window(x, float(x[np.argmin(loss)]), window)
    parabola = through(x[used], loss[used])
    for _ in range(MOVES):
        moved = _window(x, parabola.vertex, window)
        again = through(x[moved], loss[moved])
        if np.array_equal(moved, used) or not again.interior:
            break
        used, parabola = moved, again
    return used, parabola


def _window(x: Floats, centre: float, window: float) -> Mask:
    distance = np.abs(x - centre)
    nearest = np.sort(distance)[min(WANTED_POINTS, x.size) - 1]
    return np.asarray(distance <= max(window, nearest))


def _why_not(x: Floats, loss: Floats, parabola: Parabola | None) -> str:
    if parabola is None:
        return f"{x.size} of the {FEWEST_POINTS} sizes that a parabola needs"
    if parabola.interior:
        return ""
    if parabola.coefficients[0] <= 0 and 0 < np.argmin(loss) < x.size - 1:
        return "the parabola opens downwards: noise is larger than the differences between sizes"
    side = "smallest" if parabola.vertex <= parabola.centre else "largest"
    return f"no minimum inside: loss still falls towards the {side} size"


def _uncentred(parabola: Parabola) -> Floats:
    bend, tilt, level = parabola.coefficients
    c = parabola.centre
    return np.array([bend, tilt - 2 * bend * c, level - tilt * c + bend * c**2])
