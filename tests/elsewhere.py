"""Runs as a CSV has them, of a known law at the scale of papers, and what may have been fitted to them."""

import dataclasses
import functools
import math

import numpy as np

from isoflop import fit, published
from isoflop.errors import FitError
from isoflop.fit import Holdout, Trial
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.farseer import Farseer
from isoflop.laws.kaplan import Kaplan
from isoflop.laws.overtraining import Overtraining
from isoflop.report.results import Fitted
from isoflop.runs import NATS, Curve, Dropped, Runs

TRUTH = Chinchilla(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
BUDGETS = (1e18, 3e18, 1e19, 3e19, 1e20)
LAWS = {
    "chinchilla": TRUTH,
    "data_constrained": dataclasses.replace(published.get("muennighoff")[0].law, unique_tokens=1e9),
    "farseer": Farseer(a1=-0.05, b1=-1.13, alpha=0.05, a2=0.5, b2=5.82, beta=-0.05, a3=119.0, b3=0.53, gamma=-0.313),  # made up
    "kaplan": Kaplan(Nc=8.8e13, Dc=5.4e13, alpha_N=0.076, alpha_D=0.095),  # Kaplan et al. 2020, Eq. 1.5
    "overtraining": Overtraining(E=1.84, over=212.0, under=367.0, eta=0.136),
}
EVIL = "</script><img src=x onerror=alert(1)>\u2028'\"&{{ 7 * 7 }}\\"


def runs(*, unit: str = NATS, curves: bool = True, budgets: tuple[float, ...] = BUDGETS, ids: str = "run {}", far_off: bool = False) -> Runs:
    """Seven sizes a budget about the optimum, with noise of 0.2 %; one run of the last budget diverged, if it is to be far off."""
    sizes = [(budget, float(TRUTH.optimum(budget).params) * 2.0**step) for budget in budgets for step in range(-3, 4)]
    budget, params = (np.array(column) for column in zip(*sizes, strict=True))
    tokens = budget / (6 * params)
    loss = TRUTH.loss(params, tokens) * np.exp(np.random.default_rng(0).normal(scale=0.002, size=params.size)) * (1 if unit == NATS else 0.25)
    if far_off:
        loss[-1] *= 2
    return Runs.from_columns(
        params=params,
        tokens=tokens,
        loss=loss,
        budget=budget,
        ids=[ids.format(i) for i in range(params.size)],
        curves=[_curve(n, d, end) for n, d, end in zip(params, tokens, loss, strict=True)] if curves else None,
        unit=unit,
        dropped=(Dropped("row 7", "diverged: loss 11 at the end"), Dropped("1,200 rows", "not the end of a run (the first is row 9)")),
    )


def _curve(params: float, tokens: float, end: float) -> Curve:
    seen = np.linspace(tokens / 200, tokens, 200)
    loss = TRUTH.loss(params, seen)
    return Curve(seen, loss * end / loss[-1])


def fitted(some: Runs, *, resamples: int = 20, approaches: tuple[str, ...] = fit.APPROACHES, target: float | None = None) -> Fitted:
    """By those approaches that these runs determine."""
    fits, left_out = [], []
    far = some.loss > 1.5 * np.median(some.loss)
    aside, kept = tuple(Dropped(some.ids[i], "far off") for i in np.flatnonzero(far)), some.take(np.flatnonzero(~far))
    for approach in approaches:
        try:
            found = getattr(fit, approach).fit(kept, resamples=resamples)
        except FitError as error:
            left_out.append((approach, str(error)))
        else:
            fits.append(dataclasses.replace(found, set_aside=aside))
    return Fitted(runs=some, fits=tuple(fits), left_out_fits=tuple(left_out), target=target, holdout=holdout())


def holdout() -> Holdout:
    """Trials of three candidates that err by 1 %, 2 % and 3 % for each e-fold beyond the data."""
    trials = [
        Trial(
            by=by,
            fitted_flops=low,
            flops=high,
            loss=2.5 * (1 + slope * math.log(high / low)),
            observed=2.5,
            params=1e8 * (high / low) ** slope,
            observed_params=1e8 if high < BUDGETS[-1] else math.nan,
        )
        for by, slope in (("isoflop", -0.01), ("parametric chinchilla", 0.02), ("parametric farseer", 0.03))
        for i, low in enumerate(BUDGETS[2:-1], start=2)
        for high in BUDGETS[i + 1 :]
    ]
    return Holdout(trials=tuple(trials), left_out=(("envelope", "the runs have no curves."),))


@functools.cache
def usual() -> Fitted:
    """By all three approaches, with a run set aside."""
    return fitted(runs(far_off=True), target=1e22)


@functools.cache
def plain() -> Fitted:
    """Final losses alone, in bits per byte, without a target and with nothing held out."""
    return dataclasses.replace(fitted(runs(unit="bits per byte", curves=False)), holdout=None)
