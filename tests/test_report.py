"""The page: true in words, one file, nothing loaded, nothing of a user's run."""

import csv
import dataclasses
import functools
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

import simulated
from isoflop import compare, plan, published, report
from isoflop.errors import FitError, MissingExtraError, UsageError
from isoflop.plan import request
from isoflop.report import appendix, charts, export, figures, landscape, laws, page, planning, standings, tables, terminal
from isoflop.report.answer import answer
from isoflop.report.figures import Figure, _labels, drawings
from isoflop.report.results import Results
from isoflop.validate import Contender

EVIL = "</script><img src=x onerror=alert(1)>\u2028'\"&{{ 7 * 7 }}"


def written(results: Results, folder) -> str:
    return report.write(results, folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def html(folder):
    return written(simulated.results(), folder)


@functools.cache
def undrawn() -> tuple[page.Drawn, ...]:
    """Figures without their pictures: what they look like is the conformance suite's business."""
    nothing = Figure(caption="A caption.", alt="nothing", panels=())
    return tuple(page.Drawn(d.NUMBER, d.TITLE, nothing, (), "", b"") for d in drawings())


def rendered(results: Results) -> str:
    return page.render(results, undrawn())


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_the_page_loads_nothing(html):
    addresses = set(re.findall(r"https?://[^\s'\"<>)]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places
    for tag, attrs in Seen(html).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert (attrs.get("src") or "data:").startswith("data:")
        assert (attrs.get("href") or "#").startswith(("#", "figures/"))
    assert "default-src 'none'" in html


def test_the_page_of_forty_runs_is_under_950_kb(html):
    assert len(simulated.results().records) == 39
    assert len(html.encode()) < 950_000


def test_figures_lie_beside_the_page(folder, html):
    assert {path.name for path in (folder / "figures").iterdir()} == {f"figure{n}.{kind}" for n in range(1, 7) for kind in ("svg", "png")}
    assert all(f'href="figures/figure{n}.svg"' in html for n in range(1, 6))


def test_a_figure_that_is_no_longer_true_goes(tmp_path):
    stale = tmp_path / "figures/figure5.svg"
    stale.parent.mkdir()
    stale.write_text("<svg/>", encoding="utf-8")
    page.save(simulated.results(proof=False), undrawn(), tmp_path)
    assert not stale.exists()


def test_equal_results_give_equal_pages():
    assert rendered(simulated.results.__wrapped__()) == rendered(simulated.results())


def test_charts_are_json_that_cannot_end_their_element(html):
    [text] = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text)[0]["at"] == "chart-1-0"


def test_what_others_wrote_is_shown_and_never_run():
    usual = simulated.results()
    bad = simulated.record(20, 6e11, seed=9, status="diverged", reason=EVIL)
    clock = bad.clock.model_copy(update={"device": EVIL, "versions": {EVIL: EVIL}, "commit": EVIL})
    corpus = simulated.corpus(sources=(EVIL,), dropped={EVIL: 3}, tokenizer=EVIL)
    fit = dataclasses.replace(usual.fits[0], warnings=(EVIL,), estimator=EVIL, status=dataclasses.replace(usual.fits[0].status, ok=False, message=EVIL))
    results = dataclasses.replace(
        usual,
        corpus=corpus,
        records=(*usual.records, bad.model_copy(update={"clock": clock})),
        fits=(fit, *usual.fits[1:]),
        left_out_fits=(("parametric", EVIL),),
        command=EVIL,
        study=simulated.study(corpus=EVIL),
    )
    text = rendered(results)
    seen = Seen(text)
    assert "<img src=x" not in text
    assert not [tag for tag, attrs in seen.tags if any(name.startswith("on") for name in attrs)]
    assert sum(tag == "script" for tag, _ in seen.tags) == 3
    assert seen.words.count(EVIL) >= 8


def test_the_answer_names_budget_size_tokens_loss_and_proof():
    said = answer(simulated.results())
    headline = "".join(words for words, _ in said.headline)
    assert headline.startswith("With 1e13 FLOPs on this text, train a model of about ")
    assert re.search(r"Expect a loss of 1\.4\d\d nats per token by what predicted held-out budgets best \(80 % interval 1\.\d+ to 1\.\d+\)", said.expectation)
    assert said.verdict == "held"
    assert "The predicted optimum was better than the oversized model" in said.proof[1]


def proved(**changes: object) -> tuple[str, ...]:
    usual = simulated.results()
    return answer(dataclasses.replace(usual, validation=dataclasses.replace(usual.validation, **changes))).proof


def test_a_measurement_outside_the_interval_is_called_a_miss():
    assert "missed: that is above the interval" in proved(interval=(1.0, 1.1))[0]
    assert "missed: that is below the interval" in proved(interval=(2.0, 2.1))[0]


def test_without_an_interval_nothing_is_claimed():
    unknown = (float("nan"), float("nan"))
    assert "no interval" in proved(interval=unknown)[0]
    usual = simulated.results()
    proof = dataclasses.replace(usual.validation, interval=unknown)
    assert answer(dataclasses.replace(usual, validation=proof)).verdict == "unproved"
    best, rival = proof.contenders
    better = dataclasses.replace(rival, record=rival.record.model_copy(update={"loss": 1.2}))
    beaten = dataclasses.replace(proof, contenders=(better, best))
    assert answer(dataclasses.replace(usual, validation=beaten)).verdict == "missed"


def rivalled(**changes: object) -> str:
    best, rival = simulated.results().validation.contenders
    return proved(contenders=(best, Contender(label="gopher", record=rival.record.model_copy(update=changes), predicted=rival.predicted)))[1]


def test_a_lost_proof_is_called_lost():
    assert "was better than the predicted optimum: 1.200 against 1." in rivalled(loss=1.2)
    assert "was not the best size here" in rivalled(loss=1.2)
    usual = simulated.results()
    best, rival = usual.validation.contenders
    winner = dataclasses.replace(rival, record=rival.record.model_copy(update={"loss": 1.2}))
    lost = dataclasses.replace(usual, validation=dataclasses.replace(usual.validation, contenders=(winner, best)))
    assert answer(lost).verdict == "missed"


def test_a_difference_within_the_noise_is_called_so_and_names_who_was_better():
    results = simulated.results()
    assert results.noise_freedom == 2
    chance = 1.886 * math.sqrt(2) * results.noise  # Student's t: two degrees of freedom, 90th percentile
    observed = results.validation.observed
    for factor, better in ((0.98, "optimum was better than the oversized model"), (-0.98, "was better than the predicted optimum")):
        assert better in rivalled(loss=observed + factor * chance)
        assert "within the noise" in rivalled(loss=observed + factor * chance)
    for factor in (1.02, -1.02):
        assert "more than the noise" in rivalled(loss=observed + factor * chance)
    assert "have the same loss" in rivalled(loss=observed)


def against(loss: float, **changes: object) -> str:
    """The verdict where the oversized model has this loss."""
    usual = simulated.results()
    optimum, rival = sorted(usual.validation.contenders, key=lambda c: c.label)
    other = dataclasses.replace(rival, record=rival.record.model_copy(update={"loss": loss}))
    both = tuple(sorted((optimum, other), key=lambda c: c.record.loss))
    return answer(dataclasses.replace(usual, validation=dataclasses.replace(usual.validation, contenders=both, **changes))).verdict


def test_a_page_is_green_only_if_no_model_is_better_than_the_optimum():
    proof = simulated.results().validation
    assert against(proof.observed + 0.5 * proof.chance) == "held"
    assert against(proof.observed - 0.5 * proof.chance) == "unproved"
    assert against(proof.observed - 1.5 * proof.chance) == "missed"
    assert against(proof.observed - 0.074, chance=math.nan) == "missed"  # no noise is known to explain it


def test_an_interval_as_wide_as_the_losses_of_the_sweep_proves_nothing():
    usual = simulated.results()
    low, high = np.quantile(usual.runs.loss, [0.1, 0.9])
    width, observed = high - low, usual.validation.observed
    assert usual.validation.spread == pytest.approx(width)
    for share, verdict in ((0.98, "held"), (1.02, "unproved")):
        interval = (observed - share * width / 2, observed + share * width / 2)
        for known in (usual.validation.spread, math.nan):  # of a proof that does not say it, by the runs
            proof = dataclasses.replace(usual.validation, interval=interval, spread=known)
            said = answer(dataclasses.replace(usual, validation=proof))
            assert said.verdict == verdict
            assert ("nothing is proved" in said.proof[0]) == (verdict == "unproved")
            assert "held" not in said.proof[0] or verdict == "held"


def test_a_refused_answer_is_named_so_with_its_reasons_and_no_size():
    reasons = ("The best model would have 1e-122 parameters.", "Check the units.")
    refused = dataclasses.replace(simulated.results(proof=False), plans=(), refused=reasons, proof_note=" ".join(reasons))
    said = answer(refused)
    assert "".join(words for words, _ in said.headline) == "No answer for 1e13 FLOPs: what the fits say cannot be right."
    assert (said.expectation, said.verdict) == (" ".join(reasons), "none")
    assert "train a model" not in rendered(refused)


def test_a_forecast_that_was_not_on_record_is_said_to_be_later():
    assert "No forecast was on record before the proof was trained" in proved(claimed=False)[-1]
    assert "on record" not in " ".join(proved())


def test_the_noise_says_where_it_was_measured():
    note = appendix.noise(simulated.results()).note
    assert "measured at 6e11 FLOPs" in note
    assert "falls with compute" in note


def test_notes_call_intervals_what_they_are():
    """Approach 2 does not bootstrap, and the loss is one run's."""
    results = simulated.results()
    for table in (tables.approaches(results.fits, results.plans), tables.plans(results.plans)):
        assert "bootstrap" not in table.note
        assert "of the loss: for one new run" in table.note


@pytest.mark.parametrize(("whose", "row"), [("chinchilla", "predicted optimum, also Kaplan\u2019s size"), ("gopher", "oversized, also Kaplan\u2019s size")])
def test_a_rival_that_is_another_one_too_is_said(whose, row):
    usual = simulated.results()
    results = dataclasses.replace(usual, validation=dataclasses.replace(usual.validation, same_as={"kaplan": whose}))
    assert "model of Kaplan\u2019s size was not trained by itself" in answer(results).proof[-1]
    assert row in [r.cells[0].text for r in tables.proof(results.validation).rows]
    assert export.validation_json(results.validation)["same_as"] == {"kaplan": whose}


def test_a_rival_that_diverged_is_no_victory():
    said = rivalled(loss=None, bits_per_byte=None, status="diverged", reason="loss was NaN at step 12")
    assert "diverged (loss was NaN at step 12)" in said
    assert "beat" not in said


def test_without_a_proof_the_page_says_so():
    results = simulated.results(proof=False)
    assert "has not been put to the proof" in answer(results).proof[0]
    text = rendered(results)
    assert "has not been put to the proof" in text
    assert "We trained" not in text


def test_why_no_proof_can_be_made_is_said_instead():
    note = "a model 1.1 times larger has the same real shape as the optimum. Raise oversize in [proof]."
    results = dataclasses.replace(simulated.results(proof=False), proof_note=note)
    assert answer(results).proof == (f"The prediction is not proved: {note}",)
    assert answer(results).verdict == "unproved"
    text = rendered(results)
    assert note in text
    assert "has not been put to the proof" not in text
    assert "<code>isoflop validate</code>" not in text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("python", "python"),
        ("hf:org/name", "hf:org/name"),
        ("books/novels", "books/novels"),
        ("/srv/corpora/books/novels", "books/novels"),
        ("/home/ada/novels", "novels"),
        ("/Users/ada/texts/old/novels.txt", "old/novels.txt"),
        ("/home/ada", "a home folder"),
        (r"C:\Users\ada\novels", "novels"),
    ],
)
def test_paths_show_nothing_personal(source, shown):
    assert appendix.shown(source) == shown


