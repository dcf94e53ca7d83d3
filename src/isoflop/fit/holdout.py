"""Rolling hold-out: fit on the lower budgets, predict the higher ones, and see how far off that was."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError, UsageError
from isoflop.fit import _checks
from isoflop.fit.result import Fit, Profile
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Candidate = Callable[[Runs], Fit]

CUTS = 6  # at most; more are alike
APART = 1.25  # budgets closer than this are one: a run cannot be held out from its own budget
FEWEST_BUDGETS = 3  # below a cut: two leave no scatter about a line
FEWEST_RUNS = 8  # below a cut
MOST_RUNS = 2000  # fitted below a cut: what more would tell is far below what the form of a law is wrong by (assumption)
FARTHEST = 50.0  # times beyond the data: as far as plans are made at all
FEWEST_OPTIMA = 2  # budgets with a minimum inside, above some cut, for optima and not single runs to be predicted


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One budget predicted by one candidate from the budgets below a cut."""

    by: str  # the candidate: "isoflop", "parametric chinchilla"
    fitted_flops: float  # largest run fitted
    flops: float  # budget predicted
    loss: float  # predicted at the optimum of that budget, or of that run
    observed: float  # what the runs there have
    params: float = math.nan  # predicted optimum
    observed_params: float = math.nan  # NaN where the budget has no minimum inside
    spread: float = 0.0  # standard deviation of log loss that noise and the few runs fitted explain
    params_spread: float = math.nan  # the same of log params
    fitted: float = 1.0  # share of all compute, in logs, that was fitted

    @property
    def reach(self) -> float:
        """How many times beyond the data."""
        return self.flops / self.fitted_flops

    @property
    def error(self) -> float:
        """Predicted over observed loss, less one."""
        return self.loss / self.observed - 1

    @property
    def params_factor(self) -> float:
        """Predicted over observed best size."""
        return self.params / self.observed_params


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """All trials of a sweep."""

    trials: tuple[Trial, ...]
    left_out: tuple[tuple[str, str], ...] = ()  # candidate, why it could not be tried at some cut

    @property
    def candidates(self) -> tuple[str, ...]:
        """In order of first appearance."""
        return tuple(dict.fromkeys(t.by for t in self.trials))

    def of(self, by: str) -> tuple[Trial, ...]:
        """The trials of one candidate."""
        return tuple(t for t in self.trials if t.by == by)

    def without(self, by: str, reason: str) -> "Holdout":
        """The trials of the others, for a candidate that cannot be used after all."""
        return replace(self, trials=tuple(t for t in self.trials if t.by != by), left_out=(*self.left_out, (by, reason)))


def hold_out(
    runs: Runs,
    candidates: Mapping[str, Candidate],
    *,
    profiles: tuple[Profile, ...] = (),
    noise: float = 0.0,
    on_progress: Callable[[float], None] | None = None,
) -> Holdout:
    """Fit every candidate on the runs below each of up to six cuts, and predict what lies above.

    What is predicted is the loss and the size of the optimum, at budgets whose profile has a minimum inside; in a sweep without profiles it is the loss of
    each single run, which laws of the frontier alone cannot say.

    Of more than 2000 runs below a cut as many are fitted, evenly from all budgets and sizes.

    Args:
        runs: All of the sweep.
        candidates: Name and how it is fitted; a FitError leaves it out at that cut.
        profiles: Of all budgets, each by its own runs.
        noise: Standard deviation of the log loss of a run.
        on_progress: Told the share that is done.
    """
    targets = tuple(p for p in profiles if p.interior)
    found: list[Trial] = []
    left_out: dict[str, str] = {}
    cuts = _cuts(runs, targets)
    for i, cut in enumerate(cuts):
        below = _evenly(runs.take(np.flatnonzero(runs.budget <= cut)))
        for name, fit in candidates.items():
            try:
                found.extend(_trials(name, fit(below), runs, targets, cut=cut, noise=noise))
            except (FitError, UsageError) as error:
                left_out.setdefault(name, str(error))
        if on_progress:
            on_progress((i + 1) / len(cuts))
    return Holdout(trials=tuple(found), left_out=tuple(left_out.items()))


