"""Every law of the menu keeps the promises of a law. A new form joins by an instance in LAWS, and a test fails until it has one."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop import _registry, published
from isoflop.errors import FitError, UsageError
from isoflop.laws import Cost, exponents, frontier, params_for, tokens_for
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.laws.farseer import Farseer
from isoflop.laws.kaplan import Kaplan
from isoflop.laws.overtraining import Overtraining
from isoflop.laws.powerlaw import PowerLaw

# constants of about the published size; the published ones join below
ADDITIVE = {"E": 1.7, "A": 406.0, "B": 411.0, "alpha": 0.34, "beta": 0.28}
LAWS = {
    "chinchilla": Chinchilla(**ADDITIVE),
    "chinchilla, steep": Chinchilla(E=0.0, A=1e30, B=1e-3, alpha=2.5, beta=0.05),
    "chinchilla, own cost": Chinchilla(**ADDITIVE, cost=Cost(scale=40.0, power=0.85)),
    "data_constrained": DataConstrained(**ADDITIVE, R_N=5.3, R_D=15.4, unique_tokens=25e9),
    "data_constrained, own cost": DataConstrained(**ADDITIVE, R_N=0.2, R_D=90.0, unique_tokens=3e9, cost=Cost(scale=40.0, power=0.85)),
    "data_constrained, no limit": DataConstrained(**ADDITIVE, R_N=5.3, R_D=15.4, unique_tokens=math.inf),
    "farseer": Farseer(a1=-0.05, b1=-1.13, alpha=0.05, a2=0.5, b2=5.82, beta=-0.05, a3=119.0, b3=0.53, gamma=-0.313),
    "farseer, own cost": Farseer(
        a1=-0.124, b1=0.424, alpha=0.123, a2=88.0, b2=-5.29, beta=-0.1, a3=-0.021, b3=-0.091, gamma=0.169, cost=Cost(scale=8.0, power=0.98)
    ),
    "kaplan": Kaplan(Nc=8.8e13, Dc=5.4e13, alpha_N=0.076, alpha_D=0.095),
    "kaplan, lopsided": Kaplan(Nc=1e14, Dc=1e9, alpha_N=0.9, alpha_D=0.01, cost=Cost(scale=3.0, power=1.2)),
    "overtraining": Overtraining(E=1.8, over=140.0, under=190.0, eta=0.12),
    "overtraining, lopsided": Overtraining(E=0.0, over=1e-3, under=1e6, eta=0.02),
    "powerlaw": PowerLaw(c0=5.76e23, n0=63e9, d0=1.4e12, a=0.49, b=0.51),
    "powerlaw, with loss": PowerLaw(c0=1e20, n0=1e9, d0=2e10, a=0.6, b=0.4, E=1.7, k=0.9, g=0.15),
    "powerlaw, bent": PowerLaw(c0=1e20, n0=1e9, d0=2e10, a=0.5, b=0.5, E=0.0, k=2.5, g=0.05, curvature=-0.02),
} | {fit.name: fit.law for fit in published.every() if fit.law is not None}
OF_MODELS = [name for name, law in LAWS.items() if not isinstance(law, PowerLaw)]  # that say the loss of any params and tokens
SMALLEST, LARGEST = 1e6, 1e16  # params and tokens


def budgets(law):
    """From that of the smallest model on as many tokens; Farseer's exponentials are fitted at far larger ones, and say nothing of that."""
    return np.geomspace(1e17 if isinstance(law, Farseer) else 6 * SMALLEST**2, 1e33, 43)


shares = st.floats(0.1, 1.0)
costs = st.builds(Cost, scale=st.floats(1, 50), power=st.floats(0.7, 1.2))
additive = {"E": st.floats(0, 3), "A": st.floats(1, 1e4), "B": st.floats(1, 1e4), "alpha": shares, "beta": shares}
additive_laws = st.builds(Chinchilla, **additive, cost=costs)
laws = st.one_of(
    additive_laws,
    st.builds(DataConstrained, **additive, R_N=st.floats(0.1, 100), R_D=st.floats(0.1, 100), unique_tokens=st.floats(6, 15).map(lambda x: 10**x), cost=costs),
    st.builds(
        Farseer,
        a1=st.floats(-0.2, -0.05),
        b1=st.floats(-0.8, 0.0),
        alpha=st.floats(0.02, 0.08),
        a2=st.floats(4, 9),
        b2=st.floats(1, 4),
        beta=st.floats(-0.08, -0.03),
        a3=st.floats(-0.4, -0.2),
        b3=st.floats(0, 2),
        gamma=st.floats(0.03, 0.07),
    ),
    st.builds(Kaplan, Nc=st.floats(1e9, 1e15), Dc=st.floats(1e9, 1e15), alpha_N=st.floats(0.03, 0.5), alpha_D=st.floats(0.03, 0.5), cost=costs),
    st.builds(Overtraining, E=st.floats(0, 3), over=st.floats(1, 1e4), under=st.floats(1, 1e4), eta=st.floats(0.05, 0.4)),
)


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


