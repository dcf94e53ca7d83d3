"""Losses by learning rate -> the best rate at each size with its error, and how it changes from size to size.

Rates are logs to base two of the rate over the recipe's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.runs import Floats
from isoflop.tune import _search
from isoflop.tune._search import Tried

STEP = 0.5  # between rates near the best: the error where nothing else is known of it
CLEAR = 2.0  # standard errors; a trend with size that is less clear is no trend


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best rate of one size."""

    rate: float
    error: float  # one standard error
    at_edge: bool


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Best rate = rate + power * log2(d_model / width)."""

    rate: float
    error: float  # of rate
    width: float
    power: float  # 0 where no trend is clear
    power_error: float


@dataclass(frozen=True, kw_only=True)
class _Parabola:
    """Least squares of a parabola: coefficients from the square down, the inverse of the normal matrix, and what it leaves."""

    coefficients: tuple[float, float, float]
    inverse: Floats
    squares: float
    freedom: int

    @property
    def vertex(self) -> float:
        a, b, _ = self.coefficients
        return -b / (2 * a)

    def error(self, variance: float) -> float:
        """Standard error of the vertex, given the variance of a loss."""
        a, b, _ = self.coefficients
        slope = np.array([b / (2 * a * a), -1 / (2 * a), 0.0])
        return math.sqrt(variance * float(slope @ self.inverse @ slope))


def bests(sizes: Sequence[Tried]) -> tuple[Best, ...]:
    """The best rate of each size: the vertex of a parabola through the losses within an octave of the least.

    The noise of a loss is what the parabolas of all sizes together leave of it, misfit included.
    """
    parabolas = [_parabola(tried) for tried in sizes]
    freedom = sum(p.freedom for p in parabolas if p)
    variance = sum(p.squares for p in parabolas if p) / freedom if freedom else None
    return tuple(_best(tried, p, variance) for tried, p in zip(sizes, parabolas, strict=True))


def trend(widths: Sequence[int], found: Sequence[Best]) -> Trend:
    """A line through the best rates over the log of the width, weighted by their errors; level where its slope is within two standard errors of none.

    Where the sizes lie further from the line than their errors say, the errors are as much too small (Birge 1932).
    """
    x, y = np.log2(np.array(widths, dtype=float)), np.array([b.rate for b in found])
    weight = np.array([b.error for b in found]) ** -2.0
    middle, rate = (float(weight @ v / weight.sum()) for v in (x, y))
    lever = float(weight @ (x - middle) ** 2)
    power = float(weight @ ((x - middle) * (y - rate))) / lever
    power_error = lever**-0.5 * _birge(weight, y - rate - power * (x - middle), freedom=len(x) - 2)
    kept = power if abs(power) > CLEAR * power_error else 0.0
    left = _birge(weight, y - rate - kept * (x - middle), freedom=len(x) - 1 - (kept != 0))
    return Trend(rate=rate, error=left * float(weight.sum()) ** -0.5, width=2.0**middle, power=kept, power_error=power_error)


def _birge(weight: Floats, residuals: Floats, *, freedom: int) -> float:
    """How many times too small the errors are, by what a line leaves; never less than one."""
    return math.sqrt(max(1.0, float(weight @ residuals**2) / freedom)) if freedom > 0 else 1.0


def _parabola(tried: Tried) -> _Parabola | None:
    """None where fewer than three losses or a curve that is not hollow say nothing."""
    middle = _search.best(tried)
    near = sorted(k for k, loss in tried.items() if abs(k - middle) <= _search.OCTAVE and math.isfinite(loss))
    if len(near) < 3 or _search.at_edge(tried):
        return None
    x, y = np.array(near) / _search.OCTAVE, np.array([tried[k] for k in near])
    matrix = np.vander(x, 3)
    inverse: Floats = np.linalg.inv(matrix.T @ matrix).astype(float)
    coefficients = inverse @ matrix.T @ y
    if coefficients[0] <= 0:
        return None
    a, b, c = coefficients.tolist()
    return _Parabola(coefficients=(a, b, c), inverse=inverse, squares=float(((y - matrix @ coefficients) ** 2).sum()), freedom=len(near) - 3)


def _best(tried: Tried, parabola: _Parabola | None, variance: float | None) -> Best:
    least = _search.best(tried) / _search.OCTAVE
    edge = _search.at_edge(tried)
    if parabola is None:
        return Best(rate=least, error=STEP, at_edge=edge)
    error = STEP if variance is None else min(max(parabola.error(variance), 0.01), 2.0)  # a flat curve knows no better than the range that was tried
    return Best(rate=min(max(parabola.vertex, least - STEP), least + STEP), error=error, at_edge=edge)
