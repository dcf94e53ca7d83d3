"""A recipe gives what its source prints, and what a study is trained by is what the recipe gives."""

import dataclasses
import hashlib
import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import arch, recipes, units
from isoflop import study as studies
from isoflop.design import Text, _recipe, design
from isoflop.errors import DesignError, StudyError
from isoflop.recipes import Run
from isoflop.runs import Muon
from isoflop.study import Study, Tuned, parse

GOLDEN = tomllib.loads((Path(__file__).parent / "golden" / "recipes.toml").read_text(encoding="utf-8"))
TEXT = Text(digest="d", vocab=256, train_tokens=10_000_000, val_tokens=500_000)
LONG_TEXT = Text(digest="d", vocab=32_000, train_tokens=10**11, val_tokens=500_000)
STUDY = Study(name="s", budgets=(1.5e11, 3e11, 6e11, 1.2e12, 2.4e12), target=7.2e12)
LARGE = Study(name="s", budgets=(1e18, 3e18, 1e19), target=3e20, context=1024)


def changed(study: Study = STUDY, **values) -> Study:
    return Study.model_validate(study.model_dump() | values)


def run(*, params: float = 1e9, tokens: float = 1e11) -> Run:
    return Run(d_model=1024, params=params, body=params, with_head=params, tokens=tokens, flops=6 * params * tokens, body_flops=6 * params * tokens)


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: f"{row['recipe']} at {units.count(row['params'])}")
def test_a_rule_gives_what_its_paper_prints(row):
    rule, one = recipes.get(row["recipe"]), run(params=row["params"])
    assert rule.lr(one, rule.batch(one)) == pytest.approx(row["lr"], rel=row["tolerance_lr"])
    if "batch" in row:
        assert rule.batch(one) == row["batch"]


@pytest.mark.parametrize("row", GOLDEN["porian"]["rows"], ids=lambda row: f"{row[0] / 1e6:.0f}M")
def test_porians_lines_pass_through_what_they_tuned(row):
    params, sequences, lr = row
    rule, one = recipes.get("porian"), run(params=params, tokens=20 * params)
    assert rule.lr(one, rule.batch(one)) == pytest.approx(lr, rel=GOLDEN["porian"]["tolerance_lr"])
    assert rule.batch(one) == pytest.approx(2048 * sequences, rel=GOLDEN["porian"]["tolerance_batch"])
    assert recipes.warmup(rule, one, rule.batch(one)) == pytest.approx(0.05, rel=1e-12)  # as many tokens as params, of twenty a param


def test_the_step_law_is_its_formulas():
    golden, rule = GOLDEN["steplaw"], recipes.get("steplaw")
    one = run(params=golden["body"], tokens=golden["tokens"])
    assert rule.lr(one, rule.batch(one)) == pytest.approx(golden["lr"], rel=golden["tolerance"])
    assert rule.batch(one) == pytest.approx(golden["batch"], rel=golden["tolerance"])
    assert rule.lr(one, 1.0) * rule.final(rule.lr(one, 1.0)) == pytest.approx(1e-5, rel=1e-12)


def test_hoffmanns_rate_stays_at_the_ends_that_are_printed():
    def rate(params: float) -> float:
        return recipes.get("hoffmann").lr(run(params=params), 1.0)

    assert (rate(1e6), rate(1e12)) == (2e-4, 1e-4)
    assert 1.25e-4 < rate(1e9) < 2e-4


@pytest.mark.parametrize("name", recipes.names())
def test_a_rule_names_its_sources(name):
    rule = recipes.get(name)
    assert all((rule.title, rule.lr_source, rule.batch_source, rule.warmup_source, rule.schedule, rule.schedule_source, rule.optimizer_source))


@pytest.mark.parametrize("name", sorted(set(recipes.names()) - {"small"}))
def test_published_rules_expect_twenty_tokens_a_param(name):
    """Hoffmann et al. 2022, Table 3: 400M at 1.92e19 FLOPs, 67B at 5.76e23; within 5 %."""
    expected = recipes.get(name).expected_params
    assert expected(1.92e19) == pytest.approx(400e6, rel=0.05)
    assert expected(5.76e23) == pytest.approx(67e9, rel=0.05)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, "bb7500f8ec55bc4e"),
        ({"design": "horizons", "target": 3e13}, "5917cf601f9f0823"),
        ({"lr_scale": 1.3, "batch_scale": 3.0}, "91f39f7b3c72b4a3"),
        ({"arch": "gopher"}, "aaf9af13422a3750"),
    ],
)
def test_small_gives_the_runs_that_it_gave_before_there_was_a_menu(values, ids):
    specs = design(changed(**values), TEXT).specs
    assert hashlib.sha256(" ".join(spec.id for spec in specs).encode()).hexdigest()[:16] == ids


