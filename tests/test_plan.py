"""A plan is what the law says, and never silent beyond its reach."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from isoflop import arch, published, recipes
from isoflop.arch import Kind
from isoflop.errors import ExtrapolationError, FitError, UnknownNameError, UsageError
from isoflop.fit import fit_all
from isoflop.laws import frontier
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.laws.kaplan import Kaplan
from isoflop.plan import _checks, data_limits, hardware, inference, overtraining, plan, plan_all, recipe
from isoflop.plan.budget import Goal
from isoflop.plan.hardware import Cluster
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
    return plan_all(fits, 1e21, kind=Kind(family="llama", vocab=32_000, context=2048))


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
        plan(fits[0], 1e24, kind=Kind(family="llama", vocab=32_000, context=2048))
    assert caught.value.reach == pytest.approx(1e4, rel=1e-6)
    accepted = plan(fits[0], 1e24, kind=Kind(family="llama", vocab=32_000, context=2048), extrapolate=True)
    assert caught.value.estimate == accepted


@given(st.floats(1e18, 2e21), st.floats(1.01, 10))
def test_more_compute_never_raises_the_predicted_loss(fits, flops, factor):
    for one in fits:
        less, more = (float(one.law.optimum(c).loss) for c in (flops, flops * factor))
        assert more <= less


# --- what else a planner must know

GOLDEN = tomllib.loads((Path(__file__).parent / "golden" / "plan.toml").read_text(encoding="utf-8"))


def golden_law(name: str) -> Chinchilla:
    """The Chinchilla law of a source, as printed there."""
    return Chinchilla(**{key: GOLDEN[name][key] for key in ("E", "A", "B", "alpha", "beta")})


SARDANA, DE_VRIES = golden_law("sardana2024"), golden_law("devries2023")
KAPLAN = Kaplan(Nc=6.4e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103)  # Kaplan et al. 2020, Eq. 1.5 and Table 2


def repeating(unique_tokens: float) -> DataConstrained:
    """The law of Muennighoff et al. 2023, App. A."""
    g = GOLDEN["muennighoff2023"]
    E, A, B = (math.exp(g[f"log_{name}"]) for name in "EAB")
    return DataConstrained(E=E, A=A, B=B, alpha=g["alpha"], beta=g["beta"], R_N=g["R_N"], R_D=g["R_D"], unique_tokens=unique_tokens)


# --- hardware


@pytest.mark.parametrize("run", GOLDEN["patterson2021"]["runs"], ids=lambda run: run["name"])
def test_time_energy_and_co2_are_pattersons_from_their_inputs(run):
    chip = hardware.Accelerator(name="x", title="", peak_flops=run["flops_per_second"], precision="bf16", memory_bytes=16e9, watts=1.0, year=2020, source="")
    cluster = Cluster(accelerator=chip, count=run["count"], mfu=1.0, watts=run["watts"], pue=run["pue"], kg_co2_per_kwh=run["kg_co2_per_kwh"])
    bill = hardware.bill(run["flops"], cluster)
    near = GOLDEN["patterson2021"]["tolerance"]
    assert bill.seconds / 86400 == pytest.approx(run["days"], rel=near)
    assert bill.kwh / 1e3 == pytest.approx(run["mwh"], rel=near)
    assert bill.kg_co2 / 1e3 == pytest.approx(run["tonnes"], rel=near)


def test_published_runs_imply_the_utilisation_that_their_papers_report():
    big, seventy = GOLDEN["llama3_405b"], GOLDEN["llama2_70b"]
    runs = ((big, big["flops"], "h100"), (seventy, 6 * seventy["params"] * seventy["tokens"], "a100-80"))
    for run, flops, name in runs:
        most, least = (hardware.bill(flops, Cluster(accelerator=hardware.accelerator(name), count=2048, mfu=run[mfu])) for mfu in ("mfu_low", "mfu_high"))
        assert least.accelerator_hours < run["accelerator_hours"] < most.accelerator_hours


def test_the_default_price_is_deepseeks_assumption_and_says_that_it_is_a_default():
    g, chip = GOLDEN["deepseek_v3"], hardware.accelerator("h100")
    cluster = Cluster(accelerator=chip, count=2048)
    flops = g["accelerator_hours"] * 3600 * chip.peak_flops * cluster.mfu
    assert hardware.bill(flops, cluster).dollars == pytest.approx(g["dollars"], rel=1e-9)
    assert cluster.price_is_default
    assert not Cluster(accelerator=chip, count=2048, price=2.0).price_is_default


def test_peak_rates_are_dense_and_every_row_is_whole():
    assert hardware.accelerator("h100").peak_flops < 1e15  # 1979e12 is with sparsity
    assert hardware.accelerator("H100") == hardware.accelerator("h100")
    assert hardware.accelerator("v100").precision == "fp16"
    for name, row in hardware.ACCELERATORS.items():
        assert row.name == name
        assert row.source
        assert 1e13 < row.peak_flops < 5e15
        assert 1e10 < row.memory_bytes < 1e12
        assert math.isnan(row.watts) or 100 < row.watts < 2000
        assert 2015 < row.year < 2027


def test_unknown_power_makes_energy_unknown_and_nothing_else():
    bill = hardware.bill(1e24, Cluster(accelerator=hardware.accelerator("tpu-v5p"), count=64))
    assert math.isnan(bill.kwh)
    assert math.isfinite(bill.dollars)
    assert math.isfinite(hardware.bill(1e24, Cluster(accelerator=hardware.accelerator("tpu-v5p"), count=64, watts=300)).kg_co2)


def test_an_unknown_accelerator_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'h100'"):
        hardware.accelerator("h10")


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"count": -1},
        {"count": 1.5},
        {"count": math.nan},
        {"count": 10**12},
        {"mfu": 0.0},
        {"mfu": 40.0},
        {"mfu": math.nan},
        {"price": -1.0},
        {"price": math.inf},
        {"price": 1e9},
        {"price": 1e-300},
        {"watts": 0.0},
        {"pue": 0.9},
        {"pue": math.nan},
        {"kg_co2_per_kwh": -0.1},
        {"kg_co2_per_kwh": 390.0},
    ],
    ids=str,
)
def test_a_cluster_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(UsageError):
        Cluster(**{"accelerator": hardware.accelerator("h100"), "count": 8} | bad)


@pytest.mark.parametrize("flops", [0.0, -1e20, math.nan, math.inf])
def test_a_budget_that_cannot_be_meant_has_no_bill(flops):
    with pytest.raises(UsageError, match="budget in FLOPs"):
        hardware.bill(flops, Cluster(accelerator=hardware.accelerator("h100"), count=8))


chips = st.sampled_from(sorted(hardware.ACCELERATORS)).map(hardware.accelerator)


@given(chips, st.integers(1, 10**9), st.floats(1e-4, 1), st.floats(1, 3e10))
def test_the_flops_of_a_time_take_that_time(chip, count, mfu, seconds):
    cluster = Cluster(accelerator=chip, count=count, mfu=mfu)
    assert hardware.bill(hardware.flops_for_time(seconds, cluster), cluster).seconds == pytest.approx(seconds, rel=1e-12)


@given(chips, st.integers(1, 10**9), st.floats(1e-4, 1), st.floats(1, 1e15), st.floats(1e-6, 1e6))
def test_the_flops_of_an_amount_cost_that_amount(chip, count, mfu, dollars, price):
    cluster = Cluster(accelerator=chip, count=count, mfu=mfu, price=price)
    assert hardware.bill(hardware.flops_for_dollars(dollars, cluster), cluster).dollars == pytest.approx(dollars, rel=1e-12)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e300, 1e11])
def test_a_time_that_cannot_be_meant_buys_nothing(seconds):
    with pytest.raises(UsageError, match="time in seconds"):
        hardware.flops_for_time(seconds, Cluster(accelerator=hardware.accelerator("h100"), count=8))


@pytest.mark.parametrize("dollars", [0.0, -1.0, math.nan, math.inf, 1e17])
def test_money_that_there_cannot_be_buys_nothing(dollars):
    with pytest.raises(UsageError, match="amount in dollars"):
        hardware.flops_for_dollars(dollars, Cluster(accelerator=hardware.accelerator("h100"), count=8))


def test_free_accelerators_cannot_be_planned_by_money():
    with pytest.raises(UsageError, match="--days"):
        hardware.flops_for_dollars(1e6, Cluster(accelerator=hardware.accelerator("h100"), count=8, price=0.0))


@given(st.sampled_from(sorted(hardware.ACCELERATORS)), st.floats(1e6, 1e18), st.floats(0, 1e14))
def test_the_fewest_accelerators_hold_the_run_and_one_group_fewer_does_not(name, state, activations):
    chip = hardware.accelerator(name)
    fewest = hardware.fewest_for_training(chip, state_bytes=state, activation_bytes=activations)
    held = fewest.activation_bytes / fewest.tensor_parallel
    assert fewest.per_device_bytes <= fewest.usable_bytes * (1 + 1e-12) <= chip.memory_bytes
    assert fewest.count % fewest.tensor_parallel == 0
    assert held <= fewest.usable_bytes / 2 * (1 + 1e-12) or fewest.tensor_parallel == 1
    assert fewest.tensor_parallel == 1 or 2 * held > fewest.usable_bytes / 2 * (1 - 1e-12)  # no more of them than that takes
    fewer = fewest.count - fewest.tensor_parallel
    assert fewer == 0 or state / fewer + held > fewest.usable_bytes * (1 - 1e-12)


def test_a_70b_model_trains_on_no_fewer_than_17_h100_and_is_served_by_two():
    chip = hardware.accelerator("h100")
    assert hardware.fewest_for_training(chip, state_bytes=16 * 70e9, activation_bytes=5e9).count == 17  # 1120 GB over 67 GB each
    served = hardware.fewest_for_inference(chip, weight_bytes=2 * 70e9, cache_bytes=3e9)
    assert (served.count, served.tensor_parallel) == (2, 2)


# --- inference


@pytest.mark.parametrize("example", GOLDEN["sardana2024"]["examples"], ids=lambda one: f"{one['baseline_params']:.0e}")
def test_training_plus_inference_is_least_where_sardana_et_al_print_it(example):
    flops = float(frontier(SARDANA, params=example["baseline_params"]).flops)
    found = inference.lifetime(SARDANA, flops, example["inference_tokens"])
    assert found.best.params == pytest.approx(example["params"], rel=0.006)  # two or three digits are printed
    assert found.baseline.params == pytest.approx(example["baseline_params"], rel=1e-9)
    if "tokens_ratio" in example:
        assert found.best.tokens / found.baseline.tokens == pytest.approx(example["tokens_ratio"], abs=0.005)
    if "tokens" in example:
        assert found.best.tokens == pytest.approx(example["tokens"], rel=0.001)
    if "savings" in example:
        assert found.savings == pytest.approx(example["savings"], abs=0.005)


@given(st.floats(1e18, 1e26), st.floats(1e6, 1e16), st.floats(1, 50))
def test_the_least_lifetime_cost_is_what_an_independent_optimiser_finds(flops, served, price):
    found = inference.lifetime(SARDANA, flops, served, price=price)

    def total(log_params: float) -> float:
        rest = found.loss - SARDANA.E - SARDANA.A * math.exp(-SARDANA.alpha * log_params)
        return math.exp(log_params) * (6 * (SARDANA.B / rest) ** (1 / SARDANA.beta) + 2 * price * served)

    smallest = math.log((SARDANA.A / (found.loss - SARDANA.E)) ** (1 / SARDANA.alpha))
    theirs = minimize_scalar(total, bounds=(smallest + 1e-9, math.log(found.baseline.params)), method="bounded", options={"xatol": 1e-10})
    assert found.best.total == pytest.approx(theirs.fun, rel=1e-9)
    assert found.best.params == pytest.approx(math.exp(theirs.x), rel=1e-4)  # the minimum is flat: half the digits


@pytest.mark.parametrize("law", [SARDANA, KAPLAN, repeating(1e12), LAW], ids=lambda law: type(law).__name__)
def test_without_inference_the_least_cost_is_the_training_optimum(law):
    found = inference.lifetime(law, 1e22, 0.0)
    assert found.best.params == pytest.approx(float(law.optimum(1e22).params), rel=1e-6)
    assert found.savings == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("law", [SARDANA, KAPLAN, repeating(1e12)], ids=lambda law: type(law).__name__)
@given(flops=st.floats(1e18, 1e25), served=st.floats(1e6, 1e18), factor=st.floats(1.1, 100))
def test_more_inference_wants_a_smaller_model_of_the_same_loss_and_never_costs_more_than_the_baseline(law, flops, served, factor):
    few, many = (inference.lifetime(law, flops, tokens) for tokens in (served, factor * served))
    assert many.best.params <= few.best.params * (1 + 1e-6)
    assert many.best.tokens >= few.best.tokens * (1 - 1e-6)
    for found in (few, many):
        assert 0 <= found.savings < 1
        assert float(law.loss(found.best.params, found.best.tokens)) == pytest.approx(found.loss, rel=1e-9)
        assert found.best.training_flops >= found.baseline.training_flops * (1 - 1e-9)


def test_a_price_on_inference_is_as_so_many_more_tokens():
    dear, many = inference.lifetime(SARDANA, 1e23, 1e12, price=10.0), inference.lifetime(SARDANA, 1e23, 1e13)
    assert dear.best.params == pytest.approx(many.best.params, rel=1e-6)
    assert dear.savings == pytest.approx(many.savings, rel=1e-9)


@pytest.mark.parametrize(
    "bad",
    [{"flops": 0.0}, {"inference_tokens": -1.0}, {"inference_tokens": math.nan}, {"inference_tokens": 1e30}, {"inference_tokens": 0.5}, {"price": 0.0}],
    ids=str,
)
def test_a_lifetime_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(UsageError):
        inference.lifetime(SARDANA, **{"flops": 1e23, "inference_tokens": 1e12} | bad)


@pytest.mark.parametrize("fit", [fit for fit in published.every() if fit.law is not None], ids=lambda fit: fit.name)
@pytest.mark.parametrize("flops", [1e17, 1e21, 1e25])
def test_by_every_published_law_what_is_asked_is_answered_or_refused_and_never_nan(fit, flops):
    try:
        lives = [inference.lifetime(fit.law, flops, served) for served in (0.0, 1e9, 1e13, 1e22)]
        smaller = overtraining.overhead(fit.law, flops)
    except FitError as error:
        assert "loss" in str(error)  # noqa: PT017 - some laws answer and some refuse
        return
    for life in lives:
        assert 0 <= life.savings < 1
        assert 0 < life.best.params <= life.baseline.params
        assert math.isfinite(life.best.total)
    for model in smaller:
        assert model.overhead >= 0
        assert model.break_even_tokens >= 0


# --- overtraining


@pytest.mark.parametrize("row", GOLDEN["devries2023"]["rows"], ids=lambda row: f"{row['flops']:.2e}")
def test_smaller_models_take_the_tokens_that_de_vries_prints(row):
    for found, params, tokens in zip(overtraining.overhead(DE_VRIES, row["flops"], (1.0, 0.5, 0.3)), row["params"], row["tokens"], strict=True):
        assert found.params / 1e9 == pytest.approx(params, abs=0.0051)
        assert found.tokens / 1e9 == pytest.approx(tokens, abs=0.0051)


@given(st.floats(1e18, 1e26))
def test_the_overhead_is_de_vriess_at_every_budget(flops):
    g = GOLDEN["devries2023"]
    for found in overtraining.overhead(DE_VRIES, flops, map(float, g["overheads"])):
        assert found.overhead == pytest.approx(g["overheads"][f"{found.scale:g}"], rel=g["tolerance"])


@given(st.floats(1e18, 1e26), st.floats(0.2, 0.95))
def test_overhead_has_de_vriess_closed_form_and_the_optimums_loss(flops, scale):
    best, law = DE_VRIES.optimum(flops), DE_VRIES
    (found,) = overtraining.overhead(law, flops, [scale])
    ratio = law.A * float(best.params) ** -law.alpha / (law.B * float(best.tokens) ** -law.beta)
    left = 1 - (scale**-law.alpha - 1) * ratio
    if left <= 0:
        assert not found.reachable
        assert found.break_even_tokens == math.inf
        return
    assert found.tokens / float(best.tokens) == pytest.approx(left ** (-1 / law.beta), rel=1e-9)
    assert float(law.loss(found.params, found.tokens)) == pytest.approx(float(best.loss), rel=1e-12)
    assert found.overhead >= 0
    assert found.serving == pytest.approx(scale)


@pytest.mark.parametrize("scale", [0.75, 0.5, 0.35])
def test_after_the_break_even_tokens_the_smaller_model_has_cost_as_much_in_all(scale):
    whole, small = overtraining.overhead(DE_VRIES, 1e23, (1.0, scale))
    assert (whole.overhead, whole.break_even_tokens) == (0.0, 0.0)
    totals = [model.flops + 2 * model.params * small.break_even_tokens for model in (whole, small)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)


def test_a_model_below_the_critical_size_never_gets_there():
    tiny = overtraining.overhead(DE_VRIES, 1e23, (0.01,))[0]
    assert not tiny.reachable
    assert tiny.break_even_tokens == math.inf


def test_a_larger_model_costs_more_and_never_pays_back():
    large = overtraining.overhead(DE_VRIES, 1e23, (2.0,))[0]
    assert large.overhead > 0
    assert large.break_even_tokens == math.inf


@pytest.mark.parametrize("scale", [0.0, -0.5, math.nan, math.inf])
def test_a_fraction_that_cannot_be_meant_is_refused(scale):
    with pytest.raises(UsageError):
        overtraining.overhead(DE_VRIES, 1e23, [scale])


# --- data limits


def test_at_muennighoff_et_als_budget_the_best_model_is_a_quarter_smaller_than_without_the_limit():
    g = GOLDEN["muennighoff2023"]
    law = repeating(g["unique_tokens"])
    found = data_limits.limited(law, g["flops"])
    free = float(found.unlimited.params)
    assert 1 - found.params / free == pytest.approx(g["fewer_params"], abs=0.05)
    theirs = (1 - g["fewer_params"]) * free
    assert float(law.loss(theirs, g["flops"] / (6 * theirs))) == pytest.approx(found.loss, abs=1e-3)  # so flat that 5 % of size cost nothing seen
    assert 8 < found.epochs < 11


def test_four_epochs_cost_less_than_a_percent():
    four = GOLDEN["muennighoff2023"]["four_epochs"]
    repeated = float(repeating(four["unique_tokens"]).loss(four["params"], four["tokens"]))
    new = float(repeating(four["tokens"]).loss(four["params"], four["tokens"]))
    assert repeated / new - 1 == pytest.approx(four["excess"], abs=0.0025)  # the law's 0.7 % against 0.5 % measured in one run
    assert data_limits.worth(repeating(1e9), 4) > 0.8
    assert data_limits.worth(repeating(1e9), 40) < 0.1


@given(st.floats(1e8, 1e14), st.floats(0.01, 1e3))
def test_repeated_tokens_are_worth_the_slope_of_what_they_do(unique, epochs):
    law = repeating(unique)
    tokens = unique * epochs
    step = 1e-5 * tokens
    slope = (data_limits.effective_tokens(law, tokens + step) - data_limits.effective_tokens(law, tokens - step)) / (2 * step)
    if abs(epochs - 1) > 1e-4:
        assert slope == pytest.approx(data_limits.worth(law, epochs), rel=1e-3, abs=1e-6)
    assert data_limits.effective_tokens(law, tokens) <= unique * (1 + law.R_D) * (1 + 1e-12)
    assert data_limits.effective_tokens(law, tokens) <= tokens * (1 + 1e-12)
    # and it is what the law itself takes for the tokens: a model has the loss of that many new ones
    small = 0.02 * min(unique, tokens)  # params that are not in excess: 0.051 a token would be optimal
    assert float(law.loss(small, tokens)) == pytest.approx(float(data_limits.unlimited(law).loss(small, data_limits.effective_tokens(law, tokens))), rel=1e-12)


def test_epochs_at_a_worth_and_the_worth_at_those_epochs_agree():
    law = repeating(1e11)
    for worth in (1.0, 0.9, 0.5, 0.1):
        assert data_limits.worth(law, data_limits.epochs_at(law, worth)) == pytest.approx(worth, rel=1e-12)
    assert data_limits.epochs_at(law) == pytest.approx(1 + 15.387756 * math.log(2), rel=1e-12)
    with pytest.raises(UsageError):
        data_limits.epochs_at(law, 1.5)


@given(st.floats(1e9, 1e13))
def test_up_to_the_budget_that_exhausts_the_text_the_limit_costs_nothing_and_beyond_it_it_does(unique):
    law = repeating(unique)
    edge = data_limits.exhausted_flops(law)
    below, above = data_limits.limited(law, 0.9 * edge), data_limits.limited(law, 100 * edge)
    assert below.epochs < 1
    assert below.penalty == 0
    assert below.token_worth == 1
    assert above.epochs > 1
    assert above.penalty > 0
    assert above.effective_tokens < above.tokens
    assert data_limits.limited(law, edge).epochs == pytest.approx(1.0, rel=1e-9)


def test_from_the_futile_budget_on_doubling_buys_less_than_the_gain():
    law = repeating(25e9)
    flops = data_limits.futile_flops(law, 0.01)
    assert float(law.optimum(flops).loss) - float(law.optimum(2 * flops).loss) == pytest.approx(0.01, rel=1e-3)
    assert data_limits.futile_flops(law, 0.001) > flops
    assert data_limits.futile_flops(repeating(25e10), 0.01) > flops  # more text puts it off
    assert data_limits.futile_flops(law, 1e9) == 1e6


@pytest.mark.parametrize("unique", [0.0, -1.0, 0.5, 1e23, 1e300, math.nan])
def test_text_that_there_cannot_be_is_refused(unique):
    with pytest.raises(UsageError, match="unique tokens cannot be meant"):
        data_limits.repeating(LAW, unique)
    if unique > 0:
        with pytest.raises(UsageError, match="unique tokens cannot be meant"):
            data_limits.limited(repeating(unique), 1e21)


@given(st.floats(0, 22), st.floats(6, 40))
def test_a_limit_is_answered_with_epochs_that_were_tried_or_refused(log_unique, log_flops):
    try:
        found = data_limits.limited(data_limits.repeating(LAW, 10**log_unique), 10**log_flops)
    except FitError as error:
        assert "1,500 times" in str(error)  # noqa: PT017 - some are answered and some refused
        return
    assert found.epochs <= data_limits.MOST_EPOCHS
    assert found.loss >= float(found.unlimited.loss) * (1 - 1e-12)
    assert all(1 <= flops <= 1e40 for flops in (found.exhausted_flops, found.futile_flops))


def test_more_epochs_than_were_ever_tried_are_refused():
    with pytest.raises(FitError, match="far outside what was tried"):
        data_limits.limited(repeating(1.0), 5.76e23)


def test_text_that_lasts_beyond_every_budget_is_exhausted_by_none():
    data_hungry = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.01, beta=0.9)  # D_opt grows so slowly that a power of it would overflow
    assert data_limits.exhausted_flops(data_limits.repeating(data_hungry, 1e22)) == 1e40


def test_additive_laws_repeat_with_muennighoff_et_als_worth_and_others_are_refused_in_words():
    g, found = GOLDEN["muennighoff2023"], data_limits.repeating(LAW, 25e9)
    assert (found.E, found.A, found.beta, found.unique_tokens) == (LAW.E, LAW.A, LAW.beta, 25e9)
    assert g["R_N"] == found.R_N
    assert g["R_D"] == found.R_D
    assert data_limits.repeating(found, 1e9).unique_tokens == 1e9
    assert data_limits.unlimited(found) == LAW
    with pytest.raises(FitError, match="additive laws only") as caught:
        data_limits.repeating(KAPLAN, 25e9)
    assert "Kaplan" not in str(caught.value)  # no class names


@pytest.mark.parametrize(("quantity", "bounds"), [("flops", _checks.BUDGETS), ("tokens", _checks.TOKENS)])
def test_a_goal_may_be_as_much_as_any_other_number_of_its_kind(quantity, bounds):
    for bound, beyond in zip(bounds, (0.99, 1.01), strict=True):
        assert Goal(quantity=quantity, value=bound).value == bound
        with pytest.raises(UsageError):
            Goal(quantity=quantity, value=beyond * bound)


def test_without_a_limit_the_data_limited_plan_is_the_unlimited_one():
    found = data_limits.limited(repeating(math.inf), 1e24)
    assert found.params == pytest.approx(float(found.unlimited.params), rel=1e-12)
    assert (found.epochs, found.penalty, found.token_worth) == (0.0, 0.0, 1.0)
    assert found.effective_tokens == found.tokens


# --- recipe


def deepseek_shape(model: dict) -> arch.Shape:
    """One of DeepSeek LLM's, whose 67B shares keys and values: not seen by the rule, which counts attention in full."""
    width = model["d_model"]
    return arch.Shape(
        arch="llama",
        d_model=width,
        n_layers=model["n_layers"],
        n_heads=model["n_heads"],
        kv_size=width // model["n_heads"],
        ffw_size=8 * round(width / 3),
        vocab=GOLDEN["deepseek_llm"]["vocab"],
        context=GOLDEN["deepseek_llm"]["context"],
    )


