"""Questions put to the laws, with known answers: from papers, from closed forms, from other implementations and from more digits."""

import dataclasses
import math
import tomllib
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from isoflop import published
from isoflop.errors import FitError, UsageError
from isoflop.laws import Cost, _solve, exponents, frontier, params_for, tokens_for
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.laws.farseer import Farseer
from isoflop.laws.kaplan import Kaplan
from isoflop.laws.overtraining import Overtraining
from isoflop.laws.powerlaw import PowerLaw

GOLDEN = tomllib.loads((Path(__file__).parent / "golden/laws.toml").read_text(encoding="utf-8"))
GOPHER = GOLDEN["gopher_budget"]["flops"]
PRINTED = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)  # Hoffmann et al. 2022, App. D.3
UNROUNDED = Chinchilla(E=math.exp(0.5267228), A=math.exp(6.0073404), B=math.exp(6.0179186), alpha=0.33917084, beta=0.2849083)  # quoted in arXiv 2404.10102
FARSEER = Farseer(a1=-0.05, b1=-1.13, alpha=0.05, a2=0.5, b2=5.82, beta=-0.05, a3=119.0, b3=0.53, gamma=-0.313)  # made up
REPEATED = dataclasses.replace(published.get("muennighoff")[0].law, unique_tokens=25e9)


# the paper's optimum


def test_the_papers_constants_give_the_papers_model_and_exponents_where_they_are_not_rounded():
    golden, table2 = GOLDEN["gopher_budget"], GOLDEN["table3_exponents"]
    assert float(UNROUNDED.optimum(GOPHER).params) == pytest.approx(golden["params"], rel=golden["tolerance"])
    assert (UNROUNDED.a, UNROUNDED.b) == pytest.approx((table2["a"], table2["b"]), rel=table2["tolerance"])


def test_the_printed_constants_give_32b_params_and_93_tokens_a_param_instead():
    best = PRINTED.optimum(GOPHER)
    assert (round(float(best.params) / 1e9), round(float(best.tokens) / 1e11), round(float(best.tokens / best.params))) == (32, 30, 93)


def test_a_power_law_goes_through_its_point():
    golden = GOLDEN["approach2"]
    best = PowerLaw(c0=GOPHER, n0=golden["params"], d0=golden["tokens"], a=0.49, b=0.51).optimum(GOPHER)
    assert (float(best.params), float(best.tokens)) == (golden["params"], golden["tokens"])


# what no model trained on 300B tokens can do


def test_by_the_printed_constants_no_model_of_300b_tokens_beats_chinchilla():
    assert PRINTED.loss(math.inf, 300e9) > PRINTED.loss(70e9, 1.4e12)
    assert params_for(PRINTED, 300e9, PRINTED.loss(70e9, 1.4e12)) == math.inf


def test_by_the_unrounded_constants_it_takes_a_hundred_trillion_params():
    """The limit of 300B tokens is 0.007 below Chinchilla: only a model 400 times Gopher's size would do it. A trap of the rounding, so held here."""
    chinchilla = UNROUNDED.loss(70e9, 1.4e12)
    assert float(chinchilla - UNROUNDED.loss(math.inf, 300e9)) == pytest.approx(0.0069, abs=1e-4)
    assert 1e14 < params_for(UNROUNDED, 300e9, chinchilla) < 2e14
    known = {"gopher": (280e9, 300e9), "gpt-3": (175e9, 300e9), "jurassic-1": (178e9, 300e9), "mt-nlg": (530e9, 270e9)}  # Hoffmann et al. 2022, Table 1
    assert all(UNROUNDED.loss(params, tokens) > chinchilla for params, tokens in known.values())


# the frontier the other way round


