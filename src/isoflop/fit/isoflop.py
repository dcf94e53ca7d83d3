"""Approach 2: IsoFLOP profiles (Hoffmann et al. 2022, Sec. 3.2).

At each budget a parabola of the loss in log params gives the best size; power laws go through the best sizes and lengths of all budgets.
"""

import math

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _frontier
from isoflop.fit._profile import profile, residuals, wobble
from isoflop.fit.result import Fit, Frontier, Profile, Status
from isoflop.laws.powerlaw import PowerLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

WINDOW = math.log(4.0)  # either side of the minimum; all points of a wide profile give a = 2.1 where 0.85 is right (Porian et al.'s runs)
FEWEST_BUDGETS = 2  # a line
WANTED_BUDGETS = 4  # assumption: below that one bad minimum decides the exponent


def fit(runs: Runs, *, window: float = WINDOW, resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fit:
    """Fit N_opt ~ C**a and D_opt ~ C**b through the minima of IsoFLOP profiles, by unweighted least squares in logs.

    Losses of seeds at one size are averaged. The parabola goes through the sizes within `window` of its own minimum, or the five nearest. A minimum
    counts if it lies between the points used and the parabola opens upwards; other budgets are reported in `profiles` and not used.

    Intervals: seven sizes a budget cannot be resampled by run, since most resamples would lose a neighbour of the minimum. Noise is put back instead:
    each minimum moves as its parabola does under noise of the size seen about all parabolas, itself uncertain, and never less than between seeds;
    scatter of the minima about the power law beyond that is added. No resamples (so intervals of NaN) where nothing shows the noise.

    Args:
        runs: With the same `budget` for the runs of one profile.
        window: Either side of the minimum, in log params.
        resamples: Sets of moved minima.
        seed: Of the draw.

    Raises:
        FitError: Fewer than two budgets with a minimum inside their sizes; the message says what each budget lacks.

    Source: Hoffmann et al. 2022, Sec. 3.2.
    """
    order = _checks.canonical(runs)
    profiles = tuple(profile(runs, order[runs.budget[order] == level], window) for level in np.unique(runs.budget))
    used = tuple(p for p in profiles if p.interior)
    if len(used) < FEWEST_BUDGETS:
        raise FitError(_refusal(profiles))
    frontier = _optima(used)
    noise = _checks.noise(runs)
    law = _laws(frontier.flops, np.log(frontier.params)[None], np.log(frontier.tokens)[None], frontier.loss[None])[0]
    scatter = np.log(frontier.params / law.optimum(frontier.flops).params)
    return Fit(
        approach="isoflop",
        law=law,
        estimator=f"parabolas in log params within {math.exp(window):.3g}x of the minimum; unweighted least squares in logs through {len(used)} minima",
        objective=float(scatter @ scatter),
        frontier=frontier,
        profiles=profiles,
        residuals=_residuals(runs, used),
        noise=noise,
        noise_freedom=_checks.noise_freedom(runs),
        resamples=_resample(used, frontier, scatter, noise, resamples=resamples, seed=seed),
        status=_status(law, profiles),
        warnings=_warnings(runs, profiles, frontier, law),
        reach_flops=float(runs.flops.max()),
        convention=runs.convention,
        runs_digest=runs.digest,
        n_runs=len(runs),
    )


def _optima(used: tuple[Profile, ...]) -> Frontier:
    return Frontier(
        flops=np.array([p.flops for p in used]),
        params=np.array([p.params_opt for p in used]),
        tokens=np.array([p.tokens_opt for p in used]),
        loss=np.array([p.loss_opt for p in used]),
    )


def _laws(flops: Floats, log_params: Floats, log_tokens: Floats, loss: Floats) -> tuple[PowerLaw, ...]:
    """A law for each row of minima (rows, budgets)."""
    c0 = float(np.exp(np.log(flops).mean()))
    x, once = np.log(flops / c0), np.ones_like(loss)
    return _frontier.power_laws(c0, _frontier.line(x, log_params, once), _frontier.line(x, log_tokens, once), _frontier.decay(flops / c0, loss, once))


def _residuals(runs: Runs, used: tuple[Profile, ...]) -> Floats:
    """(runs,) log of observed over fitted loss, enlarged for leverage; NaN for runs outside every window."""
    left = np.full(len(runs), np.nan)
    for p in used:
        grow = residuals(p) / (p.loss - _fitted(p))
        for size, factor, fitted in zip(p.params, grow, _fitted(p), strict=True):
            here = (runs.budget == p.flops) & (runs.params == size)
            left[here] = np.log(runs.loss[here] / fitted) * factor
    return left


def _fitted(p: Profile) -> Floats:
    return np.asarray(np.polyval(p.coefficients, np.log(p.params)))


def _resample(used: tuple[Profile, ...], frontier: Frontier, scatter: Floats, noise: float, *, resamples: int, seed: int) -> tuple[PowerLaw, ...]:
    """Laws through minima moved by noise and by their scatter about the law."""
    rng = np.random.default_rng(seed)
    size = _noise_sizes(rng, used, noise, resamples)
    freedom = len(used) - 2
    if size is None and not freedom:
        return ()
    moved = [wobble(p, rng.standard_normal((resamples, int(p.used.sum()))) * (0.0 if size is None else size[:, None]) * p.loss_opt) for p in used]
    log_params = np.stack([w.log_params for w in moved], axis=1)
    explained = float(np.mean(np.var(log_params, axis=0)))
    seen = float(scatter @ scatter) / freedom if freedom else 0.0
    log_params = log_params + rng.standard_normal(log_params.shape) * math.sqrt(max(0.0, seen - explained))
    price = np.array([_price(p) for p in used])
    log_tokens = np.log(frontier.tokens) - price * (log_params - np.log(frontier.params))
    return _laws(frontier.flops, log_params, log_tokens, np.stack([w.loss for w in moved], axis=1))


def _noise_sizes(rng: np.random.Generator, used: tuple[Profile, ...], noise: float, resamples: int) -> Floats | None:
    """(resamples,) relative noise of a point, as uncertain as the residuals leave it; None if nothing shows it."""
    squares = sum(float(np.sum((p.loss - _fitted(p))[p.used] ** 2)) / p.loss_opt**2 for p in used)
    freedom = sum(int(p.used.sum()) - 3 for p in used)
    floor = 0.0 if math.isnan(noise) else noise / float(np.mean([p.loss_opt for p in used]))
    if not freedom:
        return None if floor == 0.0 else np.full(resamples, floor)
    return np.maximum(np.sqrt(squares / rng.chisquare(freedom, resamples)), floor)


def _price(p: Profile) -> float:
    """How log tokens fall with log params at the budget: 1 where C = 6ND."""
    x = np.log(p.params) - np.log(p.params).mean()
    return -float(x @ np.log(p.tokens)) / float(x @ x)


def _refusal(profiles: tuple[Profile, ...]) -> str:
    shown = "; ".join(f"{units.flops(p.flops)} FLOPs: {p.note or 'has a minimum'}" for p in profiles[:8]) + ("; ..." if len(profiles) > 8 else "")
    return (
        f"{sum(p.interior for p in profiles)} of {len(profiles)} budgets have a minimum between their sizes, and a power law needs {FEWEST_BUDGETS} "
        f"({WANTED_BUDGETS} to be of use). {shown}. Add sizes on the side where loss still falls, or give runs of one profile the same budget."
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


def _warnings(runs: Runs, profiles: tuple[Profile, ...], frontier: Frontier, law: PowerLaw) -> tuple[str, ...]:
    noise = _checks.noise(runs)
    largest = float(runs.budget.max())
    return (
        *(f"{units.flops(p.flops)} FLOPs is not used: {p.note}. Add sizes there." for p in profiles if not p.interior),
        *_checks.irreducible(law.E, runs.loss),
        *_checks.edge_of_sizes(runs, float(law.optimum(largest).params), largest),
        *_checks.compute_range(frontier.flops),
        *_checks.loss_form(law.E, frontier.flops.size),
        *_checks.bumps(runs, noise),
        *_checks.dropped(runs),
    )
