"""The proof is fought at equal compute, and told as it went."""

import dataclasses
import math

import numpy as np
import pytest

from isoflop.design import Text
from isoflop.errors import StoreError, ValidationError
from isoflop.fit import fit_all
from isoflop.plan import plan_all
from isoflop.runs import Clock, RunRecord
from isoflop.study import Study
from isoflop.validate import Claim, chance, chosen, judge, specs
from isoflop.validate import claim as claims
from test_plan import sweep

TEXT = Text(digest="d", vocab=32_000, train_tokens=10**12, val_tokens=10**9)
STUDY = Study(name="s", budgets=(1e18, 1e19, 1e20), target=1e21, context=2048, proof={"kaplan": True})


@pytest.fixture(scope="module")
def fits():
    return fit_all(sweep()).fits


@pytest.fixture(scope="module")
def plans(fits):
    return plan_all(fits, STUDY.target, kind=STUDY.kind(TEXT.vocab))


def record(spec, loss):
    clock = Clock(seconds=1, finished="2026-01-01T00:00:00+00:00", attempt=1, device="d", versions={})
    return RunRecord(
        id=spec.id,
        spec=spec,
        status="ok" if loss else "diverged",
        reason="" if loss else "the loss is nan",
        loss=loss,
        bits_per_byte=loss,
        params=spec.shape.params,
        tokens=spec.tokens,
        flops=spec.flops,
        epochs=1,
        clock=clock,
    )


def test_contenders_spend_the_same_compute_at_different_sizes(plans, fits):
    runs = {s.label: s for s in specs(plans, fits, study=STUDY, text=TEXT)}
    assert set(runs) == {"chinchilla", "gopher", "kaplan"}
    assert all(s.flops == pytest.approx(STUDY.target, rel=0.001) for s in runs.values())
    ratio = runs["gopher"].shape.params.total / runs["chinchilla"].shape.params.total
    assert abs(math.log(ratio / 4)) < 0.45  # half of the widest rung of the ladder
    assert runs["kaplan"].shape.params.total > runs["chinchilla"].shape.params.total


def test_the_middle_of_the_approaches_is_chosen(plans):
    wild = dataclasses.replace(plans[0], params=1e15)
    tame = [dataclasses.replace(plans[0], params=x) for x in (1e9, 2e9)]
    assert chosen([wild, *tame]).params == 2e9


def test_the_lower_loss_wins_and_the_interval_is_judged(plans, fits):
    runs = specs(plans, fits, study=STUDY, text=TEXT)
    expected = chosen(plans).loss
    won = judge(plans, fits, [record(s, expected + (0 if s.label == "chinchilla" else 0.1)) for s in runs])
    assert (won.winner, won.won, won.inside) == ("chinchilla", True, True)
    lost = judge(plans, fits, [record(s, expected + 0.3 - (0 if s.label == "chinchilla" else 0.1)) for s in runs])
    assert (lost.won, lost.inside) == (False, False)
    assert lost.error == pytest.approx(0.3 / expected)


def test_kaplans_size_adds_a_run_and_changes_no_other(plans, fits):
    plain = STUDY.model_copy(update={"proof": STUDY.proof.model_copy(update={"kaplan": False})})
    two, three = (specs(plans, fits, study=study, text=TEXT) for study in (plain, STUDY))
    assert [s.label for s in two] == ["chinchilla", "gopher"]
    assert [s.id for s in three[:2]] == [s.id for s in two]
    assert judge(plans, fits, [record(s, 2.2) for s in three], kaplan=True).same_as == {}
    assert judge(plans, fits, [record(s, 2.2) for s in two]).same_as == {}


def test_a_shape_is_trained_once_and_said_to_stand_for_both(plans, fits):
    shapes = {s.label: s.shape for s in specs(plans, fits, study=STUDY, text=TEXT)}
    oversize = shapes["kaplan"].params.total / shapes["chinchilla"].params.total
    as_gopher = STUDY.model_copy(update={"proof": STUDY.proof.model_copy(update={"oversize": oversize})})
    as_optimum = [dataclasses.replace(plan, shape=shapes["kaplan"]) for plan in plans]
    for study, planned, whose in ((as_gopher, plans, "gopher"), (STUDY, as_optimum, "chinchilla")):
        runs = specs(planned, fits, study=study, text=TEXT)
        assert [s.label for s in runs] == ["chinchilla", "gopher"]
        assert judge(planned, fits, [record(s, 2.2) for s in runs], kaplan=True).same_as == {"kaplan": whose}


def test_a_diverged_rival_comes_last(plans, fits):
    runs = specs(plans, fits, study=STUDY, text=TEXT)
    validation = judge(plans, fits, [record(s, 2.2 if s.label != "gopher" else None) for s in runs])
    assert validation.contenders[-1].label == "gopher"


def test_a_diverged_or_missing_optimum_is_said(plans, fits):
    runs = specs(plans, fits, study=STUDY, text=TEXT)
    with pytest.raises(ValidationError, match="the loss is nan"):
        judge(plans, fits, [record(s, None) for s in runs])
    with pytest.raises(ValidationError, match="has not been trained"):
        judge(plans, fits, [])
    with pytest.raises(ValidationError, match="no approach"):
        chosen([])