def test_the_page_has_no_whole_path_of_anything():
    usual = simulated.results()
    where = "/home/gwendolyn/secret/books/novels"
    corpus = simulated.corpus(sources=("python", where))
    results = dataclasses.replace(usual, corpus=corpus, study=simulated.study(corpus=where), command=f"isoflop run {where}/a.toml")
    text = rendered(results)
    assert "gwendolyn" not in text
    assert "secret/" not in text
    assert "python, books/novels" in text
    assert "isoflop run novels/a.toml" in text


def test_without_any_fit_the_page_says_why():
    results = dataclasses.replace(simulated.results(proof=False), fits=(), plans=(), left_out_fits=(("isoflop", "too few budgets."),))
    text = rendered(results)
    assert "these runs determine no law" in text
    assert "too few budgets." in text


def test_all_that_was_left_out_is_listed_with_its_reason():
    usual = simulated.results()
    bad = simulated.record(20, 6e11, seed=9, status="diverged", reason="loss was NaN at step 12")
    text = rendered(dataclasses.replace(usual, records=(*usual.records, bad), left_out_fits=(("envelope", "no curves were kept."),)))
    for reason in (bad.id, "loss was NaN at step 12", "no curves were kept.", "near-empty", "12 documents"):
        assert reason in text


def test_kaplans_exponents_are_below_the_three_approaches():
    rows = tables.approaches(simulated.results().fits, simulated.results().plans).rows
    assert [cell.text for cell in rows[-1].cells[:3]] == ["Kaplan et al. 2020", "0.73", "0.27"]
    assert rows[-1].muted
    assert [row.cells[0].text[:2] for row in rows] == ["1.", "2.", "3.", "By", "Ka"]


