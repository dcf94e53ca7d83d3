"""Parabolas through the valleys of Approach 2: the window that each is fitted in, its minimum, and how noise moves it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._valley import BELOW_ZERO, Floor, Valley, seeds_used, still_falls, too_few, window_about

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WINDOW = math.log(4.0)  # either side of the minimum; all points of a wide profile give a = 2.1 where 0.85 is right (Porian et al.'s runs)
FEWEST_POINTS = 3  # a parabola
WANTED_POINTS = 5  # two more than a parabola, so that its noise shows
MOVES = 8  # times the window is moved onto the minimum found in it; it settles in two or three


class Parabola(NamedTuple):
    """Loss in log params, weighted least squares through some points."""

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

    @property
    def uncentred(self) -> Floats:
        """Coefficients that count log params from zero."""
        bend, tilt, level = self.coefficients
        c = self.centre
        return np.array([bend, tilt - 2 * bend * c, level - tilt * c + bend * c**2])

    def at(self, log_params: Floats) -> Floats:
        return np.asarray(np.polyval(self.coefficients, log_params - self.centre))


class Parabolas(NamedTuple):
    """A parabola a valley (Hoffmann et al. 2022, Sec. 3.2)."""

    valleys: tuple[Valley, ...]
    used: tuple[Mask, ...]
    notes: tuple[str, ...]
    spent: float
    parabolas: tuple[Parabola | None, ...]

    def at(self, i: int, x: Floats) -> Floats:
        parabola = self.parabolas[i]
        return np.full(x.shape, np.nan) if parabola is None else parabola.at(x)

    def leverage(self, i: int) -> Floats:
        valley, used = self.valleys[i], self.used[i]
        design, weights = _design(valley.x[used]), valley.seeds[used]
        return np.asarray(np.einsum("ij,ji->i", design, _solver(design, weights)))

    def pull(self, i: int) -> Floats:
        valley, used, parabola = self.valleys[i], self.used[i], self.parabolas[i]
        if parabola is None:
            return np.zeros(int(used.sum()))
        bend, tilt, _ = _solver(_design(valley.x[used]), valley.seeds[used])
        return np.asarray(-(tilt + 2 * (parabola.vertex - parabola.centre) * bend) / (2 * parabola.coefficients[0]))

    def floor(self, which: Sequence[int], losses: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floor:
        given = seeds_used(self, which) if weights is None else weights
        each = [self._floor(i, y, w) for i, y, w in zip(which, losses, given, strict=True)]
        return Floor(np.stack([x for x, _ in each], axis=1), np.stack([y for _, y in each], axis=1))

    def _floor(self, i: int, losses: Floats, weights: Floats) -> tuple[Floats, Floats]:
        x = self.valleys[i].x[self.used[i]]
        centre = float(x.mean())
        coefficients = (_solver(_design(x), weights) @ losses[..., None])[..., 0]
        there = weights > 0
        enough = there.sum(axis=1) >= FEWEST_POINTS
        between = there | ~enough[:, None]  # a row that does not count has ends too
        low = np.where(between, x, np.inf).min(axis=1)
        high = np.where(between, x, -np.inf).max(axis=1)
        where, loss = minima(coefficients, low - centre, high - centre)
        return np.where(enough, where + centre, np.nan), np.where(enough, loss, np.nan)


def through_all(valleys: tuple[Valley, ...], window: float) -> Parabolas:
    """A parabola in each valley, in a window about its own minimum."""
    settled = [_settle(v, window) for v in valleys]
    used, parabolas = tuple(u for u, _ in settled), tuple(p for _, p in settled)
    notes = tuple(_why_not(v, p) for v, p in zip(valleys, parabolas, strict=True))
    return Parabolas(valleys, used, notes, 3.0 * sum(p is not None for p in parabolas), parabolas)


def through(x: Floats, loss: Floats, weights: Floats) -> Parabola:
    """The parabola of weighted least squares."""
    return Parabola(float(x.mean()), _solver(_design(x), weights) @ loss, float(x.min()), float(x.max()))


def minima(coefficients: Floats, low: float | Floats, high: float | Floats) -> tuple[Floats, Floats]:
    """Where in [low, high] each parabola (rows, 3) is least, and its value there."""
    bend, tilt, level = coefficients.T
    where = np.where(bend > 0, np.clip(-tilt / np.where(bend > 0, 2 * bend, 1.0), low, high), np.where(tilt < 0, high, low))
    return where, bend * where**2 + tilt * where + level


def _design(x: Floats) -> Floats:
    return np.vander(x - x.mean(), 3)


def _solver(design: Floats, weights: Floats) -> Floats:
    """Takes losses (points,) to coefficients (3,); one for each row of weights (rows, points)."""
    root = np.sqrt(weights)
    return np.asarray(np.linalg.pinv(design * root[..., None]) * root[..., None, :])


def _settle(valley: Valley, window: float) -> tuple[Mask, Parabola | None]:
    """Move the window from the best point onto the parabola's minimum until the points in it stay the same."""
    x, loss, seeds = valley.x, valley.loss, valley.seeds
    if too_few(valley):
        return np.zeros(x.size, dtype=bool), None
    used = window_about(x, float(x[np.argmin(loss)]), window, WANTED_POINTS)
    parabola = through(x[used], loss[used], seeds[used])
    for _ in range(MOVES):
        moved = window_about(x, parabola.vertex, window, WANTED_POINTS)
        again = through(x[moved], loss[moved], seeds[moved])
        if np.array_equal(moved, used) or not again.interior:
            break
        used, parabola = moved, again
    return used, parabola


def _why_not(valley: Valley, parabola: Parabola | None) -> str:
    if parabola is None:
        return too_few(valley)
    if parabola.interior:
        return "" if parabola.at(np.array(parabola.vertex)) > 0 else BELOW_ZERO
    if parabola.coefficients[0] <= 0 and 0 < np.argmin(valley.loss) < valley.x.size - 1:
        return "the parabola opens downwards: noise is larger than the differences between sizes"
    return still_falls(down=parabola.vertex <= parabola.centre)
