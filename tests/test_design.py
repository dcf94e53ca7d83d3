"""A design spends what its budgets say, or says why it cannot."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import _registry, arch
from isoflop.arch import Kind
from isoflop.design import Text, around, design
from isoflop.errors import DesignError
from isoflop.study import Study

TEXT = Text(digest="d", vocab=256, train_tokens=10_000_000, val_tokens=500_000)
STUDY = Study(name="s", budgets=(1.5e11, 3e11, 6e11, 1.2e12, 2.4e12), target=7.2e12)
DESIGNS = _registry.names("isoflop.design")


def changed(**values) -> Study:
    return Study.model_validate(STUDY.model_dump() | values)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_run_meets_its_budget_within_half_a_step(name):
    for spec in design(changed(design=name, target=3e13), TEXT).specs:
        assert abs(spec.flops - spec.budget) <= 0.5 * spec.batch * spec.shape.flops_per_token.training + 1


@pytest.mark.parametrize("name", DESIGNS)
def test_runs_are_distinct_and_whole_batches(name):
    specs = design(changed(design=name, target=3e13), TEXT).specs
    assert len({spec.id for spec in specs}) == len(specs)
    assert all(spec.tokens % spec.batch == 0 and spec.batch % spec.shape.context == 0 for spec in specs)


@pytest.mark.parametrize("name", DESIGNS)
def test_equal_studies_give_equal_designs(name):
    assert design(changed(design=name, target=3e13), TEXT) == design(changed(design=name, target=3e13), TEXT)


def test_isoflop_has_its_sizes_at_every_budget_and_seeds_repeated_at_one_point():
    specs = design(STUDY, TEXT).specs
    for budget in STUDY.budgets:
        assert len({s.shape for s in specs if s.budget == budget and s.group == "isoflop"}) == STUDY.sizes
    noise = [s for s in specs if s.group == "noise"]
    assert len({(s.shape, s.budget) for s in noise}) == 1
    twin = [s for s in specs if (s.shape, s.budget) == (noise[0].shape, noise[0].budget)]
    assert len({s.seed for s in twin}) == STUDY.seeds


def test_isoflop_brackets_the_expected_optimum():
    specs = design(STUDY, TEXT).specs
    for budget in STUDY.budgets:
        params = sorted(s.shape.params.total for s in specs if s.budget == budget and s.group == "isoflop")
        assert params[-1] / params[0] == pytest.approx(STUDY.spread, rel=0.35)  # the ladder's rungs are up to 1.7 apart


def test_horizons_span_sixteen_times_at_every_size():
    specs = design(changed(design="horizons", sizes=4, target=3e13), TEXT).specs
    for shape in {s.shape for s in specs}:
        tokens = sorted(s.tokens for s in specs if s.shape == shape and s.group == "horizons")
        assert len(tokens) == STUDY.horizons
        assert tokens[-1] / tokens[0] == pytest.approx(16, rel=0.05)


def test_widths_can_be_named():
    specs = design(changed(sizes=(8, 16, 32)), TEXT).specs
    assert {s.shape.d_model for s in specs} == {8, 16, 32}


@given(st.floats(2e3, 1e11), st.integers(3, 12), st.floats(4, 100))
def test_sizes_are_distinct_and_rise(params, count, spread):
    shapes = around(Kind(family="llama", vocab=256, context=128), params, count=count, spread=spread)
    totals = [s.params.total for s in shapes]
    assert len(set(totals)) == count
    assert totals == sorted(totals)


@pytest.mark.parametrize("family", _registry.names("isoflop.arch"))
@given(target=st.floats(1e4, 1e12))
def test_the_nearest_shape_is_near(family, target):
    shape = arch.nearest(family, target, vocab=256, context=128)
    assert abs(math.log(shape.params.total / target)) < 0.45  # half of the widest rung


def test_scaling_the_learning_rate_scales_it():
    one, two = (design(changed(lr_scale=scale), TEXT).specs for scale in (1.0, 2.0))
    assert all(b.lr == pytest.approx(2 * a.lr, rel=1e-5) for a, b in zip(one, two, strict=True))


def test_many_epochs_are_warned_of():
    assert design(STUDY, TEXT).warnings == ()
    small = dataclasses.replace(TEXT, train_tokens=1_000_000)
    assert "more than 4 times" in design(STUDY, small).warnings[0]


def test_less_than_a_decade_of_compute_is_warned_of():
    assert "less than a decade" in design(changed(budgets=(1e12, 1.5e12, 2e12)), TEXT).warnings[0]


def test_runs_are_measured_on_all_of_a_short_validation_text_by_default():
    short = design(STUDY, dataclasses.replace(TEXT, val_tokens=100_000))
    assert {s.eval_tokens for s in short.specs} == {99_968}  # whole sequences of 128, each with one token after it
    assert any("measured on 99,968 instead of 131,072" in warning for warning in short.warnings)
    exact = design(STUDY, dataclasses.replace(TEXT, val_tokens=131_073))
    assert {s.eval_tokens for s in exact.specs} == {131_072}
    assert exact.warnings == ()


def test_the_default_of_eval_tokens_leaves_no_trace_in_the_ids_of_runs():
    assert [s.id for s in design(STUDY, TEXT).specs] == [s.id for s in design(changed(eval_tokens=131_072), TEXT).specs]


@pytest.mark.parametrize(
    ("values", "text", "message"),
    [
        ({"budgets": (1e11, 2e11), "target": 1e12}, TEXT, "2 budgets cannot show"),
        ({"target": 5e12}, TEXT, "at least 3"),
        ({"budgets": (1e8, 2e8, 4e8), "target": 1e10}, TEXT, "steps at width"),
        ({"sizes": (512, 1024, 2048)}, TEXT, "steps at width"),
        ({}, dataclasses.replace(TEXT, val_tokens=1000), "validation text has 1.00k tokens"),
        ({"eval_tokens": 100}, TEXT, "under one sequence of 128"),
        ({"eval_tokens": 200_000}, dataclasses.replace(TEXT, val_tokens=150_000), "has 150k tokens, but every run is measured on 200k"),
        ({"design": "horizons"}, TEXT, "times the largest run"),
    ],
)
def test_a_grid_that_cannot_answer_is_refused_with_why(values, text, message):
    with pytest.raises(DesignError, match=message):
        design(changed(**values), text)
