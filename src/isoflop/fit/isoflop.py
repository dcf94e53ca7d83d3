"""Approach 2: IsoFLOP profiles (Hoffmann et al. 2022, Sec. 3.2).

At each budget a curve of the loss over log params gives the best size; power laws go through the best sizes and lengths of all budgets.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry, units
from isoflop.errors import FitError
from isoflop.fit import _additive, _akima, _bootstrap, _checks, _evidence, _profile, _redraw
from isoflop.fit._evidence import Evidence
from isoflop.fit._overflow import unwarned
from isoflop.fit._redraw import FEWEST_BUDGETS, Minima
from isoflop.fit._valley import Floor, Method, Valley, drawn, log_tokens, profiled, valleys
from isoflop.fit.result import Fit, Frontier, Profile, Status, thinned
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

WANTED_BUDGETS = 4  # assumption: below that one bad minimum decides the exponent
LEAST_FREE = 1e-6  # of a point: less, and its residual is rounding
NAMED = 8  # budgets named one by one


class _Choice(NamedTuple):
    """A method of the menu."""

    through_all: Callable[[tuple[Valley, ...], float], Method]
    window: float  # either side of the minimum, in log params
    words: str


METHODS: Mapping[str, _Choice] = {
    "parabola": _Choice(_profile.through_all, _profile.WINDOW, "parabolas in log params"),
    "akima": _Choice(_akima.through_all, math.inf, "Akima curves of log loss in log params"),
    "additive": _Choice(_additive.through_all, _additive.WINDOW, "additive curves c + A/N^alpha + B/D^beta"),
}
INTERVALS: Mapping[str, str] = {
    "noise": "minima moved as their curves are by noise of the size seen about them, and by their scatter about the power law",
    "runs": "runs drawn with replacement within budgets",
}


@unwarned
def fit(
    runs: Runs,
    *,
    method: str = "parabola",
    window: float | None = None,
    intervals: str = "noise",
    resamples: int = _bootstrap.RESAMPLES,
    seed: int = 0,
) -> Fit:
    """Fit N_opt ~ C**a and D_opt ~ C**b through the minima of IsoFLOP profiles, by least squares in logs.

    Losses of seeds at one size are averaged and count as often as there are seeds. `method` is the curve through the sizes of a budget:

    - "parabola": of loss in log params, through the sizes within fourfold of its own minimum, or the five nearest; the paper's.
    - "akima": log loss interpolated in log params through every size (Porian et al. 2024). No form is assumed and no noise is averaged out.
    - "additive": c + A / N**alpha + B / D**beta within tenfold, alpha and beta shared by all budgets, losses far off weighted down. Without the parabola's
      bias where alpha differs from beta or the grid is off-centre (Czech et al. 2026).

    A minimum counts if it lies between the points used; other budgets are reported in `profiles` and not used. Where seeds repeat, so that noise is known,
    the power laws weight each minimum by one over its variance (not with "akima", whose minima move by leaps).

    Intervals by "noise": seven sizes a budget cannot be resampled by run, since most resamples would lose a neighbour of the minimum. Noise is put back
    instead: each minimum moves as its curve does under noise of the size seen about all curves (about parabolas, for "akima", and less what parabolas miss
    of every valley alike), itself uncertain. Scatter of the minima about the power law counts as more evidence of it where noise explains it, and is added
    where it does not. No resamples (so intervals of NaN) where nothing shows the noise. By "runs": runs drawn with replacement within budgets, for five
    sizes a budget or more.

    Args:
        runs: With the same `budget` for the runs of one profile.
        method: "parabola", "akima" or "additive".
        window: Either side of the minimum, in log params; infinite for every size. By default the method's own.
        intervals: "noise" or "runs".
        resamples: Of the minima; 0 for no intervals.
        seed: Of the draw.

    Raises:
        UnknownNameError: No such method or kind of intervals.
        FitError: Fewer than two budgets with a minimum inside their sizes; the message says what each budget lacks.

    Source: Hoffmann et al. 2022, Sec. 3.2.
    """
    _registry.check(method, METHODS, noun="method of Approach 2")
    _registry.check(intervals, INTERVALS, noun="kind of intervals")
    choice = METHODS[method]
    window = choice.window if window is None else window
    minima = _minima(runs, choice, window, resamples=resamples, seed=seed)
    drawn = _redraw.by_noise(minima) if intervals == "noise" else _redraw.by_run(minima, runs)
    return _told(runs, minima, drawn, estimator=_estimator(minima, choice, window), intervals_by=INTERVALS[intervals])


def _minima(runs: Runs, choice: _Choice, window: float, *, resamples: int, seed: int) -> Minima:
    """The minima of the budgets that have one, and what is known of their noise."""
    if profiled(runs) < FEWEST_BUDGETS:
        every, budgets = valleys(runs, limit=NAMED), int(np.unique(runs.budget).size)
        raise FitError(_refusal(_profile.through_all(every, window), budgets))
    noise = _checks.noise(runs.take(_checks.canonical(runs)))  # a sum depends on its order
    fitted = choice.through_all(valleys(runs, noise=noise), window)
    which = tuple(i for i, note in enumerate(fitted.notes) if not note)
    if len(which) < FEWEST_BUDGETS:
        raise FitError(_refusal(fitted, len(fitted.valleys)))
    frontier = _optima(fitted, which, fitted.floor(which, [fitted.valleys[i].loss[fitted.used[i]][None] for i in which]))
    weights = _redraw.weights(fitted, which, frontier, noise)
    return Minima(fitted, _evidence.gather(fitted), which, frontier, weights, noise, _checks.noise_freedom(runs), resamples, seed)


def _told(runs: Runs, minima: Minima, drawn: tuple[PowerLaw, ...], *, estimator: str, intervals_by: str) -> Fit:
    frontier = minima.frontier
    law = _redraw.law(frontier, minima.weights)
    profiles = _profiles(minima)
    lost = minima.resamples - len(drawn) if drawn else 0  # none is drawn where nothing shows the noise
    return Fit(
        approach="isoflop",
        law=law,
        estimator=estimator,
        objective=float(minima.weights @ np.log(frontier.params / law.optimum(frontier.flops).params) ** 2),
        frontier=frontier,
        profiles=profiles,
        residuals=_residuals(runs, minima.evidence),
        noise=minima.noise,
        noise_freedom=minima.noise_freedom,
        resamples=drawn,
        lost=lost,
        status=_status(law, profiles),
        warnings=(*thinned(len(drawn), lost), *_warnings(runs, profiles, frontier, law)),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(runs),
        unit=runs.unit,
        dropped=runs.dropped,
        intervals_by=intervals_by,
    )


def _estimator(minima: Minima, choice: _Choice, window: float) -> str:
    fitted, weights = minima.fitted, minima.weights
    span = "through every size" if math.isinf(window) else f"within {math.exp(window):.3g}x of the minimum"
    shared = f" (alpha {fitted.exponents[0]:.3g}, beta {fitted.exponents[1]:.3g} shared by all budgets)" if isinstance(fitted, _additive.Additive) else ""
    by = "unweighted least squares" if np.ptp(weights) == 0 else "least squares weighted by the noise between seeds"
    return f"{choice.words} {span}{shared}; {by} in logs through {weights.size} minima"


def _profiles(minima: Minima) -> tuple[Profile, ...]:
    best = zip(np.log(minima.frontier.params).tolist(), minima.frontier.loss.tolist(), strict=True)
    found = dict(zip(minima.which, best, strict=True))
    return tuple(_profile_of(minima.fitted, i, found.get(i)) for i in range(len(minima.fitted.valleys)))


def _profile_of(fitted: Method, i: int, minimum: tuple[float, float] | None) -> Profile:
    """What is reported of a budget; where it has no minimum inside, its best size."""
    v = fitted.valleys[i]
    least = int(np.argmin(v.loss))
    x, loss = minimum or (float(v.x[least]), float(v.loss[least]))
    curve_params, curve_loss = drawn(fitted, i)
    parabola = fitted.parabolas[i] if isinstance(fitted, _profile.Parabolas) else None
    return Profile(
        flops=v.flops,
        params=v.params,
        tokens=np.exp(v.t),
        loss=v.loss,
        used=fitted.used[i],
        coefficients=np.full(3, np.nan) if parabola is None else parabola.uncentred,
        curve_params=curve_params,
        curve_loss=curve_loss,
        params_opt=math.exp(x),
        tokens_opt=math.exp(float(log_tokens(v, np.array(x)))),
        loss_opt=loss,
        interior=minimum is not None,
        note=fitted.notes[i],
    )


def _residuals(runs: Runs, evidence: Evidence) -> Floats:
    """(runs,) log of observed over fitted loss, over sqrt(1 - leverage) so that each is as large as a new run's; NaN outside every window."""
    left = np.full(len(runs), np.nan)
    for residuals in evidence.residuals:
        v, used = evidence.of.valleys[residuals.valley], evidence.of.used[residuals.valley]
        free, log_fitted = np.full(used.size, np.nan), np.full(used.size, np.nan)
        free[used] = 1 - residuals.leverage
        log_fitted[used] = np.log(np.where(residuals.fitted > 0, residuals.fitted, np.nan))
        grow = np.where(free > LEAST_FREE, 1 / np.sqrt(np.maximum(free, LEAST_FREE)), np.nan)
        left[v.runs] = (np.log(runs.loss[v.runs]) - log_fitted[v.point]) * grow[v.point]
    return left


