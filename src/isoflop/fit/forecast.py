"""Forecast: what is to be expected at a budget, by those fits that predicted best when budgets were held out, as sure as that showed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _student
from isoflop.fit._overflow import unwarned
from isoflop.fit.holdout import Holdout, Trial
from isoflop.fit.result import Fit
from isoflop.laws import Law

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Error = Callable[[Trial], tuple[float, float]]  # of a log, and what noise explains of it

COVERED = 0.6  # of all trials; a candidate that could be tried less often is shown, and does not join
EXACT = 1e-6  # errors below it are rounding: a law without noise predicts itself exactly
LEAST_WEIGHT = 0.1  # below which a candidate does not join: every fit drawn is one more to look at (assumption)
# For each e-fold of reach, what errors have over noise in public sweeps (docs/fit.md), and how many cuts that counts as: a sweep's own few cuts may be lucky.
DRIFT, PARAMS_DRIFT = 0.006, 0.1
PRIOR_CUTS = 3  # assumption


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of the best model at a budget."""

    flops: float
    params: float
    params_interval: Interval
    tokens: float
    tokens_interval: Interval
    loss: float  # in the unit of the runs
    loss_interval: Interval  # for one new run
    level: float  # of the intervals
    reach: float  # the budget over the largest run


@dataclass(frozen=True, kw_only=True)
class Member:
    """A fit with its weight in the forecast."""

    name: str  # the candidate: "isoflop", "parametric chinchilla"
    fit: Fit
    weight: float


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Fits combined for one quantity."""

    members: tuple[Member, ...]  # weights sum to 1, largest first
    drift: float  # standard deviation of the quantity's log for each e-fold beyond the data, over what noise explains
    why: str  # what was chosen, and by what

    @unwarned
    def centre(self, quantity: str, flops: Floats) -> Floats:
        """The mean of the members at many budgets; NaN where none of them says anything."""
        weights = np.array([m.weight for m in self.members]).reshape(-1, *[1] * flops.ndim)
        logs = np.stack([_logs(m.fit.law, quantity, flops) for m in self.members])
        known = np.isfinite(logs)
        total = (weights * known).sum(axis=0)
        return np.asarray(np.exp((weights * np.where(known, logs, 0.0)).sum(axis=0) / np.where(total > 0, total, np.nan)))

    @unwarned
    def at(self, quantity: str, flops: float, *, level: float, far: float, freedom: float, noise: float) -> tuple[float, Interval]:
        """The mean of the members, and its interval: each side the members' own, the noise of a new run and the drift, in quadrature.

        Args:
            quantity: Of an allocation: "loss", "params" or "tokens".
            flops: Budget.
            level: Of the interval.
            far: E-folds beyond the data.
            freedom: Degrees of freedom behind the drift.
            noise: Standard deviation of the quantity's log in one run.
        """
        members = [m for m in self.members if math.isfinite(_log(m.fit.law, quantity, flops))]
        if not members:
            return math.nan, (math.nan, math.nan)
        weights = np.array([m.weight for m in members]) / sum(m.weight for m in members)
        centres = np.array([_log(m.fit.law, quantity, flops) for m in members])
        middle = float(weights @ centres)
        sides = np.array([_sides(m.fit, quantity, flops, centre, level) for m, centre in zip(members, centres, strict=True)])  # (members, 2)
        own = weights @ np.nan_to_num(sides)
        apart = math.sqrt(float(weights @ (centres - middle) ** 2))
        wider = math.hypot(_student.quantile(level, freedom) * max(self.drift * far, apart), _student.quantile(level, math.inf) * noise)
        low, high = np.hypot(own, wider)
        ends = np.exp([middle - low, middle + high])  # one beyond all numbers is infinite
        return math.exp(middle), (float(ends[0]), float(ends[1]))


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Combinations of fits, for the loss and for the size, weighted by how well they predicted held-out budgets, and widened by how badly.

    Logs of loss, params and tokens are means of the members' by weight. An interval is the mean of theirs, as if all erred alike, since all saw the same
    runs; widened by a drift that grows with the log of the reach: what the hold-out errors of this very combination have over what noise explains, pooled
    with what public sweeps have, or what the members differ by, whichever is more. The drift was measured at a few cuts, so its share is Student's t.
    A law that is right about the loss is often wrong about the size, near which the loss is flat: so each has a combination of its own.
    """

    loss: Blend
    size: Blend  # of params and tokens
    freedom: int  # cuts behind the drifts, those of public sweeps included
    noise: float  # standard deviation of the log loss of one run

    @property
    def why(self) -> str:
        """By what the loss and the size are predicted, as part of a sentence."""
        same = [(m.name, m.weight) for m in self.loss.members] == [(m.name, m.weight) for m in self.size.members]
        said = self.loss.why if same else f"the loss {self.loss.why}; the size {self.size.why}"
        unsure = [m.name for m in self.loss.members if not m.fit.resamples]
        return said + (f"; the interval lacks what the data leave open, for {' and '.join(unsure)} has no resamples" if unsure else "")

    @unwarned
    def at(self, flops: float, *, level: float = 0.8) -> Prediction:
        """What to expect at a budget in FLOPs."""
        reach = flops / max(m.fit.reach_flops for m in self.loss.members)
        far = max(0.0, math.log(reach))
        params, params_interval = self.size.at("params", flops, level=level, far=far, freedom=self.freedom, noise=0.0)
        tokens, tokens_interval = self.size.at("tokens", flops, level=level, far=far, freedom=self.freedom, noise=0.0)
        loss, loss_interval = self.loss.at("loss", flops, level=level, far=far, freedom=self.freedom, noise=self.noise)
        return Prediction(
            flops=flops,
            params=params,
            params_interval=params_interval,
            tokens=tokens,
            tokens_interval=tokens_interval,
            loss=loss,
            loss_interval=loss_interval,
            level=level,
            reach=reach,
        )


