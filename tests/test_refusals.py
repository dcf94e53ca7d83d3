"""An answer that cannot be right is refused, on every path to it: `fit`, `plan --fit`, `plan STUDY`, and Python."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from isoflop import cli, compare, fit, workspace
from isoflop.errors import ExtrapolationError, FitError, NoLawError, QuestionError, Reading, RefusedError
from isoflop.fit import answers, refusals, saved
from isoflop.fit.account import Account
from isoflop.fit.forecast import Prediction
from isoflop.fit.refusals import Trained
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.powerlaw import PowerLaw
from isoflop.report import export
from isoflop.runs import Runs
from test_fit_cli import asked, flat

LAW = Chinchilla(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)


def sweep(*, flops_scale: float = 1.0, noise: float = 0.002) -> Runs:
    """28 runs of a known law at four budgets."""
    budget = np.repeat([1e17, 3e17, 1e18, 3e18], 7)
    params = LAW.optimum(budget).params * np.tile(np.geomspace(0.25, 4.0, 7), 4)
    tokens = budget / (6 * params)
    loss = LAW.loss(params, tokens) * np.exp(np.random.default_rng(0).normal(scale=noise, size=28))
    return Runs.from_columns(params=params, tokens=tokens, loss=loss, flops=budget * flops_scale)


def ladder(ratio: float = 20.0, *, jitter: float = 0.0) -> Runs:
    """Twelve runs, one a budget, each with about the same tokens per parameter."""
    params = np.geomspace(1e8, 1e10, 12)
    tokens = ratio * params * np.exp(np.random.default_rng(1).uniform(-jitter, jitter, size=12))
    return Runs.from_columns(params=params, tokens=tokens, loss=LAW.loss(params, tokens))


def written(runs: Runs, path: Path, **columns: np.ndarray) -> Path:
    """Write runs as a CSV file; a column given here replaces theirs."""
    values = {"params": runs.params, "tokens": runs.tokens, "flops": runs.flops, "loss": runs.loss} | columns
    rows = (",".join(f"{value:.9g}" for value in row) for row in zip(*values.values(), strict=True))
    path.write_text("\n".join([",".join(values), *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fits():
    return fit.fit_all(sweep(), resamples=40)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return written(sweep(), tmp_path_factory.mktemp("table") / "runs.csv")


def test_a_usual_sweep_has_an_answer(fits):
    found = answers.answer(fits, 3e19)
    assert found.given
    assert found.reasons == ()
    assert found.require() == found.prediction


# --- what is refused, as values


def prediction(**changes: object) -> Prediction:
    usual = {
        "flops": 3e19, "params": 5e8, "params_interval": (3e8, 8e8), "tokens": 1e10, "tokens_interval": (6e9, 2e10), "loss": 2.7,
        "loss_interval": (2.6, 2.8), "level": 0.8, "reach": 10.0,
    }  # fmt: skip
    return Prediction(**{**usual, **changes})


def kinds(trained: Trained | None, **changes: object) -> set[str]:
    found = prediction(**changes)
    return {refusal.kind for refusal in refusals.check(found, found, trained, unit="nats per token")}


TRAINED = Trained.of(sweep())


def test_a_sound_prediction_is_not_refused():
    assert kinds(TRAINED) == set()
    assert kinds(None) == set()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"params": 1e-122}, "size"),
        ({"params": 3.0}, "size"),
        ({"params": 1e25}, "size"),
        ({"params": math.nan, "tokens": math.nan}, "optimum"),
        ({"params": math.inf}, "optimum"),
        ({"params": 183e9, "tokens": 9.12e3}, "ratio"),
        ({"params": 5e11, "tokens": 1e8}, "ratio"),
        ({"params": 1e4, "tokens": 1e12}, "ratio"),
        ({"tokens": 40.0}, "tokens"),
        ({"tokens": 1e24}, "tokens"),
        ({"params_interval": (3.11e-8, 1.12e28)}, "interval"),
        ({"params_interval": (4e7, 4.1e9)}, "interval"),
        ({"params_interval": (0.0, 8e8)}, "interval"),
        ({"tokens_interval": (1e9, math.inf)}, "interval"),
        ({"tokens_interval": (1e9, 1.1e11)}, "interval"),
        ({"loss_interval": (0.003, 2029.0)}, "interval"),
        ({"loss_interval": (-0.1, 3.0)}, "interval"),
        ({"loss": -0.4}, "loss"),
        ({"loss": 0.0}, "loss"),
        ({"loss": math.inf}, "loss"),
        ({"flops": 1e4}, "budget"),
    ],
)
@pytest.mark.parametrize("trained", [TRAINED, None], ids=["runs known", "runs unknown"])
def test_what_cannot_be_is_refused(trained, changes, kind):
    assert kind in kinds(trained, **changes)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"params": 1e13, "tokens": 1e11}, "size"),  # 2e4 times the largest size, at ten times the compute
        ({"params": 1e5, "tokens": 1e10}, "size"),
        ({"params": 5e8, "tokens": 1e13}, "tokens"),
        ({"loss": 12.0}, "loss"),  # above the worst run
        ({"loss": 0.1}, "loss"),  # of runs near 3
        ({"flops": 1e21}, "extrapolation"),
        ({"flops": 1e15}, "extrapolation"),
    ],
)
def test_what_cannot_follow_from_these_runs_is_refused(changes, kind):
    assert kinds(TRAINED, **changes) == {kind}
    assert kinds(None, **changes) == set()


def test_a_loss_or_an_interval_that_is_not_known_is_no_refusal():
    nowhere = (math.nan, math.nan)
    assert kinds(TRAINED, loss=math.nan, loss_interval=nowhere, params_interval=nowhere, tokens_interval=nowhere) == set()


def test_the_bounds_hold_every_known_model_with_two_orders_of_magnitude_to_spare():
    low, high = refusals.TOKENS_PER_PARAM
    each = [model.tokens_per_param for model in compare.MODELS]
    assert low < min(each) / 100
    assert high > max(each) * 100
    assert f"{min(each):.1f}" == "0.5"  # as the message says
    assert f"{max(each):,.0f}" == "6,471"


def test_a_study_knows_its_batch_and_context():
    study = dataclasses.replace(TRAINED, tokens=(1e5, 1e6), params=(1e4, 1e5), flops=(1e11, 1e12), least_tokens=65_536.0)
    few = {"flops": 1e12, "params": 5e4, "params_interval": (4e4, 6e4), "tokens": 6e4, "tokens_interval": (5e4, 7e4), "loss": 3.0}
    assert kinds(study, **few) == {"tokens"}
    assert kinds(dataclasses.replace(study, least_tokens=0.0), **few) == set()
    said = refusals.check(prediction(**few), prediction(**few), study, unit="nats per token")
    assert "65,536 tokens (one batch or one context)" in str(said[0])


def test_records_of_a_study_say_their_batch_and_context():
    import simulated  # slow to load

    records = simulated.sweep()
    runs = Runs.from_records(records, curve=simulated.curve_of(records)) if hasattr(simulated, "curve_of") else None
    runs = runs or Runs.from_records(records, curve=lambda _: simulated.curve(records[0]))
    assert runs.least_tokens == simulated.BATCH
    assert runs.take(np.arange(3)).least_tokens == simulated.BATCH
    assert Trained.of(runs).least_tokens == simulated.BATCH


def test_the_advice_that_reasons_share_stands_once():
    found = prediction(params=1e-122, tokens=9.0)
    said = " ".join(refusals.sentences(refusals.check(found, found, None, unit="nats per token")))
    assert said.count("Check which columns") == 1
    assert said.count("The best model would have") == 1


# --- the same from runs


def test_a_budget_beyond_fifty_times_the_runs_is_refused_unless_it_is_accepted(fits):
    for flops in (1e17 / 60, 3e18 * 60):
        found = answers.answer(fits, flops)
        assert {refusal.kind for refusal in found.refusals} == {"extrapolation"}
        with pytest.raises(ExtrapolationError, match="--extrapolate") as caught:
            found.require()
        assert caught.value.estimate == found.prediction
        assert answers.answer(fits, flops, extrapolate=True).given
    assert answers.answer(fits, 1e17 / 40).given
    assert answers.answer(fits, 3e18 * 40).given


def test_an_interval_that_is_wide_for_the_distance_alone_is_accepted_with_it(fits):
    far = prediction(flops=3e24, params=1e11, tokens=5e12, params_interval=(1e9, 1e13), loss=2.1, loss_interval=(2.0, 2.2))
    assert refusals.within_limit(3e24, TRAINED) == 50 * 3e18
    assert not refusals.check(far, prediction(), TRAINED, unit="nats per token", extrapolate=True)
    assert refusals.check(far, far, TRAINED, unit="nats per token", extrapolate=True)
    assert answers.answer(fits, 3e24, extrapolate=True).given


def test_losses_that_are_noise_have_no_answer():
    runs = sweep(noise=0.3)
    found = fit.fit_all(runs, resamples=40, keep_all=True)
    answer = answers.answer(found, 3e19)
    assert not answer.given
    with pytest.raises(RefusedError, match="there is no answer for 3e19 FLOPs"):
        answer.require()


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.3])
def test_runs_with_one_size_a_budget_determine_no_law_of_params_and_tokens(jitter):
    for made in (lambda: fit.fit(ladder(jitter=jitter), approach="parametric"), lambda: fit.fit_all(ladder(jitter=jitter))):
        with pytest.raises(FitError, match="as a table with one run a budget does") as caught:
            made()
        assert "Add runs of other sizes at the same budgets" in str(caught.value)


def test_runs_along_a_frontier_with_another_slope_are_no_better():
    runs = ladder()
    tokens = runs.params**1.4
    with pytest.raises(FitError, match="one run a budget"):
        fit.fit(Runs.from_columns(params=runs.params, tokens=tokens, loss=LAW.loss(runs.params, tokens)), approach="parametric")


def test_sizes_that_each_have_several_lengths_are_fitted():
    params = np.repeat(np.geomspace(1e8, 1e9, 4), 3)
    tokens = params * np.tile([10.0, 20.0, 40.0], 4)
    found = fit.fit(Runs.from_columns(params=params, tokens=tokens, loss=LAW.loss(params, tokens)), approach="parametric", resamples=0)
    assert found.law.a == pytest.approx(LAW.a, rel=1e-3)


def test_one_budget_has_no_answer_for_another():
    budget = np.full(9, 1e19)
    params = LAW.optimum(budget).params * np.geomspace(0.25, 4.0, 9)
    tokens = budget / (6 * params)
    found = fit.fit_all(Runs.from_columns(params=params, tokens=tokens, loss=LAW.loss(params, tokens), budget=budget), resamples=0)
    assert "one budget alone (1e19 FLOPs)" in answers.answer(found, 1e20).reasons[0]
    assert answers.answer(found, 1e19).given


def test_a_best_model_that_shrinks_with_compute_is_refused():
    said = refusals.shrinking(1e20, 1e19, (4e8, 1e8), (1e10, 1e11))
    assert [refusal.kind for refusal in said] == ["trend"]
    assert "shrink from 400M parameters at 1e19 FLOPs to 100M at 1e20" in said[0].reason
    assert refusals.shrinking(1e20, 1e19, (4e8, 5e8), (1e10, 0.9e10)) == ()
    assert refusals.shrinking(1e18, 1e19, (4e8, 1e8), (1e10, 1e9)) == ()  # less compute


def test_approaches_without_a_forecast_are_judged_alike(fits):
    alone = dataclasses.replace(fits, forecast=None)
    assert answers.answer(alone, 3e19).given
    assert answers.answer(alone, 3e19).fit in tuple(fits)
    wild = dataclasses.replace(next(iter(fits)), law=PowerLaw(c0=1e18, n0=1e-122, d0=1e139, a=0.5, b=0.5, E=1.7, k=10.0, g=0.1))
    found = answers.answer(dataclasses.replace(alone, fits=(wild,)), 3e19)
    assert not found.given


# --- units and columns that were misread


SLIPS = {
    "both scaled": ({"params": 1e-6, "tokens": 1e-9, "flops": 1e-15}, "If params are in millions and tokens in billions"),
    "large models, both scaled": ({"params": 1e-4, "tokens": 1e-6, "flops": 1e-10}, "The longest run has"),
    "billions of tokens": ({"tokens": 1e-9}, "--map 'tokens=COLUMN*1e9'"),
    "millions of params": ({"params": 1e-6}, "--map 'params=COLUMN*1e6'"),
    "budgets of 1e4 FLOPs": ({"flops": 1e-14}, "--map 'flops=COLUMN*1e18'"),
    "183B params on few tokens": ({"params": 1e4, "tokens": 1e-3}, "tokens for each parameter"),
}


@pytest.mark.parametrize(("scales", "said"), SLIPS.values(), ids=SLIPS)
def test_runs_in_other_units_are_refused_with_what_to_type(scales, said):
    runs = sweep()
    scaled = dataclasses.replace(runs, **{name: scale * getattr(runs, name) for name, scale in scales.items()})
    found = prediction()
    first = refusals.check(found, found, Trained.of(scaled), unit="nats per token", extrapolate=True)[0]
    assert first.kind == "runs"
    assert said in str(first)
    assert not any(refusal.kind == "runs" for refusal in refusals.check(found, found, Trained.of(runs), unit="nats per token"))


@pytest.mark.parametrize("scales", [scales for scales, _ in SLIPS.values()], ids=SLIPS)
def test_a_table_in_other_units_has_no_answer(tmp_path, scales):
    runs = sweep()
    path = written(runs, tmp_path / "runs.csv", **{name: scale * getattr(runs, name) for name, scale in scales.items()})
    status, out, err = asked("fit", path, "--resamples", "20")
    assert status in {1, 2}, out
    assert "train a model of about" not in out
    assert "isoflop: " in err


# --- the command line


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    """Losses that are nearly noise."""
    return written(sweep(noise=0.3), tmp_path_factory.mktemp("noisy") / "runs.csv")


def test_a_refusal_keeps_tables_and_the_file_and_has_no_answer(noisy, tmp_path):
    status, out, err = asked("fit", noisy, "--keep-all", "--resamples", "40", "--out", tmp_path / "fits.json")
    assert status == 1
    assert "How the best size and length grow with compute" in out
    assert "Refused, not an answer: what the fits say of 3e19 FLOPs" in flat(out)
    assert "train a model of about" not in out
    assert "Expect a loss" not in out
    assert "isoflop: there is no answer for 3e19 FLOPs. " in flat(err)
    kept = json.loads((tmp_path / "fits.json").read_text())
    assert kept["answer"] is None
    assert kept["reason"] in flat(err)
    assert {"kind", "reason", "advice"} == set(kept["refusals"][0])
    assert kept["fits"]
    again, out, err = asked("plan", "--fit", tmp_path / "fits.json", "3e19")
    assert (again, out) == (1, "")
    assert kept["reason"] in flat(err)
    again, out, err = asked("plan", "--fit", tmp_path / "fits.json", "3e19", "--extrapolate", "--json")
    assert (again, json.loads(out)["answer"]) == (1, None)
    again, out, err = asked("plan", "--fit", tmp_path / "fits.json", "3e19", "--law", "hoffmann3", "--json")
    assert (again, [row["law"] for row in json.loads(out)]) == (0, ["hoffmann3"])
    assert "left out of the plan" in flat(err)


def test_a_refusal_in_json_is_null_with_the_reason(noisy):
    status, out, err = asked("fit", noisy, "--keep-all", "--resamples", "40", "--json")
    said = json.loads(out)
    assert (status, said["answer"]) == (1, None)
    assert said["reason"] in flat(err)
    assert {"runs", "fits", "predictions", "prediction", "holdout"} <= set(said)


def test_an_answer_in_json_has_size_length_and_loss_with_intervals(table):
    said = json.loads(asked("fit", table, "--resamples", "40", "--json")[1])
    answer = said["answer"]
    assert {"flops", "params", "params_interval", "tokens", "tokens_interval", "loss", "loss_interval", "level", "reach", "by", "unit"} <= set(answer)
    assert answer["params"] == said["prediction"]["params"]
    assert answer["sentences"][0].startswith("With 3e19 FLOPs, train a model of about")
    assert "reason" not in said


def test_a_budget_far_outside_is_refused_by_fit_as_by_plan(table, tmp_path):
    for at in ("1e23", "1e14"):
        status, out, err = asked("fit", table, "--resamples", "20", "--at", at, "--out", tmp_path / "fits.json")
        assert status == 1
        assert "train a model" not in out
        assert "accept it with --extrapolate" in flat(err)
        assert asked("plan", "--fit", tmp_path / "fits.json", at)[0] == 1
    status, out, _ = asked("fit", table, "--resamples", "20", "--at", "1e21", "--extrapolate")
    assert (status, "train a model of about" in flat(out)) == (0, True)


def test_budgets_of_no_step_are_refused(table):
    status, out, err = asked("fit", table, "--resamples", "20", "--at", "1e4", "--extrapolate")
    assert status == 1
    assert "1e4 FLOPs is less than one training step" in flat(err)
    assert "train a model" not in out


def test_a_table_that_no_approach_fits_is_shown_before_the_reason(tmp_path):
    path = written(ladder(), tmp_path / "runs.csv")
    path.write_text(path.read_text() + "1e8,2e9,1.2e18,nan\n")
    status, out, err = asked("fit", path, "--resamples", "0")
    assert status == 1
    assert "read 13 from runs.csv" in flat(out)
    assert "loss is NaN" in flat(out)
    assert "one run a budget" in flat(err)
    said = json.loads(asked("fit", path, "--resamples", "0", "--json")[1])
    assert (said["answer"], said["runs"]["kept"]) == (None, 12)
    assert "one run a budget" in said["reason"]
    with pytest.raises(NoLawError) as caught:
        workspace.find(path)
    assert isinstance(caught.value.account, Account)


@pytest.mark.parametrize("words", [["fit", "none.csv"], ["plan", "--fit", "none.json", "1e20"], ["plan", "1e41"], ["fit", "none.toml"]])
def test_every_error_is_null_in_json(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = asked(*words, "--json")
    assert status in {1, 2}
    said = json.loads(out)
    assert set(said) == {"answer", "reason"}
    assert said["answer"] is None
    assert flat(said["reason"]) in flat(err)


def test_a_question_is_printed_so_that_its_options_can_be_pasted(monkeypatch):
    option = "--where 'corpus == \"" + 12 * "a very long name of a corpus " + "\"'"
    words = "the 40 runs of one corpus are fitted, and those of the other are excluded, which are 40 as well and have a loss of 3.1 where these have 2.2"
    question = QuestionError("The column corpus splits equal sizes into two losses.", (Reading(words, option), Reading("each is fitted alone", "--by corpus")))
    stream = io.StringIO()
    monkeypatch.setattr(cli, "err", Console(file=stream, width=80, highlight=False, markup=False, emoji=False))
    cli._ask(question)
    lines = stream.getvalue().splitlines()
    assert f"  {option}" in lines
    assert "  --by corpus" in lines
    assert all(len(line.rstrip()) <= 80 for line in lines if option not in line)
    assert flat(words) in flat(stream.getvalue())
    said = export.refused_json(question)
    assert said == {
        "answer": None,
        "question": "The column corpus splits equal sizes into two losses.",
        "readings": [{"text": words, "option": option}, {"text": "each is fitted alone", "option": "--by corpus"}],
    }


# --- files and Python


def test_saved_fits_of_an_older_version_are_read_and_still_judged_by_what_is_known(fits):
    runs = sweep()
    text = saved.dumps(dataclasses.replace(fits, trained=None), Account.of(runs, "runs.csv"))
    kept = saved.loads(text)
    assert kept.fits.trained is None
    assert answers.answer(kept.fits, 3e19).given
    older = json.loads(text)
    del older["exact"]["rest"]["trained"]
    older["sha256"] = saved._digest(older["exact"])
    assert saved.loads(json.dumps(older)).fits.trained is None


def test_saved_fits_know_the_ranges_of_their_runs(fits):
    kept = saved.loads(saved.dumps(fits, Account.of(sweep(), "runs.csv")))
    assert kept.fits.trained == fits.trained


def test_python_gets_the_same_answer_and_the_same_refusal(table, noisy):
    from isoflop.fit.asked import Asked

    assert workspace.find(table, Asked(resamples=40)).answer.given
    found = workspace.find(noisy, Asked(resamples=40, keep_all=True)).answer
    assert not found.given
    with pytest.raises(RefusedError) as caught:
        found.require()
    assert caught.value.estimate == found.prediction
    assert caught.value.reasons == found.reasons


# --- real tables


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("where", [None, "model != 'misfitting_35m'"])
def test_an_untuned_sweep_has_no_interval_of_thirty_decades(shared, where):
    source = shared / "data/runs/misfitting2025_final.csv"
    status, out, err = asked("fit", source, "--resamples", "20", *(["--where", where] if where else []))
    if status == 0:  # the best learning rate of each cell is fitted
        low, high = re.search(r"parameters \(80 % interval (\S+) to (\S+)\)", flat(out)).groups()
        assert float(units_of(high)) / float(units_of(low)) <= refusals.WIDEST
    else:
        assert "An interval over two decades does not say what to train" in flat(err)
        assert "train a model of about" not in out


def units_of(text: str) -> float:
    from isoflop import units

    return units.read(text)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hoffmann2022_figure4.csv", ["--where", "in_published_fit"]),
        ("gadre2024_overtraining.csv", ["--where", "dataset == 'rpj'"]),
        ("porian2024_isoflop.csv", ["--map", "params=params", "--where", "config == 'rw/base/short/chinchilla/standard/val'"]),
        ("quartet2025_precision.csv", ["--where", "scheme == '16:16'"]),
        ("quickstart_studies.csv", ["--map", "loss=loss", "--where", "study == 'q1' and group != 'proof'"]),
    ],
)
def test_real_sweeps_are_answered(shared, name, words):
    status, out, err = asked("fit", shared / "data/runs" / name, *words, "--approach", "parametric", "--resamples", "20")
    assert status == 0, err
    assert "train a model of about" in flat(out)


def test_the_optima_of_a_table_determine_no_law_of_params_and_tokens(shared):
    words = ["--map", "tokens=tokens_opt,loss=loss_bpb_opt,params=params_opt", "--where", "param_count == 'kaplan_style'"]
    status, out, _ = asked("fit", shared / "data/runs/nanochat2026_optima.csv", *words)
    assert (status, "kept 4" in flat(out)) == (1, True)