@pytest.mark.parametrize(("params", "times_gopher"), [(520e9, 60), (1e12, 223)])
def test_half_a_trillion_params_need_sixty_times_gophers_compute_and_a_trillion_more_than_two_hundred(params, times_gopher):
    """Hoffmann et al. 2022, Sec. 3.4; Approach 1: 67B at Gopher's budget, a = b = 0.5 (Tables 2 and 3)."""
    approach1 = PowerLaw(c0=GOPHER, n0=67e9, d0=1.5e12, a=0.5, b=0.5)
    assert float(frontier(approach1, params=params).flops) / GOPHER == pytest.approx(times_gopher, rel=0.01)


def test_the_compute_for_a_loss_is_where_the_frontier_has_it():
    best = UNROUNDED.optimum(GOPHER)
    assert float(frontier(UNROUNDED, loss=best.loss).flops) == pytest.approx(GOPHER, rel=1e-12)
    # in closed form: at the optimum alpha A / N**alpha = beta B / D**beta, so L - E = A / N**alpha (1 + alpha / beta)
    L, law = 2.0, UNROUNDED
    N = (law.A * (1 + law.alpha / law.beta) / (L - law.E)) ** (1 / law.alpha)
    D = (law.B * (1 + law.beta / law.alpha) / (L - law.E)) ** (1 / law.beta)
    found = frontier(law, loss=L)
    assert (float(found.params), float(found.tokens), float(found.flops)) == pytest.approx((N, D, 6 * N * D), rel=1e-12)


def test_tokens_and_params_for_a_loss_agree_with_the_additive_law_solved_by_hand():
    law, L = UNROUNDED, 2.2
    assert float(tokens_for(law, 7e9, L)) == pytest.approx((law.B / (L - law.E - law.A / 7e9**law.alpha)) ** (1 / law.beta), rel=1e-12)
    assert float(params_for(law, 1e12, L)) == pytest.approx((law.A / (L - law.E - law.B / 1e12**law.beta)) ** (1 / law.alpha), rel=1e-12)


def test_the_questions_broadcast():
    assert tokens_for(UNROUNDED, np.array([1e9, 1e10])[:, None], [2.4, 2.5, 1.0]).shape == (2, 3)
    assert np.isinf(tokens_for(UNROUNDED, np.array([1e9, 1e10])[:, None], [2.4, 2.5, 1.0])[:, 2]).all()
    assert frontier(UNROUNDED, params=[[1e9], [1e10]]).flops.shape == (2, 1)
    assert params_for(UNROUNDED, 1e12, 2.5).shape == ()
    assert frontier(UNROUNDED, tokens=np.ones((0, 2))).loss.shape == (0, 2)
    assert exponents(UNROUNDED, np.ones((2, 2)) * 1e20)[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "nothing"),
        ({"params": 1e9, "loss": 2.0}, "params and loss"),
        ({"params": -1e9}, "params of -1e"),
        ({"tokens": math.nan}, "tokens of nan"),
        ({"loss": 0.0}, "loss of 0"),
        ({"params": [1e9, math.inf]}, "params of inf"),
    ],
)
def test_a_point_of_the_frontier_that_cannot_be_meant_is_refused(asked, told):
    with pytest.raises(UsageError, match=told):
        frontier(UNROUNDED, **asked)


def test_a_loss_at_or_below_the_floor_is_refused_with_the_floor():
    for loss in (1.5, UNROUNDED.E, [2.5, 1.6]):
        with pytest.raises(FitError, match=r"the floor of this law is 1\.69337"):
            frontier(UNROUNDED, loss=loss)
    with pytest.raises(FitError, match=r"floor of this law is 2\.155"):  # all the tokens there are, repeated for nothing
        frontier(REPEATED, loss=2.1)
    with pytest.raises(FitError, match="lies between"):
        frontier(UNROUNDED, loss=1e9)


def test_a_frontier_that_does_not_move_is_refused():
    with pytest.raises(FitError, match="does not change with compute"):
        frontier(PowerLaw(c0=1e20, n0=1e9, d0=1e10, a=0.0, b=1.0), params=1e9)


# repeated tokens