def test_tables_are_rectangular():
    results = simulated.results()
    for table in (
        tables.approaches(results.fits, results.plans, (("horizons", "none"),)),
        tables.plans(results.plans),
        tables.proof(results.validation),
        tables.minima(results.fit("isoflop")),
        tables.runs([export.row(r.spec, r) for r in results.records]),
    ):
        assert {len(row.cells) for row in table.rows} == {len(table.head)}, table.title


def test_runs_export_as_csv_and_parquet_with_the_same_values():
    from pyarrow import parquet

    record = simulated.sweep()[0]
    rows = [export.row(record.spec, record), export.row(record.spec, status="pending")]
    read = list(csv.DictReader(io.StringIO(export.to_csv(rows))))
    assert [row["status"] for row in read] == ["ok", "pending"]
    assert float(read[0]["loss"]) == record.loss
    assert read[1]["loss"] == ""
    assert parquet.read_table(io.BytesIO(export.to_parquet(rows))).to_pylist() == rows


def test_json_has_no_nan():
    results = simulated.results()
    unknown = dataclasses.replace(results.fits[0], noise=float("nan"), resamples=())
    for value in (export.fits_json((unknown,), results.left_out_fits), export.plans_json(results.plans), export.validation_json(results.validation)):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


def opened(page: pathlib.Path, profile: pathlib.Path) -> str:
    """What Chromium has made of a page after its scripts have run."""
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--virtual-time-budget=15000", "--dump-dom"]
    return subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_a_browser_makes_every_figure_live(folder, html, tmp_path):
    (folder / "live.html").write_text(html, encoding="utf-8")
    dom = opened(folder / "live.html", tmp_path)
    assert '<html lang="en" class="ready drawn">' in dom
    charts = json.loads(re.search(r'<script[^>]*id="charts"[^>]*>(.*?)</script>', html, re.DOTALL)[1])
    assert len(charts) > 10
    assert dom.count('class="marks"') == len(charts)


