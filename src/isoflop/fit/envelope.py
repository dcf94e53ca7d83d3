"""Approach 1: the best run at each compute, over all training curves (Hoffmann et al. 2022, Sec. 3.1)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry
from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _curves, _frontier
from isoflop.fit._hull import Hull
from isoflop.fit._overflow import unwarned
from isoflop.fit._race import FEWEST_SIZES, FLOP_VALUES, LAST, Race
from isoflop.fit.result import Fit, Frontier, Status, thinned
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RULES = {
    "finished": f"best run at {FLOP_VALUES} FLOP values, in the last {100 * LAST:.0f} % of its schedule",
    "all": f"lowest of all curves at {FLOP_VALUES} FLOP values, at any point of its schedule",
    "hull": "vertices of the lower convex hull of all curves in log loss over log FLOPs",
}
WANTED_WINNERS = 4  # assumption: fewer best runs than that decide nothing
CUT = 0.1  # of the FLOP values; assumption: fewer move the exponent by less than its interval
HALF = 0.5  # of the resamples must determine a law; assumption
FEWEST_SPAN = 2.0  # of compute between the first and the last optimum


@unwarned
def fit(runs: Runs, *, rule: str = "finished", resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fit:
    """Fit N_opt ~ C**a and D_opt ~ C**b through the best runs of all curves, by unweighted least squares in logs.

    Curves whose neighbouring points scatter by more than 0.2 % are smoothed by a Gaussian of ten steps, or of 3 % of the run if that is more; others are
    smooth already, or averages over many steps, and are left as they are. All are scaled to end at the run's validation loss, and interpolated in log tokens.

    `rule` says which points of the curves count:

    - "finished": at 1500 log-spaced FLOP values, the best run where it is in the last 15 % of its schedule and is neither the smallest nor the largest of
      those it competes with. It competes with the others in their last 15 %; where those are of fewer than three sizes, with the loss that finished runs of
      each size would have there, interpolated between its run lengths. So a sweep at discrete budgets gives optima just below each budget only. For
      learning rates that fall to the end of the run: before it, no run has its loss.
    - "all": at 1500 log-spaced FLOP values, from where three sizes have begun, the lowest curve, wherever it is in its schedule: the paper's rule. Right for
      a constant learning rate, whose curves are what a run that ended there would have reached. Every decade of compute counts alike.
    - "hull": the vertices of the lower convex hull of all points of the curves in log loss over log FLOPs (McLeish et al. 2025), for the same learning
      rates. Each vertex counts once, so exponents are those of where the vertices crowd, and a size that is best by less than the chord between its
      neighbours has none. On the Gemstones most lie at large compute, where the frontier is flatter: 0.48 to 0.61 where "all" gives 0.53 to 0.63. In
      simulated sweeps without noise, of 15 sizes and 400 points a curve, "all" is off by 0.002 and "hull" by 0.008.

    A best size is one of the sizes trained, and noise moves it to a neighbour: in simulated sweeps of six budgets by seven sizes at 0.2 to 0.5 % noise, a
    was right to 0.1, and a draw moves it by as much, so intervals are wider than they say (benchmarks/coverage.md). The loss along the frontier is that of
    the best runs at their ends ("finished") or where they are best.

    Args:
        runs: With curves.
        rule: "finished", "all" or "hull".
        resamples: Bootstrap resamples of whole runs, drawn within budgets; 0 for no intervals.
        seed: Of the draw.

    Raises:
        UnknownNameError: No such rule.
        FitError: No curves, or best runs that span less than twofold compute.

    Source: Hoffmann et al. 2022, Sec. 3.1.
    """
    _registry.check(rule, RULES, noun="rule of Approach 1")
    whole, lacking = _with_curves(runs)
    field = _field(whole, rule)
    best = _picked(whole, field, np.ones((1, len(whole))))
    _refuse(whole, rule, best)
    law = next(iter(_laws(best)), None)
    if law is None:
        raise FitError("the best runs lie so far apart that no power law goes through them. Check the losses and the budgets.")
    laws = _drawn(whole, field, resamples=resamples, seed=seed)
    frontier = _optima(best)
    winners = np.unique(best.run[0, best.kept[0]])
    return Fit(
        approach="envelope",
        law=law,
        estimator=f"{RULES[rule]}; unweighted least squares in logs",
        objective=float(np.sum(np.log(frontier.params / law.optimum(frontier.flops).params) ** 2)),
        frontier=frontier,
        profiles=(),
        residuals=_residuals(runs, whole, best, law),
        noise=_checks.noise(runs),
        noise_freedom=_checks.noise_freedom(runs),
        resamples=laws,
        lost=resamples - len(laws),
        status=_status(law, rule, winners.size, len(laws), resamples),
        warnings=(*lacking, *_cut_off(best), *thinned(len(laws), resamples - len(laws)), *_warnings(runs, frontier, law, winners.size)),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(whole),
        unit=runs.unit,
        dropped=runs.dropped,
        intervals_by="whole runs with their curves drawn with replacement within budgets",
    )


class _Picked(NamedTuple):
    """Optima read off the curves, a row a resample."""

    flops: Floats  # (points,)
    run: NDArray[np.intp]  # (rows, points) of the run that is best there
    kept: Mask  # (rows, points)
    params: Floats  # (rows, points)
    tokens: Floats  # (rows, points)
    loss: Floats  # (rows, points)
    cut: Mask  # (rows, points) best there is the smallest or the largest size
    ends: tuple[Floats, Floats, Floats]  # FLOPs (marks,), loss and weights (rows, marks) that the loss along the frontier goes through


def _with_curves(runs: Runs) -> tuple[Runs, tuple[str, ...]]:
    """The runs with a whole curve, by size and length, and a warning that counts the others."""
    reasons = [_curves.lacking(runs, i) for i in range(len(runs))]
    bad = [i for i, reason in enumerate(reasons) if reason]
    whole = len(runs) - len(bad)
    sizes = np.unique(np.delete(runs.params, bad)).size
    if sizes < FEWEST_SIZES:
        first = f" (run {runs.ids[bad[0]]}: {reasons[bad[0]]})" if bad else ""
        advice = "Keep the loss of each step when training" if bad else "Train more sizes"
        msg = (
            f"{whole} of {len(runs)} runs have a whole training curve{first}, of {sizes} sizes, and Approach 1 compares at least {FEWEST_SIZES}. {advice}, "
            "or use the isoflop or parametric approach, which need final losses only."
        )
        raise FitError(msg)
    warning = (f"{len(bad)} of {len(runs)} runs are not in Approach 1, the first ({runs.ids[bad[0]]}) for {reasons[bad[0]]}.",) if bad else ()
    order = np.lexsort((runs.seed, runs.loss, runs.flops, runs.params))
    return runs.take(order[~np.isin(order, bad)]), warning


def _field(runs: Runs, rule: str) -> Race | Hull:
    if rule == "hull":
        return Hull.over(runs)
    return Race.over(runs) if rule == "finished" else Race.over_all(runs)


def _picked(runs: Runs, field: Race | Hull, weights: Floats) -> _Picked:
    if isinstance(field, Hull):
        return _on_hull(runs, field, weights)
    won = field.won_by(weights) if field.only_finished else field.lowest_by(weights)
    kept, flops = won.run >= 0, field.grid
    tokens = flops * (runs.tokens / runs.flops)[won.run]
    if field.only_finished:
        times = np.stack([np.bincount(row[row >= 0], minlength=len(runs)) for row in won.run]).astype(float)
        ends = (runs.flops, np.broadcast_to(runs.loss, times.shape), times)
    else:
        ends = (flops, np.where(kept, won.loss, 1.0), kept.astype(float))
    return _Picked(flops, won.run, kept, runs.params[won.run], tokens, won.loss, won.cut, ends)


def _on_hull(runs: Runs, hull: Hull, weights: Floats) -> _Picked:
    kept = hull.won_by(weights)
    run, loss = np.broadcast_to(hull.run, kept.shape), np.broadcast_to(hull.loss, kept.shape)
    params, tokens = runs.params[run], np.broadcast_to(hull.tokens, kept.shape)
    return _Picked(hull.flops, run, kept, params, tokens, loss, np.zeros_like(kept), (hull.flops, loss, kept.astype(float)))


def _drawn(runs: Runs, field: Race | Hull, *, resamples: int, seed: int) -> tuple[PowerLaw, ...]:
    if not resamples:
        return ()
    drawn = _picked(runs, field, _bootstrap.counts(runs.budget, resamples=resamples, seed=seed))
    laws = _laws(drawn)
    return laws if len(laws) >= HALF * resamples else ()  # what the few that have two optima agree on is no interval


def _optima(best: _Picked) -> Frontier:
    kept = best.kept[0]
    return Frontier(flops=best.flops[kept], params=best.params[0, kept], tokens=best.tokens[0, kept], loss=best.loss[0, kept])


def _laws(picked: _Picked) -> tuple[PowerLaw, ...]:
    """A law for each row whose optima determine one: two of them, and two ends."""
    x = np.log(picked.flops)
    c0 = float(np.exp(x.mean()))
    some = picked.kept.any(axis=1)
    kept = picked.kept[some].astype(float)
    flops, loss, weights = picked.ends
    params = _frontier.line(x - np.log(c0), np.log(picked.params[some]), kept)
    tokens = _frontier.line(x - np.log(c0), np.log(picked.tokens[some]), kept)
    decay = _frontier.decay(flops / c0, loss[some], weights[some])
    known = np.isfinite(np.array([*params, *tokens, *decay])).all(axis=0)
    params, tokens = (_frontier.Line(*(column[known] for column in line)) for line in (params, tokens))
    return _frontier.power_laws(c0, params, tokens, _frontier.Decay(*(column[known] for column in decay)))


def _refuse(runs: Runs, rule: str, best: _Picked) -> None:
    kept = best.flops[best.kept[0]]
    winners = np.unique(best.run[best.kept]).size
    if winners >= 2 and kept.max() >= FEWEST_SPAN * kept.min():
        return
    span = f"{kept.max() / kept.min():.2g}x of compute" if kept.size else "no compute at all"
    where = f"in the last {100 * LAST:.0f} % of their schedule with smaller and larger sizes beside them, " if rule == "finished" else ""
    other = ' For runs at a constant learning rate take rule="all".' if rule == "finished" else ""
    msg = (
        f"of {len(runs)} curves {winners} are best at some FLOPs {where}"
        f"over {span}; a power law needs two over {FEWEST_SPAN:g}x. Add sizes on both sides of the optimum, at more budgets or run lengths.{other}"
    )
    raise FitError(msg)


def _residuals(runs: Runs, whole: Runs, best: _Picked, law: PowerLaw) -> Floats:
    """(runs,) log of observed over fitted loss where a best run counts for the loss along the frontier, the last time it does; NaN for the others."""
    flops, loss, weights = best.ends
    at_end = flops is whole.flops
    marks = np.flatnonzero(weights[0] > 0)
    found = dict(zip((whole.ids[i] for i in (marks if at_end else best.run[0, marks])), marks, strict=True))
    off = np.full(len(runs), np.nan)
    for i, name in enumerate(runs.ids):
        if name in found:
            off[i] = float(np.log(loss[0, found[name]] / law.optimum(flops[found[name]]).loss))
    return off


def _status(law: PowerLaw, rule: str, winners: int, laws: int, resamples: int) -> Status:
    if not (law.a > 0 and law.b > 0):
        return Status(ok=False, message=f"a = {law.a:.2f} and b = {law.b:.2f}: the best size moves the wrong way. Look at the curves for a bad run.")
    late = f" in the last {100 * LAST:.0f} % of their schedule" if rule == "finished" else ""
    if winners < WANTED_WINNERS:
        return Status(ok=False, message=f"only {winners} runs are best anywhere, so the exponents rest on them alone. Add budgets or sizes.")
    if resamples and not laws:
        return Status(ok=False, message=f"most of {resamples} resamples had no two optima, so there are no intervals. Add sizes.")
    if laws < 0.9 * resamples:
        return Status(ok=False, message=f"{resamples - laws} of {resamples} resamples had no two optima, so intervals are too narrow. Add sizes.")
    return Status(ok=True, message=f"{winners} runs are best somewhere{late}.")


def _cut_off(best: _Picked) -> tuple[str, ...]:
    read, cut = int((best.kept[0] & ~best.cut[0]).sum()), int(best.cut[0].sum())
    if cut <= CUT * (read + cut):
        return ()
    share = 100 * cut / (read + cut)
    message = (
        f"where several sizes compete, the smallest or the largest is best at {share:.0f} % of the FLOP values: the best sizes are cut off there, which pulls "
        "a down, in simulated sweeps by 0.1. Add sizes beyond both ends, or take the isoflop or parametric approach."
    )
    return (message,)


def _warnings(runs: Runs, frontier: Frontier, law: PowerLaw, winners: int) -> tuple[str, ...]:
    largest = float(runs.flops.max())
    return (
        *_checks.irreducible(law.E, runs.loss),
        *_checks.edge_of_sizes(runs, float(law.optimum(largest).params), largest),
        *_checks.compute_range(frontier.flops),
        *_checks.loss_form(law.E, winners),
        *_checks.dropped(runs),
    )
