"""Published fits give back what their papers print: every row of every table, the text's own figures, and the known traps."""

import csv
import dataclasses
import itertools
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from isoflop import published
from isoflop.errors import UnknownNameError
from isoflop.laws import exponents, frontier
from isoflop.laws.data_constrained import DataConstrained
from isoflop.published import Published, kaplan

GOLDEN = tomllib.loads((Path(__file__).parent / "golden" / "published.toml").read_text(encoding="utf-8"))
GOPHER = 5.76e23
EVERY = published.every()
WITH_LAW = [fit for fit in EVERY if fit.law is not None]
HOFFMANN = ("hoffmann1", "hoffmann2", "hoffmann3")
UNITS = {"Billion": 1e9, "Trillion": 1e12}


def by_name(fit: Published) -> str:
    return fit.name


def one(name: str) -> Published:
    (fit,) = published.get(name)
    return fit


def law(name: str):
    found = one(name).law
    assert found is not None
    return found


def optimum(name: str, flops: float) -> tuple[float, float]:
    best = law(name).optimum(flops)
    return float(best.params), float(best.tokens)


def table(shared: Path, name: str) -> list[dict[str, str]]:
    with (shared / "data" / "paper" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


# --- every entry ------------------------------------------------------------------------------------------------------------------------------------------


def test_names_are_one_fit_each_and_begin_with_their_file():
    names = [fit.name for paper in published.papers() for fit in published._of(paper)]
    assert len(names) == len(set(names))
    assert all(fit.name.startswith(paper) for paper in published.papers() for fit in published._of(paper))


def test_a_fit_is_found_by_its_name_and_a_paper_by_its_own():
    assert all(published.get(fit.name) == (fit,) for fit in EVERY)
    assert [fit.name for fit in published.get("hoffmann")][:3] == list(HOFFMANN)
    assert len(published.get("gadre")) == 3


def test_an_unknown_law_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'hoffmann3'"):
        published.get("hofmann3")


@pytest.mark.parametrize("fit", EVERY, ids=by_name)
def test_an_entry_says_where_it_is_from_how_it_counts_and_what_is_wrong_with_it(fit):
    assert "arXiv" in fit.source or "github.com" in fit.source
    assert fit.title
    assert fit.corpus
    assert fit.convention
    assert fit.cautions
    assert all(caution.endswith(".") for caution in fit.cautions)
    assert all(interval.low < interval.high and 0 < interval.level < 1 for interval in fit.intervals)


@pytest.mark.parametrize("fit", EVERY, ids=by_name)
def test_a_fitted_range_is_one(fit):
    low, high = fit.fitted_flops
    assert math.isnan(low) or 1e14 < low < high
    assert math.isnan(high) or high < 1e23
    assert math.isnan(fit.reach_flops) or fit.reach_flops < 1e26
    assert not (fit.law is None and math.isfinite(fit.confirmed_flops))


@pytest.mark.parametrize("fit", WITH_LAW, ids=by_name)
@pytest.mark.parametrize("flops", [1e15, 1e18, 1e21, GOPHER, 1e28])
def test_every_law_has_an_optimum_at_every_budget(fit, flops):
    best = fit.law.optimum(flops)
    assert all(math.isfinite(float(x)) and float(x) > 0 for x in (best.params, best.tokens))
    assert math.isnan(float(best.loss)) or float(best.loss) > 0


@pytest.mark.parametrize("fit", WITH_LAW, ids=by_name)
def test_a_law_spends_its_budget_as_its_authors_count(fit):
    """Within their data: by 6ND, or by the ratio to it that the entry's convention allows for."""
    # Kaplan prints N and D with two digits, together 0.9 of 2 C_min; Llama 3 and Cerebras count FLOPs in their own way; nanochat counts params in three
    allowed = {"kaplan": (0.85, 1.0), "llama3": (1.0, 1.06), "cerebras": (0.85, 0.9)}.get(fit.name, (0.999, 1.001))
    if fit.name.startswith("nanochat"):
        allowed = (0.6, 3.1)  # FLOPs per param and token from 1.9 to 9.5 in the log's own tables
    best = fit.law.optimum([flops for flops in (*fit.fitted_flops, fit.reach_flops) if math.isfinite(flops)] or [1e21])
    ratio = 6 * best.params * best.tokens / best.flops
    assert ((allowed[0] <= ratio) & (ratio <= allowed[1])).all(), ratio


@pytest.mark.parametrize("fit", WITH_LAW, ids=by_name)
def test_a_law_has_the_exponents_that_its_paper_prints(fit):
    a, b = (float(x) for x in exponents(fit.law, 1e21))
    # printed with two digits or more; but Approach 3's constants as printed give 0.45 for its 0.46, and Llama 3 cuts 0.537 off to 0.53
    off = 0.01 if fit.name in {"hoffmann3-printed", "llama3"} else 0.0051
    assert math.isnan(fit.a) or a == pytest.approx(fit.a, abs=off)
    assert math.isnan(fit.b) or b == pytest.approx(fit.b, abs=off)


def test_published_fits_load_without_anything_heavy():
    heavy = "{'scipy', 'torch', 'pyarrow', 'altair', 'pandas', 'jinja2'}"
    code = f"import sys; from isoflop import published; published.every(); raise SystemExit(','.join({heavy} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fit", EVERY, ids=by_name)
