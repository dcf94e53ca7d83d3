"""Approach 3: one law of params and tokens through all runs (Hoffmann et al. 2022, Sec. 3.3)."""

import itertools

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _solver
from isoflop.fit._huber import Points
from isoflop.fit.result import Fit, Frontier, Status
from isoflop.laws import Cost
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Runs

Floats = NDArray[np.float64]

DELTA = 1e-3  # of Huber's loss, on log loss: Hoffmann et al. 2022, Sec. 3.3
SOFTER = (100.0, 30.0, 10.0, 3.0, 1.0)  # multiples of delta to go through; assumption: least squares first finds the valley
WARM = (10.0, 3.0, 1.0)  # the same from the optimum of all runs; 27 cold starts found nothing better on 180 resamples of published and simulated runs
FEWEST = 6  # runs: one more than the five constants
BATCH = 500  # resamples at a time: bounds the memory at 240 runs to some 50 MB
COST_MISFIT = 0.1  # assumption: a tenth of the FLOPs moves N_opt by about a twentieth
NAMES = ("E", "the params term", "the tokens term", "alpha", "beta")


def fit(runs: Runs, *, delta: float = DELTA, resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fit:
    """Fit L = E + A / N**alpha + B / D**beta by the least sum of Huber's loss of log residuals.

    The unknowns are log E, the logs of both terms at the mean log N and log D, alpha and beta. The optimum is the best of 27 starts, each a damped
    Newton descent with analytic gradient and Hessian through falling delta. Resamples start from it.

    Args:
        runs: Six or more, of two or more sizes and lengths.
        delta: Where Huber's loss turns from quadratic to linear.
        resamples: Bootstrap resamples of runs, drawn within budgets.
        seed: Of the draw.

    Raises:
        FitError: Too few runs, or all of one size or length.

    Source: Hoffmann et al. 2022, Sec. 3.3, Eq. 3.
    """
    _refuse(runs, delta)
    order = _checks.canonical(runs)
    points, cost = Points.of(runs, order), cost_of(runs)
    best, objective, converged = _best(points, delta)
    law = points.law(best, cost)
    weights = _bootstrap.counts(runs.budget[order], resamples=resamples, seed=seed)
    residuals = np.log(runs.loss / law.loss(runs.params, runs.tokens))
    return Fit(
        approach="parametric",
        law=law,
        estimator=f"least sum of Huber's loss of log L, delta {delta:g}, unweighted",
        objective=objective,
        frontier=_frontier(law, runs),
        profiles=(),
        residuals=residuals,
        noise=_checks.noise(runs),
        noise_freedom=_checks.noise_freedom(runs),
        resamples=tuple(points.law(theta, cost) for theta in _refit(points, best, weights, delta)),
        status=_status(best, points.bounds, converged=converged),
        warnings=_warnings(runs, law, residuals),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(runs),
    )


def cost_of(runs: Runs) -> Cost:
    """FLOPs of params and tokens, C = c N**p D, as the runs themselves paid; exactly 6ND where they did."""
    order = _checks.canonical(runs)
    x, y = np.log(runs.params[order]), np.log(runs.flops[order] / runs.tokens[order])
    if np.abs(y - x - np.log(6.0)).max() < 1e-6:  # files often hold seven digits
        return Cost()
    centred = x - x.mean()
    spread = float(centred @ centred)
    power = float(centred @ y) / spread if spread > 0 else 1.0
    return Cost(scale=float(np.exp(y.mean() - power * x.mean())), power=power)


def _refuse(runs: Runs, delta: float) -> None:
    if not (np.isfinite(delta) and delta > 0):
        raise FitError(f"delta is {delta!r}, but Huber's loss needs a finite positive one. The paper takes 1e-3.")
    if len(runs) < FEWEST:
        raise FitError(
            f"{len(runs)} runs cannot determine the five constants of Approach 3; it needs {FEWEST} at the very least, and 20 to be of use. Add runs."
        )
    for name, column in (("size", runs.params), ("length", runs.tokens)):
        if np.unique(column).size < 2:
            raise FitError(f"all {len(runs)} runs are of one {name} ({column[0]:g}), so what {name} does to loss cannot be known. Add runs of another {name}.")


def _starts(points: Points) -> Floats:
    """(27, 5): alpha and beta shallow to steep, E from a tenth to nearly all of the least loss, the rest shared evenly at the centre."""
    least, middle = np.exp(points.log_loss.min()), np.exp(np.median(points.log_loss))
    rows = []
    for alpha, beta, share in itertools.product((0.2, 0.5, 1.0), (0.2, 0.5, 1.0), (0.1, 0.5, 0.9)):
        term = np.log((middle - share * least) / 2)
        rows.append([np.log(share * least), term, term, alpha, beta])
    return np.array(rows)


def _best(points: Points, delta: float) -> tuple[Floats, float, bool]:
    """The best of all starts, the sum of Huber's loss there, and whether the descent to it ended."""
    theta, weights = _starts(points), np.ones((1, points.x.size))
    for multiple in SOFTER:
        solution = _solver.minimise(points.objective(weights, delta * multiple), theta, points.bounds)
        theta = solution.theta
    best = int(np.argmin(solution.value))
    return solution.theta[best], float(solution.value[best]) * delta, bool(solution.converged[best])


def _refit(points: Points, best: Floats, weights: Floats, delta: float) -> Floats:
    """(resamples, 5) the optimum of each resample."""
    drawn = np.repeat(best[None, :], len(weights), axis=0)
    for first in range(0, len(weights), BATCH):
        rows = slice(first, first + BATCH)
        for multiple in WARM:
            drawn[rows] = _solver.minimise(points.objective(weights[rows], delta * multiple), drawn[rows], points.bounds).theta
    return drawn


def _frontier(law: Chinchilla, runs: Runs) -> Frontier:
    best = law.optimum(np.unique(runs.budget))
    return Frontier(flops=best.flops, params=best.params, tokens=best.tokens, loss=best.loss)


def _status(theta: Floats, bounds: _solver.Bounds, *, converged: bool) -> Status:
    held = [name for name, value, low, high in zip(NAMES, theta, bounds.lower, bounds.upper, strict=True) if not low < value < high]
    if held:
        return Status(
            ok=False,
            message=f"{' and '.join(held)} ended at a bound, so these runs do not determine the law. Add budgets, or sizes further from the optimum.",
        )
    if not converged:
        return Status(ok=False, message="the descent did not end in 200 steps; the constants are not exact. Look for runs that contradict each other.")
    return Status(ok=True, message="the best of 27 starts, inside all bounds.")


def _warnings(runs: Runs, law: Chinchilla, residuals: Floats) -> tuple[str, ...]:
    largest = float(runs.flops.max())
    misfit = float(np.abs(np.log(runs.flops / law.cost.flops(runs.params, runs.tokens))).max())
    return (
        *_checks.irreducible(law.E, runs.loss),
        *_checks.edge_of_sizes(runs, float(law.optimum(largest).params), largest),
        *_checks.compute_range(runs.flops),
        *((f"FLOPs per token are up to {100 * misfit:.0f} % off a power of params, and so is the price of a size.",) if misfit > COST_MISFIT else ()),
        *_checks.suspects(runs, residuals, _checks.noise(runs)),
        *_checks.dropped(runs),
    )