@pytest.fixture(params=OF_MODELS)
def model_law(request):
    return LAWS[request.param]


def allocated(law, flops):
    """The optimum, or None where the law says that it has none (Farseer, far outside its data)."""
    try:
        return law.optimum(flops)
    except FitError:
        assert isinstance(law, Farseer)
        return None


def test_every_form_of_the_menu_is_tested():
    assert {type(law).__module__.rpartition(".")[2] for law in LAWS.values()} == set(_registry.names("isoflop.laws"))


def test_optimum_has_the_shape_of_the_flops(law):
    for flops in (1e20, [1e20, 1e21], np.ones((2, 3)) * 1e20, np.ones((0,))):
        best = law.optimum(flops)
        assert best.flops.shape == best.params.shape == best.tokens.shape == best.loss.shape == np.shape(flops)


def test_loss_broadcasts(model_law):
    params, tokens = np.geomspace(1e8, 1e11, 4)[:, None], np.geomspace(1e9, 1e12, 5)
    loss = model_law.loss(params, tokens)
    assert loss.shape == (4, 5)
    assert loss[2, 3] == model_law.loss(params[2, 0], tokens[3])
    assert model_law.loss(1e9, 1e10).shape == ()


def test_integers_give_the_answer_of_floats(law):
    """6ND overflows int64 above 9.2e18."""
    whole = np.array([10**9, 10**12, 10**16])
    assert (law.optimum(10**21).params, law.optimum(np.array([10**18])).tokens[0]) == (law.optimum(1e21).params, law.optimum(1e18).tokens)
    assert (Cost().flops(whole, whole) == Cost().flops(whole.astype(float), whole.astype(float))).all()
    if not isinstance(law, PowerLaw):
        assert (law.loss(whole, whole[::-1]) == law.loss(whole.astype(float), whole[::-1].astype(float))).all()


def test_a_budget_pays_for_its_optimum(model_law):
    best = model_law.optimum(budgets(model_law))
    assert model_law.cost.flops(best.params, best.tokens) == pytest.approx(best.flops, rel=1e-12)
    assert (best.loss == model_law.loss(best.params, best.tokens)).all()


def test_more_compute_never_hurts_and_grows_both_params_and_tokens(law):
    best = law.optimum(budgets(law))
    rounding = 1 + 1e-12  # of a size in logs up to 76; of a loss where nothing but E is left
    assert np.isnan(best.loss).all() or (best.loss[1:] <= best.loss[:-1] * rounding).all()
    assert (best.params[1:] * rounding >= best.params[:-1]).all()
    assert (best.tokens[1:] * rounding >= best.tokens[:-1]).all()


def test_answers_from_a_million_to_ten_quadrillion_are_finite(law):
    best = law.optimum(budgets(law))
    assert np.isfinite([best.params, best.tokens]).all()
    assert (best.params > 0).all()
    if not isinstance(law, PowerLaw):
        ends = np.array([SMALLEST, LARGEST])
        assert np.isfinite(law.loss(ends[:, None], ends)).all()
        assert np.isfinite(best.loss).all()


def test_exponents_are_the_slopes_of_the_frontier(law):
    a, b = exponents(law, budgets(law))
    if np.isfinite(law.a) and not getattr(law, "curvature", 0):
        assert (a, b) == (pytest.approx(np.full(a.shape, law.a), rel=1e-9), pytest.approx(np.full(b.shape, law.b), rel=1e-9))
    if not isinstance(law, PowerLaw):  # the budget pays: C = scale N**p D
        assert law.cost.power * a + b == pytest.approx(np.ones(a.shape), rel=1e-9)