# --- the landscape

LANDSCAPE_LAWS = tuple(fit for name in (*compare.LAWS, "besiroglu", "kaplan") for fit in published.get(name))
KNOWN = tuple(compare.model(name) for name in compare.LANDMARKS)


def told(fits, flops=5.76e23):
    return plan.estimates(fits, plan.Goal(quantity="flops", value=flops), extrapolate=True).rows


@pytest.fixture(scope="module")
def landscape_html() -> str:
    return landscape.page(told(LANDSCAPE_LAWS), KNOWN, rule=5.76e23, kind="html").decode()


@pytest.mark.parametrize(("name", "kind"), [("a.html", "html"), ("a.b.PNG", "png"), ("frontier.svg", "svg")])
def test_the_suffix_says_what_is_drawn(name, kind):
    assert landscape.kind(pathlib.Path(name)) == kind


@pytest.mark.parametrize("name", ["a.pdf", "html", "a.", ".png"])
def test_another_suffix_is_refused_with_those_there_are(name):
    with pytest.raises(UsageError, match=r"\.html.*\.png.*\.svg"):
        landscape.kind(pathlib.Path(name))


def test_the_landscape_is_a_picture_without_a_browser():
    svg = landscape.page(told(LANDSCAPE_LAWS), KNOWN, rule=5.76e23, kind="svg")
    assert svg.startswith(b"<svg")
    assert b"NaN" not in svg
    assert b"undefined" not in svg
    assert landscape.page(told(LANDSCAPE_LAWS[:1]), (), rule=None, kind="png").startswith(b"\x89PNG")