def combine(fits: Mapping[str, Fit], held: Holdout, *, noise: float) -> Forecast:
    """Combine fits by their hold-out errors.

    A candidate's score is its mean squared error of the log over all trials, each cut counted by the share of the compute that was fitted, for a fit of a
    third of the sweep says less of one of all. What noise makes a fit's own prediction vary by is added to each squared error: of few trials, a candidate that
    might as well have been off by more is not the better for its luck. Weights are one over the square of the score, so twice the error is a sixteenth of
    the weight; candidates under a tenth do not join. Where no best size was observed, sizes are combined as losses are.

    Args:
        fits: Of all runs, by the name of the candidate.
        held: The trials.
        noise: Standard deviation of the log loss of one run.
    """
    cuts = len({t.fitted_flops for t in held.trials})
    loss = _blend(fits, held, of_loss, prior=DRIFT, cuts=cuts)
    if loss is None:
        name = next((n for n in fits if n.startswith("parametric")), next(iter(fits)))
        why = f"by {name} alone, for there are too few budgets to hold some out; how far it may drift is what public sweeps showed"
        only = (Member(name=name, fit=fits[name], weight=1.0),)
        loss = Blend(members=only, drift=DRIFT, why=why)
    size = _blend(fits, held, of_size, prior=PARAMS_DRIFT, cuts=cuts) or replace(loss, drift=PARAMS_DRIFT)
    return Forecast(loss=loss, size=size, freedom=cuts + PRIOR_CUTS, noise=noise)


def of_loss(trial: Trial) -> tuple[float, float]:
    """Error of the log loss, and what noise explains of it."""
    return (math.log(trial.loss / trial.observed) if trial.loss > 0 else math.nan), trial.spread


def of_size(trial: Trial) -> tuple[float, float]:
    """Error of the log params, and what noise explains of it."""
    return (math.log(trial.params_factor) if trial.params_factor > 0 else math.nan), trial.params_spread


def _blend(fits: Mapping[str, Fit], held: Holdout, error: Error, *, prior: float, cuts: int) -> Blend | None:
    weights = weigh(held, error)
    if not weights:
        return None
    seen = _drift(held, weights, error)
    return Blend(
        members=tuple(Member(name=name, fit=fits[name], weight=w) for name, w in weights.items()),
        drift=math.sqrt((PRIOR_CUTS * prior**2 + cuts * seen**2) / (PRIOR_CUTS + cuts)),
        why=_why(_scores(held, lambda t: error(t)[0]), weights, cuts),
    )


def weigh(held: Holdout, error: Error) -> dict[str, float]:
    """Weights of the candidates that join, by their hold-out errors, the largest first; they sum to 1. Empty where nothing was tried."""
    scores = _scores(held, lambda t: math.hypot(error(t)[0], float(np.nan_to_num(error(t)[1]))))
    least = max(min(scores.values(), default=0.0), EXACT)
    raw = {name: (least / max(score, least)) ** 4 for name, score in scores.items()}
    kept = {name: w for name, w in raw.items() if w >= LEAST_WEIGHT * sum(raw.values())}
    return {name: w / sum(kept.values()) for name, w in sorted(kept.items(), key=lambda item: -item[1])}


