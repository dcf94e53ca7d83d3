"""Profile likelihood: the range of a quantity that the runs allow, everything else fitted anew at each of its values."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry
from isoflop.errors import FitError
from isoflop.fit import _solver, _student
from isoflop.fit._estimators import DELTA
from isoflop.fit._overflow import unwarned
from isoflop.fit._problem import Problem, problem, solve
from isoflop.fit._solver import Derivatives
from isoflop.fit.result import Fit
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Numbers = NDArray[np.complex128]
Quantity = Literal["E", "a", "alpha", "beta", "loss", "params_opt"]
Measure = Callable[[Numbers], Numbers]  # (unknowns, rows) to (rows,)

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
STEP = 1e-30  # imaginary, for derivatives of a quantity exact to rounding
STIFF = 30.0  # times the profile's own curvature: how hard a row is pulled to its value; where it ends up is exact, whatever this is
REACH = (0.3, 0.6, 0.85, 1.1, 1.4, 1.8, 2.5, 4.0)  # of the width that the curvature at the optimum promises
WIDER = 6.0  # times, where the cut is not reached
WITHIN = 0.8  # deviations about zero in which the density of residuals is counted; Huber's delta is often too narrow to count in (assumption)


@unwarned
def profile(
    runs: Runs, fit: Fit, quantity: str, *, level: float = 0.8, flops: float | None = None, estimator: str = "huber", delta: float = DELTA
) -> tuple[float, float]:
    """The interval of a quantity by profile likelihood; an end is infinite (E, params_opt, loss: or 0) where the runs set no limit.

    Along the quantity all else is fitted anew, and the interval ends where the objective has risen by t**2 kappa / 2: t is Student's for runs less constants,
    and kappa the mean square of the objective's slope over its mean curvature, which makes an objective that is no likelihood behave as one. The mean
    curvature of Huber's loss is the density of residuals at zero, counted within 0.8 deviations.

    Args:
        runs: Those of the fit.
        fit: By Approach 3, of the additive law.
        quantity: "E", "alpha", "beta", "a" (of N_opt ~ C**a), or "params_opt" and "loss" of the optimum at `flops`.
        level: Chance that it holds the truth.
        flops: Budget of params_opt and loss; None for the largest of the runs.
        estimator: As for the fit.
        delta: As for the fit.

    Raises:
        UnknownNameError: No such quantity.
        FitError: A law other than the additive one.

    Source: Huber and Ronchetti 2009, Robust Statistics, Sec. 13.3 (tests by a rise of the objective); Koenker and Machado 1999 for absolute values.
    """
    _registry.check(quantity, QUANTITIES, noun="quantity")
    if fit.form != "chinchilla":
        raise FitError(f"profiles are made of the additive law, but this fit is of {fit.form}. Take its resamples.")
    asked = problem(runs, estimator=estimator, delta=delta)
    return along(asked, solve(asked).theta, quantity, level=level, flops=float(runs.flops.max()) if flops is None else flops)


def along(asked: Problem, theta: Floats, quantity: str, *, level: float, flops: float) -> tuple[float, float]:
    """The same, of a problem already solved."""
    measure, back = _measure(asked, quantity, flops)
    rise = _student.quantile(level, asked.points.x.size - theta.size) ** 2 * _kappa(asked, theta) / 2
    best = float(measure(theta[:, None].astype(complex))[0].real)
    objective = asked.objective(asked.estimator, np.ones((1, asked.points.x.size)), asked.points.log_loss[None])
    there = objective(theta[None], np.array([0]))
    slope = _slopes(measure, theta[None])[0]
    curvature, direction = np.linalg.eigh(_softened(asked, theta))
    sharp = 1 / max(float(((slope @ direction) ** 2 / np.maximum(curvature, 1e-9 * curvature[-1])).sum()), 1e-300)
    width = math.sqrt(2 * rise / sharp)
    least = float(there.value[0])
    ends = [_end(asked, theta, measure, best=best, width=side * width, sharp=sharp, level=least + rise, low=least) for side in (-1, 1)]
    low, high = sorted(back(end) for end in ends)
    return low, high


def _end(asked: Problem, theta: Floats, measure: Measure, *, best: float, width: float, sharp: float, level: float, low: float) -> float:
    """Where the objective, minimised along the quantity, rises to the level; infinite if it does not."""
    for wider in (1.0, WIDER, WIDER**2):
        wanted = best + width * wider * np.array(REACH)
        reached, value = _pulled(asked, theta, measure, wanted, STIFF * sharp / wider**2)
        q, root = np.append(best, reached), np.sqrt(np.maximum(np.append(low, value) - low, 0.0))
        rank = np.argsort(q * np.sign(width))
        q, root, goal = q[rank], np.maximum.accumulate(root[rank]), math.sqrt(level - low)
        if root[-1] >= goal:
            return float(np.interp(goal, root, q))
    return math.copysign(math.inf, width)


def _pulled(asked: Problem, theta: Floats, measure: Measure, wanted: Floats, stiff: float) -> tuple[Floats, Floats]:
    """Where rows pulled to values of a quantity come to rest, and the objective there: points of its profile."""
    start, weights = np.repeat(theta[None], wanted.size, axis=0), np.ones((1, asked.points.x.size))
    for estimator in asked.estimator.stages(warm=True):
        objective = asked.objective(estimator, weights, asked.points.log_loss[None])

        def at(theta: Floats, rows: NDArray[np.intp], objective: _solver.Objective = objective) -> Derivatives:
            value, gradient, hessian = objective(theta, rows)
            short = measure(theta.T.astype(complex)).real - wanted[rows]
            slope = _slopes(measure, theta)
            pull = stiff * short[:, None] * slope
            return Derivatives(value + stiff * short**2 / 2, gradient + pull, hessian + stiff * slope[:, :, None] * slope[:, None, :])

        start = _solver.minimise(at, start, asked.bounds, chart=asked.form.chart, left=1e-9).theta
    value = objective(start, np.arange(wanted.size)).value
    return measure(start.T.astype(complex)).real, value


def _slopes(measure: Measure, theta: Floats) -> Floats:
    """(rows, unknowns) derivatives of a quantity."""
    at, slopes = theta.T.astype(complex), np.empty(theta.shape)
    for k in range(theta.shape[1]):
        moved = at.copy()
        moved[k] += 1j * STEP
        slopes[:, k] = measure(moved).imag / STEP
    return slopes


def _measure(asked: Problem, quantity: str, flops: float) -> tuple[Measure, Callable[[float], float]]:
    """A quantity of the unknowns on a scale without ends, and the way back from it."""
    power = asked.cost.power
    match quantity:
        case "E":
            return (lambda at: at[0]), math.exp
        case "alpha":
            return (lambda at: np.log(at[3])), math.exp
        case "beta":
            return (lambda at: np.log(at[4])), math.exp
        case "a":
            return (lambda at: np.log(at[4]) - np.log(at[3])), lambda ratio: 1 / (math.exp(-ratio) + power) if ratio > -math.inf else 0.0
        case "params_opt":
            return (lambda at: _optimum(asked, at, flops)[0]), _exp
        case _:
            return (lambda at: _optimum(asked, at, flops)[1]), _exp


def _exp(log: float) -> float:
    return math.exp(log) if log < math.inf else math.inf


def _optimum(asked: Problem, at: Numbers, flops: float) -> tuple[Numbers, Numbers]:
    """Logs of N_opt and of the loss there: Hoffmann et al. 2022, Eq. 4, about the centre."""
    e, a, b, alpha, beta = at
    points, power = asked.points, asked.cost.power
    spare = math.log(flops / asked.cost.scale) - power * points.log_params - points.log_tokens  # log of N**p D about the centre
    x = (np.log(alpha) + a - np.log(power * beta) - b + beta * spare) / (alpha + power * beta)
    loss = np.exp(e) + np.exp(a - alpha * x) + np.exp(b - beta * (spare - power * x))
    return x + points.log_params, np.log(loss)


def _kappa(asked: Problem, theta: Floats) -> float:
    """Mean square of the objective's slopes over their mean rise, with the constants' share of the freedom put back."""
    y, fitted, one = asked.points.log_loss[None], asked.predict(theta), np.ones((1, 1))
    _, slope, bend = asked.estimator.at(fitted, y, one)
    freedom = y.size - theta.size
    square = float((slope**2).sum()) / freedom
    if asked.estimator.name in {"mse", "lse"}:
        return square / float(bend.mean())
    off = np.abs(y - fitted)[0]
    near = max(asked.estimator.delta, WITHIN * _deviation(off, theta.size))
    inside = max(float((off < near).sum()) - theta.size, 1.0) / freedom  # the constants bring as many residuals to almost nothing
    return square / (inside / near)


def _deviation(off: Floats, unknowns: int) -> float:
    return 1.4826 * float(np.median(np.sort(off)[unknowns:]))  # 1.4826: of a normal's median to its deviation


def _softened(asked: Problem, theta: Floats) -> Floats:
    """(unknowns, unknowns) what the objective's curvature is on the scale of the residuals, made positive."""
    return (
        asked.information(theta)
        / max(_deviation(np.abs(asked.points.log_loss - asked.predict(theta)[0]), theta.size), asked.estimator.delta)
        / math.sqrt(math.pi / 2)
    )
