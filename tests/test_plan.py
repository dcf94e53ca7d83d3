"""A plan is what the law says, and never silent beyond its reach."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import arch
from isoflop.errors import ExtrapolationError
from isoflop.fit import fit_all
from isoflop.laws.chinchilla import Chinchilla
from isoflop.plan import plan, plan_all
from isoflop.runs import Runs

# Hoffmann et al. 2022, Approach 3 with the printed constants (Eq. 10); loss in nats per token.
LAW = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def sweep() -> Runs:
    """Noise-free IsoFLOP runs of the law above, five budgets, 6ND."""
    budget = np.repeat(np.geomspace(1e18, 1e20, 5), 9)
    params = LAW.optimum(budget).params * np.tile(np.geomspace(0.3, 3.0, 9), 5)
    tokens = budget / (6 * params)
    return Runs.from_columns(params=params, tokens=tokens, loss=LAW.loss(params, tokens), budget=budget)


@pytest.fixture(scope="module")
def fits():
    return fit_all(sweep()).fits


@pytest.fixture(scope="module")
def plans(fits):
    return plan_all(fits, 1e21, family="llama", vocab=32_000, context=2048)


def test_the_plan_of_noise_free_runs_is_the_laws_own_optimum(plans):
    best = LAW.optimum(1e21)
    by = {p.approach: p for p in plans}
    assert by["parametric"].params == pytest.approx(float(best.params), rel=1e-3)
    assert by["parametric"].loss == pytest.approx(float(best.loss), rel=1e-5)
    assert by["isoflop"].params == pytest.approx(float(best.params), rel=0.1)  # parabolas are biased where alpha differs from beta
    assert by["isoflop"].loss == pytest.approx(float(best.loss), rel=5e-3)


def test_the_shape_is_real_and_its_tokens_spend_the_budget(plans):
    for p in plans:
        assert p.shape == arch.get("llama").at(p.shape.d_model, vocab=32_000, context=2048)
        assert p.shape_tokens * p.shape.flops_per_token.training == pytest.approx(1e21, rel=1e-12)
        assert abs(math.log(p.shape.params.total / p.params)) < 0.45  # half of the widest rung of the ladder


def test_intervals_hold_the_estimate(plans):
    for p in plans:
        assert p.params_interval[0] <= p.params * (1 + 1e-6)
        assert p.params <= p.params_interval[1] * (1 + 1e-6)


def test_beyond_reach_is_refused_with_the_estimate_attached(fits):
    with pytest.raises(ExtrapolationError, match="--extrapolate") as caught:
        plan(fits[0], 1e24, family="llama", vocab=32_000, context=2048)
    assert caught.value.reach == pytest.approx(1e4, rel=1e-6)
    accepted = plan(fits[0], 1e24, family="llama", vocab=32_000, context=2048, extrapolate=True)
    assert caught.value.estimate == accepted


@given(st.floats(1e18, 2e21), st.floats(1.01, 10))
def test_more_compute_never_raises_the_predicted_loss(fits, flops, factor):
    for one in fits:
        less, more = (float(one.law.optimum(c).loss) for c in (flops, flops * factor))
        assert more <= less
