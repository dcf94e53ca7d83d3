"""Whatever runs are fitted: fits, plans and tables without a warning, or an error of ours; and no number that cannot be."""

import dataclasses
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import simulated
from fuzz import answer_or_error, examples
from isoflop import fit, workspace
from isoflop.fit import _frontier, answers, isoflop
from isoflop.fit._overflow import unwarned
from isoflop.fit.account import Account
from isoflop.fit.saved import Saved
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.powerlaw import PowerLaw
from isoflop.plan import question
from isoflop.plan.request import Request
from isoflop.report import export, outlook, planning
from isoflop.report import fits as tables
from isoflop.runs import Runs

LAWS = st.builds(Chinchilla, E=st.floats(0, 3), A=st.floats(0.1, 1e4), B=st.floats(0.1, 1e5), alpha=st.floats(0.02, 1.5), beta=st.floats(0.02, 1.5))
ODD_LOSSES = st.one_of(
    st.floats(1e-300, 1e300), st.sampled_from([1e-300, 1e-12, 0.0003, 1.0, 30.0, 1e12, 1e300]), st.floats(1.0, 4.0), st.floats(-9, 9).map(lambda x: 10.0**x)
)


@st.composite
def sweeps(draw: st.DrawFn) -> Runs:
    """Draw three to five budgets from 1e10 FLOPs up, of few sizes, by a law with noise, with some losses that are odd."""
    low = draw(st.sampled_from([1e10, 1e10, 1e17, 1e3]))
    span = draw(st.sampled_from([10.0, 10.0, 1.01, 1e6]))
    budgets = np.geomspace(low, low * span, draw(st.integers(3, 5)))
    count, spread = draw(st.integers(1, 7)), draw(st.sampled_from([2.0, 16.0, 1e4]))
    middle = np.sqrt(budgets / 6 / draw(st.sampled_from([1.0, 20.0, 1e3])))
    params = (middle[:, None] * np.geomspace(spread**-0.5, spread**0.5, count)).ravel()
    budget = np.repeat(budgets, count)
    tokens = budget / (6 * params)
    noise = draw(st.sampled_from([0.0, 0.003, 0.1, 3.0]))
    loss = draw(LAWS).loss(params, tokens) * np.exp(noise * np.random.default_rng(draw(st.integers(0, 99))).standard_normal(params.size))
    for at, odd in draw(st.lists(st.tuples(st.integers(0, params.size - 1), ODD_LOSSES), max_size=4)):
        loss[at] = odd
    if draw(st.integers(0, 9)) == 0:
        loss[:] = draw(ODD_LOSSES)
    return Runs.from_columns(params=params, tokens=tokens, loss=loss, budget=budget)


def shown(found: fit.Fits, runs: Runs, flops: float) -> None:
    """Make everything that is printed of fits."""
    account = Account.of(runs, "runs.csv")
    tables.account(account, found)
    tables.exponents(found, level=0.8)
    tables.holdout(found)
    for extrapolate in (False, True):
        answer = answers.answer(found, flops, extrapolate=extrapolate)
        outlook.predictions(found, answer)
        outlook.words(found, answer)
        export.found_json(found, account, answer)
    for entry in found:
        entry.interval(lambda law: law.a, level=0.8)
    planning.plan(question.answer(workspace.ask(Saved(fits=found, account=account), Request(flops=repr(flops), extrapolate=True))))


@examples(few=3, many=300)  # a second or two each
@given(runs=sweeps(), beyond=st.sampled_from([0.5, 3.0, 10.0, 1e4]))
def test_runs_of_any_losses_are_fitted_and_shown_without_a_warning(runs, beyond):
    found = answer_or_error(lambda: fit.fit_all(runs, resamples=20))
    if found is None:
        return
    for entry in found:
        assert not math.isnan(entry.objective)
    answer_or_error(lambda: shown(found, runs, beyond * float(runs.flops.max())))


def test_three_budgets_with_scattered_optima_lose_the_draws_beyond_double_precision():
    """Their scatter has one degree of freedom, so that a few of 2000 draws put an optimum at over e**700 params."""
    budget = np.repeat([1e10, 3e10, 1e11], 7)
    x, middle = np.tile(np.linspace(-9, 9, 7), 3), np.repeat([-4.5, 4.5, -4.5], 7)
    loss = (2 + 0.01 * (x - middle) ** 2) * np.exp(0.001 * np.random.default_rng(0).standard_normal(21))
    params = 4e4 * np.exp(x)
    found = isoflop.fit(Runs.from_columns(params=params, tokens=budget / (6 * params), loss=loss, budget=budget), resamples=2000)
    assert 0 < found.lost < 100


def test_rows_beyond_double_precision_make_no_law():
    far, near = np.array([800.0, -800.0, 1.0]), np.array([1.0, 1.0, 1.0])
    decay = _frontier.Decay(near, near, near)
    with unwarned:
        assert len(_frontier.power_laws(1e10, _frontier.Line(far, near), _frontier.Line(near, near), decay)) == 1


def test_an_optimum_of_no_params_is_no_prediction():
    found = isoflop.fit(simulated.results().runs, resamples=0)
    nowhere = dataclasses.replace(found, law=PowerLaw(c0=1e10, n0=1e-300, d0=1.0, a=40.0, b=0.5))
    assert math.isnan(answers.by_fit(nowhere, 1.0).params)
