"""The proof is fought at equal compute, and told as it went."""

import dataclasses
import math

import pytest

from isoflop.design import Text
from isoflop.errors import ValidationError
from isoflop.fit import fit_all
from isoflop.plan import plan_all
from isoflop.runs import Clock, RunRecord
from isoflop.study import Study
from isoflop.validate import chosen, judge, specs
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
