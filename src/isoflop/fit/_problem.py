"""Problem: the runs, a form of law and an estimator, and the optimum of any reweighting of them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry
from isoflop.errors import FitError
from isoflop.fit import _checks, _forms, _solver, _starts
from isoflop.fit._estimators import COLD, DELTA, ESTIMATORS, SQUARES, Estimator
from isoflop.fit._forms import LAWS, Form
from isoflop.fit._huber import Points
from isoflop.fit._solver import Bounds, Derivatives, Objective
from isoflop.laws import Cost, Law
from isoflop.runs import Runs

Floats = NDArray[np.float64]

AT_ONCE = 120_000  # rows x runs that one evaluation holds; assumption: a dozen such arrays stay within the cache of a core
MOST_ROWS = 500
BLOCK = 20_000_000  # weights held at a time: 160 MB however many runs are left out in turn
FRONTIER_ONLY = "powerlaw"
USUAL_POWER = (0.2, 3.0)  # of the cost of a token in params; beyond it FLOPs say nothing of size, and 1 is taken (assumption)
RACE = 30  # steps after which only the lowest descent goes on (assumption: from a valley 6 to 30 reach its floor)
THINNED = 5_000  # runs beyond which the descents from several starts see every second, third, ... of them; the last one sees all
LOADED = 0.2  # share of an unknown in a direction from which it is named (assumption)
AGAIN = 4  # optima of resamples that the runs themselves are fitted from once more
BETTER = 1e-9  # share by which an objective must be lower: less is rounding
ROUGHLY = 1e-4  # of the value: how well softer estimators are minimised on the way


class Optimum(NamedTuple):
    """Where the best descent ended."""

    theta: Floats  # (unknowns,)
    objective: float  # the sum that the estimator's words say
    converged: bool
    starts: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be made least; its runs in an order that depends on what they are."""

    form: Form
    estimator: Estimator
    points: Points
    cost: Cost
    order: NDArray[np.intp]  # (runs,) which run each point is

    @property
    def bounds(self) -> Bounds:
        return self.form.bounds(self.points)

    def law(self, theta: Floats) -> Law:
        """The law of one row of unknowns."""
        return self.form.law(self.points, theta, self.cost)

    def predict(self, theta: Floats) -> Floats:
        """(rows, runs) log of the fitted losses of rows of unknowns."""
        return self.form.fitted(self.points, np.atleast_2d(theta))

    def objective(self, estimator: Estimator, weights: Floats, log_loss: Floats) -> Objective:
        """The sum over runs and its derivatives, taken a part of the runs at a time.

        Args:
            estimator: This problem's own, or a softer one on the way to it.
            weights: (rows, runs), or (1, runs) the same for every row.
            log_loss: As the weights.
        """

        def at(theta: Floats, rows: NDArray[np.intp]) -> Derivatives:
            w, y = (each if len(each) == 1 else each[rows] for each in (weights, log_loss))
            width = max(1, AT_ONCE // max(1, len(theta)))
            parts = [slice(first, first + width) for first in range(0, self.points.x.size, width)]
            if len(parts) == 1:
                return self.form.derivatives(self.points, theta, estimator, w, y)
            sums = [self.form.derivatives(self.points.part(part), theta, estimator, w[:, part], y[:, part]) for part in parts]
            return Derivatives(*(np.sum([each[k] for each in sums], axis=0) for k in range(3)))

        return at

    def information(self, theta: Floats) -> Floats:
        """(unknowns, unknowns) sum over runs of (d log L)(d log L)'."""
        y = self.predict(theta)  # as if every loss were met exactly, where least squares has no other curvature
        there = self.objective(Estimator(name="mse"), np.ones((1, y.shape[1])), y)(theta[None], np.array([0]))
        return np.asarray(there.hessian[0] * SQUARES)

    def untold(self, theta: Floats, share: float) -> tuple[str, ...]:
        """Names of the unknowns that move along a direction in which no fitted loss does."""
        information = self.information(theta)
        size = np.sqrt(np.maximum(np.diag(information), 1e-300))
        told, directions = np.linalg.eigh(information / np.outer(size, size))
        if told[0] > share * told[-1]:
            return ()
        return tuple(name for name, part in zip(self.form.names, np.abs(directions[:, 0]), strict=True) if part > LOADED)


def problem(runs: Runs, *, law: str = "chinchilla", estimator: str = "huber", delta: float = DELTA) -> Problem:
    """What Approach 3 makes least, for those who refit it to other weights or losses.

    Raises:
        UnknownNameError: No such law or estimator.
        FitError: Too few runs, or all of one size or length, or a law that does not say the loss of any model.
    """
    if law == FRONTIER_ONLY:
        raise FitError("a powerlaw describes optima and no other model, so it cannot be fitted to single runs. Take Approach 1 or 2, or another law.")
    _registry.check(law, LAWS, noun="law for Approach 3")
    _registry.check(estimator, ESTIMATORS, noun="estimator")
    if law == "data_constrained" and runs.unique_tokens is None:
        raise FitError("a data_constrained law needs to know how many tokens of each run were unique. Give the column unique_tokens, or take another law.")
    if not (np.isfinite(delta) and delta > 0):
        raise FitError(f"delta is {delta!r}, but Huber's loss needs a finite positive one. The paper takes 1e-3.")
    form = _forms.form(law)
    _refuse(runs, form)
    order, cost = _checks.canonical(runs), cost_of(runs)
    points = Points.of(runs, order)
    summed = Estimator.of(estimator, delta=delta, log_loss=points.log_loss)
    return Problem(form=form.priced(cost), estimator=summed, points=points, cost=cost, order=order)


def cost_of(runs: Runs) -> Cost:
    """FLOPs of params and tokens, C = c N**p D, as the runs themselves paid; exactly 6ND where they did."""
    order = _checks.canonical(runs)
    x, y = np.log(runs.params[order]), np.log(runs.flops[order] / runs.tokens[order])
    if np.abs(y - x - np.log(6.0)).max() < 1e-6:  # files often hold seven digits
        return Cost()
    centred = x - x.mean()
    spread = float(centred @ centred)
    power = float(centred @ y) / spread if spread > 0 else 1.0
    power = power if USUAL_POWER[0] < power < USUAL_POWER[1] else 1.0
    return Cost(scale=float(np.exp(y.mean() - power * x.mean())), power=power)


def _refuse(runs: Runs, form: Form) -> None:
    unknowns = len(form.names)
    if len(runs) <= unknowns:
        count = {4: "four", 5: "five", 7: "seven", 9: "nine"}[unknowns]
        raise FitError(
            f"{len(runs)} runs cannot determine the {count} constants of Approach 3; it needs {unknowns + 1} at the very least, and 20 to be of use. Add runs."
        )
    for name, column in (("size", runs.params), ("length", runs.tokens)):
        if np.unique(column).size < 2:
            raise FitError(f"all {len(runs)} runs are of one {name} ({column[0]:g}), so what {name} does to loss cannot be known. Add runs of another {name}.")


def solve(problem: Problem) -> Optimum:
    """The best of several descents, each through ever harder estimators."""
    bounds, points = problem.bounds, problem.points
    thin = points.part(slice(None, None, max(1, points.x.size // THINNED)))
    theta = problem.form.widen(_starts.spread(points))
    few = Problem(form=problem.form, estimator=problem.estimator, points=thin, cost=problem.cost, order=problem.order)
    solution = _descend(few, theta, np.ones((1, thin.x.size)), thin.log_loss[None], bounds, warm=False)
    best = int(np.argmin(solution.value))
    if thin.x.size < points.x.size:
        solution = _descend(problem, solution.theta[[best]], np.ones((1, points.x.size)), points.log_loss[None], bounds, warm=True)
        best = 0
    return Optimum(solution.theta[best], float(solution.value[best]) * problem.estimator.unit, bool(solution.converged[best]), len(theta))


def improved(problem: Problem, best: Optimum, thetas: Floats) -> Optimum:
    """The better of an optimum and descents from the best of other optima, those of resamples: of a rugged objective they know other valleys."""
    if not len(thetas):
        return best
    one = np.ones((1, problem.points.x.size))
    objective = problem.objective(problem.estimator, one, problem.points.log_loss[None])
    lowest = np.argsort(objective(thetas, np.arange(len(thetas))).value, kind="stable")[:AGAIN]
    solution = _descend(problem, thetas[lowest], one, problem.points.log_loss[None], problem.bounds, warm=True)
    least = int(np.argmin(solution.value))
    value = float(solution.value[least]) * problem.estimator.unit
    if not value < best.objective * (1 - BETTER):
        return best
    return Optimum(solution.theta[least], value, bool(solution.converged[least]), best.starts + AGAIN)


def refit(problem: Problem, theta: Floats, *, weights: Floats | None = None, log_loss: Floats | None = None) -> Floats:
    """The optimum of each row, from where it is expected.

    Args:
        problem: Runs, form and estimator.
        theta: (unknowns,) or (rows, unknowns) the optimum of all runs, or a start for each row.
        weights: (rows, runs) how often each run counts; None for once.
        log_loss: (rows, runs) losses to fit in place of those observed.

    Returns:
        (rows, unknowns)
    """
    given = [each for each in (weights, log_loss) if each is not None]
    count = max([len(each) for each in given] + [len(np.atleast_2d(theta))])
    found = np.array(np.broadcast_to(theta, (count, np.shape(theta)[-1])))
    w = np.ones((1, problem.points.x.size)) if weights is None else weights
    y = problem.points.log_loss[None] if log_loss is None else log_loss
    height = int(np.clip(AT_ONCE // problem.points.x.size, 1, MOST_ROWS))
    for first in range(0, count, height):
        rows = slice(first, first + height)
        here, there = (each if len(each) == 1 else each[rows] for each in (w, y))
        found[rows] = _descend(problem, found[rows], here, there, problem.bounds, warm=True).theta
    return found


def without(problem: Problem, theta: Floats, which: NDArray[np.intp], *, weights: Floats | None = None) -> Floats:
    """The optimum without each of some points in turn, a block at a time, so that memory does not grow with their number.

    Args:
        problem: Runs, form and estimator.
        theta: (unknowns,) the optimum of all.
        which: Points to leave out, one a row.
        weights: (runs,) how often each run counts else; None for once.

    Returns:
        (which, unknowns)
    """
    every = np.ones(problem.points.x.size) if weights is None else weights
    height = max(1, BLOCK // every.size)
    blocks = []
    for first in range(0, which.size, height):
        left_out = which[first : first + height]
        rows = np.repeat(every[None], left_out.size, axis=0)
        rows[np.arange(left_out.size), left_out] = 0.0
        blocks.append(refit(problem, theta, weights=rows))
    return np.vstack(blocks) if blocks else np.empty((0, theta.size))


def _descend(problem: Problem, theta: Floats, weights: Floats, log_loss: Floats, bounds: Bounds, *, warm: bool) -> _solver.Solution:
    starts, stages = theta, problem.estimator.stages(warm=warm)
    for stage, estimator in enumerate(stages):
        if not warm and stage == len(COLD) - 1:
            theta = np.vstack([theta, starts])  # softened, a run that diverged may move the valley; the grid, which bears it, has its say again
        left = _solver.NOTHING_LEFT if estimator == problem.estimator else ROUGHLY
        objective = problem.objective(estimator, weights, log_loss)
        if not warm and stage == len(stages) - 1 and stage:
            race = _solver.minimise(objective, theta, bounds, chart=problem.form.chart, steps=RACE)
            theta = race.theta[[int(np.argmin(race.value))]]
        solution = _solver.minimise(objective, theta, bounds, chart=problem.form.chart, left=left)
        theta = solution.theta
    return solution
