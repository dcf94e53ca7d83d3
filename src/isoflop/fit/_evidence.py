"""What the residuals about the valleys of Approach 2 show of the noise, once what all valleys have alike is taken for misfit.

A valley is no parabola where alpha differs from beta or its points reach far. Where the loss is additive all valleys have one shape and differ in depth
alone: about the minimum each is G (exp(-alpha u) / alpha + exp(beta u) / beta). So what a parabola misses is, in parts of its bend, the same cubic and
quartic in every valley; noise is what is left without them. Taken for noise, it made intervals twice too wide where alpha is 0.2 and beta 0.6.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _akima, _profile
from isoflop.fit._profile import Parabolas
from isoflop.fit._valley import Method

Floats = NDArray[np.float64]

POWERS = (3, 4)  # of log params from the minimum: five points leave a parabola two directions to miss, and these are they
NOTHING = 1e-9  # of the largest misfit; below it a direction is rounding


class Residuals(NamedTuple):
    """Of one valley, over the points used."""

    valley: int
    fitted: Floats  # (points used,) loss
    off: Floats  # (points used,) observed over fitted loss, less one
    leverage: Floats  # (points used,) how much of each loss the curves take over


class Evidence(NamedTuple):
    """Of the noise of a run, relative to the loss."""

    of: Method  # the curves; of an interpolant, which leaves no residuals, parabolas
    residuals: tuple[Residuals, ...]  # of the valleys with a minimum inside
    squares: float
    freedom: float


def gather(fitted: Method) -> Evidence:
    """Residuals about the curves, less the misfit that parabolas have alike."""
    if isinstance(fitted, _akima.Akimas):
        fitted = _profile.through_all(fitted.valleys, _profile.WINDOW)
    plain = tuple(_about(fitted, i) for i, note in enumerate(fitted.notes) if not note)
    if not isinstance(fitted, Parabolas):
        return _evidence(fitted, plain, fitted.spent)
    spent = 3.0 * len(plain)
    bent = _without_misfit(fitted, plain) if sum(r.off.size for r in plain) - spent > len(POWERS) else plain
    return _evidence(fitted, bent, spent + (len(POWERS) if bent is not plain else 0))


def _evidence(fitted: Method, residuals: tuple[Residuals, ...], spent: float) -> Evidence:
    squares = sum(float(_seeds(fitted, r.valley) @ r.off**2) for r in residuals)
    return Evidence(fitted, residuals, squares, sum(r.off.size for r in residuals) - spent)


def _seeds(fitted: Method, i: int) -> Floats:
    return fitted.valleys[i].seeds[fitted.used[i]]


def _about(fitted: Method, i: int) -> Residuals:
    valley, used = fitted.valleys[i], fitted.used[i]
    curve = fitted.at(i, valley.x[used])
    return Residuals(i, curve, valley.loss[used] / curve - 1, fitted.leverage(i))


def _without_misfit(fitted: Parabolas, plain: tuple[Residuals, ...]) -> tuple[Residuals, ...]:
    """Residuals with the misfit regressed out that fits all of them best."""
    roots = [np.sqrt(_seeds(fitted, r.valley)) for r in plain]
    missed = np.vstack([_missed(fitted, r.valley) for r in plain])
    directions, size, _ = np.linalg.svd(missed, full_matrices=False)
    directions = directions[:, size > NOTHING * size.max()]
    target = np.concatenate([r.off * root for r, root in zip(plain, roots, strict=True)])
    left, taken = target - directions @ (directions.T @ target), (directions**2).sum(axis=1)
    ends = np.cumsum([root.size for root in roots])[:-1]
    parts = zip(plain, roots, np.split(left, ends), np.split(taken, ends), strict=True)
    return tuple(Residuals(r.valley, r.fitted * (1 + r.off - off / root), off / root, r.leverage + more) for r, root, off, more in parts)


def _missed(fitted: Parabolas, i: int) -> Floats:
    """(points used, powers) what the parabola of a valley misses of a cubic and a quartic about its minimum, in parts of its bend over its loss."""
    parabola = fitted.parabolas[i]
    assert parabola is not None
    u, root = fitted.valleys[i].x[fitted.used[i]] - parabola.vertex, np.sqrt(_seeds(fitted, i))[:, None]
    taken = np.linalg.qr(np.vander(u, 3) * root)[0]
    powers = np.stack([u**k for k in POWERS], axis=-1) * root
    bend = parabola.coefficients[0] / float(parabola.at(np.array(parabola.vertex)))
    return np.asarray((powers - taken @ (taken.T @ powers)) * bend)