def test_fitted_ranges_are_those_of_the_sources(fit):
    assert fit.fitted_flops == pytest.approx(tuple(GOLDEN["fitted_flops"][fit.name]), nan_ok=True)


@pytest.mark.parametrize(("name", "quantity"), [(name, quantity) for name in GOLDEN["printed"] for quantity in GOLDEN["printed"][name] if quantity != "source"])
def test_exponents_and_intervals_are_those_printed(name, quantity):
    printed = GOLDEN["printed"][name][quantity]
    if isinstance(printed, list):
        [interval] = (interval for interval in one(name).intervals if interval.quantity == quantity.removesuffix("_interval"))
        assert [interval.low, interval.high] == printed
    else:
        assert getattr(one(name), quantity) == pytest.approx(printed, abs=1e-12)


def test_laws_are_confirmed_by_the_models_that_were_trained_on_their_advice_and_no_others():
    assert {fit.name for fit in EVERY if math.isfinite(fit.confirmed_flops)} == GOLDEN["confirmed"].keys()


@pytest.mark.parametrize("name", GOLDEN["confirmed"])
def test_a_confirmed_law_asks_for_the_model_that_was_trained(name):
    """Within the factor that compare calls near."""
    golden, found = GOLDEN["confirmed"][name], law(name)
    if "unique_tokens" in golden:
        found = dataclasses.replace(found, unique_tokens=golden["unique_tokens"])
    assert one(name).confirmed_flops == golden["flops"]
    best = found.optimum(golden["flops"])
    for asked, trained in ((best.params, golden["params"]), (best.tokens, golden["tokens"])):
        assert 1 / 1.5 < float(asked) / trained < 1.5


def test_chinchilla_is_larger_than_all_three_approaches_ask_for():
    """The sentence that all of them carry."""
    trained = GOLDEN["confirmed"]["hoffmann1"]["params"]
    times = [f"{trained / optimum(name, GOPHER)[0]:.2f}" for name in HOFFMANN]
    for name in HOFFMANN:
        assert f"{times[0]}, {times[1]} and {times[2]} times" in one(name).cautions[-1]


# --- Hoffmann et al. 2022 ---------------------------------------------------------------------------------------------------------------------------------

# Cells of the tables that no power law through the others can give, and why
ROW_67B = "its FLOPs are those of 68 to 70 billion params by the law through all other rows, and its tokens those of 67 billion at these FLOPs"
EXCEPTIONS = {
    ("hoffmann1", "67 Billion", "flops"): f"the row is Gopher's budget, {ROW_67B}",
    ("hoffmann1", "67 Billion", "tokens"): "1.5T is printed where its own FLOPs give 1.43T",
    ("hoffmann2", "67 Billion", "flops"): ROW_67B,
    ("hoffmann2", "67 Billion", "tokens"): ROW_67B,
    ("hoffmann3-table", "67 Billion", "flops"): ROW_67B,
    ("hoffmann3-table", "67 Billion", "tokens"): ROW_67B,
    ("hoffmann3-table", "400 Million", "flops"): "2.21e19 is printed, 2.203e19 is the most that the other rows allow: one unit of the last digit",
    ("hoffmann3-table", "175 Billion", "flops"): "1.26e24 is printed for 1.26e25, as its own tokens show",
    ("hoffmann3-table", "280 Billion", "tokens"): "20.1T is printed where its own FLOPs give 21.0T",
}