def _optima(fitted: Method, which: tuple[int, ...], best: Floor) -> Frontier:
    there = [fitted.valleys[i] for i in which]
    return Frontier(
        flops=np.array([v.flops for v in there]),
        params=np.exp(best.x[0]),
        tokens=np.exp([float(log_tokens(v, x)) for v, x in zip(there, best.x[0], strict=True)]),
        loss=best.loss[0],
    )


def _refusal(fitted: Method, budgets: int) -> str:
    inside = sum(not note for note in fitted.notes)
    shown = "; ".join(f"{units.flops(v.flops)} FLOPs: {note or 'has a minimum'}" for v, note in list(zip(fitted.valleys, fitted.notes, strict=True))[:NAMED])
    more = "; ..." if budgets > NAMED else ""
    return (
        f"{inside} of {budgets} budgets have a minimum between their sizes, and a power law needs {FEWEST_BUDGETS} "
        f"({WANTED_BUDGETS} to be of use). {shown}{more}. Add sizes on the side where loss still falls, or give runs of one profile the same budget."
    )


def _status(law: PowerLaw, profiles: tuple[Profile, ...]) -> Status:
    inside = sum(p.interior for p in profiles)
    if not (law.a > 0 and law.b > 0):
        return Status(
            ok=False, message=f"a = {law.a:.2f} and b = {law.b:.2f}: a minimum that moves the wrong way. Look at the profiles; noise or a bad run moved one."
        )
    if inside < WANTED_BUDGETS:
        return Status(ok=False, message=f"only {inside} budgets have a minimum inside, so one of them decides the exponents. Add budgets or sizes.")
    return Status(ok=True, message=f"{inside} of {len(profiles)} budgets have a minimum between their sizes.")


def _unused(profiles: tuple[Profile, ...]) -> tuple[str, ...]:
    without = [p for p in profiles if not p.interior]
    more = (f"{len(without) - NAMED} more budgets are not used, for like reasons.",) if len(without) > NAMED else ()
    return (*(f"{units.flops(p.flops)} FLOPs is not used: {p.note}. Add sizes there." for p in without[:NAMED]), *more)


def _warnings(runs: Runs, profiles: tuple[Profile, ...], frontier: Frontier, law: PowerLaw) -> tuple[str, ...]:
    noise = _checks.noise(runs)
    largest = float(runs.budget.max())
    return (
        *_unused(profiles),
        *_checks.irreducible(law.E, runs.loss),
        *_checks.edge_of_sizes(runs, float(law.optimum(largest).params), largest),
        *_checks.compute_range(frontier.flops),
        *_checks.loss_form(law.E, frontier.flops.size),
        *_checks.bumps(runs, noise),
        *_checks.dropped(runs),
    )