def test_equal_arguments_give_equal_landscapes():
    first, second = (landscape.draw(told(LANDSCAPE_LAWS), KNOWN, rule=5.76e23) for _ in range(2))
    assert charts.static(first) == charts.static(second)
    assert first.caption == second.caption


def test_the_landscape_loads_nothing(landscape_html):
    addresses = set(re.findall(r"https?://[^\s'\"<>)]+", landscape_html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    for tag, attrs in Seen(landscape_html).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert (attrs.get("src") or "data:").startswith("data:")
        assert "href" not in attrs
    assert "default-src 'none'" in landscape_html


def test_nothing_in_a_name_reaches_the_landscape_as_code(landscape_html):
    wicked = compare.Model(name=EVIL, title=EVIL, params=1e11, tokens=1e12, year=None, source=EVIL, note=EVIL)
    law = dataclasses.replace(LANDSCAPE_LAWS[0], title=EVIL, source=EVIL, corpus=EVIL, convention=EVIL)
    text = landscape.page(told((law,)), (wicked,), rule=None, kind="html").decode()
    usual, seen = Seen(landscape_html), Seen(text)
    assert [tag for tag, _ in seen.tags if tag in {"script", "style"}] == [tag for tag, _ in usual.tags if tag in {"script", "style"}]
    assert sum(tag == "img" for tag, _ in seen.tags) == 1
    assert "onerror" not in {name for _, attrs in seen.tags for name in attrs}
    assert seen.words.count("{{ 7 * 7 }}") >= 4  # not taken for a template
    [live] = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
    assert "onerror" in live  # it is there, and JSON to its end
    assert len(json.loads(live)) == 2


def test_the_landscape_says_where_its_numbers_are_from(landscape_html):
    words = Seen(landscape_html).words
    for fit in LANDSCAPE_LAWS:
        assert fit.title in words
        assert fit.source in words
    for one in KNOWN:
        assert one.title in words
        assert one.source in words
    assert "without embeddings" in words
    assert "5.76e23" in words


def test_every_published_law_with_an_optimum_is_drawn():
    drawn = told(published.every(), 1e21)
    figure = landscape.draw(drawn, compare.MODELS, rule=1e21)
    text = json.dumps([charts.interactive(panel) for panel in figure.panels], ensure_ascii=False, allow_nan=False)
    assert len(drawn) > 20
    assert all(json.dumps(e.fit.title, ensure_ascii=False)[1:-1] in text for e in drawn)


def test_each_star_stands_at_its_laws_own_estimate():
    rows = plan.estimates(LANDSCAPE_LAWS, plan.Goal(quantity="params", value=70e9), extrapolate=True).rows
    figure = landscape.draw(rows, (), rule=None)
    assert len({e.flops for e in rows}) == len(rows)
    for panel, quantity in zip(figure.panels, ("params", "tokens"), strict=True):
        spec = charts.interactive(panel)
        stars = [layer for layer in spec["layer"] if layer["mark"].get("shape", "").startswith("M0,-1")]
        at = [next(csv.DictReader(io.StringIO(spec["datasets"][layer["data"]["name"]]))) for layer in stars]
        assert [float(row["flops"]) for row in at] == pytest.approx([e.flops for e in rows], rel=1e-4)
        assert [float(row["value"]) for row in at] == pytest.approx([getattr(e, quantity) for e in rows], rel=1e-4)
    assert "vertical line" not in figure.caption


def test_a_studys_own_approaches_keep_their_colours_and_models_far_off_are_left_out():
    own = dataclasses.replace(LANDSCAPE_LAWS[0], name="envelope", title="Mine", fitted_flops=(5e8, 2e9), confirmed_flops=math.nan)
    figure = landscape.draw(told((own,), 6e9), KNOWN, rule=6e9)
    spec = charts.interactive(figure.panels[0])
    assert figures._look.APPROACH["envelope"].color in {layer["mark"].get("color") for layer in spec["layer"]}
    assert spec["layer"][0]["encoding"]["x"]["scale"]["domain"][1] < 1e12
    assert f"{len(KNOWN)} known models lie far off" in figure.caption


@pytest.mark.parametrize("budget", [6e9, 1e18])
def test_the_axis_fits_what_a_study_plans(budget):
    own = dataclasses.replace(LANDSCAPE_LAWS[0], name="envelope", fitted_flops=(budget / 100, budget / 3), confirmed_flops=math.nan)
    text = landscape.page(told((own,), budget), KNOWN, rule=budget, kind="html").decode()
    spec = charts.interactive(landscape.draw(told((own,), budget), KNOWN, rule=budget).panels[0])
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert budget / 1000 < low < high < budget * 10
    assert KNOWN[0].title not in Seen(text).words  # nor in the table


def test_beside_a_study_the_papers_approaches_have_other_colours():
    own = tuple(dataclasses.replace(fit, name=name, title=f"Mine, {name}") for name, fit in zip(figures._look.APPROACH, LANDSCAPE_LAWS, strict=False))
    spec = charts.interactive(landscape.draw(told((*LANDSCAPE_LAWS, *own)), (), rule=5.76e23).panels[0])
    [scale] = [layer["encoding"]["color"]["scale"] for layer in spec["layer"] if "color" in layer["encoding"]]
    colors = dict(zip(scale["domain"], scale["range"], strict=True))
    assert len(set(colors.values())) == len(colors) == 8
    assert [colors[fit.title] for fit in own] == [look.color for look in figures._look.APPROACH.values()]


def test_a_picture_says_what_its_marks_mean_and_a_page_says_it_in_the_caption(landscape_html):
    pages = [landscape.page(told(LANDSCAPE_LAWS), KNOWN, rule=rule, kind="svg").decode() for rule in (5.76e23, None)]
    for words in ("dashed: ", "star: ", "diamond: mixture of experts"):
        assert all(words in text for text in pages)
        assert words not in landscape_html
    assert ["vertical line: 5.76e23" in text for text in pages] == [True, False]


def test_a_point_under_a_star_is_outlined_over_it():
    layers = charts.interactive(landscape.draw(told(LANDSCAPE_LAWS), KNOWN, rule=None).panels[0])["layer"]
    kinds = [(layer["mark"].get("shape", ""), layer["mark"].get("filled")) for layer in layers]
    stars = [i for i, (shape, _) in enumerate(kinds) if shape.startswith("M0,-1")]
    assert kinds.index(("circle", True)) < stars[0]
    assert stars[-1] < kinds.index(("circle", False))


def test_every_landmark_is_named_in_the_picture():
    text = landscape.page(told(LANDSCAPE_LAWS), KNOWN, rule=5.76e23, kind="svg").decode()
    assert all(text.count(f">{one.title}<") == 4 for one in KNOWN)  # in two panels, with a rim


def test_a_law_is_dashed_from_where_no_run_backs_it():
    [law] = published.get("hoffmann2")
    spec = charts.interactive(landscape.draw(told((law,)), (), rule=None).panels[0])
    ends = {}
    for layer in spec["layer"]:
        rows = list(csv.DictReader(io.StringIO(spec["datasets"][layer["data"]["name"]])))
        if layer["mark"].get("strokeDash"):
            ends[layer["mark"]["strokeWidth"]] = (float(rows[0]["flops"]), float(rows[-1]["flops"]), layer["mark"]["strokeDash"])
    below, inside, beyond = (ends[width] for width in (1.0, 2.2, 2.0))
    assert below[0] == pytest.approx(1e17, rel=1e-4)
    assert below[1] == pytest.approx(law.fitted_flops[0], rel=1e-4)
    assert inside[:2] == pytest.approx((law.fitted_flops[0], law.reach_flops), rel=1e-4)
    assert beyond[0] == pytest.approx(law.reach_flops, rel=1e-4)
    assert beyond[1] == pytest.approx(1e26, rel=1e-4)
    assert (below[2], inside[2]) == ([1, 0], [1, 0])
    assert beyond[2] != [1, 0]


@pytest.mark.parametrize("budget", [1e6, 1e12, 1e33])
def test_a_budget_outside_the_papers_range_widens_the_figure(budget):
    for panel in landscape.draw(told(LANDSCAPE_LAWS, budget), (), rule=budget).panels:
        spec = charts.interactive(panel)
        json.dumps(spec, allow_nan=False)
        low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
        assert low <= min(budget, 1e17)
        assert high >= max(budget, 1e26)


def test_without_a_law_that_says_a_size_there_is_no_figure():
    with pytest.raises(FitError, match="isoflop laws"):
        landscape.page((), KNOWN, rule=None, kind="svg")


def test_names_cover_neither_each_other_nor_a_point():
    rng = np.random.default_rng(0)
    points = [_labels.Named(10 ** rng.uniform(22, 25), 10 ** rng.uniform(9, 12), "a name of some length"[: rng.integers(3, 20)]) for _ in range(25)]
    plots = [_labels.Plot((1e17, 1e26), (1e7, 1e14), width, 420) for width in (390, 780)]
    found = _labels.places(points, marks=[], plots=plots, size=10.5)
    assert sum(place is not None for place in found) > 12
    for plot in plots:
        marks = [_labels._around(plot.spot(point), _labels._MARK) for point in points]
        names = [_labels._covered(plot.spot(p), p.text, at)[0] if at else None for p, at in zip(points, found, strict=True)]
        for i, name in enumerate(names):
            if name:
                assert not any(name.meets(mark) for k, mark in enumerate(marks) if k != i)
                assert not any(name.meets(other) for k, other in enumerate(names) if other and k != i)


def test_a_missing_drawing_library_is_named_with_what_installs_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("isoflop.report.figures", "isoflop.report.charts"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("figures", "charts"):
        monkeypatch.delattr(report, name, raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtraError, match=r"'altair', which is not installed.* -m pip install 'altair>="):
        landscape.page(told(LANDSCAPE_LAWS), KNOWN, rule=None, kind="svg")


@pytest.mark.slow
def test_a_browser_makes_the_landscape_live(landscape_html, tmp_path):
    (tmp_path / "landscape.html").write_text(landscape_html, encoding="utf-8")
    dom = opened(tmp_path / "landscape.html", tmp_path)
    assert '<html lang="en" class="ready drawn">' in dom
    assert dom.count('class="marks"') == 2


# --- a terminal


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_no_number_and_no_name_is_cut_at_any_width(width):
    found = plan.answer(
        request.read(request.Request(flops="5.76e23", shape=True, gpus="8", gpu="h100", smaller=True, inference_tokens="2T", unique_tokens="1T"))
    )
    models = compare.compare([compare.model("gopher")], published.get("hoffmann3"))
    shown = (planning.plan(found), *planning.details(found), laws.laws(published.every()), standings.table(models))
    for table in shown:
        out = io.StringIO()
        terminal.show(Console(file=out, width=width, highlight=False), table)
        text = out.getvalue()
        assert "\u2026" not in text
        assert max(map(len, text.splitlines())) <= width
        words = set(text.split())
        numbers = {cell.text for row in table.rows for i, cell in enumerate(row.cells) if i not in table.words}
        assert all(word in words for number in numbers for word in number.split())
