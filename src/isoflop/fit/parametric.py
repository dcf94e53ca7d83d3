"""Approach 3: one law of params and tokens through all runs (Hoffmann et al. 2022, Sec. 3.3)."""

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry
from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _draws, _estimators
from isoflop.fit._draws import Intervals
from isoflop.fit._estimators import DELTA, ESTIMATORS
from isoflop.fit._forms import LAWS
from isoflop.fit._influence import Influence, held_against, influence
from isoflop.fit._likelihood import profile
from isoflop.fit._overflow import unwarned
from isoflop.fit._problem import Optimum, Problem, cost_of, improved, problem, refit, solve
from isoflop.fit._starts import spread
from isoflop.fit.result import Fit, Frontier, Status
from isoflop.laws import Cost, Law
from isoflop.runs import Runs

__all__ = ["DELTA", "ESTIMATORS", "LAWS", "SOFTER", "Influence", "Problem", "cost_of", "fit", "influence", "problem", "profile", "refit", "solve"]

Floats = NDArray[np.float64]

SOFTER = _estimators.COLD
_starts = spread
TOLD_APART = ("chinchilla", "overtraining")  # forms that are left without each run in turn: their optimum is in closed form, and a refit quick
TOGETHER = 0.9999  # correlation of log params and log tokens beyond which their terms cannot be told apart (assumption)
UNTOLD = 1e-11  # share of the least told direction of unknowns in the best told, beyond which rounding decides (assumption)
COST_MISFIT = 0.1  # assumption: a tenth of the FLOPs moves N_opt by about a twentieth


@unwarned
def fit(
    runs: Runs,
    *,
    law: str = "chinchilla",
    estimator: str = "huber",
    delta: float = DELTA,
    intervals: Intervals | None = None,
    resamples: int = _bootstrap.RESAMPLES,
    seed: int = 0,
    influence: bool = True,
) -> Fit:
    """Fit a law to all runs at once.

    The unknowns are logs and exponents, with params and tokens about their mean logs. The optimum is the best of several descents by damped Newton steps
    with exact derivatives, through ever harder estimators; they begin at the lowest valleys of a grid over both exponents. Resamples start from it.

    Args:
        runs: One more than the form has unknowns, of two or more sizes and lengths (overtraining: as many as unknowns, and one more).
        law: A form of `isoflop.laws`: chinchilla, data_constrained, farseer, kaplan or overtraining.
        estimator: "huber" or "lad" of log loss, "mse": least squares of log loss, "lse": least squares of loss.
        delta: Where Huber's loss turns from quadratic to linear.
        intervals: "runs": drawn with replacement within budgets; "noise": put back on the fitted losses. Not said: noise below 60 runs, which hold too few
            a budget to draw from.
        resamples: 0 for none.
        seed: Of the draw.
        influence: Leave out each run in turn, to warn of one that moves the answer; most of the time of a fit, where nobody reads the warnings.

    Raises:
        UnknownNameError: No such law, estimator or intervals.
        FitError: Too few runs, or all of one size or length, or a law that does not say the loss of any model.

    Source: Hoffmann et al. 2022, Sec. 3.3, Eq. 3.
    """
    how = intervals or _draws.usual(len(runs))
    _registry.check(how, _draws.WORDS, noun="intervals")
    asked = problem(runs, law=law, estimator=estimator, delta=delta)
    best = solve(asked)
    thetas = _draws.draw(asked, best.theta, runs.budget[asked.order], intervals=how, resamples=resamples, seed=seed)
    again = improved(asked, best, thetas)
    if again.objective < best.objective:
        best = again
        thetas = _draws.draw(asked, best.theta, runs.budget[asked.order], intervals=how, resamples=resamples, seed=seed)
    found = asked.law(best.theta)
    residuals = np.empty(len(runs))
    residuals[asked.order] = asked.points.log_loss - asked.predict(best.theta)[0]
    drawn = tuple(asked.law(theta) for theta in thetas)
    noise = _checks.noise(runs)
    single = held_against(runs, asked, best.theta, drawn).warnings if influence and drawn and law in TOLD_APART else ()
    return Fit(
        approach="parametric",
        law=found,
        estimator=asked.estimator.words,
        objective=best.objective,
        frontier=_frontier(found, runs),
        profiles=(),
        residuals=residuals,
        noise=noise,
        noise_freedom=_checks.noise_freedom(runs),
        resamples=drawn,
        status=_status(asked, best),
        warnings=(*_warnings(runs, found, asked.cost, residuals, noise), *single),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(runs),
        unit=runs.unit,
        dropped=runs.dropped,
        constants=len(asked.form.names),
        intervals_by=_draws.WORDS[how],
    )


def _frontier(law: Law, runs: Runs) -> Frontier:
    budgets = np.unique(runs.budget)
    try:
        best = law.optimum(budgets)
    except FitError:  # a form may have no optimum at some budgets: then it has no frontier to show
        return Frontier(flops=budgets, **{name: np.full(budgets.size, np.nan) for name in ("params", "tokens", "loss")})
    return Frontier(flops=best.flops, params=best.params, tokens=best.tokens, loss=best.loss)


def _status(asked: Problem, best: Optimum) -> Status:
    points, bounds = asked.points, asked.bounds
    held = [name for name, value, low, high in zip(asked.form.names, best.theta, bounds.lower, bounds.upper, strict=True) if not low < value < high]
    together = float(np.corrcoef(points.x, points.y)[0, 1])
    if together < -TOGETHER:
        message = "tokens of these runs fall as params rise, as at one budget, so what more compute does is known from the form of the law alone."
        return Status(ok=False, message=f"{message} Add budgets.")
    if together > TOGETHER:
        message = f"params and tokens of these runs rise together (correlation {together:.5f}), so their terms could be exchanged, alpha for beta."
        return Status(ok=False, message=f"{message} Add runs of one size and several lengths.")
    if held:
        zero = " (E at nothing)" if best.theta[0] <= bounds.lower[0] and asked.form.names[0] == "E" else ""
        message = f"{' and '.join(held)} ended at a bound{zero}, so these runs do not determine the law. Add budgets, or sizes further from the optimum."
        return Status(ok=False, message=message)
    open_ = asked.untold(best.theta, UNTOLD)
    if open_:
        message = f"these runs leave {' and '.join(open_)} open: other values fit them as well."
        return Status(ok=False, message=f"{message} Add sizes and lengths, or take a form with fewer constants.")
    if not best.converged:
        return Status(ok=False, message="the descent did not end in 200 steps; the constants are not exact. Look for runs that contradict each other.")
    return Status(ok=True, message=f"the best of {best.starts} starts, inside all bounds.")


def _warnings(runs: Runs, law: Law, cost: Cost, residuals: Floats, noise: float) -> tuple[str, ...]:
    largest = float(runs.flops.max())
    floor = getattr(law, "E", None)  # forms without an irreducible loss have no such constant
    misfit = float(np.abs(np.log(runs.flops / cost.flops(runs.params, runs.tokens))).max())
    params_opt = float(_frontier(law, runs).params[-1])
    return (
        *(() if floor is None else _checks.irreducible(floor, runs.loss)),
        *(() if np.isnan(params_opt) else _checks.edge_of_sizes(runs, params_opt, largest)),
        *_checks.compute_range(runs.flops),
        *((f"FLOPs per token are up to {100 * misfit:.0f} % off a power of params, and so is the price of a size.",) if misfit > COST_MISFIT else ()),
        *_checks.suspects(runs, residuals, noise),
        *_checks.dropped(runs),
    )