def test_repeated_tokens_are_worth_what_the_authors_code_says():
    """Figure 1 (right) of Muennighoff et al. 2023; the two losses are printed in the README of github.com/huggingface/datablations."""
    [fit] = published.get("muennighoff")
    assert isinstance(fit.law, DataConstrained)
    for law in (REPEATED, dataclasses.replace(fit.law, unique_tokens=25e9)):
        assert float(law.loss(6.34e9, 242e9)) == pytest.approx(2.2256440889984477, rel=1e-14)
        assert float(law.loss(8.67e9, 178e9)) == pytest.approx(2.2269634075087867, rel=1e-14)


def test_at_figure_1s_budget_repeating_beats_the_additive_laws_allocation():
    """9.3e21 FLOPs and 25B unique tokens: fewer params and more epochs than Chinchilla's 8.7B params are better."""
    best, naive = REPEATED.optimum(6 * 6.34e9 * 242e9), REPEATED.loss(8.67e9, 178e9)
    assert best.loss < naive
    assert best.params < 8.67e9
    assert best.loss <= REPEATED.loss(6.34e9, 242e9)


additive = {"E": st.floats(0, 3), "A": st.floats(1, 1e4), "B": st.floats(1, 1e4), "alpha": st.floats(0.1, 1), "beta": st.floats(0.1, 1)}


@given(constants=st.fixed_dictionaries(additive), unique=st.floats(1e6, 1e13), flops=st.floats(1e15, 1e25), power=st.floats(0.7, 1.2))
def test_until_tokens_repeat_the_optimum_is_that_of_the_additive_law_and_then_it_is_worse(constants, unique, flops, power):
    cost = Cost(power=power)
    plain, limited = (
        Chinchilla(**constants, cost=cost).optimum(flops),
        DataConstrained(**constants, R_N=5.3, R_D=15.4, unique_tokens=unique, cost=cost).optimum(flops),
    )
    if plain.tokens <= unique:
        assert (float(limited.params), float(limited.loss)) == pytest.approx((float(plain.params), float(plain.loss)), rel=1e-9)
    else:
        assert limited.loss >= plain.loss * (1 - 1e-13)
        assert limited.tokens >= unique * (1 - 1e-9)
        # both more epochs and more params than are optimal for the unique tokens: alpha A / N**alpha = power beta B / D**beta
        c = constants
        log_N = (math.log(c["alpha"] * c["A"] / (power * c["beta"] * c["B"])) + c["beta"] * math.log(unique)) / c["alpha"]
        assert math.log(limited.params) >= log_N - 1e-9


def test_without_a_limit_a_model_up_to_its_optimal_size_has_the_loss_of_the_additive_law():
    endless = DataConstrained(E=1.7, A=406.0, B=411.0, alpha=0.34, beta=0.28, R_N=5.3, R_D=15.4, unique_tokens=math.inf)
    plain = Chinchilla(E=1.7, A=406.0, B=411.0, alpha=0.34, beta=0.28)
    best = plain.optimum(1e22)
    for share in (1e-3, 0.5, 1.0):
        assert float(endless.loss(best.params * share, best.tokens)) == pytest.approx(float(plain.loss(best.params * share, best.tokens)), rel=1e-12)
    assert endless.loss(best.params * 10, best.tokens) > plain.loss(best.params * 10, best.tokens)
    assert (endless.a, endless.b) == (plain.a, plain.b)


def test_four_epochs_are_nearly_as_good_as_new_tokens_and_forty_are_not():
    """Muennighoff et al. 2023, abstract: up to 4 epochs change the loss negligibly; in the end the value of more compute decays to zero."""
    plain = Chinchilla(E=REPEATED.E, A=REPEATED.A, B=REPEATED.B, alpha=REPEATED.alpha, beta=REPEATED.beta)
    size = 1e9  # below the optimum for 25B tokens
    lost = {epochs: float(REPEATED.loss(size, epochs * 25e9) - plain.loss(size, epochs * 25e9)) for epochs in (1, 4, 40)}
    assert lost[1] == pytest.approx(0, abs=1e-12)
    assert lost[4] < 0.01
    assert lost[40] > 5 * lost[4]
    assert float(REPEATED.loss(size, 1e15)) == pytest.approx(float(REPEATED.loss(size, math.inf)), rel=1e-12)