@pytest.mark.parametrize("model", GOLDEN["deepseek_llm"]["models"], ids=lambda model: f"{model['d_model']} wide")
def test_the_deepseek_rule_gives_what_deepseek_trained_with(model):
    g, shape = GOLDEN["deepseek_llm"], deepseek_shape(model)
    found = recipe.recommend(shape, tokens=model["tokens"], flops=6 * shape.params.total * model["tokens"], recipe="deepseek")
    assert found.lr.value == pytest.approx(model["lr"], rel=g["tolerance_lr"])
    assert found.batch.value / shape.context == pytest.approx(model["sequences"], rel=g["tolerance_batch"])
    assert found.warmup.value == 2000
    assert found.cautions == ()


@pytest.mark.parametrize("name", recipes.names())
@given(d_model=st.sampled_from([64, 256, 512, 1024, 4096]), per_param=st.floats(0.01, 1e4), family=st.sampled_from(["gopher", "llama"]))
def test_a_recipe_is_whole_sequences_that_take_the_tokens_and_names_its_sources(name, d_model, per_param, family):
    shape = arch.get(family).at(d_model, vocab=32_000, context=2048)
    tokens = max(2048.0, per_param * shape.params.total)
    found = recipe.recommend(shape, tokens=tokens, flops=shape.flops_per_token.training * tokens, recipe=name)
    batch, steps = found.batch.value, found.steps.value
    assert batch % 2048 == 0
    assert (steps - 1) * batch < tokens <= steps * batch
    assert 0 < found.lr.value < 1
    assert 1 <= found.warmup.value <= max(1, round(recipes.get(name).longest_warmup * steps))
    assert all(caution[0].isupper() and caution.endswith(".") for caution in found.cautions)
    settings = (found.lr, found.batch, found.steps, found.warmup, found.schedule, found.beta1, found.beta2, found.weight_decay, found.clip)
    assert all(setting.source for setting in settings)


