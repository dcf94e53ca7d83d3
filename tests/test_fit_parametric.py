"""Approach 3: every form and estimator recovers its law, public runs give the published constants, and no start or resample ends above the optimum."""

import csv
import itertools
import math
import tomllib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop import fit
from isoflop.errors import FitError, UnknownNameError
from isoflop.fit import _bootstrap, _draws, _likelihood, _problem, _solver, _starts, _student, parametric
from isoflop.laws import Cost
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.laws.farseer import Farseer
from isoflop.laws.kaplan import Kaplan
from isoflop.laws.overtraining import Overtraining
from isoflop.runs import Runs

GOLDEN = tomllib.loads((Path(__file__).parent / "golden/parametric.toml").read_text(encoding="utf-8"))
PUBLISHED = tomllib.loads((Path(__file__).parent / "golden/laws.toml").read_text(encoding="utf-8"))
BUDGETS = (3e11, 6e11, 1.2e12, 2.5e12, 5e12, 1e13)
LAWS = {
    "symmetric": Chinchilla(E=1.0, A=20.0, B=60.0, alpha=0.35, beta=0.35),
    "chinchilla": Chinchilla(E=1.0, A=20.0, B=30.0, alpha=0.34, beta=0.28),
    "lopsided": Chinchilla(E=0.9, A=4.0, B=3000.0, alpha=0.2, beta=0.6),
}
SAME = 4 * _solver.NOTHING_LEFT  # between two minima that the solver calls the same: see shortfall
FORMS = {
    "chinchilla": LAWS["chinchilla"],
    "overtraining": Overtraining(E=1.2, over=60.0, under=90.0, eta=0.16),
    "kaplan": Kaplan(Nc=8.8e13, Dc=5.4e13, alpha_N=0.076, alpha_D=0.095),
    "data_constrained": DataConstrained(E=1.0, A=20.0, B=30.0, alpha=0.34, beta=0.28, R_N=5.3, R_D=15.4, unique_tokens=1e7),
    "farseer": Farseer(a1=-0.124, b1=0.424, alpha=0.123, a2=88.0, b2=-5.29, beta=-0.1, a3=-0.021, b3=-0.091, gamma=0.169),
}


def grid(law, *, noise=0.0, seed=0, budgets=BUDGETS, sizes=7, spread=20.0, unique=None, centre=None) -> Runs:
    """Budgets x sizes around the optimum."""
    middle = law.optimum(np.array(budgets)).params if centre is None else centre
    params = (middle[:, None] * np.geomspace(spread**-0.5, spread**0.5, sizes)).ravel()
    budget = np.repeat(budgets, sizes)
    tokens = budget / (6 * params)
    if unique is not None:
        limit = np.resize(unique, params.size)
        loss = np.array([replace(law, unique_tokens=u).loss(n, d) for n, d, u in zip(params, tokens, limit, strict=True)])
    else:
        limit, loss = None, law.loss(params, tokens)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(params.size))
    return Runs.from_columns(params=params, tokens=tokens, loss=loss, budget=budget, unique_tokens=limit)


def own_runs(name) -> Runs:
    """Runs that a form is fit for: of few unique tokens for data_constrained, at real scale for Farseer."""
    if name == "data_constrained":
        return grid(FORMS[name], unique=[2e5, 1e6, 5e6, 1e9], sizes=9, spread=400.0)
    if name == "farseer":
        return grid(FORMS[name], budgets=tuple(np.geomspace(1e18, 1e22, 9)), sizes=11, spread=100.0)
    if name == "kaplan":
        return grid(FORMS[name], budgets=tuple(np.geomspace(1e18, 1e21, 6)), spread=400.0)
    return grid(FORMS[name])


def columns(path, chosen) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if chosen(row)]


def runs_of(rows, loss="loss") -> Runs:
    return Runs.from_columns(
        **{name: np.array([float(row[key]) for row in rows]) for name, key in (("params", "params"), ("tokens", "tokens"), ("loss", loss))}
    )


@pytest.fixture(scope="session")
def figure_4(shared) -> Runs:
    return runs_of(columns(shared / "data/runs/hoffmann2022_figure4.csv", lambda row: row["in_published_fit"] == "True"))


def descend(problem, starts):
    """Every start to its own end, through falling delta."""
    one = np.ones((1, problem.points.x.size))
    for estimator in problem.estimator.stages(warm=False):
        objective = problem.objective(estimator, one, problem.points.log_loss[None])
        end = _solver.minimise(objective, starts, problem.bounds, chart=problem.form.chart)
        starts = end.theta
    return end


