"""Figures of fits to any runs: true to the fits, one file each, nothing of a name ever run."""

import csv
import dataclasses
import io
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import elsewhere
import simulated
from isoflop import report
from isoflop.errors import MissingExtraError
from isoflop.fit import Fits, Holdout
from isoflop.report import charts, fitted, page
from isoflop.report.figures import Figure, _axes, drawings
from isoflop.report.results import Findings
from isoflop.runs import Curve

LAST = elsewhere.BUDGETS[-1]


def drawn(name: str, found: Findings) -> Figure:
    return next(d for d in drawings() if d.__name__.endswith(f".{name}")).draw(found)


def tables(figure: Figure, panel: int = 0) -> list[list[dict[str, str]]]:
    """The rows of every layer of a panel."""
    return [list(csv.DictReader(io.StringIO(text))) for text in charts.interactive(figure.panels[panel])["datasets"].values()]


def having(figure: Figure, *fields: str, panel: int = 0) -> list[dict[str, str]]:
    return [row for rows in tables(figure, panel) for row in rows if set(fields) <= set(row)]


def fits(found) -> Fits:
    return Fits(fits=found.fits, left_out=tuple(found.left_out_fits), holdout=found.holdout)


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


# --- files


@pytest.fixture(scope="module")
def wicked():
    """Ids, a unit and a candidate that would run if anything could."""
    some = elsewhere.runs(ids=elsewhere.EVIL + "{}", unit=elsewhere.EVIL, far_off=True, curves=False)
    found = elsewhere.fitted(some, resamples=0, approaches=("parametric",))
    trials = tuple(dataclasses.replace(trial, by=elsewhere.EVIL) for trial in found.holdout.trials if trial.by == "isoflop")
    return dataclasses.replace(found, holdout=Holdout(trials=trials, left_out=((elsewhere.EVIL, elsewhere.EVIL),)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, wicked):
    place = tmp_path_factory.mktemp("figures")
    fitted.write(fits(wicked), wicked.runs, place, target=1e22)
    return place


def test_each_figure_is_a_picture_a_drawing_and_a_page_of_the_same_name(folder):
    names = {"overlaid_predictions", "isoflop_profiles", "parametric_fit", "residuals", "extrapolation"}  # without curves no envelope, without a study no proof
    assert {path.name for path in folder.iterdir()} == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png", "html")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))
    assert all(path.read_bytes().startswith(b"<svg") for path in folder.glob("*.svg"))


def test_pages_load_nothing(folder):
    for path in folder.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s'\"<>)]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "default-src 'none'" in text
        for tag, attrs in Seen(text).tags:
            assert tag not in {"link", "iframe", "object", "embed", "base", "a"}
            assert (attrs.get("src") or "data:").startswith("data:")


def test_what_others_wrote_is_shown_and_never_run(folder):
    for path in folder.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        seen = Seen(text)
        assert [tag for tag, _ in seen.tags if tag in {"script", "style"}] == ["style", "script", "script", "script"]
        assert sum(tag == "img" for tag, _ in seen.tags) == 1
        assert "onerror" not in {name for _, attrs in seen.tags for name in attrs}
        [live] = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
        assert not set(live) & set("<>&\u2028\u2029")
    assert "onerror" in (folder / "residuals.html").read_text(encoding="utf-8")  # it is there, as words
    assert all("<img" not in path.read_text(encoding="utf-8") for path in folder.glob("*.svg"))


def test_nothing_of_a_unit_can_end_a_string_of_an_expression(wicked):
    """Vega-Lite puts titles of tooltips into expressions, and escapes quotes in them but no backslash."""
    assert _axes.loss_in('\\"+alert(1)+"') == "loss (alert1)"
    titles = re.findall(r'"title": ("(?:[^"\\]|\\.)*")', json.dumps([charts.interactive(p) for p in drawn("isoflop_profiles", wicked).panels]))
    assert not any(set(json.loads(title)) & set("\"\\'") for title in titles)


def test_equal_arguments_give_equal_bytes(folder, wicked, tmp_path):
    again = fitted.write(fits(wicked), dataclasses.replace(wicked.runs), tmp_path, target=1e22)
    assert all(path.read_bytes() == (folder / path.name).read_bytes() for path in again)


def test_a_figure_that_is_no_longer_true_goes_and_a_file_of_the_users_stays(tmp_path):
    """Files are taken for ours if the page among them says so."""
    for name, maker in (("extrapolation", "isoflop"), ("training_envelope", "me")):
        (tmp_path / f"{name}.html").write_text(f'<meta name="generator" content="{maker}">', encoding="utf-8")
        (tmp_path / f"{name}.png").write_bytes(b"old")
    found = dataclasses.replace(elsewhere.plain(), fits=())
    written = fitted.write(fits(found), found.runs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} | {"training_envelope.html", "training_envelope.png"}
    assert {path.stem for path in written} == {"isoflop_profiles"}


def test_a_missing_drawing_library_is_named_with_what_installs_it(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith(("isoflop.report.figures", "isoflop.report.charts", "isoflop.report.frame"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("figures", "charts", "frame"):
        monkeypatch.delattr(report, name, raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtraError, match=r"'altair', which is not installed.* -m pip install 'altair>="):
        fitted.write(fits(elsewhere.plain()), elsewhere.plain().runs, tmp_path)
    assert not list(tmp_path.iterdir())


# --- what is drawn


def test_stars_stand_at_each_fits_own_optimum_and_only_where_there_is_a_target():
    usual = elsewhere.usual()
    for name, panel in (("training_envelope", 1), ("isoflop_profiles", 1)):
        approach = {"training_envelope": "envelope", "isoflop_profiles": "isoflop"}[name]
        [star] = having(drawn(name, usual), "flops", "value", "by", panel=panel)
        best = next(fit for fit in usual.fits if fit.approach == approach).law.optimum(1e22)
        assert (float(star["flops"]), float(star["value"])) == pytest.approx((1e22, float(best.params)), rel=1e-4)  # five digits are written
        assert not having(drawn(name, dataclasses.replace(usual, target=None)), "flops", "value", "by", panel=panel)
    assert "target" not in drawn("isoflop_profiles", dataclasses.replace(usual, target=None)).caption


@pytest.mark.parametrize("name", elsewhere.LAWS)
def test_lines_of_equal_loss_lie_where_the_law_says_so(name):
    usual, law = elsewhere.usual(), elsewhere.LAWS[name]
    fit = dataclasses.replace(next(fit for fit in usual.fits if fit.approach == "parametric"), law=law, resamples=())
    found = dataclasses.replace(usual, fits=(fit,), target=None)  # a star has the same fields
    rows = [row for rows in tables(drawn("parametric_fit", found)) for row in rows if set(row) == {"flops", "params", "loss"}]
    lines = [tuple(float(row[field]) for field in ("flops", "params", "loss")) for row in rows]
    flops, params, loss = (np.array(column) for column in zip(*lines, strict=True))
    assert loss.size > 100
    # a grid of 241 budgets over six decades, read linearly in between, is good to 1e-4 in loss; five digits are written of each count
    assert law.loss(params, law.cost.tokens(params, flops)) == pytest.approx(loss, rel=1e-3)


def test_valleys_are_the_fits_own_curves():
    usual = elsewhere.usual()
    figure = drawn("isoflop_profiles", usual)
    lines = next(rows for rows in tables(figure) if rows and set(rows[0]) == {"params", "loss", "budget"})
    profiles = [p for p in next(fit for fit in usual.fits if fit.approach == "isoflop").profiles if p.interior]
    wanted = np.concatenate([p.curve_loss for p in profiles])
    assert [float(row["loss"]) for row in lines] == pytest.approx(wanted, rel=1e-4)


def test_curves_whose_points_lie_apart_are_drawn_as_they_are():
    usual = elsewhere.usual()
    thin = tuple(Curve(c.tokens[9::50], c.loss[9::50]) for c in usual.runs.curves)
    rows = having(drawn("training_envelope", dataclasses.replace(usual, runs=dataclasses.replace(usual.runs, curves=thin), fits=())), "run", "flops")
    first = [float(row["loss"]) for row in rows if row["run"] == "0"]
    assert first == pytest.approx(thin[0].loss, rel=1e-4)


def test_a_hundred_thousand_runs_are_drawn_in_part_and_the_caption_says_so():
    rng = np.random.default_rng(0)
    many = elsewhere.runs(curves=False).take(rng.integers(0, 35, 100_000))
    found = elsewhere.fitted(many, resamples=0, approaches=())
    figure = drawn("isoflop_profiles", found)
    assert "Of 100,000 runs 1,500 are drawn" in figure.caption
    assert sum(map(len, tables(figure))) == 1500


# --- residuals


def residuals(found: Findings) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["run"], row["by"]): row for row in having(drawn("residuals", found), "run", "by", "off")}


def test_residuals_are_those_of_the_run_they_stand_at_whether_one_was_set_aside_or_not():
    some = elsewhere.runs(curves=False)
    for far_off in (False, True):
        found = elsewhere.fitted(elsewhere.runs(curves=False, far_off=far_off), resamples=0, approaches=("parametric",))
        [fit], rows = found.fits, residuals(found)
        assert len(rows) == len(some)
        for i, name in enumerate(found.runs.ids):
            off = 100 * (found.runs.loss[i] / float(fit.law.loss(found.runs.params[i], found.runs.tokens[i])) - 1)
            # five digits are written, and a small residual is a difference of losses
            assert float(rows[name, "Approach 3, chinchilla"]["off"]) == pytest.approx(off, rel=1e-4, abs=1e-9)
            assert (rows[name, "Approach 3, chinchilla"]["counted"] == "true") == (not far_off or i < len(some) - 1)


def test_a_run_far_off_is_named_and_does_not_widen_the_frame():
    found = elsewhere.fitted(elsewhere.runs(curves=False, far_off=True), resamples=0, approaches=("parametric",))
    figure = drawn("residuals", found)
    last = found.runs.ids[-1]
    low, high = charts.interactive(figure.panels[0])["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low == -high
    assert high < 5  # percent; the noise is 0.2 %, the run is 100 % off
    assert 0.9 * high < float(residuals(found)[last, "Approach 3, chinchilla"]["error"]) < high
    assert any(row["text"] == last for row in having(figure, "text"))
    assert re.search(rf"{last} \(\+\d+ %\)", figure.caption)


def test_several_laws_of_one_approach_are_told_apart():
    found = elsewhere.fitted(elsewhere.runs(curves=False), resamples=0, approaches=("parametric",))
    other = dataclasses.replace(found.fits[0], law=elsewhere.LAWS["overtraining"])
    figure = drawn("residuals", dataclasses.replace(found, fits=(found.fits[0], other)))
    marks = [layer["mark"] for layer in charts.interactive(figure.panels[0])["layer"] if layer["mark"].get("shape")]
    assert len({mark["shape"] for mark in marks}) == 2
    assert len({mark["color"] for mark in marks}) == 1  # Approach 3 keeps its own
    assert "Approach 3, overtraining" in figure.caption


def test_residuals_never_stand_alone():
    usual = elsewhere.usual()
    assert "errors against reach" in drawn("residuals", usual).caption
    assert "nothing was held out" in drawn("residuals", dataclasses.replace(usual, holdout=None)).caption
    study = dataclasses.replace(simulated.results(), fits=(), plans=(), validation=None)  # little to draw, and none of it of these figures
    assert [one.number for one in page._draw(dataclasses.replace(study, holdout=None))] == [1, 2, 3, 4, 5]
    assert [one.number for one in page._draw(dataclasses.replace(study, holdout=elsewhere.holdout()))] == [1, 2, 3, 4, 5, 6]


def test_a_study_with_budgets_held_out_shows_how_far_and_nothing_empty():
    nothing = Figure(caption="Nothing.", alt="nothing", panels=())
    shown = tuple(page.Drawn(d.NUMBER, d.TITLE, nothing, (), "<svg/>" * (d.NUMBER != 7), b"") for d in drawings())
    text = page.render(simulated.results(), shown)
    assert "How far the fits can be trusted" in text
    assert 'id="figure6"' in text
    assert 'id="figure7"' not in text


# --- error against reach


def test_each_trial_stands_at_its_reach_and_its_error():
    usual = elsewhere.usual()
    rows = having(drawn("extrapolation", usual), "times", "off")
    assert len(rows) == len(usual.holdout.trials)
    for trial, row in zip(usual.holdout.trials, rows, strict=True):
        assert (float(row["times"]), float(row["off"])) == pytest.approx((trial.reach, 100 * trial.error), rel=1e-4)
        assert float(row["reach"]) == pytest.approx(trial.reach, rel=0.05)  # moved aside by so little that marks do not hide each other
        assert float(row["error"]) == pytest.approx(100 * trial.error, rel=1e-4)


def test_the_line_begins_in_sample_and_runs_through_the_medians():
    usual = elsewhere.usual()
    lines = [rows for rows in tables(drawn("extrapolation", usual)) if rows and set(rows[0]) == {"reach", "error"}]
    lines = [rows for rows in lines if rows[0]["reach"]]
    assert len(lines) == 3
    for rows, inside, by in zip(lines, (True, True, False), usual.holdout.candidates, strict=True):  # there is no fit by farseer
        assert abs(float(rows[0]["reach"]) - 1) < 0.05 or not inside
        for row in rows[inside:]:
            near = [100 * t.error for t in usual.holdout.of(by) if abs(np.log(t.reach / float(row["reach"]))) < 0.15]
            assert min(near) - 1e-3 <= float(row["error"]) <= max(near) + 1e-3  # percent; five digits are written


def test_the_factor_of_the_best_size_is_drawn_where_it_is_known():
    usual = elsewhere.usual()
    known = [trial for trial in usual.holdout.trials if trial.flops < LAST]
    rows = having(drawn("extrapolation", usual), "factor", "by", panel=1)
    assert [float(row["factor"]) for row in rows] == pytest.approx([trial.params_factor for trial in known], rel=1e-4)
    unknown = tuple(dataclasses.replace(trial, observed_params=np.nan) for trial in usual.holdout.trials)
    assert len(drawn("extrapolation", dataclasses.replace(usual, holdout=Holdout(trials=unknown))).panels) == 1


def test_the_caption_names_the_ways_the_trials_and_what_was_left_out():
    caption = drawn("extrapolation", elsewhere.usual()).caption
    for words in ("Approach 2", "Approach 3, chinchilla", "Approach 3, farseer", "envelope, for the runs have no curves"):
        assert words in caption
    assert f"{len(elsewhere.usual().holdout.trials)} trials, up to 10 times beyond the data" in caption
