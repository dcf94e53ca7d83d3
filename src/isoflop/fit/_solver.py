"""Damped Newton with bounds, many problems at once: one row of `theta` is one start, or one bootstrap resample."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOLERANCE = 1e-10  # of the projected gradient, for objectives of order one; fixes exponents to nine digits
LONGEST_STEP = 2.0  # in any unknown; assumption: all are logs or exponents, so a longer step leaves where the quadratic holds
NO_DAMPING = 1e-12
TOO_DAMPED = 1e12  # no descent left in double precision
LEAST_CURVED = 1e-6  # root of a curvature; an objective of order one that bends less is flat
NOTHING_LEFT = 1e-14  # of the value, what an undamped step still promises; below it a sum over runs is rounding error


class Derivatives(NamedTuple):
    """Of an objective at each row."""

    value: Floats  # (rows,)
    gradient: Floats  # (rows, unknowns)
    hessian: Floats  # (rows, unknowns, unknowns)


class Bounds(NamedTuple):
    """Box of the unknowns."""

    lower: Floats  # (unknowns,)
    upper: Floats  # (unknowns,)


class Solution(NamedTuple):
    """Where each row came to rest."""

    theta: Floats  # (rows, unknowns)
    value: Floats  # (rows,)
    converged: NDArray[np.bool_]  # (rows,)


class Chart(NamedTuple):
    """Local coordinates in which a curved valley is straight; a step is taken in them."""

    pull: Callable[[Floats, Floats, Floats, NDArray[np.bool_]], tuple[Floats, Floats, NDArray[np.bool_]]]
    """From theta, gradient, Hessian and which unknowns are held to the last three in the coordinates."""
    move: Callable[[Floats, Floats, NDArray[np.bool_]], Floats]
    """From theta, a step in the coordinates and which unknowns are held to where it ends."""


STRAIGHT = Chart(lambda _theta, gradient, hessian, held: (gradient, hessian, held), lambda theta, step, _held: theta + step)
Objective = Callable[[Floats, NDArray[np.intp]], Derivatives]  # theta of some rows, and which rows they are


def minimise(objective: Objective, start: Floats, bounds: Bounds, *, chart: Chart = STRAIGHT, steps: int = 200, left: float = NOTHING_LEFT) -> Solution:
    """The local minimum below each start.

    Args:
        objective: Value, gradient and Hessian, analytic, of order one at the minimum.
        start: (rows, unknowns), moved into the bounds.
        bounds: Unknowns held at a bound have a gradient that points out of the box.
        chart: Coordinates to step in.
        steps: At most so many.
        left: A row ends when an undamped step promises less than this share of its value.
    """
    theta = np.clip(start, bounds.lower, bounds.upper)
    rows = np.arange(len(theta))
    value, gradient, hessian = objective(theta, rows)
    damping = np.full(len(theta), 1e-3)
    running = np.full(len(theta), fill_value=True)
    converged = np.zeros(len(theta), dtype=bool)
    for _ in range(steps):
        held = _held(theta, gradient, bounds)
        converged |= running & (np.abs(np.where(held, 0.0, gradient)).max(axis=1) < TOLERANCE)
        running &= ~converged & (damping < TOO_DAMPED)
        rows = np.flatnonzero(running)
        if not rows.size:
            break
        step, promise = _step(*chart.pull(theta[rows], gradient[rows], hessian[rows], held[rows]), damping[rows])
        trial = np.clip(chart.move(theta[rows], step, held[rows]), bounds.lower, bounds.upper)
        there = objective(trial, rows)
        better = there.value < value[rows]
        converged[rows] = promise <= left * value[rows]  # and takes this step yet, which squares what was left
        kept = rows[better]
        theta[kept], value[kept], gradient[kept], hessian[kept] = trial[better], there.value[better], there.gradient[better], there.hessian[better]
        damping[rows] = np.where(better, np.maximum(damping[rows] / 8, NO_DAMPING), damping[rows] * 8)
    # a row out of damping sits on a kink or at rounding error: no step of any length goes down from there
    return Solution(theta, value, converged | (damping >= TOO_DAMPED))


def _held(theta: Floats, gradient: Floats, bounds: Bounds) -> NDArray[np.bool_]:
    return ((theta <= bounds.lower) & (gradient > 0)) | ((theta >= bounds.upper) & (gradient < 0))


def _step(gradient: Floats, hessian: Floats, held: NDArray[np.bool_], damping: Floats) -> tuple[Floats, Floats]:
    """Newton's step with every curvature made positive, so that saddles push away; zero for what is held at a bound.

    Returns:
        (rows, unknowns) the step, and (rows,) by how much the value would fall if there were no damping.
    """
    free = ~held
    hessian = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    # in units in which each unknown has about the same curvature: the valley of an additive law is 1e8 times longer than wide in its own
    curved = np.sqrt(np.abs(np.diagonal(hessian, axis1=1, axis2=2)))
    unit = np.maximum(curved, 1e-8 * curved.max(axis=1, keepdims=True) + LEAST_CURVED)
    curvature, direction = np.linalg.eigh(hessian / (unit[:, :, None] * unit[:, None, :]))
    size = np.abs(curvature)
    slope = ((np.where(free, gradient, 0.0) / unit)[:, None, :] @ direction)[:, 0, :]
    promise = (slope**2 / (size + NO_DAMPING)).sum(axis=1) / 2
    along = slope / (size + damping[:, None])
    step = np.where(free, -(direction @ along[:, :, None])[:, :, 0] / unit, 0.0)
    longest = np.abs(step).max(axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-30))), promise