def _evenly(below: Runs) -> Runs:
    """All runs, or as many as are fitted, from all budgets and sizes."""
    if len(below) <= MOST_RUNS:
        return below
    every = np.linspace(0, len(below) - 1, MOST_RUNS).round().astype(np.intp)
    return below.take(np.sort(_checks.canonical(below)[every]))


def _cuts(runs: Runs, targets: tuple[Profile, ...]) -> tuple[float, ...]:
    """Budgets to cut after: enough below, something above, evenly apart in log compute."""
    levels = np.unique(runs.budget)
    levels = levels[np.append(levels[1:] > APART * levels[:-1], False)]  # the last one has nothing above
    if _optima_count(targets) >= FEWEST_OPTIMA:
        levels = levels[levels < max(p.flops for p in targets) / APART]
    enough = [c for c in levels if (runs.budget <= c).sum() >= FEWEST_RUNS and _distinct(runs.budget[runs.budget <= c]) >= FEWEST_BUDGETS]
    if len(enough) <= CUTS:
        return tuple(float(c) for c in enough)
    wanted = np.linspace(math.log(enough[0]), math.log(enough[-1]), CUTS)
    nearest = {int(np.argmin(np.abs(np.log(enough) - w))) for w in wanted}
    return tuple(float(enough[i]) for i in sorted(nearest))


def _optima_count(targets: tuple[Profile, ...]) -> int:
    return _distinct(np.array([p.flops for p in targets])) if targets else 0


def _distinct(budget: Floats) -> int:
    levels = np.unique(budget)
    return 1 + int((levels[1:] > APART * levels[:-1]).sum())


def _trials(name: str, fit: Fit, runs: Runs, targets: tuple[Profile, ...], *, cut: float, noise: float) -> Iterator[Trial]:
    low, high = math.log(float(runs.flops.min())), math.log(float(runs.flops.max()))
    share = (math.log(fit.reach_flops) - low) / (high - low)
    if _optima_count(targets) >= FEWEST_OPTIMA:
        for p in targets:
            if APART * cut < p.flops <= FARTHEST * cut:
                yield _optimum(name, fit, p, noise=noise, share=share)
        return
    # the frontier's laws refuse a single run: that is a FitError, and leaves them out
    above = np.flatnonzero((runs.budget > APART * cut) & (runs.budget <= FARTHEST * cut))
    for i in above:
        N, D = float(runs.params[i]), float(runs.tokens[i])
        spread = math.hypot(noise, _spread(np.array([float(law.loss(N, D)) for law in fit.resamples])))
        loss = float(fit.law.loss(N, D))
        yield Trial(by=name, fitted_flops=fit.reach_flops, flops=float(runs.flops[i]), loss=loss, observed=float(runs.loss[i]), spread=spread, fitted=share)


def _optimum(name: str, fit: Fit, target: Profile, *, noise: float, share: float) -> Trial:
    best = fit.law.optimum(target.flops)
    draws = [law.optimum(target.flops) for law in fit.resamples]
    # a parabola's value at its minimum has 9/4 of the variance of the mean of its points (Savitzky and Golay 1964, for five evenly spaced)
    seen = noise * 1.5 / math.sqrt(max(1, int(target.used.sum())))
    return Trial(
        by=name,
        fitted_flops=fit.reach_flops,
        flops=target.flops,
        loss=float(best.loss),
        observed=target.loss_opt,
        params=float(best.params),
        observed_params=target.params_opt,
        spread=math.hypot(seen, _spread(np.array([float(d.loss) for d in draws]))),
        params_spread=_spread(np.array([float(d.params) for d in draws])),
        fitted=share,
    )


def _spread(values: Floats) -> float:
    """Standard deviation of logs, from the quartiles; 0 where there are no resamples."""
    values = values[np.isfinite(values) & (values > 0)]
    if values.size < 4:
        return 0.0
    low, high = np.quantile(np.log(values), [0.25, 0.75])
    return float(high - low) / 1.349  # of a normal