# over-training


@given(params=st.floats(1e6, 1e13), tokens=st.floats(1e6, 1e14), flops=st.floats(1e15, 1e26))
def test_over_training_is_the_additive_law_with_tied_exponents_and_as_printed_in_compute_and_tokens_per_param(params, tokens, flops):
    law = Overtraining(E=1.84, over=212.0, under=367.0, eta=0.136)
    tied = Chinchilla(E=law.E, A=law.over * 6**-law.eta, B=law.under * 6**-law.eta, alpha=2 * law.eta, beta=2 * law.eta)
    C, M = 6 * params * tokens, tokens / params
    printed = law.E + (law.over * M**law.eta + law.under * M**-law.eta) * C**-law.eta
    assert (float(law.loss(params, tokens)), printed) == pytest.approx((float(tied.loss(params, tokens)),) * 2, rel=1e-12)
    best, other = law.optimum(flops), tied.optimum(flops)
    assert (float(best.params), float(best.tokens), float(best.loss)) == pytest.approx((float(other.params), float(other.tokens), float(other.loss)), rel=1e-11)
    assert float(best.tokens / best.params) == pytest.approx(law.tokens_per_param, rel=1e-11)


def test_over_training_refuses_a_cost_that_unties_its_exponents():
    with pytest.raises(UsageError, match="tied"):
        Overtraining(E=1.84, over=212.0, under=367.0, eta=0.136, cost=Cost(power=0.9))


# a frontier that bends


def test_the_exponent_of_a_bent_frontier_changes_evenly_until_one_of_the_two_would_shrink():
    law = PowerLaw(c0=1e20, n0=1e9, d0=2e10, a=0.5, b=0.52, curvature=-0.02)
    flops = np.geomspace(1e15, 1e29, 15)
    low, high = law.valid_flops
    a, b = exponents(law, flops)
    inside = (flops > low) & (flops < high)
    assert a[inside] == pytest.approx(0.5 - 0.02 * np.log(flops[inside] / 1e20), abs=1e-9)
    assert a + b == pytest.approx(np.full(15, 1.02), rel=1e-9)
    assert (high, low) == pytest.approx((1e20 * math.exp(25), 1e20 * math.exp(-26)), rel=1e-9)
    beyond = exponents(law, [high * 1.1, high * 1e9, low / 1.1, low / 1e9])
    assert beyond[0] == pytest.approx([0, 0, 1.02, 1.02], abs=1e-9)
    assert (float(law.optimum(1e20).params), float(law.optimum(1e20).tokens)) == (1e9, 2e10)
    straight = PowerLaw(c0=1e20, n0=1e9, d0=2e10, a=0.5, b=0.52)
    assert straight.valid_flops == (0.0, math.inf)


def test_sizes_beyond_the_bend_are_refused():
    law = PowerLaw(c0=1e20, n0=1e9, d0=2e10, a=0.5, b=0.5, curvature=-0.02)
    largest = float(law.optimum(law.valid_flops[1]).params)
    assert float(frontier(law, params=largest * 0.999).params) == pytest.approx(largest * 0.999, rel=1e-9)
    with pytest.raises(FitError, match="no budget"):
        frontier(law, params=largest * 1.001)


# other implementations


