"""Every figure of the menu draws whatever a study or runs from elsewhere may have left behind, and says what is missing."""

import csv
import dataclasses
import functools
import io
import json
import re

import numpy as np
import pytest
import vl_convert

import elsewhere
import simulated
from isoflop.fit import APPROACHES
from isoflop.report import charts
from isoflop.report.figures import Figure, _look, drawings
from isoflop.report.figures._axes import _COUNT_LABEL, _FLOPS_LABEL, FACTOR_LABEL, PERCENT_LABEL, ticks
from isoflop.report.results import Fitted, Results
from isoflop.runs import Curve

REASON = "there was one budget; two are needed."


def without(approach: str) -> Results:
    r = simulated.results()
    fits = tuple(fit for fit in r.fits if fit.approach != approach)
    plans = tuple(plan for plan in r.plans if plan.approach != approach)
    return dataclasses.replace(r, fits=fits, plans=plans, left_out_fits=((approach, REASON),))


def without_curves() -> Results:
    r = simulated.results()
    nothing = Curve(np.empty(0), np.empty(0))
    return dataclasses.replace(r, runs=dataclasses.replace(r.runs, curves=(nothing,) * len(r.runs)))


@functools.cache
def held_out() -> Results:
    return dataclasses.replace(simulated.results(), holdout=elsewhere.holdout())


@functools.cache
def made_again() -> Results:
    """Equal to `held_out`, and not the same."""
    return dataclasses.replace(simulated.results.__wrapped__(), holdout=elsewhere.holdout())


def by_law(name: str) -> Fitted:
    """Approach 3 with a law of another form: what is drawn of it is its own business, not whether it fits."""
    usual = elsewhere.usual()
    fits = tuple(dataclasses.replace(fit, law=elsewhere.LAWS[name], resamples=()) for fit in usual.fits if fit.approach == "parametric")
    return dataclasses.replace(usual, fits=fits)


STUDIES = {
    "usual": simulated.results,
    "held out": held_out,
    "no proof": lambda: simulated.results(proof=False),
    "no curves": without_curves,
    **{f"no {approach}": lambda approach=approach: without(approach) for approach in APPROACHES},
    "no plans": lambda: dataclasses.replace(simulated.results(), plans=(), validation=None),
    "no fits": lambda: dataclasses.replace(simulated.results(), fits=(), plans=(), validation=None, left_out_fits=tuple((a, REASON) for a in APPROACHES)),
}
ELSEWHERE = {
    "three fits": elsewhere.usual,
    "bits per byte, no curves": elsewhere.plain,
    **{f"only {approach}": lambda approach=approach: elsewhere.fitted(elsewhere.runs(), approaches=(approach,)) for approach in APPROACHES},
    **{f"the law {name}": lambda name=name: by_law(name) for name in elsewhere.LAWS},
    "one budget": lambda: elsewhere.fitted(elsewhere.runs(budgets=(1e19,), curves=False), resamples=0),
    "a budget a run": lambda: elsewhere.fitted(dataclasses.replace(elsewhere.runs(), budget=elsewhere.runs().flops * np.linspace(1, 1.01, 35))),
    "no fits": lambda: Fitted(runs=elsewhere.runs(), fits=(), left_out_fits=tuple((a, REASON) for a in APPROACHES)),
    "no names of its own": lambda: elsewhere.fitted(elsewhere.runs(ids=elsewhere.EVIL + "{}", unit=elsewhere.EVIL, far_off=True), resamples=0),
}
CASES = {name: functools.cache(case) for name, case in (STUDIES | {f"elsewhere, {name}": case for name, case in ELSEWHERE.items()}).items()}


def specs(figure: Figure) -> list[dict[str, object]]:
    return [charts.interactive(panel) for panel in figure.panels]


@pytest.fixture(params=drawings(), ids=lambda drawing: drawing.__name__.rsplit(".", 1)[1])
def drawing(request):
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_it_draws_what_there_is_and_says_what_is_missing(drawing, case):
    figure = drawing.draw(CASES[case]())
    assert figure.caption.endswith(".")
    assert figure.alt
    assert "nan" not in figure.caption.split()
    for spec in specs(figure):
        vl_convert.vegalite_to_vega(spec)  # Vega-Lite understands it
        json.dumps(spec, allow_nan=False)


def test_the_usual_study_has_every_figure_with_the_number_of_its_runs(drawing):
    figure = drawing.draw(held_out())
    assert figure.panels
    assert str(len(simulated.results().runs)) in figure.caption


@pytest.mark.parametrize(("approach", "number"), [("envelope", 2), ("isoflop", 3), ("parametric", 4)])
def test_the_figure_of_a_missing_approach_says_why(approach, number):
    figure = next(d for d in drawings() if number == d.NUMBER).draw(without(approach))
    assert REASON in figure.caption


