"""Roots in one unknown, many at once: what the questions without a closed form come down to."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Curve = Callable[[Floats], Floats]

_STEPS = 200  # halving the logs of 1e-30 to 1e120 down to the last bit takes 62; interpolation may take three times as many where it never helps
_EPS = float(np.finfo(float).eps)


def root(curve: Curve, low: Floats, high: Floats) -> Floats:
    """Where the curve crosses zero between low and high, to the last bits of x; elementwise, any shape.

    The sign of the curve must differ at the ends (or be zero at one); where it does not, the answer is one of the ends. The curve may be infinite.

    Source: T. R. Chandrupatla 1997, Advances in Engineering Software 28(3): inverse quadratic interpolation where it is safe, bisection elsewhere.
    """
    with np.errstate(all="ignore"):  # interpolation between equal or infinite values: caught below, and bisected
        x1, x2 = np.array(high, dtype=float), np.array(low, dtype=float)
        f1, f2 = curve(x1), curve(x2)
        x3, f3, t = x2, f2, np.full(np.shape(x1), 0.5)
        best, done = np.where(np.abs(f1) < np.abs(f2), x1, x2), (f1 == 0) | (f2 == 0) | (np.sign(f1) == np.sign(f2))
        for _ in range(_STEPS):
            if done.all():
                break
            x = x1 + t * (x2 - x1)
            f = curve(x)
            same = np.sign(f) == np.sign(f1)
            x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
            x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
            x1, f1 = x, f
            best = np.where(done, best, np.where(np.abs(f1) < np.abs(f2), x1, x2))
            least = (2 * _EPS * np.abs(best) + 1e-300) / np.abs(x2 - x1)
            done = done | (f1 == 0) | (f2 == 0) | ~(least <= 0.5)
            t = _step((x1, x2, x3), (f1, f2, f3), least)
        return best


def _step(x: tuple[Floats, Floats, Floats], f: tuple[Floats, Floats, Floats], least: Floats) -> Floats:
    """How far from the first x towards the second to look next, between 0 and 1; the third is the one before."""
    (x1, x2, x3), (f1, f2, f3) = x, f
    xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
    quadratic = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
    safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(quadratic)
    return np.clip(np.where(safe, quadratic, 0.5), least, 1 - least)


def first_fall(curve: Curve, ends: tuple[Floats, Floats], points: int) -> tuple[Floats, Bools]:
    """Where a curve first goes from above zero to zero or below, and whether it does; elementwise, any shape.

    Args:
        curve: Of (points, ...) and of (...).
        ends: Smallest and largest x, each (...).
        points: How many values of x are looked at for the first change of sign; a rise and fall between two of them is not seen.
    """
    x = np.linspace(*ends, points)  # (points, ...)
    above = curve(x) > 0
    falls = above[:-1] & ~above[1:]
    at = np.argmax(falls, axis=0)[None]  # the first; 0 too where there is none
    left, right = (np.take_along_axis(x, side, axis=0)[0] for side in (at, at + 1))
    return np.asarray(root(curve, left, right)), np.asarray(falls.any(axis=0))
