"""Approach 1: the best run at each compute, over all training curves (Hoffmann et al. 2022, Sec. 3.1)."""

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _curves, _frontier
from isoflop.fit._race import FEWEST_SIZES, FLOP_VALUES, LAST, Race, Won
from isoflop.fit.result import Fit, Frontier, Status
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

WANTED_WINNERS = 4  # assumption: fewer best runs than that decide nothing
CUT = 0.1  # of the FLOP values; assumption: fewer move the exponent by less than its interval
FEWEST_SPAN = 2.0  # of compute between the first and the last optimum


def fit(runs: Runs, *, resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fit:
    """Fit N_opt ~ C**a and D_opt ~ C**b through the best run of all curves at 1500 log-spaced FLOP values, by unweighted least squares in logs.

    Curves are smoothed by a Gaussian of ten steps, or of 3 % of the run if that is more, scaled to end at the run's validation loss, and interpolated in
    log tokens. A FLOP value counts where the best run is in the last 15 % of its schedule and is neither the smallest nor the largest of those it
    competes with. It competes with the others in their last 15 %; where those are of fewer than three sizes, with the loss that finished runs of each size
    would have there, interpolated between its run lengths. So a sweep at discrete budgets gives optima just below each budget only. A best size is one of the
    sizes trained, and noise moves it to a neighbour: in simulated sweeps of six budgets by seven sizes at 0.2 to 0.5 % noise, a was right to 0.1.

    The loss along the frontier is that of the best runs at their ends.

    Args:
        runs: With curves.
        resamples: Bootstrap resamples of whole runs, drawn within budgets.
        seed: Of the draw.

    Raises:
        FitError: No curves, or best runs that span less than twofold compute.

    Source: Hoffmann et al. 2022, Sec. 3.1.
    """
    whole, lacking = _with_curves(runs)
    race = Race.over(whole)
    best = race.won_by(np.ones((1, len(whole))))
    _refuse(whole, race, best.run)
    law = _laws(whole, race, best.run)[0]
    drawn = race.won_by(_bootstrap.counts(whole.budget, resamples=resamples, seed=seed)).run
    laws = tuple(one for one in _laws(whole, race, drawn) if np.isfinite([one.a, one.b, one.k]).all())
    frontier = _optima(whole, race, best)
    winners = np.unique(best.run[best.run >= 0])
    return Fit(
        approach="envelope",
        law=law,
        estimator=f"best run at {FLOP_VALUES} FLOP values, in the last {100 * LAST:.0f} % of its schedule; unweighted least squares in logs",
        objective=float(np.sum(np.log(frontier.params / law.optimum(frontier.flops).params) ** 2)),
        frontier=frontier,
        profiles=(),
        residuals=_residuals(runs, {whole.ids[i] for i in winners}, law),
        noise=_checks.noise(runs),
        noise_freedom=_checks.noise_freedom(runs),
        resamples=laws,
        status=_status(law, winners.size, len(laws), resamples),
        warnings=(*lacking, *_cut_off(best), *_warnings(runs, frontier, law, winners.size)),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(whole),
    )


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


def _optima(runs: Runs, race: Race, best: Won) -> Frontier:
    kept = np.flatnonzero(best.run[0] >= 0)
    run = best.run[0, kept]
    flops = race.grid[kept]
    return Frontier(flops=flops, params=runs.params[run], tokens=flops / runs.flops[run] * runs.tokens[run], loss=best.loss[0, kept])


def _laws(runs: Runs, race: Race, best: NDArray[np.intp]) -> tuple[PowerLaw, ...]:
    """A law for each row of best runs (rows, values)."""
    kept = (best >= 0).astype(float)
    x = np.log(race.grid)
    c0 = float(np.exp(x.mean()))
    log_tokens = x[None, :] + np.log(runs.tokens / runs.flops)[best]
    won = np.stack([np.bincount(row[row >= 0], minlength=len(runs)) for row in best]).astype(float)
    some = np.flatnonzero(won.sum(axis=1) > 0)
    kept, won, log_params, log_tokens = kept[some], won[some], np.log(runs.params)[best[some]], log_tokens[some]
    loss = np.broadcast_to(runs.loss, won.shape)
    return _frontier.power_laws(
        c0,
        _frontier.line(x - np.log(c0), log_params, kept),
        _frontier.line(x - np.log(c0), log_tokens, kept),
        _frontier.decay(runs.flops / c0, loss, won),
    )


def _refuse(runs: Runs, race: Race, best: NDArray[np.intp]) -> None:
    kept = race.grid[best[0] >= 0]
    winners = np.unique(best[best >= 0]).size
    if winners >= 2 and kept.max() >= FEWEST_SPAN * kept.min():
        return
    span = f"{kept.max() / kept.min():.2g}x of compute" if kept.size else "no compute at all"
    msg = (
        f"of {len(runs)} curves {winners} are best at some FLOPs in the last {100 * LAST:.0f} % of their schedule with smaller and larger sizes beside them, "
        f"over {span}; a power law needs two over {FEWEST_SPAN:g}x. Add sizes on both sides of the optimum, at more budgets or run lengths."
    )
    raise FitError(msg)


def _residuals(runs: Runs, winners: set[str], law: PowerLaw) -> Floats:
    """(runs,) log of observed over fitted loss of the best runs; NaN for the others."""
    won = np.array([name in winners for name in runs.ids])
    return np.where(won, np.log(runs.loss / law.optimum(runs.flops).loss), np.nan)


def _status(law: PowerLaw, winners: int, laws: int, resamples: int) -> Status:
    if not (law.a > 0 and law.b > 0):
        return Status(ok=False, message=f"a = {law.a:.2f} and b = {law.b:.2f}: the best size moves the wrong way. Look at the curves for a bad run.")
    if winners < WANTED_WINNERS:
        return Status(ok=False, message=f"only {winners} runs are best anywhere, so the exponents rest on them alone. Add budgets or sizes.")
    if laws < 0.9 * resamples:
        return Status(ok=False, message=f"{resamples - laws} of {resamples} resamples had no two optima, so intervals are too narrow. Add sizes.")
    return Status(ok=True, message=f"{winners} runs are best somewhere in the last {100 * LAST:.0f} % of their schedule.")


def _cut_off(best: Won) -> tuple[str, ...]:
    read, cut = int((best.run[0] >= 0).sum()), int(best.cut[0].sum())
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
