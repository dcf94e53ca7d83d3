"""Every law of the menu keeps the promises of a law; a new file joins by itself."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import _registry
from isoflop.errors import FitError, UsageError
from isoflop.laws import Cost, Law, kaplan, powerlaw
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.chinchilla import published as chinchilla_published

GOLDEN = tomllib.loads((Path(__file__).parents[1] / "golden/laws.toml").read_text(encoding="utf-8"))
NAMES = _registry.names("isoflop.laws")

exponents = st.floats(0.1, 1.0)
laws = st.builds(
    Chinchilla,
    E=st.floats(0, 3),
    A=st.floats(1, 1e4),
    B=st.floats(1, 1e4),
    alpha=exponents,
    beta=exponents,
    cost=st.builds(Cost, scale=st.floats(1, 50), power=st.floats(0.7, 1.2)),
)


@pytest.fixture(params=NAMES)
def law(request) -> Law:
    return _registry.load("isoflop.laws", request.param, noun="law").published()


def test_optimum_has_the_shape_of_the_flops(law):
    for flops in (1e20, np.array([1e20, 1e21]), np.ones((2, 3)) * 1e20):
        best = law.optimum(flops)
        assert best.flops.shape == best.params.shape == best.tokens.shape == best.loss.shape == np.shape(flops)


def test_optima_grow_by_the_exponents(law):
    small, large = law.optimum(1e21), law.optimum(1e23)
    assert np.log(large.params / small.params) / np.log(100) == pytest.approx(law.a, rel=1e-9)
    assert np.log(large.tokens / small.tokens) / np.log(100) == pytest.approx(law.b, rel=1e-9)


def test_more_compute_never_hurts(law):
    loss = law.optimum(np.geomspace(1e18, 1e26, 50)).loss
    assert np.isnan(loss).all() or (np.diff(loss) < 0).all()


def test_loss_off_the_frontier_is_a_number_or_an_error_but_never_nan(law):
    params, tokens = np.geomspace(1e8, 1e11, 4)[:, None], np.geomspace(1e9, 1e12, 5)
    if np.isfinite(law.optimum(1e21).loss) and hasattr(law, "cost"):
        loss = law.loss(params, tokens)
        assert loss.shape == (4, 5)
        assert np.isfinite(loss).all()
    else:
        with pytest.raises(FitError, match="parametric"):
            law.loss(params, tokens)


def test_laws_are_frozen(law):
    with pytest.raises(AttributeError):
        law.a = 1.0


@given(law=laws, flops=st.floats(1e15, 1e25))
def test_the_optimum_of_chinchilla_is_a_minimum_on_its_isoflop_line(law, flops):
    best = law.optimum(flops)
    nearby = best.params * np.exp(np.array([-0.5, -0.05, 0.05, 0.5]))
    # 1e-13: where both terms are small against E the difference is rounding error
    assert (law.loss(nearby, law.cost.tokens(nearby, flops)) >= best.loss * (1 - 1e-13)).all()
    assert law.cost.flops(best.params, best.tokens) == pytest.approx(flops, rel=1e-9)


@given(law=laws, flops=st.floats(1e15, 1e25), unit=st.sampled_from([1e-6, 1e3, 1e9]))
def test_counting_params_in_other_units_moves_the_optimum_by_the_unit_only(law, flops, unit):
    """N in units: A and the cost's scale take up the change."""
    cost = Cost(scale=law.cost.scale / unit**law.cost.power, power=law.cost.power)
    scaled = Chinchilla(E=law.E, A=law.A * unit**law.alpha, B=law.B, alpha=law.alpha, beta=law.beta, cost=cost)
    before, after = law.optimum(flops), scaled.optimum(flops)
    assert after.params == pytest.approx(before.params * unit, rel=1e-9)
    assert after.tokens == pytest.approx(before.tokens, rel=1e-9)
    assert after.loss == pytest.approx(before.loss, rel=1e-9)
    assert (scaled.a, scaled.b) == (law.a, law.b)


def test_the_papers_constants_give_the_papers_model_at_gophers_budget():
    golden = GOLDEN["gopher_budget"]
    assert float(chinchilla_published().optimum(golden["flops"]).params) == pytest.approx(golden["params"], rel=golden["tolerance"])


def test_the_papers_constants_give_the_papers_exponents():
    golden, law = GOLDEN["table3_exponents"], chinchilla_published()
    assert (law.a, law.b) == (pytest.approx(golden["a"], rel=golden["tolerance"]), pytest.approx(golden["b"], rel=golden["tolerance"]))


def test_a_power_law_goes_through_its_point():
    golden, best = GOLDEN["approach2"], powerlaw.published().optimum(GOLDEN["gopher_budget"]["flops"])
    assert (float(best.params), float(best.tokens)) == (golden["params"], golden["tokens"])


def test_kaplan_spends_a_hundredfold_budget_on_params():
    law = kaplan.anchored(1e20, 1e9, 1e10)
    best = law.optimum(1e22)
    assert float(best.params) == pytest.approx(1e9 * 100**0.73)
    assert float(best.tokens) == pytest.approx(1e10 * 100**0.27)
    assert np.isnan(best.loss)


@pytest.mark.parametrize(("name", "value"), [("E", -0.1), ("A", 0.0), ("B", float("nan")), ("alpha", -0.3), ("beta", float("inf"))])
def test_constants_that_make_no_law_are_refused_by_name(name, value):
    constants = {"E": 1.7, "A": 400.0, "B": 400.0, "alpha": 0.3, "beta": 0.3} | {name: value}
    with pytest.raises(UsageError, match=f"{name} of a Chinchilla law is"):
        Chinchilla(**constants)