def cells(shared: Path, name: str) -> list[tuple[str, float, float, str]]:
    """Rows of the paper's table for a fit: label, params, FLOPs, tokens as printed."""
    if name == "hoffmann1":
        return [(r["params_label"], float(r["params"]), float(r["flops"]), r["tokens_label"]) for r in table(shared, "table3_approach1")]
    k = {"hoffmann2": "a2", "hoffmann3-table": "a3"}[name]
    rows = table(shared, "tableA3_approach2_3")
    return [(r["params_label"], float(r["params"]), float(r[f"{k}_flops"]), r[f"{k}_tokens_label"]) for r in rows]


@pytest.mark.parametrize("name", ["hoffmann1", "hoffmann2", "hoffmann3-table"])
def test_all_rows_of_tables_3_and_a3_come_out_in_the_papers_rounding(shared, name):
    missed = set()
    rows = cells(shared, name)
    for label, params, flops, tokens_label in rows:
        best = frontier(law(name), params=params)
        if rounded(float(best.flops), 3) != pytest.approx(flops):
            missed.add((name, label, "flops"))
        number, unit = tokens_label.split()
        if f"{float(best.tokens) / UNITS[unit]:.1f}" != number:
            missed.add((name, label, "tokens"))
    assert len(rows) == 9
    assert missed == {cell for cell in EXCEPTIONS if cell[0] == name}


def test_the_gopher_units_of_table_3_come_out_to_their_last_digit(shared):
    """Fractions of Gopher's budget are cut off in the paper (1/46 for 1/46.8), multiples rounded."""
    for row in table(shared, "table3_approach1"):
        units = float(frontier(law("hoffmann1"), params=float(row["params"])).flops) / GOPHER
        printed = row["flops_gopher_unit"]
        if printed.startswith("1/"):
            assert int(1 / units) == int(printed[2:].replace(",", ""))
        elif printed != "1":  # the 67B row
            assert f"{units:.1f}" == printed


def test_the_67_billion_rows_are_at_most_ten_percent_from_the_law(shared):
    for name in ("hoffmann1", "hoffmann2", "hoffmann3-table"):
        (printed,) = (flops for label, _, flops, _ in cells(shared, name) if label == "67 Billion")
        assert 0.9 < float(frontier(law(name), params=67e9).flops) / printed < 1.0
        assert 67e9 < optimum(name, printed)[0] < 70.1e9


def test_table_2_is_given_as_printed(shared):
    for name, row in zip((*HOFFMANN, "kaplan"), table(shared, "table2_exponents"), strict=True):
        fit = one(name)
        assert (fit.a, fit.b) == (float(row["a"]), float(row["b"]))
        for interval in fit.intervals:
            assert (interval.low, interval.high) == (float(row[f"{interval.quantity}_p10"]), float(row[f"{interval.quantity}_p90"]))
        assert len(fit.intervals) == (0 if name == "kaplan" else 2)


def test_table_a2_is_given_as_printed(shared):
    for name, row in zip(("hoffmann-c4", "hoffmann-github", "kaplan"), table(shared, "tableA2_c4_github_exponents"), strict=True):
        assert (one(name).a, one(name).b) == (float(row["a"]), float(row["b"]))


@pytest.mark.parametrize("name", HOFFMANN)
def test_optima_at_gophers_budget(name):
    golden = GOLDEN["gopher_budget"]
    assert int(optimum(name, golden["flops"])[0] / 1e9) == golden[name]


@pytest.mark.parametrize("name", [name for name in GOLDEN["tenfold"] if name != "source"])
def test_ten_times_the_budget(name):
    small, large = optimum(name, 1e22), optimum(name, 1e23)
    for grown, printed in zip((large[0] / small[0], large[1] / small[1]), GOLDEN["tenfold"][name], strict=True):
        if name == "kaplan":
            # 5.5 and 1.8 are 10**0.74 and 10**0.26, Kaplan's Eq. 6.7; Tables 2 and 6 have 0.73 and 0.27: one unit of the exponent and rounding to two digits
            assert math.log10(grown) == pytest.approx(math.log10(printed), abs=0.01 + math.log10(1.85 / 1.8))
        else:
            assert grown == pytest.approx(printed, abs=0.15)  # 10**0.49 to 10**0.51 are 3.09 to 3.24
    assert name == "kaplan" or f"{large[0] / small[0]:.1f}" in {"3.1", "3.2"}