def shortfall(problem, theta, other, *, log_loss=None, weights=None):
    """Return by how much the objective at one minimum exceeds that at another, by its curvature, as a share of its value.

    The solver stops where a step promises less than NOTHING_LEFT of the value. Two such stops lie within twice the root of that of each other, in the
    length that the curvature gives: four times NOTHING_LEFT of the value. Constants themselves are fixed to the root of it only, 1e-6 along the valley here.
    """
    y = problem.points.log_loss if log_loss is None else log_loss
    counts = np.ones(y.size) if weights is None else weights
    there = problem.objective(problem.estimator, counts[None], y[None])(theta[None], np.array([0]))
    apart = other - theta
    return float(apart @ there.hessian[0] @ apart) / 2 / float(there.value[0])


def known_to(problem, theta, quantity, *, weights=None):
    """Return how far a quantity may differ between two minima that the solver calls the same: the root of SAME, by the curvature."""
    counts = np.ones(problem.points.x.size) if weights is None else weights
    there = problem.objective(problem.estimator, counts[None], problem.points.log_loss[None])(theta[None], np.array([0]))
    steps = 1e-5 * np.eye(theta.size)
    slope = np.array([(quantity(theta + step) - quantity(theta - step)) / 2e-5 for step in steps])
    return math.sqrt(2 * SAME * there.value[0] * slope @ np.linalg.solve(there.hessian[0], slope))


# recovery


@pytest.mark.parametrize("estimator", parametric.ESTIMATORS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_estimator_recovers_three_laws_from_runs_without_noise(law, estimator):
    found = parametric.fit(grid(law), estimator=estimator, resamples=0)
    for name in ("E", "A", "B", "alpha", "beta", "a"):
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=1e-6)
    assert found.status.ok
    assert found.resamples == ()


@pytest.mark.parametrize("name", FORMS)
def test_every_form_recovers_its_law_from_its_own_runs(name):
    runs, law = own_runs(name), FORMS[name]
    found = parametric.fit(runs, law=name, resamples=0)
    assert found.form == name
    assert np.abs(found.residuals).max() < 1e-6
    constants = {"kaplan": ("Nc", "Dc", "alpha_N", "alpha_D"), "overtraining": ("E", "over", "under", "eta"), "farseer": ("alpha", "beta", "gamma", "b1")}
    for each in constants.get(name, ("E", "A", "B", "alpha", "beta")):
        # Farseer's nine constants leave a valley along which losses change by 1e-9
        assert getattr(found.law, each) == pytest.approx(getattr(law, each), rel=1e-2 if name == "farseer" else 1e-5)
    if name == "data_constrained":
        assert pytest.approx((5.3, 15.4), rel=1e-4) == (found.law.R_N, found.law.R_D)


@pytest.mark.parametrize("power", [0.0, 1e-9, -1e-5, 1e-3, -0.05, 0.6])
def test_farseers_slopes_are_those_of_its_loss_however_straight_its_terms_are(power):
    """By the law itself and differences of it, which a power near zero makes large and equal constants of."""
    points = parametric.problem(own_runs("farseer"), law="farseer").points
    form = parametric.problem(own_runs("farseer"), law="farseer").form
    theta = np.array([[-1.0, np.log(0.05), power, -0.5, np.log(0.3), -power, 0.7, np.log(0.2), power]])
    at = np.exp(points.x + points.log_params), np.exp(points.y + points.log_tokens)
    if abs(power) > 1e-4:  # nearer to zero its printed constants have lost half their digits
        np.testing.assert_allclose(form.fitted(points, theta)[0], np.log(form.law(points, theta[0], Cost()).loss(*at)), rtol=1e-9, atol=1e-9)
    fitted, slopes = form._with_slopes(points, theta)
    h = 1e-5
    for k in range(9):
        step = np.eye(9)[k] * h
        # central differences of step 1e-5 are good to 1e-10 of third derivatives, which reach a thousand here, and to 1e-11 of the loss
        difference = (form.fitted(points, theta + step) - form.fitted(points, theta - step)) / (2 * h)
        np.testing.assert_allclose(slopes[:, :, k], difference, rtol=1e-6, atol=1e-7 * max(1.0, np.abs(slopes[:, :, k]).max()))
    assert np.isfinite(fitted).all()


