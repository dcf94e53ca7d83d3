"""What is wrong or doubtful with the runs behind a fit, in words."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.fit.account import groups
from isoflop.runs import Dropped, Runs

Floats = NDArray[np.float64]

DECADE = 10.0  # exponents from less compute than this swing by more than their differences between approaches (assumption)
FAR_FROM_NOISE = 5.0  # standard deviations; assumption: one false alarm in a million for normal noise
LEAST_STEP = 0.01  # of the loss; assumption: what a mistuned learning rate costs on a small sweep, not worth a warning
ALIKE = 4.0  # of sizes; assumption: over less one rate will do
SAME_RATE = 1.01
RATES = 3  # tried at one size and length, for one to be inside
NAMED = 4  # runs named in one warning
# Tokens per parameter at equal compute, largest over smallest, that tells params from tokens; assumption: a factor of two moves the loss by 0.05 %, less than
# seeds differ by, and the narrowest public sweep has 6.
LEAST_RATIOS = 2.0
MIDDLE = (0.1, 0.9)  # of the runs; assumption: a few beside the line do not determine five constants
FEWEST = 5  # runs, below which other errors are plainer


def canonical(runs: Runs) -> NDArray[np.intp]:
    """An order of the runs that depends on what they are and not on how they arrived, so that sums and draws do not either."""
    return np.lexsort((runs.seed, runs.loss, runs.tokens, runs.params, runs.budget))


def noise(runs: Runs) -> float:
    """Standard deviation of the loss between seeds, pooled over every budget and size with two runs or more; NaN if there is none."""
    cell = _cells(runs)
    times = np.bincount(cell)
    freedom = cell.size - times.size
    if not freedom:
        return math.nan
    mean = np.bincount(cell, weights=runs.loss) / times
    return float(np.sqrt(((runs.loss - mean[cell]) ** 2).sum() / freedom))


def noise_freedom(runs: Runs) -> int:
    """Degrees of freedom behind `noise`: runs beyond the first of every budget and size."""
    cell = _cells(runs)
    return cell.size - np.bincount(cell).size


def _cells(runs: Runs) -> NDArray[np.intp]:
    """(runs,) which budget, size and length each run is of, counted from 0; runs that differ in their seed alone share one."""
    order = np.lexsort((runs.tokens, runs.params, runs.budget))  # a tenth of the time of np.unique over rows
    new = np.any([np.diff(column[order]) != 0 for column in (runs.budget, runs.params, runs.tokens)], axis=0)
    cell = np.empty(len(runs), dtype=np.intp)
    cell[order] = np.concatenate([[0], np.cumsum(new)])[: len(runs)]
    return cell


def one_line(runs: Runs) -> str:
    """Return why params and tokens cannot be told apart: the runs have one size and length for each amount of compute. Empty if they can."""
    if len(runs) < FEWEST or min(np.unique(runs.params).size, np.unique(runs.tokens).size) < 2:
        return ""  # the approach says what is missing
    x, y = np.log(runs.params * runs.tokens), np.log(runs.tokens / runs.params)
    columns = np.vander(x - x.mean(), 2)
    coefficients, *_ = np.linalg.lstsq(columns, y, rcond=None)
    low, high = np.quantile(y - columns @ coefficients, MIDDLE)
    ratio = math.exp(float(high - low))
    if ratio >= LEAST_RATIOS:
        return ""
    return (
        f"at equal compute these {len(runs)} runs differ by only {ratio:.2f} times in tokens per parameter, as a table with one run a budget does. "
        "Their losses cannot tell what parameters do from what tokens do, so no law of both is fitted. Add runs of other sizes at the same budgets, from a "
        "quarter to four times these."
    )


def compute_range(flops: Floats) -> tuple[str, ...]:
    """A warning if the optima or runs lie within less than a decade of compute."""
    span = float(flops.max() / flops.min())
    if span >= DECADE:
        return ()
    message = (
        f"the compute fitted spans only {span:.1f}x ({units.flops(float(flops.min()))} to {units.flops(float(flops.max()))} FLOPs); "
        "exponents from less than a decade are uncertain beyond their interval. Add a larger or a smaller budget."
    )
    return (message,)


def edge_of_sizes(runs: Runs, params_opt: float, flops: float) -> tuple[str, ...]:
    """A warning if the optimum of the largest budget lies outside the sizes trained."""
    low, high = float(runs.params.min()), float(runs.params.max())
    if low < params_opt < high:
        return ()
    side, edge = ("below", low) if params_opt <= low else ("above", high)
    message = (
        f"the optimum at the largest budget ({units.flops(flops)} FLOPs), {units.count(params_opt)} params, lies {side} every size trained "
        f"({units.count(edge)}): it is an extrapolation. Add sizes there."
    )
    return (message,)


def irreducible(E: float, losses: Floats) -> tuple[str, ...]:
    """A warning if the irreducible loss is above a loss seen."""
    if losses.min() >= E:
        return ()
    return (
        f"the fitted irreducible loss E = {E:.4f} is above an observed loss of {losses.min():.4f}, so the law is wrong there. Do not extrapolate its loss.",
    )


def suspects(runs: Runs, residuals: Floats, noise_sd: float) -> tuple[str, ...]:
    """A warning that names runs far worse than the law, by the spread of the others and by the noise between seeds.

    Args:
        runs: All runs.
        residuals: (runs,) log of observed over fitted loss; NaN where there is none.
        noise_sd: Nats per token, or NaN.
    """
    known = residuals[np.isfinite(residuals)]
    if known.size < 5:
        return ()
    spread = 1.4826 * float(np.median(np.abs(known - np.median(known))))  # 1.4826: makes it the deviation of a normal
    floor = max(LEAST_STEP, FAR_FROM_NOISE * spread)
    limit = floor if math.isnan(noise_sd) else max(floor, FAR_FROM_NOISE * noise_sd / float(runs.loss.mean()))
    worse = np.flatnonzero(np.nan_to_num(residuals, nan=-np.inf) > limit)
    return _named(runs, worse[np.argsort(-residuals[worse])], lambda i: f"{100 * math.expm1(residuals[i]):.1f} % worse than the law")


def bumps(runs: Runs, noise_sd: float) -> tuple[str, ...]:
    """A warning that names runs whose loss lies far above the line between their neighbours in log params at the same budget.

    A profile is convex, so a run well above that line was trained badly.
    """
    above = np.full(len(runs), np.nan)
    for level in np.unique(runs.budget):
        members = np.flatnonzero(runs.budget == level)
        sizes, which = np.unique(runs.params[members], return_inverse=True)
        if sizes.size < 3:
            continue
        x = np.log(sizes)
        mean = np.bincount(which.reshape(-1), weights=runs.loss[members]) / np.bincount(which.reshape(-1))
        share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        line = (1 - share) * mean[:-2] + share * mean[2:]
        chord = np.concatenate([[np.nan], line, [np.nan]])[which.reshape(-1)]  # the outermost sizes have no neighbours on both sides
        above[members] = runs.loss[members] / chord - 1
    limit = LEAST_STEP if math.isnan(noise_sd) else max(LEAST_STEP, FAR_FROM_NOISE * noise_sd / float(runs.loss.mean()))
    worse = np.flatnonzero(np.nan_to_num(above, nan=-np.inf) > limit)
    return _named(runs, worse[np.argsort(-above[worse])], lambda i: f"{100 * above[i]:.1f} % above the line between its neighbours")


def dropped(runs: Runs) -> tuple[str, ...]:
    """A warning that counts the runs that did not reach the fit."""
    if not runs.dropped:
        return ()
    found = groups(runs.dropped)
    left = sum(group.runs for group in found)
    shown = "; ".join(f"{group.example} ({group.reason})" if group.runs == 1 else f"{group.runs} ({group.reason})" for group in found[:NAMED])
    return (f"{left} of {len(runs) + left} runs are not in the fit: {shown}{'; ...' if len(found) > NAMED else ''}.",)


def loss_form(E: float, optima: int) -> tuple[str, ...]:
    """A warning if the loss along the frontier had to do without an irreducible loss."""
    if E != 0:
        return ()
    message = (
        f"{optima} optima do not determine an irreducible loss, so the loss along the frontier is a plain power law; "
        "it falls too fast far beyond the sweep. Take the loss from the parametric approach there."
    )
    return (message,)


def _named(runs: Runs, worse: NDArray[np.intp], how: Callable[[int], str]) -> tuple[str, ...]:
    if not worse.size:
        return ()
    shown = "; ".join(
        f"{runs.ids[i]} ({units.count(float(runs.params[i]))} params, {units.flops(float(runs.budget[i]))} FLOPs, {how(int(i))})" for i in worse[:NAMED]
    )
    more = f"; and {worse.size - NAMED} more" if worse.size > NAMED else ""
    return (f"{_runs_are(worse.size)} far worse than expected: {shown}{more}. Look at their curves; a bad learning rate or seed moves the exponents.",)


def _runs_are(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"


def set_aside(aside: tuple[Dropped, ...], runs: int) -> tuple[str, ...]:
    """A warning that names the runs that were found far off and do not count."""
    if not aside:
        return ()
    shown = "; ".join(f"{d.id} ({d.reason})" for d in aside[:NAMED]) + (f"; and {len(aside) - NAMED} more" if len(aside) > NAMED else "")
    return (f"{len(aside)} of {runs} runs {'is' if len(aside) == 1 else 'are'} set aside: {shown}. Look at their curves; --keep-all fits them too.",)


def learning_rates(runs: Runs) -> tuple[str, ...]:
    """Warnings where rates look untuned: the same one for all sizes, or a best one at the edge of those tried; empty where nobody said the rates."""
    if runs.lr is None or not len(runs):
        return ()
    span = float(runs.params.max() / runs.params.min())
    warnings = []
    if span >= ALIKE and float(runs.lr.max() / runs.lr.min()) < SAME_RATE:
        warnings.append(
            f"one learning rate ({runs.lr[0]:.3g}) for sizes from {units.count(float(runs.params.min()))} to {units.count(float(runs.params.max()))}: "
            "the best rate falls with size, so some of these are mistuned, which moves the exponents. Tune it at two or three sizes."
        )
    cell = _cells(runs)
    edges = tried = 0
    for one in np.flatnonzero(np.bincount(cell) >= RATES):
        here = np.flatnonzero(cell == one)
        rates = runs.lr[here]
        if np.unique(rates).size >= RATES:
            tried += 1
            best = rates[np.argmin(runs.loss[here])]
            edges += bool(best in {rates.min(), rates.max()})
    if tried and edges > tried / 2:
        warnings.append(f"at {edges} of {tried} sizes and lengths the best learning rate is the lowest or highest tried. Try further out.")
    return tuple(warnings)