NUMERIC = {"unrounded": UNROUNDED, "kaplan": Kaplan(Nc=8.8e13, Dc=5.4e13, alpha_N=0.076, alpha_D=0.095), "repeated": REPEATED, "farseer": FARSEER}


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("flops", [1e19, GOPHER, 1e27])
def test_scipy_finds_the_same_optimum(name, flops):
    law = NUMERIC[name]
    best = law.optimum(flops)
    x = math.log(best.params)

    def loss(log_params: float) -> float:
        return float(law.loss(math.exp(log_params), law.cost.tokens(math.exp(log_params), flops)))

    found = optimize.minimize_scalar(loss, bounds=(x - 2, x + 1), method="bounded", options={"xatol": 1e-10})
    assert best.loss <= found.fun * (1 + 1e-15)
    assert found.fun == pytest.approx(float(best.loss), rel=1e-12)
    if name == "repeated" and flops > GOPHER:
        return  # its loss is flat to the last bit there; more digits find the minimum below
    # a minimum of values with 16 digits is known to half of them
    assert math.exp(found.x) == pytest.approx(float(best.params), rel=1e-5)


@given(alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), flops=st.floats(1e17, 1e25))
def test_farseer_with_hardly_any_bend_is_the_additive_law(alpha, beta, flops):
    """exp(a3 N**g + b3) with a3 = -alpha / g and b3 = log A + alpha / g is A / N**alpha to first order in g."""
    g = 1e-6
    law = Farseer(a1=-1e-9, b1=math.log(beta), alpha=1e-9, a2=1e-9, b2=6.0, beta=-1e-9, a3=-alpha / g, b3=5.0 + alpha / g, gamma=g)
    plain = Chinchilla(E=0, A=math.exp(5.0), B=math.exp(6.0), alpha=alpha, beta=beta)
    # alpha g log(N)**2 / 2 is 6e-4 for the largest here; divided by alpha + beta in the size
    assert float(law.loss(1e10, 1e12)) == pytest.approx(float(plain.loss(1e10, 1e12)), rel=1e-3)
    assert float(law.optimum(flops).params) == pytest.approx(float(plain.optimum(flops).params), rel=5e-3)


def test_farseer_takes_the_first_minimum_where_the_formula_promises_more_beyond_the_maximum():
    """Constants of the kind that fit Farseer's runs: along 1e24 FLOPs a minimum, a maximum, and a fall to nearly nothing at absurd sizes."""
    law = Farseer(a1=-0.124, b1=0.424, alpha=0.123, a2=88.0, b2=-5.29, beta=-0.1, a3=-0.021, b3=-0.091, gamma=0.169)
    best = law.optimum(1e24)
    absurd = 1e20
    assert law.loss(absurd, law.cost.tokens(absurd, 1e24)) < best.loss
    assert 1e8 < best.params < 1e11
    assert float(np.diff([float(x) for x in exponents(law, [1e20, 1e24])[1]])[0]) > 0  # tokens per param grow with compute, the paper's finding
    with pytest.raises(FitError, match="no minimum"):
        law.optimum(1e10)


# more digits


def additive_in_decimal(law, params, tokens):
    E, A, B, alpha, beta = (Decimal(x) for x in (law.E, law.A, law.B, law.alpha, law.beta))
    return E + A * (-alpha * Decimal(params).ln()).exp() + B * (-beta * Decimal(tokens).ln()).exp()


def farseer_in_decimal(law, params, tokens):
    log_N, log_D = Decimal(params).ln(), Decimal(tokens).ln()

    def stretched(factor, power, shift):
        return Decimal(factor) * (Decimal(power) * log_N).exp() + Decimal(shift)

    power_of_D = stretched(law.a1, law.alpha, law.b1).exp()
    return stretched(law.a3, law.gamma, law.b3).exp() + (stretched(law.a2, law.beta, law.b2) - power_of_D * log_D).exp()


def repeated_in_decimal(law, params, tokens):
    """Of tokens that are repeated, and params in excess of them."""
    A, B, alpha, beta, unique = (Decimal(x) for x in (law.A, law.B, law.alpha, law.beta, law.unique_tokens))
    enough = ((alpha * A / (beta * B)).ln() / alpha + beta / alpha * unique.ln()).exp()

    def worth(amount, unique, decay):
        return unique * (1 + decay * (1 - (-(amount / unique - 1) / decay).exp()))

    N, D = worth(Decimal(params), min(Decimal(params), enough), Decimal(law.R_N)), worth(Decimal(tokens), min(Decimal(tokens), unique), Decimal(law.R_D))
    return Decimal(law.E) + A * (-alpha * N.ln()).exp() + B * (-beta * D.ln()).exp()