@pytest.mark.parametrize("quantity", ["params", "tokens", "loss"])
def test_the_frontier_leads_back_to_the_budget(law, quantity):
    if quantity == "loss" and np.isnan(law.optimum(1e20).loss):
        with pytest.raises(FitError, match="says nothing of loss"):
            frontier(law, loss=2.0)
        return
    best = law.optimum(np.array([1e17, 1e18, 5.76e23, 1e27]))
    # so many digits of the budget are lost as the quantity hardly moves with compute: the loss does not where all tokens are repeated for nothing
    slope = np.abs(np.log(getattr(law.optimum(best.flops * 1.01), quantity) / getattr(best, quantity)) / np.log(1.01))
    moves = slope > 1e-4
    assert moves[:2].all()
    found = frontier(law, **{quantity: getattr(best, quantity)[moves]})
    assert getattr(found, quantity) == pytest.approx(getattr(best, quantity)[moves], rel=1e-12)
    assert (np.abs(np.log(found.flops / best.flops[moves])) * slope[moves] < 1e-12).all()


def test_tokens_for_a_loss_give_the_loss_and_params_for_a_loss_are_the_fewest(model_law):
    params, tokens = np.geomspace(1e7, 1e11, 3)[:, None], np.geomspace(1e8, 1e12, 3)
    loss = model_law.loss(params, tokens)
    enough = tokens_for(model_law, params, loss)
    assert enough.shape == (3, 3)
    assert model_law.loss(params, enough) == pytest.approx(loss, rel=1e-12)  # infinite, where the last tokens changed no bit of the loss
    fewest = params_for(model_law, tokens, loss)
    assert model_law.loss(fewest, tokens) == pytest.approx(loss, rel=1e-12)
    assert (fewest <= params * (1 + 1e-3)).all()


def test_a_loss_out_of_reach_takes_tokens_and_params_without_end(model_law):
    floor = float(model_law.loss(1e9, math.inf))
    if floor > 0:
        assert tokens_for(model_law, 1e9, floor) == math.inf
        assert tokens_for(model_law, 1e9, floor * 0.99) == math.inf
    if not isinstance(model_law, Farseer):  # whose loss may rise again with params
        assert params_for(model_law, 1e9, float(model_law.loss(math.inf, 1e9)) * 0.99) == math.inf
    assert (float(tokens_for(model_law, 1e9, 1e300)), float(params_for(model_law, 1e9, 1e300))) == (1.0, 1.0)


def test_the_loss_of_infinite_params_is_the_limit_and_bounds_every_model(model_law):
    tokens = np.geomspace(SMALLEST, LARGEST, 6)
    limit = model_law.loss(math.inf, tokens)
    if isinstance(model_law, Farseer):  # neither falls with params everywhere
        assert limit == pytest.approx(np.full(6, math.exp(model_law.b2) + (math.exp(model_law.b3) if model_law.gamma < 0 else 0)))
        return
    # 1e300 params: what is left of the second term is less than 1e-6 even for the powers of 0.02 here
    assert model_law.loss(1e300, tokens) == pytest.approx(limit, rel=1e-5)
    assert (model_law.loss(np.geomspace(SMALLEST, LARGEST, 21)[:, None], tokens) >= limit).all()


def test_the_loss_of_infinite_tokens_is_the_limit_and_bounds_every_run(model_law):
    params = np.geomspace(SMALLEST, 1e13, 6)
    limit = model_law.loss(params, math.inf)
    assert (model_law.loss(params, np.geomspace(SMALLEST, LARGEST, 21)[:, None]) >= limit).all()
    assert model_law.loss(math.inf, math.inf) <= limit.min()


def test_no_params_and_no_tokens_have_no_loss_and_negative_ones_are_refused(model_law):
    assert (float(model_law.loss(0, 1e9)), float(model_law.loss(1e9, 0))) == (math.inf, math.inf)
    assert np.isnan(model_law.loss(math.nan, 1e9))
    for params, tokens in ((-1.0, 1e9), (1e9, [1e9, -2.0])):
        with pytest.raises(UsageError, match="below zero"):
            model_law.loss(params, tokens)


def test_a_law_of_the_frontier_refuses_the_loss_of_a_model():
    for ask in (LAWS["powerlaw"].loss, lambda n, d: tokens_for(LAWS["powerlaw"], n, d), lambda n, d: params_for(LAWS["powerlaw"], n, d)):
        with pytest.raises(FitError, match="parametric"):
            ask(1e9, 2.0)


@pytest.mark.parametrize("flops", [0.0, -1e20, math.nan, math.inf, [1e20, 0.0]])
def test_budgets_that_are_none_are_refused(law, flops):
    for ask in (law.optimum, lambda c: exponents(law, c)):
        with pytest.raises(UsageError, match="budget"):
            ask(flops)