@pytest.mark.parametrize("params", [key for key in GOLDEN["larger_models"] if key != "source"])
def test_budgets_of_larger_models_in_gophers(params):
    times = float(frontier(law("hoffmann1"), params=float(params)).flops) / GOPHER
    assert f"{times:.1f}" == str(GOLDEN["larger_models"][params])


def test_520_billion_params_take_sixty_gophers_and_a_trillion_more_than_two_hundred():
    assert round(float(frontier(law("hoffmann1"), params=520e9).flops) / GOPHER, -1) == 60
    for name in HOFFMANN:
        assert float(frontier(law(name), params=1e12).flops) / GOPHER > 200


def test_all_models_of_table_1_but_chinchilla_are_too_large_for_their_budget(shared):
    rows = {row["model"]: (float(row["params"]), float(row["training_tokens"])) for row in table(shared, "table1_current_llms")}
    for name in HOFFMANN:
        for model, (params, tokens) in rows.items():
            best, for_best = optimum(name, 6 * params * tokens)
            if model == "Chinchilla":
                assert 1.0 < params / best < (1.05 if name == "hoffmann1" else 1.1 if name == "hoffmann2" else 1.75)
            else:
                assert params > 2 * best  # LaMDA least, by Approach 1
                assert tokens < for_best / 2
    assert 6 * math.prod(rows["Gopher"]) == pytest.approx(GOPHER, rel=0.13)  # 6ND gives 5.04e23, the paper's own count 5.76e23
    assert 6 * math.prod(rows["Chinchilla"]) == pytest.approx(GOPHER, rel=0.03)


def test_four_times_smaller_than_gopher_at_its_budget():
    """The paper's opening: Chinchilla has a quarter of Gopher's params and over four times its tokens."""
    params, tokens = optimum("hoffmann1", GOPHER)
    assert 280e9 / params == pytest.approx(4, rel=0.05)
    assert tokens / 300e9 > 4


def test_the_constants_of_approach_3_are_those_of_the_source(shared):
    values = {row["quantity"]: float(row["value"]) for row in table(shared, "approach3_unrounded_constants")}
    found = law("hoffmann3")
    assert (found.alpha, found.beta) == (values["alpha"], values["beta"])
    assert [math.log(x) for x in (found.A, found.B, found.E)] == pytest.approx([values["a=log A"], values["b=log B"], values["e=log E"]], rel=1e-12)
    printed = {row["quantity"]: row["value"] for row in table(shared, "approach3_fit_constants")}
    rough = law("hoffmann3-printed")
    assert all(getattr(rough, name) == float(printed[name]) for name in ("E", "A", "B", "alpha", "beta"))
    for name in ("E", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(rough, name), abs=0.0051)


def test_table_a3_is_not_what_approach_3_says(shared):
    """Trap: up to 18 % in compute; the recomputed values are checked to their digits."""
    ratios = []
    for row in table(shared, "approach3_closed_form_vs_tableA3"):
        best = frontier(law("hoffmann3"), params=float(row["params"]))
        assert float(best.flops) == pytest.approx(float(row["closed_form_flops_unrounded"]), rel=6e-4)
        assert float(best.tokens) == pytest.approx(float(row["closed_form_tokens"]), rel=6e-4)
        ratios.append(float(best.flops) / float(frontier(law("hoffmann3-table"), params=float(row["params"])).flops))
    assert 1.05 < min(ratios) < max(ratios) == pytest.approx(1.18, abs=0.005)


def test_rounded_constants_move_the_optimum_from_40_to_32_billion():
    golden = GOLDEN["rounded_trap"]
    params, tokens = optimum("hoffmann3-printed", GOPHER)
    assert params == pytest.approx(golden["params"], rel=golden["tolerance"])
    assert tokens / params == pytest.approx(golden["tokens_per_param"], rel=golden["tolerance"])


@pytest.mark.parametrize("name", ["kaplan", "hoffmann1"])
def test_the_head_to_head_of_appendix_d4(name):
    golden = GOLDEN["head_to_head"]
    assert optimum(name, golden["flops"])[0] == pytest.approx(golden[name], rel=golden["tolerance"])