def test_a_form_that_holds_the_truth_as_a_special_case_fits_no_worse():
    runs = grid(LAWS["symmetric"], noise=0.003)
    additive, tied, stretched = (parametric.fit(runs, law=law, resamples=0).objective for law in ("chinchilla", "overtraining", "farseer"))
    assert stretched <= additive * (1 + 1e-6)
    assert additive <= tied * (1 + 1e-9)


# published numbers


def test_any_start_on_the_papers_grid_reaches_the_optimum_of_figure_4(figure_4):
    """Every 15th of the 4500 starts of Hoffmann et al. 2022, App. D.3 (all 4500 do); SciPy's L-BFGS-B gets there from some 8 %."""
    problem = parametric.problem(figure_4)
    axes = (np.arange(-1, 1.5, 0.5), np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5))
    paper = np.array(list(itertools.product(*axes)))[::15]
    paper[:, 1] -= paper[:, 3] * problem.points.log_params
    paper[:, 2] -= paper[:, 4] * problem.points.log_tokens
    end = descend(problem, paper)
    golden = PUBLISHED["approach3_optimum"]
    assert end.value * problem.estimator.unit == pytest.approx(np.full(len(paper), golden["objective"]), rel=1e-9)
    for theta in end.theta:
        law = problem.law(theta)
        for name in ("E", "A", "B", "alpha", "beta"):
            assert getattr(law, name) == pytest.approx(golden[name], rel=golden["tolerance"])


def test_starts_anywhere_in_the_box_hardly_ever_end_elsewhere(figure_4):
    """99.0 % of 500: the others lose a whole term, whose exponent is then at a bound. `fit` begins at none of these."""
    problem = parametric.problem(figure_4)
    end = descend(problem, np.random.default_rng(0).uniform(*problem.bounds, size=(200, 5)))
    there = end.value * problem.estimator.unit < PUBLISHED["approach3_optimum"]["objective"] * (1 + 1e-9)
    assert there.mean() > 0.98


def test_the_bootstrap_of_figure_4_has_the_published_errors_and_optimum(figure_4):
    golden, found = GOLDEN["hoffmann_bootstrap"], parametric.fit(figure_4, resamples=4000)
    for name in ("E", "alpha", "beta", "a"):
        assert np.std([getattr(law, name) for law in found.resamples]) == pytest.approx(golden[name], rel=golden["tolerance"])
    assert found.law.a == pytest.approx(0.513, abs=0.001)
    best = found.law.optimum(golden["flops"])
    assert best.params == pytest.approx(golden["params"], rel=golden["digits"])
    assert best.tokens == pytest.approx(golden["tokens"], rel=golden["digits"])


def test_least_absolute_residuals_give_the_constants_that_besiroglu_et_al_print(figure_4):
    golden, found = GOLDEN["besiroglu2024_headline"], parametric.fit(figure_4, estimator="lad", resamples=0)
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found.law, name) == pytest.approx(golden[name], rel=golden["tolerance"])


@pytest.mark.parametrize("kind", ["cool_end", "cool_begin"])
def test_gemstones_give_the_published_constants(shared, kind):
    golden = GOLDEN[f"gemstones_{kind}"]
    runs = runs_of(columns(shared / "data/runs/gemstones2025_curves.csv", lambda row: row["set"] == kind))
    law = parametric.fit(runs, resamples=0).law
    for name in ("alpha", "beta", "E"):
        assert getattr(law, name) == pytest.approx(golden[name], abs=5.1e-5)  # half a unit of the last digit


def test_five_small_runs_predict_gadre_et_als_large_ones(shared):
    """By the estimator of the paper to its digits; Huber's loss is nearer yet, least squares of the log further."""
    rows = columns(shared / "data/runs/gadre2024_overtraining.csv", lambda row: row["dataset"] == "rpj")
    by = {(row["model"], float(row["multiplier"])): row for row in rows}
    small = [by[key] for key in [("d=96_l=8_h=4", 1), ("d=96_l=8_h=4", 16), ("d=512_l=8_h=4", 1), ("d=576_l=24_h=8", 1), ("d=1024_l=24_h=8", 1)]]
    large = [by["open_lm_1b", 32], by["open_lm_7b", 1]]
    errors = {}
    for estimator in parametric.ESTIMATORS:
        law = parametric.fit(runs_of(small, "loss_c4_val"), law="overtraining", estimator=estimator, resamples=0).law
        errors[estimator] = [100 * abs(float(law.loss(float(r["params"]), float(r["tokens"]))) / float(r["loss_c4_val"]) - 1) for r in large]
    golden = GOLDEN["gadre"]
    assert errors["lse"] == pytest.approx([golden["percent_1b"], golden["percent_7b"]], abs=golden["half_unit"])
    assert max(errors["huber"]) < golden["percent_1b"]
    assert min(errors["mse"]) > golden["percent_7b"]