def test_an_oversize_that_makes_no_other_shape_is_refused(plans, fits):
    study = STUDY.model_copy(update={"proof": STUDY.proof.model_copy(update={"oversize": 1.0})})
    with pytest.raises(ValidationError, match="Raise oversize"):
        specs(plans, fits, study=study, text=TEXT)


# --- what holds, and which forecast is judged


def validation(plans, fits, *, optimum: float, rival: float, losses=(2.0, 3.0, 4.0), noise: float = math.nan):
    seeds = [dataclasses.replace(fit, noise=noise, noise_freedom=0 if math.isnan(noise) else 2) for fit in fits]
    runs = specs(plans, fits, study=STUDY, text=TEXT)
    return judge(plans, seeds, [record(s, optimum if s.label == "chinchilla" else rival) for s in runs], losses=losses)


def test_a_claim_holds_only_if_no_model_is_better(plans, fits):
    expected = chosen(plans).loss
    assert validation(plans, fits, optimum=expected, rival=expected + 0.1).holds
    lost = validation(plans, fits, optimum=expected, rival=expected - 0.074)
    assert (lost.inside, lost.won, lost.holds, lost.beaten) == (True, False, False, True)
    assert lost.winner == "gopher"
    unsure = validation(plans, fits, optimum=expected, rival=expected - 0.074, noise=0.04)
    assert (unsure.holds, unsure.beaten) == (False, False)
    assert unsure.chance == pytest.approx(1.886 * math.sqrt(2) * 0.04, rel=1e-3)
    assert unsure.lead(unsure.contenders[0]) == pytest.approx(-0.074)


def test_a_claim_holds_only_if_its_interval_is_narrower_than_the_losses_of_the_sweep(plans, fits):
    expected = chosen(plans).loss
    low, high = chosen(plans).loss_interval
    wide = [expected + 5.5 * (high - low) * (i / 10 - 0.5) for i in range(11)]
    narrow = [expected + 0.5 * (high - low) * (i / 10 - 0.5) for i in range(11)]
    assert validation(plans, fits, optimum=expected, rival=expected + 1, losses=wide).holds
    assert not validation(plans, fits, optimum=expected, rival=expected + 1, losses=narrow).informative
    assert not validation(plans, fits, optimum=expected, rival=expected + 1, losses=narrow).holds


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 10**6])
def test_two_seeds_differ_by_less_than_chance_in_four_of_five_cases(freedom):
    """Student's t with so many degrees of freedom, integrated by hand."""
    t = np.linspace(0, chance(1.0, freedom) / math.sqrt(2), 20_001)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    density = scale * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    assert 2 * float(((density[1:] + density[:-1]) / 2 * np.diff(t)).sum()) == pytest.approx(0.8, abs=1e-6)
    assert math.isnan(chance(math.nan, 0))


def test_the_forecast_on_record_is_judged_and_not_a_later_one(plans, fits):
    claim = Claim.of(plans, runs_digest="d1", version="1.0")
    later = [dataclasses.replace(plan, loss=plan.loss + 1, params=2 * plan.params, loss_interval=(9.0, 9.1)) for plan in plans]
    kept = claims.loads(claim.dumps(), name="claim.json")
    assert kept == claim
    assert kept.plan(later) == chosen(plans)
    runs = specs([kept.plan(later)], fits, study=STUDY, text=TEXT)
    assert [s.id for s in runs] == [s.id for s in specs(plans, fits, study=STUDY, text=TEXT)]
    assert judge([kept.plan(later)], fits, [record(s, 2.2) for s in runs]).predicted == chosen(plans).loss


def test_a_claim_is_of_one_sweep_and_one_budget(plans):
    claim = Claim.of(plans, runs_digest="d1", version="1.0")
    assert claim.stands_for(runs_digest="d1", flops=STUDY.target)
    assert not claim.stands_for(runs_digest="d2", flops=STUDY.target)
    assert not claim.stands_for(runs_digest="d1", flops=2 * STUDY.target)


def test_a_claim_without_interval_or_loss_reads_back(plans):
    nowhere = (math.nan, math.nan)
    bare = dataclasses.replace(chosen(plans), loss=math.nan, loss_interval=nowhere, params_interval=nowhere)
    kept = claims.loads(Claim.of([bare], runs_digest="d", version="1").dumps(), name="claim.json").plan(plans)
    assert math.isnan(kept.loss)
    assert all(map(math.isnan, (*kept.loss_interval, *kept.params_interval)))
    assert kept.tokens_interval == bare.tokens_interval


@pytest.mark.parametrize("damage", [lambda t: t[:-20], lambda t: t.replace('"d1"', '"d2"'), lambda _: "[]", lambda _: "", lambda _: "[" * 100_000])
def test_a_damaged_claim_is_named(plans, damage):
    text = Claim.of(plans, runs_digest="d1", version="1.0").dumps()
    with pytest.raises(StoreError, match="the forecast claimed before the proof, is damaged"):
        claims.loads(damage(text), name="claim.json")