# --- others -----------------------------------------------------------------------------------------------------------------------------------------------


def test_kaplans_frontier_at_one_pf_day():
    golden = GOLDEN["kaplan"]
    best = law("kaplan").optimum(golden["flops"])
    assert (float(best.params), float(best.tokens)) == pytest.approx((golden["params"], golden["tokens"]))
    assert float(best.loss) == pytest.approx(golden["loss"], rel=1e-4)  # as many digits as are typed
    assert golden["flops"] == kaplan.SPENT * kaplan.PF_DAY


def test_kaplans_exponents_through_a_given_optimum_keep_it():
    best = kaplan.through(1e20, 1e9, 2e10).optimum([1e20, 1e21])
    assert best.params[0] == 1e9
    assert best.tokens[0] == 2e10
    assert best.params[1] / best.params[0] == pytest.approx(10**0.73)


def test_besiroglu_has_about_twenty_tokens_a_param():
    golden = GOLDEN["besiroglu"]
    params, tokens = optimum("besiroglu", golden["flops"])
    assert tokens / params == pytest.approx(golden["tokens_per_param"], rel=golden["tolerance"])
    assert law("besiroglu").a == pytest.approx(golden["a"], abs=5e-5)
    for interval in one("besiroglu").intervals:
        assert interval.low < getattr(law("besiroglu"), interval.quantity) < interval.high
        # percentiles of resamples, about as wide as their standard error says: 1.96 of it to each side
        assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(golden["standard_errors"][interval.quantity], rel=0.1)
    params, tokens = optimum("besiroglu", GOPHER)
    assert abs(math.log(70e9 / params)) < 0.06  # the caution's 6 %
    assert abs(math.log(1.4e12 / tokens)) < 0.06