def test_laws_are_frozen_and_named(law):
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.b = 1.0
    with pytest.raises(TypeError):
        type(law)(*dataclasses.astuple(law))


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf, -math.inf])
def test_constants_that_make_no_law_are_refused_by_name(law, value):
    for field in dataclasses.fields(law):
        if field.name == "cost" or _is_allowed(law, field.name, value):
            continue
        with pytest.raises(UsageError, match=field.name):
            dataclasses.replace(law, **{field.name: value})


def _is_allowed(law, name, value):
    if isinstance(law, PowerLaw):
        kept_known = name in {"a", "b"} and law.curvature and not value > 0
        may_be = name not in {"c0", "n0", "d0"} and not math.isinf(value) and (name != "curvature" or not math.isnan(value))
        return may_be and not kept_known
    if isinstance(law, Farseer):
        return math.isfinite(value) and (name in {"b1", "b2", "b3"} or value * getattr(law, name) > 0)
    return (name == "E" and value == 0) or (name == "unique_tokens" and value == math.inf)


@pytest.mark.parametrize("cost", [{"scale": 0.0}, {"scale": math.nan}, {"power": -1.0}, {"power": math.inf}])
def test_a_cost_that_is_none_is_refused(cost):
    with pytest.raises(UsageError, match="of a Cost"):
        Cost(**cost)


@given(law=laws, flops=st.floats(1e15, 1e25))
def test_the_optimum_is_a_minimum_on_its_isoflop_line(law, flops):
    best = allocated(law, flops)
    if best is None:
        return
    nearby = best.params * np.exp(np.array([-0.5, -0.05, 0.05, 0.5]))
    # 1e-13: where both terms are small against E the difference is rounding error
    assert (law.loss(nearby, law.cost.tokens(nearby, flops)) >= best.loss * (1 - 1e-13)).all()
    assert law.cost.flops(best.params, best.tokens) == pytest.approx(flops, rel=1e-9)


@given(law=laws, flops=st.floats(1e15, 1e25), factor=st.floats(1, 1e6))
def test_more_compute_never_raises_the_loss(law, flops, factor):
    small, large = allocated(law, flops), allocated(law, flops * factor)
    if small is not None and large is not None:
        assert large.loss <= small.loss * (1 + 1e-12)
        assert large.params >= small.params * (1 - 1e-9)


@settings(max_examples=40)
@given(law=laws, flops=st.floats(1e15, 1e25))
def test_the_frontier_inverts_the_optimum(law, flops):
    best = allocated(law, flops)
    if best is None:
        return
    assert frontier(law, params=best.params).flops == pytest.approx(flops, rel=1e-9)
    more = allocated(law, 10 * flops)
    if more is not None and not more.loss < best.loss * (1 - 1e-6):
        return  # a text read to exhaustion: the loss does not change any more
    # the loss alone: where little but E is left of it, it says little of the budget
    assert frontier(law, loss=best.loss * (1 + 1e-9)).loss == pytest.approx(float(best.loss), rel=1e-8)


@given(law=laws, params=st.floats(1e6, 1e12), tokens=st.floats(1e6, 1e15))
def test_tokens_for_inverts_the_loss(law, params, tokens):
    loss = law.loss(params, tokens)
    enough = tokens_for(law, params, loss)
    if not math.isinf(enough):
        assert law.loss(params, enough) == pytest.approx(float(loss), rel=1e-12)
    else:  # the last tokens changed no bit of the loss
        assert loss <= law.loss(params, math.inf) * (1 + 1e-15)


@given(law=additive_laws, flops=st.floats(1e15, 1e25), unit=st.sampled_from([1e-6, 1e3, 1e9]))
def test_counting_params_in_other_units_moves_the_optimum_by_the_unit_only(law, flops, unit):
    """N in units: A and the cost's scale take up the change."""
    cost = Cost(scale=law.cost.scale / unit**law.cost.power, power=law.cost.power)
    scaled = Chinchilla(E=law.E, A=law.A * unit**law.alpha, B=law.B, alpha=law.alpha, beta=law.beta, cost=cost)
    before, after = law.optimum(flops), scaled.optimum(flops)
    assert after.params == pytest.approx(before.params * unit, rel=1e-9)
    assert after.tokens == pytest.approx(before.tokens, rel=1e-9)
    assert after.loss == pytest.approx(before.loss, rel=1e-9)
    assert (scaled.a, scaled.b) == (law.a, law.b)