def test_outside_a_rules_data_its_number_stands_and_a_caution_says_so():
    shape = arch.get("llama").at(8192, vocab=32_000, context=2048)
    tokens = 20.0 * shape.params.total
    found = recipe.recommend(shape, tokens=tokens, flops=shape.flops_per_token.training * tokens, recipe="steplaw")
    body = shape.params.count("nonembedding")
    assert found.lr.value == pytest.approx(1.79 * body**-0.713 * tokens**0.307, rel=1e-12)
    assert any("outside" in caution for caution in found.cautions)
    assert any("100B" in caution for caution in found.cautions)


def test_a_shape_that_does_not_fit_the_budget_is_told():
    shape = arch.get("llama").at(1024, vocab=32_000, context=2048)
    found = recipe.recommend(shape, tokens=1e10, flops=1e25)
    assert any("planned" in caution for caution in found.cautions)


def test_a_rule_without_a_positive_rate_is_refused_and_so_is_an_unknown_one():
    shape = arch.get("llama").at(8192, vocab=32_000, context=2048)
    with pytest.raises(UsageError, match="--recipe"):
        recipe.recommend(shape, tokens=1e12, flops=1e24, recipe="kaplan")
    with pytest.raises(UnknownNameError, match="'deepseek'"):
        recipe.recommend(shape, tokens=1e12, flops=1e24, recipe="deepsek")
