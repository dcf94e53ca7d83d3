"""Resamples of Approach 2: minima moved by noise, or found again from runs drawn with replacement; and the power laws through them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _frontier
from isoflop.fit._valley import NO_NOISE, Floor, Method, Valley
from isoflop.fit.result import Frontier
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

FEWEST_BUDGETS = 2  # a line
FEWEST_DRAWN = 5  # sizes a budget has on average, so that most draws keep the three that a minimum needs (assumption)
LOWEST = 1e-3  # of the loss at the minimum, which no noise takes a loss below: logs are taken of it
BLOCK = 5_000_000  # losses drawn at once, so that memory does not grow with the resamples


class Minima(NamedTuple):
    """What resamples are made of: the minima found, and what found them."""

    fitted: Method
    evidence: Method  # whose residuals show the noise: an interpolant has none of its own
    which: tuple[int, ...]
    frontier: Frontier
    weights: Floats
    noise: float
    resamples: int
    seed: int


def laws(frontier: Frontier, log_params: Floats, log_tokens: Floats, loss: Floats, weights: Floats) -> tuple[PowerLaw, ...]:
    """A law for each row of minima (rows, budgets), with weights (rows, budgets) or (budgets,) for the exponents."""
    flops = frontier.flops
    c0 = float(np.exp(np.log(flops).mean()))
    x = np.log(flops / c0)
    weights = np.broadcast_to(weights, loss.shape)
    return _frontier.power_laws(
        c0, _frontier.line(x, log_params, weights), _frontier.line(x, log_tokens, weights), _frontier.decay(flops / c0, loss, (weights > 0).astype(float))
    )


def weights(fitted: Method, which: tuple[int, ...], frontier: Frontier, noise: float) -> Floats:
    """(minima,) for the power laws: one over the variance of log params, from noise between seeds and from scatter beyond it; equal where no seed repeats.

    The scatter keeps a minimum that noise hardly moves from deciding alone (DerSimonian and Laird 1986).
    """
    equal = np.ones(len(which))
    pulls = [fitted.pull(i) for i in which]
    if not noise > NO_NOISE * frontier.loss.mean() or len(which) <= FEWEST_BUDGETS or any(pull is None for pull in pulls):
        return equal
    seeds = [fitted.valleys[i].seeds[fitted.used[i]] for i in which]
    variance = noise**2 * np.array([float(np.sum(pull**2 / k)) for pull, k in zip(pulls, seeds, strict=True) if pull is not None])
    line = laws(frontier, np.log(frontier.params)[None], np.log(frontier.tokens)[None], frontier.loss[None], equal)[0]
    scatter = np.log(frontier.params / line.optimum(frontier.flops).params)
    beyond = max(0.0, float(scatter @ scatter) / (len(which) - 2) - float(variance.mean()))
    inverse = 1 / (variance + beyond)
    return np.asarray(inverse / inverse.mean())


def by_noise(draws: Minima, scatter: Floats) -> tuple[PowerLaw, ...]:
    """Laws through minima moved by noise and by their scatter about the law."""
    rng = np.random.default_rng(draws.seed)
    size = _noise_sizes(rng, draws)
    freedom = len(draws.which) - 2
    if not draws.resamples or (size is None and not freedom):
        return ()
    moved = _moved(rng, draws, np.zeros(draws.resamples) if size is None else size)
    explained = float(np.mean(np.var(moved.x, axis=0)))
    seen = float(scatter @ scatter) / freedom if freedom else 0.0
    log_params = moved.x + rng.standard_normal(moved.x.shape) * math.sqrt(max(0.0, seen - explained))
    price = np.array([draws.fitted.valleys[i].price for i in draws.which])
    log_tokens = np.log(draws.frontier.tokens) - price * (log_params - np.log(draws.frontier.params))
    possible = (moved.loss > 0).all(axis=1)
    return laws(draws.frontier, log_params[possible], log_tokens[possible], moved.loss[possible], draws.weights)


def _moved(rng: np.random.Generator, draws: Minima, size: Floats) -> Floor:
    """Minima of the curves fitted again to their own values with noise of some relative size (rows,) put on."""
    fitted, which = draws.fitted, draws.which
    points = sum(int(fitted.used[i].sum()) for i in which)
    floors = []
    for rows in np.array_split(size, math.ceil(size.size * points / BLOCK)):
        losses = []
        for k, i in enumerate(which):
            v, used = fitted.valleys[i], fitted.used[i]
            noise = rng.standard_normal((rows.size, int(used.sum()))) * rows[:, None] / np.sqrt(v.seeds[used])
            lowest = LOWEST * draws.frontier.loss[k]
            losses.append(np.maximum(fitted.at(i, v.x[used]) + noise * draws.frontier.loss[k], lowest))
        floors.append(fitted.floor(which, losses))
    return Floor(*(np.concatenate(column) for column in zip(*floors, strict=True)))


def _noise_sizes(rng: np.random.Generator, draws: Minima) -> Floats | None:
    """(resamples,) relative noise of a run, as uncertain as the residuals leave it; None if nothing shows it."""
    evidence = draws.evidence
    squares, points = 0.0, 0
    for i, note in enumerate(evidence.notes):
        if note:
            continue
        v, used = evidence.valleys[i], evidence.used[i]
        fitted = evidence.at(i, v.x[used])
        squares += float(np.sum(v.seeds[used] * (v.loss[used] / fitted - 1) ** 2))
        points += int(used.sum())
    freedom = points - evidence.spent
    floor = 0.0 if math.isnan(draws.noise) else draws.noise / float(np.mean(draws.frontier.loss))
    if freedom <= 0:
        return None if floor == 0.0 else np.full(draws.resamples, floor)
    return np.maximum(np.sqrt(squares / rng.chisquare(freedom, draws.resamples)), floor)


def by_run(draws: Minima, runs: Runs) -> tuple[PowerLaw, ...]:
    """Laws of runs drawn with replacement within budgets; a budget that a draw leaves with fewer than three sizes is not in it."""
    fitted, which = draws.fitted, draws.which
    if not draws.resamples:
        return ()
    sizes = float(np.mean([fitted.used[i].sum() for i in which]))
    if sizes < FEWEST_DRAWN:
        msg = (
            f"a budget has {sizes:.2g} sizes near its minimum, and runs drawn with replacement from fewer than {FEWEST_DRAWN} often leave less than the three "
            'that a minimum needs. Add sizes, or take intervals="noise".'
        )
        raise FitError(msg)
    order = _checks.canonical(runs)
    counts = np.empty((draws.resamples, len(runs)))
    counts[:, order] = _bootstrap.counts(runs.budget[order], resamples=draws.resamples, seed=draws.seed)
    each = [_drawn(fitted.valleys[i], counts, runs.loss) for i in which]
    losses, times = ([column[:, fitted.used[i]] for i, column in zip(which, columns, strict=True)] for columns in zip(*each, strict=True))
    floor = fitted.floor(which, losses, times)
    there = np.isfinite(floor.x)
    kept = (there.sum(axis=1) >= FEWEST_BUDGETS) & (np.nan_to_num(floor.loss, nan=1.0) > 0).all(axis=1)
    floor, there = floor.rows(kept), there[kept]
    x = np.where(there, floor.x, np.log(draws.frontier.params))
    price = np.array([fitted.valleys[i].price for i in which])
    log_tokens = np.log(draws.frontier.tokens) - price * (x - np.log(draws.frontier.params))
    return laws(draws.frontier, x, log_tokens, np.where(there, floor.loss, draws.frontier.loss), draws.weights * there)


def _drawn(valley: Valley, counts: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """(rows, points) mean loss of the runs drawn at each point, its own where there is none, and how many there are."""
    first = np.flatnonzero(np.append(True, np.diff(valley.point) > 0))
    here = counts[:, valley.runs]
    times = np.add.reduceat(here, first, axis=1)
    total = np.add.reduceat(here * loss[valley.runs], first, axis=1)
    return np.where(times > 0, total / np.maximum(times, 1.0), valley.loss), times