IN_DECIMAL = {"unrounded": (UNROUNDED, additive_in_decimal), "farseer": (FARSEER, farseer_in_decimal)}


@pytest.mark.parametrize("name", IN_DECIMAL)
@pytest.mark.parametrize("params", [10**6, 10**16])
@pytest.mark.parametrize("tokens", [10**6, 10**16])
def test_losses_have_fourteen_digits_at_the_extremes(name, params, tokens):
    law, exact = IN_DECIMAL[name]
    with localcontext(prec=50):
        assert abs(Decimal(float(law.loss(params, tokens))) / exact(law, params, tokens) - 1) < Decimal("1e-14")


@pytest.mark.parametrize(
    ("law", "exact", "flops"),
    [(*IN_DECIMAL[name], flops) for name in IN_DECIMAL for flops in (1e17, GOPHER, 1e33)] + [(REPEATED, repeated_in_decimal, c) for c in (1e22, GOPHER, 1e27)],
)
def test_optima_have_twelve_digits_at_the_extremes(law, exact, flops):
    """How far Newton's step would still move the log of the size. At 1e27 FLOPs the 25B tokens are repeated 4000 times, to gains of 1e-100."""
    best = law.optimum(flops)
    with localcontext(prec=300):
        step = Decimal("1e-20").exp()

        def loss(params):
            return exact(law, params, Decimal(flops) / (6 * params))

        N = Decimal(float(best.params))
        below, here, above = loss(N / step), loss(N), loss(N * step)
        assert abs((above - below) / 2 / (above - 2 * here + below)) * Decimal("1e-20") < Decimal("1e-12")


# roots


@pytest.mark.parametrize(
    ("curve", "low", "high"),
    [
        (lambda x: x - 0.3, 0.0, 1.0),
        (lambda x: x**3 - 2 * x - 5, 2.0, 3.0),
        (lambda x: np.exp(-50 * x) - 1e-9, 0.0, 5.0),
        (lambda x: np.where(x < 0.7, 1.0, -1e9), 0.0, 1.0),
        (lambda x: np.where(x < 0.7, np.inf, -np.inf), 0.0, 1.0),
        (lambda x: (x - 0.5) ** 9, 0.0, 1.3),
        (lambda x: np.expm1(x - 300), -700.0, 700.0),
    ],
)
def test_roots_are_found_to_the_last_digits(curve, low, high):
    found = float(_solve.root(curve, np.array(low), np.array(high)))
    eps = 1e-14 * max(1.0, abs(found))
    if curve(np.array(0.5)) == 0 and curve(np.array(0.501)) < 1e-20:
        eps = 1e-3  # flat: values below 1e-27 on either side
    assert np.sign(curve(np.array(found - eps))) * np.sign(curve(np.array(found + eps))) <= 0


def test_roots_are_found_for_each_element_by_itself():
    wanted = np.geomspace(1e-6, 1e6, 12).reshape(3, 4)
    together = _solve.root(lambda x: np.exp(x) - wanted, np.full((3, 4), -20.0), np.full((3, 4), 20.0))
    alone = [float(_solve.root(lambda x, w=w: np.exp(x) - w, np.array(-20.0), np.array(20.0))) for w in wanted.ravel()]
    assert together.ravel().tolist() == alone
    assert together == pytest.approx(np.log(wanted), abs=1e-14)


def test_the_first_of_several_falls_is_taken():
    found, is_there = _solve.first_fall(np.sin, (np.array([1.0, 4.0, 3.5]), np.array([20.0, 20.0, 6.0])), 101)
    assert found[:2] == pytest.approx([math.pi, 3 * math.pi], rel=1e-14)
    assert is_there.tolist() == [True, True, False]