# the optimiser


@pytest.mark.parametrize("name", ["chinchilla", "overtraining", "kaplan", "data_constrained", "farseer"])
@pytest.mark.parametrize("estimator", parametric.ESTIMATORS)
def test_gradients_are_those_of_the_objective(name, estimator):
    runs = own_runs(name)
    runs = replace(runs, loss=runs.loss * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(runs))))
    problem = parametric.problem(runs, law=name, estimator=estimator, delta=0.02)
    theta = problem.form.widen(_starts.spread(problem.points))[:1]
    objective = problem.objective(problem.estimator, np.ones((1, len(runs))), problem.points.log_loss[None])
    there, rows, h = objective(theta, np.array([0])), np.array([0]), 1e-6
    for i, step in enumerate(np.eye(theta.shape[1]) * h):
        up, down = objective(theta + step, rows), objective(theta - step, rows)
        slope = (up.value[0] - down.value[0]) / (2 * h)
        # differences of step 1e-6 are good to 1e-9 of the value, and of "lad" to a kink of one run in between
        assert there.gradient[0, i] == pytest.approx(
            slope, rel=1e-3 if estimator == "lad" else 1e-5, abs=1e-7 * there.value[0] + (2.0 if estimator == "lad" else 0)
        )
        if name in {"chinchilla", "overtraining"} and estimator != "lad":
            assert there.hessian[0, i] == pytest.approx((up.gradient[0] - down.gradient[0]) / (2 * h), rel=1e-4, abs=1e-6 * np.abs(there.hessian).max())


def messy(seed) -> Runs:
    """A noisy sweep with, half the time, two runs that went wrong."""
    rng, law = np.random.default_rng([5, seed]), list(LAWS.values())[seed % 3]
    runs = grid(law, noise=[0.001, 0.003, 0.01, 0.05][seed % 4], seed=seed, sizes=[7, 5, 6][seed % 3])
    loss = runs.loss.copy()
    if seed % 2:
        loss[rng.choice(len(runs), 2, replace=False)] *= rng.choice([1.1, 1.5, 3.0, 0.8], 2)
    return replace(runs, loss=loss)


def above_random_starts(seed) -> float:
    """The share by which the chosen starts end above the best of forty random ones, of those that end inside the bounds."""
    problem = parametric.problem(messy(seed))
    low, high = problem.bounds
    chance = np.random.default_rng(seed).uniform([*(low[:3] + 8), 0.05, 0.05], [*high[:3], 1.5, 1.5], size=(40, 5))
    found = parametric.solve(problem)
    assert found.converged
    ends = descend(problem, chance)
    inside = ((ends.theta > low) & (ends.theta < high)).all(axis=1)
    return found.objective / (ends.value[inside].min(initial=np.inf) * problem.estimator.unit) - 1


def test_forty_random_starts_find_nothing_better():
    assert max(above_random_starts(seed) for seed in range(12)) < 1e-8


@pytest.mark.slow
def test_forty_random_starts_find_nothing_better_inside_the_bounds_on_188_sweeps():
    """At a bound they do once (seed 107, 5 % noise, two runs that went wrong): 9 % lower, with alpha at 4 and the params term spent on the smallest size."""
    assert max(above_random_starts(seed) for seed in range(12, 200)) < 1e-8


def above_lbfgs(runs, resamples, seed=0) -> list[float]:
    """The share by which each refit of a resample ends above the best of nine descents by SciPy."""
    from scipy import optimize

    problem = parametric.problem(runs)
    best = parametric.solve(problem).theta
    weights = _bootstrap.counts(runs.budget[problem.order], resamples=resamples, seed=seed)
    above = []
    for row, theta in zip(weights, parametric.refit(problem, best, weights=weights), strict=True):
        objective = problem.objective(problem.estimator, row[None], problem.points.log_loss[None])

        def at(theta, objective=objective):
            there = objective(theta[None], np.array([0]))
            return there.value[0], there.gradient[0]

        rng = np.random.default_rng(0)
        starts = [best, theta, *(best * (1 + spread * rng.standard_normal(5)) for spread in (0.01, 0.03, 0.1, 0.1, 0.2, 0.3, 0.5))]
        options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
        ends = [optimize.minimize(at, start, jac=True, method="L-BFGS-B", bounds=list(zip(*problem.bounds, strict=True)), options=options) for start in starts]
        above.append(float(at(theta)[0] / min(end.fun for end in ends) - 1))
    return above