@pytest.mark.parametrize("name", sorted(set(recipes.names()) - {"small"}))
def test_a_study_is_trained_by_the_published_rule_it_names(name):
    made = design(changed(LARGE, recipe=name), LONG_TEXT)
    rule = recipes.get(name)
    for spec in made.specs:
        budgeted = recipes.read(spec.shape, spec.budget / spec.shape.flops_per_token.training)
        assert spec.batch == 1024 * max(1, round(rule.batch(budgeted) / 1024))
        assert spec.lr == pytest.approx(rule.lr(budgeted, spec.batch), rel=1e-5)
        assert spec.schedule.warmup <= rule.longest_warmup
        assert spec.lr * spec.schedule.final == pytest.approx(spec.lr * rule.final(spec.lr), rel=1e-4)
        assert (spec.optimizer.beta2, spec.optimizer.weight_decay) == (rule.beta2, rule.weight_decay)


@pytest.mark.parametrize("name", ["hoffmann", "kaplan", "porian"])
def test_a_batch_that_leaves_no_steps_is_refused_with_what_to_change(name):
    with pytest.raises(DesignError, match=rf"steps at width .* tokens, as the recipe '{name}' has them; under 50 .* smaller batch_scale or another recipe"):
        design(changed(recipe=name), TEXT)


def test_runs_outside_a_rules_data_are_warned_of_once():
    (warning,) = design(changed(recipe="steplaw"), TEXT).warnings
    assert warning.startswith("37 of 37 runs lie outside what backs the recipe 'steplaw'")
    assert "isoflop tune" in warning
    assert design(STUDY, TEXT).warnings == ()


def test_a_rule_without_a_positive_rate_is_refused():
    shape = arch.get("llama").at(8192, vocab=32_000, context=2048)
    with pytest.raises(DesignError, match="no positive learning rate"):
        _recipe.get("kaplan").settings(shape, 1e24, lr_scale=1.0, batch_scale=1.0, muon=False)


@given(scale=st.floats(0.1, 10), width=st.floats(8, 1000), power=st.floats(-1, 1), d_model=st.sampled_from([8, 32, 200]))
def test_a_tuned_recipe_is_its_base_but_for_the_rate(scale, width, power, d_model):
    shape = arch.get("llama").at(d_model, vocab=256, context=128)
    plain, tuned = (
        _recipe.get(recipe).settings(shape, 1e12, lr_scale=1.5, batch_scale=2.0, muon=False)
        for recipe in ("small", Tuned(base="small", scale=scale, width=width, power=power))
    )
    assert tuned.lr == pytest.approx(plain.lr * scale * (d_model / width) ** power, rel=1e-9)
    assert dataclasses.replace(tuned, lr=plain.lr) == plain


def test_a_tuned_recipe_is_shown_and_read_back():
    study = changed(recipe=Tuned(base="small", scale=1.727, width=26.72, power=-0.25))
    assert parse(tomllib.loads(studies.show(study))) == study


def test_a_study_is_trained_by_its_tuned_recipe():
    tuned = Tuned(base="small", scale=2.0, width=24, power=-0.5)
    for spec, plain in zip(design(changed(recipe=tuned), TEXT).specs, design(STUDY, TEXT).specs, strict=True):
        assert spec.lr == pytest.approx(plain.lr * 2 * (spec.shape.d_model / 24) ** -0.5, rel=1e-5)  # both have six digits


@pytest.mark.parametrize(("recipe", "over"), [("small", 1.7), ("steplaw", 1.0), ("hoffmann", 1.0)])  # measured: benchmarks/recipe.md; Liu et al. 2025
def test_muon_has_a_rate_of_its_own_and_all_else_of_the_recipe(recipe, over):
    base = changed(recipe=recipe, batch_scale=0.001 if recipe != "small" else 1.0)
    for muon, adamw in zip(design(changed(base, optimizer="muon"), TEXT).specs, design(base, TEXT).specs, strict=True):
        assert muon.lr == pytest.approx(over * adamw.lr, rel=1e-5)  # both have six digits
        assert muon.optimizer == Muon(name="muon", momentum=0.95, adamw=adamw.optimizer)
        assert muon.model_copy(update={"lr": adamw.lr, "optimizer": adamw.optimizer}) == adamw


def test_a_tuned_recipe_outside_its_rules_data_is_no_warning():
    assert design(changed(recipe=Tuned(base="steplaw", scale=0.05, width=24)), TEXT).warnings == ()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"base": "small", "scal": 1.0, "width": 24}, "unknown key 'recipe.scal'. Did you mean 'scale'"),
        ({"base": "small", "scale": 1.0}, "'recipe.width' is missing"),
        ({"base": "small", "scale": -1.0, "width": 24}, "recipe.scale = -1.0 is invalid: it must be more than 0"),
        ({"base": "small", "scale": math.inf, "width": 24}, "recipe.scale = inf is invalid: it must be a finite number"),
        (3, "recipe = 3 is invalid: it must be text in quotes"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_in_words(recipe, words):
    with pytest.raises(StudyError, match=words):
        parse({"name": "s", "budgets": ["1e11"], "target": "1e12", "recipe": recipe})


def test_an_unknown_base_gets_the_nearest():
    with pytest.raises(StudyError, match=r"recipe: there is no recipe 'smal'\. Did you mean 'small'"):
        parse({"name": "s", "budgets": ["1e11"], "target": "1e12", "recipe": {"base": "smal", "scale": 1.0, "width": 24}})