def _scores(held: Holdout, error: Callable[[Trial], float]) -> dict[str, float]:
    """Root mean square of the errors of the candidates that were tried often enough, over the trials that all of them had."""
    trials = {name: {_key(t): t for t in held.of(name) if math.isfinite(error(t))} for name in held.candidates}
    most = max((len(each) for each in trials.values()), default=0)
    trials = {name: each for name, each in trials.items() if each and len(each) >= COVERED * most}
    common = set.intersection(*(set(each) for each in trials.values())) if trials else set()
    if not common:
        return {}
    return {name: math.sqrt(_mean([each[key] for key in sorted(common)], lambda t: error(t) ** 2)) for name, each in trials.items()}


def _key(trial: Trial) -> tuple[float, float, float]:
    return trial.fitted_flops, trial.flops, trial.observed


def _mean(trials: list[Trial], value: Callable[[Trial], float]) -> float:
    """Mean over cuts, by the share of the compute fitted, of the mean within each."""
    cuts: dict[float, list[Trial]] = {}
    for t in trials:
        cuts.setdefault(t.fitted_flops, []).append(t)
    weights = np.array([each[0].fitted for each in cuts.values()])
    return float(weights @ np.array([np.mean([value(t) for t in each]) for each in cuts.values()]) / weights.sum())


def _drift(held: Holdout, weights: Mapping[str, float], error: Error) -> float:
    """Slope of the error in the log of the reach, over what noise explains, of the combination: least squares of squares through zero."""
    together: dict[tuple[float, float, float], list[tuple[float, float, float]]] = {}
    for t in held.trials:
        if t.by in weights and math.isfinite(error(t)[0]):
            together.setdefault(_key(t), []).append((weights[t.by], *error(t)))
    up = down = 0.0
    shares = {t.fitted_flops: t.fitted for t in held.trials}
    counts = {cut: sum(key[0] == cut for key in together) for cut in shares}
    for (cut, flops, _), rows in together.items():
        w, e, spread = np.array(rows).T
        w = w / w.sum()
        far, weight = math.log(flops / cut) ** 2, shares[cut] / counts[cut]
        up += weight * far * (float(w @ e) ** 2 - float(w @ np.nan_to_num(spread)) ** 2)
        down += weight * far * far
    return math.sqrt(max(0.0, up / down)) if down else 0.0


def _why(scores: Mapping[str, float], weights: Mapping[str, float], cuts: int) -> str:
    said = ", ".join(f"{name} {100 * w:.0f} % (off by {_percent(scores[name])})" for name, w in sorted(weights.items(), key=lambda item: -item[1]))
    others = [f"{name} ({_percent(scores[name])})" for name in scores if name not in weights]
    left = f"; not by {', '.join(others)}" if others else ""
    return f"by {said}, weighted by the error in predicting higher budgets from those below {cuts} cuts{left}"


def _percent(error: float) -> str:
    """Of an error of a log; a factor where it is large."""
    return f"{100 * error:.2g} %" if error < 0.1 else f"{100 * error:.0f} %" if error < 1 else f"{math.exp(min(error, 99.0)):.2g} times"


def has_optimum(law: Law, flops: float) -> bool:
    """Whether a law says what is best at a budget: some forms bend away before."""
    try:
        law.optimum(flops)
    except FitError:
        return False
    return True


def _log(law: Law, quantity: str, flops: float) -> float:
    """NaN where the law says nothing."""
    if not has_optimum(law, flops):
        return math.nan
    value = float(getattr(law.optimum(flops), quantity))
    return math.log(value) if math.isfinite(value) and value > 0 else math.nan


def _logs(law: Law, quantity: str, flops: Floats) -> Floats:
    try:
        return np.asarray(np.log(np.asarray(getattr(law.optimum(flops), quantity), dtype=float)))
    except FitError:  # at some of them
        return np.array([_log(law, quantity, float(c)) for c in flops.ravel()]).reshape(flops.shape)


def _sides(fit: Fit, quantity: str, flops: float, centre: float, level: float) -> Interval:
    """How far a fit's own interval goes below and above its estimate, in logs."""
    logs = np.array([_log(law, quantity, flops) for law in fit.resamples])
    logs = logs[np.isfinite(logs)]
    if not logs.size:
        return 0.0, 0.0
    low, high = np.quantile(logs, [(1 - level) / 2, (1 + level) / 2], method="weibull")
    return max(0.0, centre - float(low)), max(0.0, float(high) - centre)
