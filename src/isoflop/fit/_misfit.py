"""Whether a law's residuals along the sizes of the budgets lean or bend: then its valleys are not those of the runs, and its best sizes are not theirs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _student
from isoflop.fit._problem import cost_of
from isoflop.fit.result import Fit
from isoflop.runs import Runs

Floats = NDArray[np.float64]

WINDOW = math.log(10)  # either side of the law's best size; assumption: beyond a tenth and ten times it, what the loss does moves no minimum
FEWEST_SIZES = 4  # of a budget: a line and a bend through fewer leave nothing over to see noise by
SURE = 0.95  # confidence that one of three coefficients is not nothing
GRID = 401  # sizes at which a minimum is looked for: 1.2 % apart


class Misfit(NamedTuple):
    """What the residuals of a law do along the sizes of the budgets."""

    size: float  # root mean square of what is systematic, in log loss
    a: float  # exponent of the best sizes with it put back


class _Points(NamedTuple):
    """Runs of the budgets that have sizes enough, in columns of shape (points,)."""

    budget: NDArray[np.intp]
    u: Floats  # log params over the law's best
    x: Floats  # log FLOPs about their mean
    y: Floats  # residual


def along_valleys(runs: Runs, found: Fit) -> Misfit | None:
    """What is systematic in a fit's residuals, if anything is; None too where too few budgets have sizes enough.

    Within each budget the residuals are taken as a line and a parabola in log params over the law's best size, the line's slope changing with compute.
    Levels of budgets are left out: they say that the loss along the frontier is off, which moves no minimum.
    """
    try:
        best = np.log(np.asarray(found.law.optimum(runs.budget).params, dtype=float))
    except FitError:
        return None
    points = _points(runs, found.residuals, best)
    budgets = np.unique(points.budget).size
    freedom = points.y.size - budgets - 3
    if budgets < 3 or freedom < 1:
        return None
    columns = _within(np.column_stack([points.u, points.u**2, points.x * points.u]), points.budget)
    y = _within(points.y[:, None], points.budget)[:, 0]
    solved, _, rank, _ = np.linalg.lstsq(columns, y, rcond=None)
    coefficients = np.asarray(solved, dtype=np.float64)
    if rank < columns.shape[1]:
        return None
    variance = float(((y - columns @ coefficients) ** 2).sum()) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns)))
    if not (np.abs(coefficients) > errors * _student.quantile(1 - (1 - SURE) / 3, freedom)).any():  # of three looks one in twenty may err
        return None
    return Misfit(float(np.sqrt(np.mean((columns @ coefficients) ** 2))), _exponent(found, runs, points, coefficients))


def _points(runs: Runs, residuals: Floats, best: Floats) -> _Points:
    u = np.log(runs.params) - best
    near = np.isfinite(residuals) & np.isfinite(u) & (np.abs(u) <= WINDOW)
    _, which = np.unique(runs.budget, return_inverse=True)
    sizes = np.zeros(which.max() + 1, dtype=int)
    np.add.at(sizes, np.unique(np.column_stack([which, u])[near], axis=0)[:, 0].astype(int), 1)
    near &= (sizes >= FEWEST_SIZES)[which]
    order = np.lexsort((residuals[near], u[near], which[near]))  # a sum depends on its order
    x = np.log(runs.budget[near])[order]
    return _Points(which[near][order], u[near][order], x - x.mean() if x.size else x, residuals[near][order])


def _within(columns: Floats, budget: NDArray[np.intp]) -> Floats:
    """Columns less the mean of each budget."""
    _, which, counts = np.unique(budget, return_inverse=True, return_counts=True)
    sums = np.zeros((counts.size, columns.shape[1]))
    np.add.at(sums, which, columns)
    return np.asarray(columns - (sums / counts[:, None])[which])


def _exponent(found: Fit, runs: Runs, points: _Points, coefficients: Floats) -> float:
    """The exponent of the law's best sizes, were its valleys as its residuals say; NaN where too few of them then have a minimum."""
    at: list[tuple[float, float]] = []
    cost = cost_of(runs)
    for one in np.unique(points.budget):
        of = points.budget == one
        flops, x = float(np.unique(runs.budget)[one]), float(points.x[of][0])
        u = np.linspace(float(points.u[of].min()), float(points.u[of].max()), GRID)
        best = found.law.optimum(flops)
        params = float(best.params) * np.exp(u)
        loss = np.log(found.law.loss(params, cost.tokens(params, flops))) + coefficients[0] * u + coefficients[1] * u**2 + coefficients[2] * x * u
        least = int(np.argmin(loss))
        if 0 < least < GRID - 1:
            at.append((math.log(flops), math.log(params[least])))
    if len(at) < 3:
        return math.nan
    log_flops, log_params = np.array(at).T
    return float(np.polyfit(log_flops - log_flops.mean(), log_params, 1)[0])