def test_no_resample_ends_above_what_many_descents_find(figure_4):
    assert max(above_lbfgs(figure_4, 8)) < 1e-9


@pytest.mark.slow
def test_none_of_200_resamples_ends_above_what_many_descents_find(figure_4):
    assert max(above_lbfgs(figure_4, 200)) < 1e-9


# refitting


def test_a_weight_of_two_is_the_run_twice():
    runs = grid(LAWS["chinchilla"], noise=0.003)
    twice = runs.take(np.append(np.arange(len(runs)), [7, 7]))
    problem = parametric.problem(runs)
    weights = np.ones((1, len(runs)))
    weights[0, np.flatnonzero(problem.order == 7)] = 3
    theta = parametric.refit(problem, parametric.solve(problem).theta, weights=weights)[0]
    # the centre of twice the runs is another, so constants cannot be compared one by one
    tolerance = known_to(problem, theta, lambda theta: problem.law(theta).a, weights=weights[0])
    assert tolerance < 1e-7
    assert problem.law(theta).a == pytest.approx(parametric.fit(twice, resamples=0).law.a, abs=tolerance)


def test_other_losses_are_fitted_row_by_row():
    runs = grid(LAWS["chinchilla"], noise=0.003)
    problem = parametric.problem(runs)
    best = parametric.solve(problem).theta
    simulated = problem.predict(best) + 0.003 * np.random.default_rng(1).standard_normal((5, len(runs)))
    found = parametric.refit(problem, best, log_loss=simulated)
    for theta, log_loss in zip(found, simulated, strict=True):
        loss = np.empty(len(runs))
        loss[problem.order] = np.exp(log_loss)
        alone = parametric.solve(parametric.problem(replace(runs, loss=loss))).theta
        assert shortfall(problem, theta, alone, log_loss=log_loss) < SAME
    assert shortfall(problem, best, parametric.refit(problem, best)[0]) < SAME


def test_the_comparison_of_minima_sees_a_millionth_in_an_exponent():
    problem = parametric.problem(grid(LAWS["chinchilla"], noise=0.003))
    best = parametric.solve(problem).theta
    assert shortfall(problem, best, best + np.array([0.0, 0.0, 0.0, 1e-6, 0.0])) > 100 * SAME


@pytest.mark.parametrize("law", ["kaplan", "overtraining"])
def test_order_of_runs_does_not_matter_to_any_form(law):
    runs = grid(FORMS["chinchilla"], noise=0.003)
    shuffled = runs.take(np.random.default_rng(3).permutation(len(runs)))
    first, second = (parametric.fit(each, law=law, resamples=5) for each in (runs, shuffled))
    assert first.law == second.law
    assert first.resamples == second.resamples


@pytest.mark.parametrize("estimator", parametric.ESTIMATORS)
def test_units_change_constants_only(estimator):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    before = parametric.fit(runs, estimator=estimator, resamples=0).law
    after = parametric.fit(
        replace(runs, params=runs.params / 1e6, tokens=runs.tokens / 1e6, loss=runs.loss / math.log(2)), estimator=estimator, resamples=0
    ).law
    assert after.alpha == pytest.approx(before.alpha, rel=1e-6)
    assert after.beta == pytest.approx(before.beta, rel=1e-6)
    assert math.log(2) * after.E == pytest.approx(before.E, rel=1e-6)


def test_a_thousand_times_more_runs_give_the_same_law():
    """Above five thousand runs the starts are looked for among some of them; the last descent sees all, a part at a time."""
    runs = grid(LAWS["chinchilla"], noise=0.003)
    many = runs.take(np.tile(np.arange(len(runs)), 1000))
    problem = parametric.problem(runs)
    once, often = (parametric.solve(each) for each in (problem, parametric.problem(many)))
    assert shortfall(problem, once.theta, often.theta) < SAME
    assert often.objective == pytest.approx(1000 * once.objective, rel=1e-8)