def test_it_is_a_picture_without_a_browser(drawing):
    figure = drawing.draw(held_out())
    drawn = charts.svg(charts.static(figure))
    assert drawn == charts.svg(charts.static(drawing.draw(made_again())))  # equal results, equal pictures
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    assert "undefined" not in drawn
    picture = charts.png(drawn)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 400_000


def test_shown_900_pixels_wide_its_axes_can_be_read(drawing):
    [width] = re.findall(r'^<svg[^>]*? width="([0-9.]+)"', charts.svg(charts.static(drawing.draw(held_out()))))
    assert _look.CONFIG["axis"]["labelFontSize"] * min(1.0, 900 / float(width)) > 10


@pytest.mark.parametrize("case", [held_out, elsewhere.usual])
def test_panels_are_called_by_name_and_not_by_place(drawing, case):
    """On a narrow screen they stand below each other."""
    figure = drawing.draw(case())
    assert not re.search(r"\b(left|right|above|below):", f"{figure.caption} {figure.alt}", re.IGNORECASE)


def test_training_curves_are_drawn_smooth_and_end_at_the_final_loss():
    usual = simulated.results()
    runs = usual.runs
    rng = np.random.default_rng(0)
    noisy = tuple(Curve(c.tokens, c.loss + rng.normal(scale=0.1, size=c.loss.size)) for c in runs.curves)
    figure = next(d for d in drawings() if d.NUMBER == 2).draw(dataclasses.replace(usual, runs=dataclasses.replace(runs, curves=noisy)))
    [text] = [values for values in specs(figure)[0]["datasets"].values() if "run" in values.split("\n")[0].split(",")]
    rows = list(csv.DictReader(io.StringIO(text)))
    flops, losses = ([np.array([float(row[name]) for row in rows if row["run"] == str(i)]) for i in range(len(runs))] for name in ("flops", "loss"))
    assert [loss[-1] for loss in losses] == pytest.approx(runs.loss, rel=1e-4)  # five digits are written
    assert max(np.diff(np.log(c)).max() for c in flops) < 0.14  # a corner every few pixels: a panel of 300 shows about five e-folds
    # a Gaussian of a tenth of a hundred steps and more is good to 0.1 / sqrt(35) = 0.017, and neighbours share most of their steps
    assert max(np.diff(loss).max() for loss in losses) < 0.02


def test_a_curve_that_is_not_finite_is_not_drawn_and_not_counted():
    usual = simulated.results()
    broken = (Curve(usual.runs.curves[0].tokens, usual.runs.curves[0].loss * np.nan), *usual.runs.curves[1:])
    figure = next(d for d in drawings() if d.NUMBER == 2).draw(dataclasses.replace(usual, runs=dataclasses.replace(usual.runs, curves=broken)))
    assert f"{len(broken) - 1} of {len(broken)} runs" in figure.caption


def test_a_rival_of_the_same_shape_stands_at_the_same_mark():
    usual = simulated.results()
    results = dataclasses.replace(usual, validation=dataclasses.replace(usual.validation, same_as={"kaplan": "gopher"}))
    for number in (1, 5):
        text = json.dumps(specs(next(d for d in drawings() if number == d.NUMBER).draw(results)), ensure_ascii=False)
        assert "oversized, Kaplan\u2019s size" in text


@pytest.mark.parametrize(("case", "unit"), [(held_out, "nats/token"), (elsewhere.plain, "bits per byte")])
def test_axes_name_their_units(drawing, case, unit):
    titles = set(re.findall(r'"title": "((?:parameters|tokens|training compute|loss)[^"]*)"', json.dumps(specs(drawing.draw(case())))))
    assert titles <= {"parameters", "tokens", "training compute (FLOPs)", f"loss ({unit})"}


@pytest.mark.parametrize("case", [held_out, elsewhere.usual, CASES["elsewhere, no names of its own"]])
def test_expressions_are_constants(drawing, case):
    """Nothing that a user wrote is ever evaluated by the page."""

    def walk(value, key=""):
        if isinstance(value, dict):
            for k, v in value.items():
                yield from walk(v, k)
        elif isinstance(value, list):
            for v in value:
                yield from walk(v, key)
        elif key in {"labelExpr", "expr", "calculate", "filter", "test", "update", "signal"}:
            yield value

    assert set(walk(specs(drawing.draw(case())))) <= {_FLOPS_LABEL, _COUNT_LABEL, PERCENT_LABEL, FACTOR_LABEL}


def test_numbers_of_figures_are_those_of_the_paper_and_unlike():
    assert [d.NUMBER for d in drawings()] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("low", "high"), [(1e11, 1e13), (9e3, 2e5), (1.1e12, 1.3e12), (5.0, 5.1), (1e6, 1e24)])
def test_ticks_are_a_few_rising_values_inside(low, high):
    values = ticks((low, high))
    assert 3 <= len(values) <= 12
    assert values == sorted(set(values))
    assert low <= values[0]
    assert values[-1] <= high
