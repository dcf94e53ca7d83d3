"""Resamples of Approach 2: minima moved by noise, or found again from runs drawn with replacement; and the power laws through them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _frontier
from isoflop.fit._evidence import Evidence
from isoflop.fit._valley import NO_NOISE, Floor, Method, Valley
from isoflop.fit.result import Frontier
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

FEWEST_BUDGETS = 2  # a line
FEWEST_DRAWN = 5  # sizes a budget has on average, so that most draws keep the three that a minimum needs (assumption)
LOWEST = 1e-3  # of the loss at the minimum, which no noise takes a loss below: logs are taken of it
# A chance of more scatter than is seen, above which scatter and residuals are taken for one noise and counted together ("sometimes pooling": Bancroft 1944,
# Ann. Math. Statist. 15, 190), and below which the scatter is added as it is. Assumption: in draws of normal errors, 8 or 16 degrees of freedom of noise and
# 3 or 4 of scatter, 0.2 makes 90 % intervals hold in 87 to 92 % whatever the scatter; adding the mean excess holds in 93 % without any and 80 % with much.
POOLED = 0.2
BLOCK = 5_000_000  # losses drawn at once, so that memory does not grow with the resamples


class Minima(NamedTuple):
    """What resamples are made of: the minima found, and what found them."""

    fitted: Method
    evidence: Evidence
    which: tuple[int, ...]
    frontier: Frontier
    weights: Floats
    noise: float  # of the loss between seeds, or NaN
    noise_freedom: int
    resamples: int
    seed: int


def law(frontier: Frontier, weights: Floats) -> PowerLaw:
    """Return the law through minima.

    Raises:
        FitError: Its constants are no numbers.
    """
    found = laws(frontier, np.log(frontier.params)[None], np.log(frontier.tokens)[None], frontier.loss[None], weights)
    if not found:
        raise FitError("the optima of the budgets lie so far apart that no power law goes through them. Check the losses and the budgets.")
    return found[0]


def laws(frontier: Frontier, log_params: Floats, log_tokens: Floats, loss: Floats, weights: Floats) -> tuple[PowerLaw, ...]:
    """Return a law for each row of minima that determines one: (rows, budgets), with weights (rows, budgets) or (budgets,) for the exponents."""
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
    scatter = np.log(frontier.params / law(frontier, equal).optimum(frontier.flops).params)
    beyond = max(0.0, float(scatter @ scatter) / (len(which) - 2) - float(variance.mean()))
    inverse = 1 / (variance + beyond)
    return np.asarray(inverse / inverse.mean())


def by_noise(draws: Minima) -> tuple[PowerLaw, ...]:
    """Laws through minima moved by noise, and by what they scatter beyond it; none where nothing shows either."""
    rng = np.random.default_rng(draws.seed)
    seen, freedom = _scatter(draws, np.log(draws.frontier.params)[None]).item(), len(draws.which) - 2
    noise = _noise(draws)
    if not draws.resamples or (noise.freedom <= 0 and freedom <= 0):
        return ()
    size = noise.drawn(rng, draws.resamples)
    moved = _moved(rng, draws, size)
    if freedom <= 0:
        return _through(draws, moved, moved.x)
    by_chance = _scatter(draws, moved.x - np.log(draws.frontier.params))
    each = float(np.mean(by_chance / np.where(size > 0, size, 1.0) ** 2)) / freedom  # scatter that noise of size one makes, for each degree of freedom
    if each > 0 and float(np.mean(by_chance >= seen)) >= POOLED:
        both = _Noise(noise.squares + seen / each, noise.freedom + freedom)
        return _through(draws, moved, _moved(rng, draws, both.drawn(rng, draws.resamples)).x)
    beyond = np.maximum(0.0, seen / rng.chisquare(freedom, draws.resamples) - size**2 * each)
    return _through(draws, moved, moved.x + rng.standard_normal(moved.x.shape) * np.sqrt(beyond)[:, None])


def _through(draws: Minima, moved: Floor, log_params: Floats) -> tuple[PowerLaw, ...]:
    """Laws through the minima of those resamples whose losses are possible."""
    price = np.array([draws.fitted.valleys[i].price for i in draws.which])
    log_tokens = np.log(draws.frontier.tokens) - price * (log_params - np.log(draws.frontier.params))
    possible = (moved.loss > 0).all(axis=1)
    return laws(draws.frontier, log_params[possible], log_tokens[possible], moved.loss[possible], draws.weights)


def _scatter(draws: Minima, log_params: Floats) -> Floats:
    """(rows,) squares of log params about their power law."""
    x = np.log(draws.frontier.flops)
    x = x - x.mean()
    line = _frontier.line(x, log_params, np.broadcast_to(draws.weights, log_params.shape))
    about = line.middle[:, None] + line.slope[:, None] * x
    return np.asarray(((log_params - about) ** 2).sum(axis=1))


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


class _Noise(NamedTuple):
    """Of a run, relative to its loss."""

    squares: float
    freedom: float

    def drawn(self, rng: np.random.Generator, rows: int) -> Floats:
        """(rows,) standard deviations, as uncertain as their degrees of freedom leave them; zeros where there are none."""
        return np.sqrt(self.squares / rng.chisquare(self.freedom, rows)) if self.freedom > 0 else np.zeros(rows)


def _noise(draws: Minima) -> _Noise:
    """From residuals, and from seeds where they show more: noise between seeds is in residuals too, so those are the smaller by chance alone."""
    found = _Noise(draws.evidence.squares, draws.evidence.freedom)
    if math.isnan(draws.noise):
        return found
    between = (draws.noise / float(np.mean(draws.frontier.loss))) ** 2
    seeds = _Noise(between * draws.noise_freedom, draws.noise_freedom)
    if found.freedom <= 0:
        return seeds
    return _Noise(found.squares + seeds.squares, found.freedom + seeds.freedom) if found.squares < between * found.freedom else found


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