@pytest.mark.parametrize("intervals", ["runs", "noise"])
def test_memory_does_not_grow_with_the_resamples(monkeypatch, intervals):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    many = runs.take(np.tile(np.arange(len(runs)), 40))
    problem = parametric.problem(many)
    best = parametric.solve(problem).theta
    monkeypatch.setattr(_draws, "BLOCK", 6 * len(many))  # as a million runs and more would have it
    peaks, drawn = [], []
    for resamples in (12, 60):
        tracemalloc.start()
        drawn.append(_draws.draw(problem, best, many.budget[problem.order], intervals=intervals, resamples=resamples, seed=0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]  # four times as much and more, drawn at once
    assert len(np.unique(drawn[1][:, 3])) == 60  # no block is drawn twice


# what cannot be known


def test_names_off_the_menu_are_refused_with_the_nearest():
    runs = grid(LAWS["chinchilla"])
    with pytest.raises(UnknownNameError, match="Did you mean 'chinchilla'"):
        parametric.fit(runs, law="chinchila")
    with pytest.raises(UnknownNameError, match="Did you mean 'huber'"):
        parametric.fit(runs, estimator="hubert")
    with pytest.raises(FitError, match="a powerlaw describes optima and no other model"):
        parametric.fit(runs, law="powerlaw")
    with pytest.raises(FitError, match="how many tokens of each run were unique"):
        parametric.fit(runs, law="data_constrained")


def test_how_many_runs_are_enough_depends_on_the_form():
    runs = grid(LAWS["symmetric"])
    few = runs.take(np.array([0, 3, 10, 24, 40]))
    assert parametric.fit(few, law="overtraining", resamples=0).n_runs == 5
    with pytest.raises(FitError, match="5 runs cannot determine the five constants of Approach 3; it needs 6"):
        parametric.fit(few)
    with pytest.raises(FitError, match="4 runs cannot determine the four constants"):
        parametric.fit(few.take(np.arange(4)), law="overtraining")


def test_runs_along_one_ratio_leave_alpha_and_beta_exchangeable_and_say_so():
    params = np.geomspace(1e5, 1e8, 20)
    law = LAWS["chinchilla"]
    found = parametric.fit(Runs.from_columns(params=params, tokens=20 * params, loss=law.loss(params, 20 * params)), resamples=0)
    assert not found.status.ok
    assert "alpha for beta" in found.status.message


def test_one_budget_leaves_open_what_compute_does():
    found = parametric.fit(grid(LAWS["chinchilla"], noise=0.002, budgets=BUDGETS[:1], sizes=12), resamples=0)
    assert not found.status.ok
    assert "as at one budget" in found.status.message
    assert "Add budgets" in found.status.message


def test_two_sizes_leave_open_what_size_does():
    params, tokens = (each.ravel() for each in np.meshgrid([1e6, 4e6], np.geomspace(1e6, 1e9, 8)))
    found = parametric.fit(Runs.from_columns(params=params, tokens=tokens, loss=LAWS["chinchilla"].loss(params, tokens)), resamples=0)
    assert not found.status.ok
    assert "the params term open" in found.status.message
    assert "Add" in found.status.message


def test_runs_without_an_irreducible_loss_say_that_e_is_nothing():
    law = Chinchilla(E=0.0, A=20.0, B=30.0, alpha=0.1, beta=0.12)
    found = parametric.fit(grid(law), resamples=0)
    assert not found.status.ok
    assert "E at nothing" in found.status.message
    assert found.law.E < 1e-4


amounts = st.floats(0, 30).map(lambda x: 10.0**x)
losses = st.floats(-3, 3).map(lambda x: 10.0**x)


@settings(max_examples=10)
@given(rows=st.lists(st.tuples(amounts, amounts, losses), min_size=6, max_size=14), law=st.sampled_from(parametric.LAWS))
def test_no_runs_however_odd_give_anything_but_a_law_or_a_reason(rows, law):
    params, tokens, loss = np.array(rows).T
    try:
        found = parametric.fit(Runs.from_columns(params=params, tokens=tokens, loss=loss, unique_tokens=tokens / 3), law=law, resamples=2)
    except FitError:
        return
    assert np.isfinite(found.objective)
    assert np.isfinite(found.residuals).all()
    assert found.status.message


@pytest.mark.parametrize("unit", [1e-200, 1e100])
def test_losses_in_any_unit_give_the_same_exponents(unit):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    found = parametric.fit(replace(runs, loss=runs.loss * unit), resamples=2)
    assert found.law.a == pytest.approx(parametric.fit(runs, resamples=2).law.a, rel=1e-6)


@pytest.mark.parametrize("poison", [1e-200, 1e200])
def test_one_loss_that_is_no_loss_moves_nothing(poison):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    clean = parametric.fit(runs, resamples=0).law
    spoiled = replace(runs, loss=np.where(np.arange(len(runs)) == 3, poison, runs.loss))
    assert fit.fit(spoiled, approach="parametric", resamples=2).set_aside[0].id == runs.ids[3]
    assert parametric.fit(spoiled, resamples=2).law.a == pytest.approx(clean.a, abs=0.01)  # by Huber's loss, which it pulls as hard as any run


def test_a_farseer_law_bent_far_from_its_runs_has_an_optimum_or_a_reason():
    """As fitted to a dozen odd runs over 30 decades: at small sizes its power of tokens is exp(1e8)."""
    steep = Farseer(a1=2.2e8, b1=-3.9, alpha=-0.6, a2=-6.8e-10, b2=-0.044, beta=0.505, a3=2.3, b3=0.25, gamma=-0.317)
    early = Farseer(a1=1.3e10, b1=-2.4, alpha=-0.58, a2=-3.9e-6, b2=6.3, beta=0.326, a3=-9.8e-6, b3=0.29, gamma=0.0306)
    for law in (steep, early):
        for flops in np.geomspace(1.0, 1e60, 13):
            try:
                best = law.optimum(flops)
            except FitError:
                continue
            sizes = best.params * np.array([0.99, 1.0, 1.01])
            assert np.argmin(law.loss(sizes, law.cost.tokens(sizes, flops))) == 1
    assert law.loss(1.0, 1.0) == pytest.approx(math.exp(-9.8e-6 + 0.29) + math.exp(-3.9e-6 + 6.3))  # one token to any power is one token


def test_equal_losses_and_crowded_budgets_are_no_trouble():
    rng = np.random.default_rng(0)
    params = rng.uniform(1e6, 1e9, 100_000)
    tokens = 1e18 / (6 * params)
    crowd = Runs.from_columns(params=params, tokens=tokens, loss=LAWS["chinchilla"].loss(params, tokens), budget=np.full(params.size, 1e18))
    assert np.isfinite(parametric.fit(crowd, resamples=0).objective)
    flat = grid(LAWS["chinchilla"])
    found = parametric.fit(replace(flat, loss=np.full(len(flat), 2.5)), resamples=2)
    assert not found.status.ok


# profile likelihood


def test_at_the_end_of_a_profile_interval_the_rest_fits_as_much_worse_as_it_says():
    """By SciPy, with alpha held there."""
    from scipy import optimize

    runs = grid(LAWS["chinchilla"], noise=0.003)
    problem = parametric.problem(runs, estimator="mse")
    theta = parametric.solve(problem).theta
    objective = problem.objective(problem.estimator, np.ones((1, len(runs))), problem.points.log_loss[None])
    rise = _student.quantile(0.9, len(runs) - 5) ** 2 * _likelihood._kappa(problem, theta) / 2
    least = objective(theta[None], np.array([0])).value[0]
    ends = _likelihood.along(problem, theta, "alpha", level=0.9, flops=1e14)
    assert ends[0] < theta[3] < ends[1]
    for alpha in ends:

        def at(rest, alpha=alpha):
            there = objective(np.insert(rest, 3, alpha)[None], np.array([0]))
            return there.value[0], np.delete(there.gradient[0], 3)

        held = optimize.minimize(at, np.delete(theta, 3), jac=True, method="BFGS", options={"gtol": 1e-8})
        # the crossing is interpolated in the root of the rise between points a quarter of the width apart
        assert held.fun - least == pytest.approx(rise, rel=0.02)


@pytest.mark.parametrize("quantity", _likelihood.QUANTITIES)
def test_profile_intervals_hold_the_optimum_and_widen_with_level(quantity):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    found = parametric.fit(runs, resamples=0)
    best = found.law.optimum(1e14)
    value = {"params_opt": float(best.params), "loss": float(best.loss)}.get(quantity) or getattr(found.law, quantity)
    narrow, wide = (parametric.profile(runs, found, quantity, level=level, flops=1e14) for level in (0.5, 0.9))
    assert wide[0] < narrow[0] < value < narrow[1] < wide[1]


def test_profiles_are_refused_of_other_forms_and_quantities():
    runs = grid(LAWS["chinchilla"], noise=0.003)
    with pytest.raises(UnknownNameError, match="there is no quantity"):
        parametric.profile(runs, parametric.fit(runs, resamples=0), "gamma")
    with pytest.raises(FitError, match="this fit is of kaplan"):
        parametric.profile(runs, parametric.fit(runs, law="kaplan", resamples=0), "E")


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "least"), [("huber", 0.85), ("mse", 0.85)])
def test_nine_in_ten_profile_intervals_hold_the_truth(estimator, least):
    """300 sweeps of 42 runs with 0.3 % noise; binomial standard error 1.7 points."""
    law = LAWS["chinchilla"]
    best = law.optimum(1e14)
    truth = {"a": law.a, "alpha": law.alpha, "beta": law.beta, "E": law.E, "params_opt": float(best.params), "loss": float(best.loss)}
    held = dict.fromkeys(truth, 0)
    for seed in range(300):
        problem = parametric.problem(grid(law, noise=0.003, seed=seed), estimator=estimator)
        theta = parametric.solve(problem).theta
        for name, value in truth.items():
            low, high = _likelihood.along(problem, theta, name, level=0.9, flops=1e14)
            held[name] += low <= value <= high
    print(estimator, {name: count / 300 for name, count in held.items()})  # noqa: T201 - copied into docs/fit.md
    assert min(held.values()) / 300 > least