def figure_4(shared: Path) -> dict[str, np.ndarray]:
    with (shared / "data" / "runs" / "hoffmann2022_figure4.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["in_published_fit"] == "True"]
    return {name: np.array([float(row[name]) for row in rows]) for name in ("params", "tokens", "loss")}


@pytest.mark.parametrize("name", ["besiroglu", "hoffmann3"])
def test_laws_fitted_to_figure_4_hold_on_its_points(shared, name):
    runs = figure_4(shared)
    off = np.log(law(name).loss(runs["params"], runs["tokens"]) / runs["loss"])
    # losses are read off colours to about 0.01 nats, 0.4 % of their median: the median error is below that, and 1 % of E, alpha or beta makes it more
    assert len(off) == 240
    assert 0.01 / np.median(runs["loss"]) == pytest.approx(0.004, abs=5e-4)
    assert np.median(np.abs(off)) < 0.004
    flops = 6 * runs["params"] * runs["tokens"]
    assert one(name).fitted_flops == (rounded(flops.min(), 2), rounded(flops.max(), 2))


def test_besiroglus_printed_digits_reach_the_objective_of_all_their_digits(shared):
    """Sum of Huber's loss of log loss; printed digits cost 0.4 % of it, and one per cent of E, alpha or beta costs more than half."""
    golden, runs = GOLDEN["besiroglu"], figure_4(shared)
    assert {name: getattr(law("besiroglu"), name) for name in golden["constants"]} == golden["constants"]
    off, delta = np.abs(np.log(law("besiroglu").loss(runs["params"], runs["tokens"]) / runs["loss"])), golden["delta"]
    objective = np.where(off < delta, off**2 / 2, delta * (off - delta / 2)).sum()
    assert objective == pytest.approx(golden["objective"], rel=0.005)


def test_llama3_extrapolates_to_what_the_paper_prints_and_its_rounded_constants_do_not():
    golden = GOLDEN["llama3"]
    assert optimum("llama3", golden["flops"]) == pytest.approx((golden["params"], golden["tokens"]))
    # the law's own constants, cut off to two digits, are the text's
    alpha = law("llama3").b
    assert math.floor(alpha * 100) / 100 == golden["alpha"]
    assert math.floor(golden["tokens"] / golden["flops"] ** alpha * 100) / 100 == golden["A"]
    assert golden["A"] * golden["flops"] ** golden["alpha"] == pytest.approx(golden["tokens_by_the_text"], rel=0.01)


@pytest.mark.parametrize("flops", [1e17, 3e20, 1e24])
def test_deepseek_counts_flops_a_token(flops):
    golden = GOLDEN["deepseek"]
    params, tokens = optimum("deepseek", flops)
    assert 6 * params == pytest.approx(golden["m"] * flops ** golden["m_exponent"])
    assert tokens == pytest.approx(golden["d"] * flops ** golden["d_exponent"])
    assert 6 * params * tokens == pytest.approx(flops, rel=3e-4)  # as the printed constants multiply to 1.0001


def test_better_data_ask_deepseek_for_larger_models():
    assert one("deepseek-early").a < one("deepseek").a < one("deepseek-openwebtext2").a
    assert all(one(name).a + one(name).b == pytest.approx(1) for name in ("deepseek-early", "deepseek", "deepseek-openwebtext2"))


def test_porians_steps_lead_from_kaplan_to_hoffmann():
    golden = GOLDEN["porian"]
    steps = ("porian-head", "porian-warmup", "porian-cosine", "porian-tuned")
    sizes = [optimum(name, golden["flops"])[0] for name in steps]
    assert sizes == pytest.approx([golden[name] for name in steps])
    assert sizes[-1] == pytest.approx(optimum("hoffmann1", golden["flops"])[0], rel=0.15)
    assert [one(name).a for name in ("porian-kaplan", *steps)] == sorted((one(name).a for name in ("porian-kaplan", *steps)), reverse=True)
    for fit in published.get("porian"):
        (interval,) = fit.intervals
        assert interval.low < fit.a < interval.high


def test_porians_sweeps_agree_with_the_sizes_that_they_print(shared):
    """The lowest run of each budget is within the spacing of the sizes of the law at that budget."""
    lowest: dict[str, dict[float, tuple[float, float]]] = {"porian-head": {}, "porian-cosine": {}}
    configs = {"rw/base/long/kaplan/standard/val": "porian-head", "rw/base/short/chinchilla/standard/val": "porian-cosine"}
    with (shared / "data" / "runs" / "porian2024_isoflop.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["config"] in configs:
                best = lowest[configs[row["config"]]]
                best[float(row["flops"])] = min(best.get(float(row["flops"]), (math.inf, 0.0)), (float(row["loss"]), float(row["params"])))
    for name, best in lowest.items():
        off = [math.log(params / optimum(name, flops)[0]) for flops, (_, params) in best.items()]
        assert len(off) == 12
        assert abs(sum(off) / len(off)) < 0.15  # sizes are 1.5 apart; the mean of twelve knows the law to 1.5**0.5 / sqrt(12)
        assert sum(abs(x) > math.log(1.6) for x in off) <= 1  # the smallest budget's lowest run may be the next size but one


def repeated(unique_tokens: float) -> DataConstrained:
    return dataclasses.replace(law("muennighoff"), unique_tokens=unique_tokens)


def test_muennighoff_without_a_limit_is_one_epoch():
    golden = GOLDEN["muennighoff_single_epoch"]
    params, tokens = optimum("muennighoff", 1e21)
    assert params / tokens == pytest.approx(golden["params_per_token"], rel=golden["tolerance"])


def test_four_epochs_are_nearly_as_good_as_unique_tokens():
    golden = GOLDEN["muennighoff_four_epochs"]
    unique, again = (float(repeated(u).loss(golden["params"], golden["tokens"])) for u in (golden["tokens"], golden["unique_tokens"]))
    assert again / unique - 1 == pytest.approx(golden["excess_loss"], abs=golden["tolerance"])


def test_repetition_pays_less_with_every_epoch_and_in_the_end_nothing():
    unique, epochs = 1e10, (1, 2, 4, 8, 16, 32, 64, 1000, 2000)
    # params at their optimum for the unique tokens, so that none are in excess
    losses = [float(repeated(unique).loss(0.05 * unique, unique * k)) for k in epochs]
    assert losses == sorted(losses, reverse=True)
    gains = [before - after for before, after in itertools.pairwise(losses)]
    assert gains[-1] < 1e-9 * gains[0]
    # R_D + 1 unique data sets is what all repetition is worth
    assert losses[-1] == pytest.approx(float(law("muennighoff").loss(0.05 * unique, unique * (1 + 15.387756))), rel=1e-9)


def test_few_unique_tokens_ask_for_smaller_models_and_more_epochs():
    golden = GOLDEN["muennighoff_allocation"]
    free, limited = law("muennighoff").optimum(golden["flops"]), repeated(golden["unique_tokens"]).optimum(golden["flops"])
    assert float(free.params) == pytest.approx(golden["unlimited_params"], rel=golden["tolerance"])
    assert float(free.tokens) == pytest.approx(golden["unlimited_tokens"], rel=golden["tolerance"])
    assert float(limited.params) == pytest.approx(golden["params"], rel=golden["tolerance"])
    assert float(limited.tokens) == pytest.approx(golden["tokens"], rel=golden["tolerance"])
    chosen, chinchillas = (repeated(golden["unique_tokens"]).loss(golden[f"{k}params"], golden[f"{k}tokens"]) for k in ("", "unlimited_"))
    assert chosen < chinchillas  # as the runs came out: 2.359 against 2.376


def test_gadres_constants_miss_the_largest_runs_as_the_authors_print(shared):
    golden, found = GOLDEN["gadre"], law("gadre-redpajama")
    with (shared / "data" / "runs" / "gadre2024_overtraining.csv").open(encoding="utf-8") as file:
        runs = [(float(r["params"]), float(r["tokens"]), float(r["loss_c4_val"])) for r in csv.DictReader(file) if r["dataset"] == "rpj"]
    for size, wanted in (("1.4B", max(runs, key=lambda run: run[1])), ("6.9B", max(runs))):
        params, tokens, loss = wanted
        assert abs(float(found.loss(params, tokens)) / loss - 1) == pytest.approx(golden[size], abs=golden["tolerance"])


CORPORA = {"gadre-c4": "c4_original", "gadre-redpajama": "rpj", "gadre-refinedweb": "rw_original"}
TWENTY, MANY = 1.0, 16.0  # multiples of 20 tokens a param
FITTED = {(10_569_312, TWENTY), (78_914_048, TWENTY), (153_677_376, TWENTY), (411_616_256, TWENTY), (10_569_312, MANY)}


def gadres_runs(shared: Path, name: str) -> list[dict[str, str]]:
    with (shared / "data" / "runs" / "gadre2024_overtraining.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["dataset"] == CORPORA[name]]


@pytest.mark.parametrize("name", CORPORA)
def test_gadres_constants_are_least_squares_of_five_runs(shared, name):
    """The authors' procedure, with SciPy's curve_fit: every digit that is given comes out."""
    runs = [r for r in gadres_runs(shared, name) if (int(r["params"]), float(r["multiplier"])) in FITTED]
    params, tokens, loss = (np.array([float(r[key]) for r in runs]) for key in ("params", "tokens", "loss_c4_val"))

    def printed(C_M, E, over, under, eta):
        C, M = C_M
        return E + (over * M**eta + under * M**-eta) * C**-eta  # Gadre et al. 2024, Eq. 4

    C, M = 6 * params * tokens, tokens / params
    found, _ = optimize.curve_fit(printed, (C, M), loss, p0=(1.5, 100, 100, 0.1), maxfev=100_000, xtol=1e-14, ftol=1e-14)
    assert len(runs) == 5
    constants = [getattr(law(name), constant) for constant in ("E", "over", "under", "eta")]
    assert constants == pytest.approx(list(found), rel=2e-6)  # seven digits
    assert one(name).fitted_flops == (rounded(C.min(), 2), rounded(C.max(), 2))


@pytest.mark.parametrize(("name", "percent"), [("gadre-c4", "4.3"), ("gadre-redpajama", "0.7"), ("gadre-refinedweb", "1.6")])
def test_gadres_laws_miss_their_largest_run_by_what_their_cautions_say(shared, name, percent):
    largest = max(gadres_runs(shared, name), key=lambda run: float(run["flops"]))
    off = float(law(name).loss(float(largest["params"]), float(largest["tokens"]))) / float(largest["loss_c4_val"]) - 1
    assert f"{abs(off):.1%}" == f"{percent}%"
    assert f"{percent} %" in one(name).cautions[0]


@pytest.mark.parametrize(
    ("name", "dataset", "off"), [("gadre-c4", "c4_original", 0.025), ("gadre-redpajama", "rpj", 0.025), ("gadre-refinedweb", "rw_original", 0.02)]
)
def test_gadres_laws_hold_for_runs_that_they_were_not_fitted_to(shared, name, dataset, off):
    """Runs from 20 tokens a param on; below lies outside what was tuned."""
    with (shared / "data" / "runs" / "gadre2024_overtraining.csv").open(encoding="utf-8") as file:
        runs = [r for r in csv.DictReader(file) if r["dataset"] == dataset and float(r["tokens"]) / float(r["params"]) > 19]
    errors = [abs(float(law(name).loss(float(r["params"]), float(r["tokens"]))) / float(r["loss"]) - 1) for r in runs]
    assert len(errors) > 20
    assert sum(errors) / len(errors) < off


def test_gadres_own_optimum_lies_outside_its_data():
    """Trap: it was fitted at 20 tokens a param and more."""
    for fit in published.get("gadre"):
        params, tokens = optimum(fit.name, 1e21)
        assert tokens / params < 10


@pytest.mark.parametrize("flops", [key for key in GOLDEN["cerebras"] if key not in {"source", "tolerance"}])
def test_cerebras_loss_is_that_of_its_models(flops):
    golden = GOLDEN["cerebras"]
    assert float(law("cerebras").optimum(float(flops)).loss) == pytest.approx(golden[flops], rel=golden["tolerance"])


def test_one_sweep_of_nanochat_has_three_exponents(shared):
    counted = {"kaplan_style": "nanochat-kaplan", "chinchilla_style_all": "nanochat-all", "transformer_only": "nanochat-transformer"}
    with (shared / "data" / "runs" / "nanochat2026_optima.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found = optimum(counted[row["param_count"]], float(row["flops"]))
            # the third optimum of the last count lies 8 % off any line through the four, and exponents are printed with two digits
            assert found == pytest.approx((float(row["params_opt"]), float(row["tokens_opt"])), rel=0.1)
    assert one("nanochat-all").a < one("nanochat-kaplan").a < one("nanochat-transformer").a


@pytest.mark.parametrize(
    ("name", "counted"), [("nanochat-kaplan", "kaplan_style"), ("nanochat-all", "chinchilla_style_all"), ("nanochat-transformer", "transformer_only")]
)
def test_nanochats_law_is_the_logs_exponents_through_the_mean_of_its_optima(shared, name, counted):
    with (shared / "data" / "runs" / "nanochat2026_optima.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["param_count"] == counted]
    C, N, D = (np.log([float(row[key]) for row in rows]) for key in ("flops", "params_opt", "tokens_opt"))
    best = law(name).optimum(math.exp(C.mean()))
    assert rounded(float(best.params), 4) == rounded(math.exp(N.mean()), 4)
    assert rounded(float(best.tokens), 4) == rounded(math.exp(D.mean()), 4)
    # a line through the four optima is up to 0.02 flatter than what the log prints (0.524, 0.366, 0.681; 0.479, 0.490, 0.397): how it was drawn is not said
    assert (one(name).a, one(name).b) == pytest.approx((np.polyfit(C, N, 1)[0], np.polyfit(C, D, 1)[0]), abs=0.02)
    assert one(name).fitted_flops == pytest.approx((math.exp(C.min()), math.exp(C.max())))


def test_kaplans_range_is_that_of_its_smallest_and_largest_model_over_all_steps():
    """Kaplan et al. 2020, Sec. 2: 768 to 1.5B params, 2.5e5 steps of 512 sequences of 1024 tokens."""
    assert kaplan.FITS[0].fitted_flops == tuple(rounded(6 * params * 2.5e5 * 512 * 1024, 2) for params in (768, 1.5e9))


def test_porians_range_is_that_of_its_budgets(shared):
    with (shared / "data" / "runs" / "porian2024_isoflop.csv").open(encoding="utf-8") as file:
        budgets = {float(row["flops"]) for row in csv.DictReader(file)}
    assert all(fit.fitted_flops == (min(budgets), max(budgets)) for fit in published.get("porian"))


def test_minicpms_printed_means_do_not_give_its_ratio():
    """Trap: K squared 0.01 and eta -0.10 are means of several fits; together they are not 192 tokens a param."""
    assert one("minicpm").law is None
    assert 1 / (0.01 * (1e21 / 6) ** -0.10) > 5000
    assert one("minicpm").a == pytest.approx(0.44, abs=0.005)