# influence


def test_influence_is_what_the_fit_says_without_the_run():
    runs = grid(LAWS["chinchilla"], noise=0.003)
    found = parametric.fit(runs, resamples=50)
    shifts = parametric.influence(runs, found)
    largest = float(runs.flops.max())
    for i in (0, 17, 41):
        without = parametric.fit(runs.take(np.delete(np.arange(len(runs)), i)), resamples=0).law
        assert shifts.a[i] == pytest.approx(without.a - found.law.a, abs=1e-7)  # four minima, each known to 2e-8 (known_to)
        assert shifts.params_opt[i] == pytest.approx(float(without.optimum(largest).params / found.law.optimum(largest).params) - 1, abs=1e-6)
    assert shifts.warnings == ()


def test_a_run_that_moves_the_answer_is_named():
    """All lengths but one are alike, so the one that is not decides what length does."""
    rng, law = np.random.default_rng(2), LAWS["chinchilla"]
    params, tokens = np.append(np.geomspace(1e5, 1e7, 20), 1e6), np.append(rng.uniform(0.9e8, 1.1e8, 20), 1e10)
    loss = law.loss(params, tokens) * np.exp(0.003 * rng.standard_normal(21))
    runs = Runs.from_columns(params=params, tokens=tokens, loss=loss)
    warnings = parametric.fit(runs, resamples=100).warnings
    shifts = parametric.influence(runs, parametric.fit(runs, resamples=0))
    assert np.nanargmax(np.abs(shifts.params_opt)) == 20
    named = next(warning for warning in warnings if "hangs on single runs" in warning)
    assert "without 00000020 it is" in named


def test_memory_does_not_grow_with_the_runs_left_out(monkeypatch):
    runs = grid(LAWS["chinchilla"], noise=0.003)
    problem = parametric.problem(runs.take(np.tile(np.arange(len(runs)), 40)))
    theta = parametric.solve(problem).theta
    whole = _problem.without(problem, theta, np.arange(8))
    monkeypatch.setattr(_problem, "BLOCK", 6 * problem.points.x.size)  # as a million runs would have it
    peaks = []
    for count in (12, 60):
        tracemalloc.start()
        parts = _problem.without(problem, theta, np.arange(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]  # four times as much and more at once
    for i, (part, one) in enumerate(zip(parts[:8], whole, strict=True)):
        assert shortfall(problem, one, part, weights=np.where(np.arange(problem.points.x.size) == i, 0.0, 1.0)) < SAME


def test_cost_is_that_of_the_runs_even_where_flops_say_nothing_of_size():
    runs = grid(LAWS["chinchilla"], noise=0.003)
    odd = replace(runs, flops=runs.tokens * 1e6)
    assert parametric.cost_of(odd).power == 1.0
    assert parametric.cost_of(runs) == Cost()
    assert any("off a power of params" in warning for warning in parametric.fit(odd, resamples=0).warnings)
