"""The search finds a known optimum and says how well; what it finds goes into the study and changes nothing else there."""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import isoflop
from isoflop import cli, design, tune
from isoflop import study as studies
from isoflop.design import Text
from isoflop.errors import FitError, StudyError, UsageError
from isoflop.report import tuning as words
from isoflop.runs import Clock, RunRecord
from isoflop.store import Store
from isoflop.study import Study, Tuned
from isoflop.tune import _curve, _search, _write

TEXT = Text(digest="d", vocab=256, train_tokens=10_000_000, val_tokens=500_000)
STUDY = Study(name="s", budgets=(1.5e11, 3e11, 6e11, 1.2e12, 2.4e12), target=7.2e12)
TUNED = Tuned(base="small", scale=1.25, width=24.0, power=-0.5)
FILE = """\
# what it is for
name = "tiny"   # its folder
corpus = [
  "text.txt",
]
budgets = ["1e8", "2e8", "4e8"]
target = "1.2e9"

# the fight
[proof]
oversize = 2.0
"""


def searched(loss) -> dict[int, float]:
    """All that the search tries, where the loss is a function of octaves from the recipe's rate."""
    tried: dict[int, float] = {}
    while asked := _search.wanted(tried):
        assert not set(asked) & set(tried)
        tried |= {step: loss(step / 2) for step in asked}
    return tried


# --- the search


@given(optimum=st.floats(-3, 3), depth=st.floats(0.001, 1))
def test_the_optimum_of_a_parabola_is_found_exactly(optimum, depth):
    tried = searched(lambda x: 2 + depth * (x - optimum) ** 2)
    (best,) = _curve.bests([tried])
    assert best.rate == pytest.approx(optimum, abs=1e-6)  # of octaves; the normal matrix of five points loses half of the digits
    assert not best.at_edge
    assert abs(_search.best(tried) / 2 - optimum) <= 0.5


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_the_search_ends_within_the_runs_that_the_price_names(optimum, cliff):
    tried = searched(lambda x: math.inf if x > cliff else (x - optimum) ** 2)
    assert len(tried) <= tune.MOST
    assert all(abs(step) <= _search.LIMIT for step in tried)


def test_a_rate_near_the_recipes_takes_the_usual_number_of_runs():
    assert len(searched(lambda x: (x - 0.1) ** 2)) == _search.USUAL


def test_an_optimum_beyond_what_may_be_tried_is_at_the_edge():
    assert _search.at_edge(searched(lambda x: (x - 9) ** 2))
    assert _search.at_edge(searched(lambda x: (x + 9) ** 2))
    assert not _search.at_edge(searched(lambda x: (x - 3) ** 2))


def test_where_all_diverge_lower_rates_are_tried_to_the_end():
    tried = searched(lambda _: math.inf)
    assert min(tried) == -_search.LIMIT
    assert _search.at_edge(tried)


def test_a_diverged_run_is_no_point_of_the_parabola():
    tried = searched(lambda x: math.inf if x > 0.6 else 2 + 0.1 * (x - 0.2) ** 2)
    assert math.inf in tried.values()
    assert _curve.bests([tried])[0].rate == pytest.approx(0.2, abs=1e-6)


def test_the_error_of_the_best_rate_is_as_large_as_its_scatter():
    """One standard error holds the truth as often as Student's t of four degrees of freedom has it, 63 %; four in a thousand draws are 1.5 % apart."""
    draw, inside = np.random.default_rng(0), []
    for _ in range(1000):
        noisy = [searched(lambda x: 2 + 0.03 * (x - 0.15) ** 2 + draw.normal(scale=0.002)) for _ in range(2)]
        found = _curve.bests(noisy)
        if all(len(tried) == 5 and set(tried) == {-2, -1, 0, 1, 2} for tried in noisy):  # another window has another shape
            inside += [abs(b.rate - 0.15) <= b.error for b in found]
    assert len(inside) > 1500
    assert 0.58 < np.mean(inside) < 0.68


def test_sizes_that_lie_further_apart_than_their_errors_widen_the_interval():
    apart = _curve.trend((16, 32, 64), [_best(0.0, 0.1), _best(1.0, 0.1), _best(0.0, 0.1)])
    assert apart.power == 0
    assert apart.error == pytest.approx(0.1 / math.sqrt(3) * math.sqrt(100 * 2 / 3 / 2))  # chi-squared of 200/3 on two degrees of freedom


def test_a_clear_trend_with_size_is_kept_and_an_unclear_one_is_not():
    widths = (16, 64)
    clear = _curve.trend(widths, [_best(0.8, 0.05), _best(-0.2, 0.05)])
    assert clear.power == pytest.approx(-0.5)
    assert clear.width == pytest.approx(32)
    assert clear.rate == pytest.approx(0.3)
    unclear = _curve.trend(widths, [_best(0.8, 0.5), _best(-0.2, 0.5)])
    assert unclear.power == 0
    assert (unclear.rate, unclear.error) == (pytest.approx(0.3), pytest.approx(0.5))  # of two that differ by twice that


def _best(rate: float, error: float) -> _curve.Best:
    return _curve.Best(rate=rate, error=error, at_edge=False)


# --- where


@pytest.mark.parametrize(
    "values", [{}, {"design": "horizons", "target": 3e13}, {"design": "cooldown"}, {"sizes": (8, 24, 48)}, {"budgets": (1e11, 1.01e11, 1e12)}]
)
@pytest.mark.parametrize("sizes", [2, 3])
def test_rates_are_tried_at_the_smallest_budgets_at_growing_sizes_of_the_design(values, sizes):
    study = Study.model_validate(STUDY.model_dump() | values)
    at = tune.sites(study, TEXT, sizes=sizes)
    assert [site.budget for site in at] == list(study.budgets[:sizes])
    params = [site.shape.params.total for site in at]
    assert params == sorted(set(params))
    assert {site.shape for site in at} <= {spec.shape for spec in design.design(study, TEXT).specs}


def test_the_run_at_the_recipes_own_rate_is_the_designs_but_for_its_group():
    (site, _) = tune.sites(STUDY, TEXT)
    (own,) = [s for s in design.design(STUDY, TEXT).specs if (s.shape, s.budget, s.group) == (site.shape, site.budget, "isoflop")]
    assert tune.spec(STUDY, TEXT, site, 0) == own.model_copy(update={"group": "tune"})
    assert tune.spec(STUDY, TEXT, site, 2).lr == pytest.approx(2 * own.lr, rel=1e-5)


@pytest.mark.parametrize("sizes", [0, 1, 4])
def test_another_number_of_sizes_is_refused(sizes):
    with pytest.raises(UsageError, match="two show how"):
        tune.sites(STUDY, TEXT, sizes=sizes)


# --- from records


def record(spec, loss: float | None) -> RunRecord:
    return RunRecord(
        id=spec.id, spec=spec, status="diverged" if loss is None else "ok", loss=loss, bits_per_byte=None, params=spec.shape.params, tokens=spec.tokens,
        flops=spec.flops, epochs=1.0, clock=Clock(seconds=1, finished="", attempt=1, device="", versions={}),
    )  # fmt: skip


def simulated(study: Study, loss, *, sizes: int = 2) -> tune.Tuning:
    """A search whose runs end at a loss that is a function of the rate and the width."""
    at, records = tune.sites(study, TEXT, sizes=sizes), []
    while left := [spec for spec in tune.asked(study, TEXT, at, records) if spec.id not in {r.id for r in records}]:
        records += [record(spec, loss(spec)) for spec in left]
    return tune.read(study, TEXT, at, records)


@pytest.mark.parametrize("sizes", [2, 3])
def test_a_study_trained_by_what_was_found_has_the_best_rates(sizes):
    def best(spec) -> float:
        """Another scale and another power of the width than the recipe's."""
        return 0.42 / spec.shape.d_model * math.sqrt(spec.batch / 1024) * (spec.shape.d_model / 24) ** -0.4

    def loss(spec) -> float:
        return 2 + 0.1 * math.log2(spec.lr / best(spec)) ** 2

    found = simulated(STUDY, loss, sizes=sizes)
    tuned = STUDY.model_copy(update={"recipe": found.recipe})
    for size in found.sizes:
        trained = tune.spec(tuned, TEXT, size.site, 0)
        assert trained.lr == pytest.approx(best(trained), rel=0.002)  # the recipe is written with three to four digits
        assert size.lr_best == pytest.approx(best(trained), rel=1e-4)
    again = simulated(tuned, loss, sizes=sizes)
    assert again.trend.rate == pytest.approx(0, abs=0.01)
    assert again.recipe.correction(30) == pytest.approx(found.recipe.correction(30), rel=0.02)


def test_the_order_in_which_runs_finish_changes_nothing():
    at = tune.sites(STUDY, TEXT)
    found = simulated(STUDY, lambda spec: 2 + math.log2(spec.lr / 0.01) ** 2)
    specs = [tune.spec(STUDY, TEXT, size.site, round(2 * math.log2(times))) for size in found.sizes for times in size.losses]
    records = [record(spec, 2 + math.log2(spec.lr / 0.01) ** 2) for spec in specs]
    assert tune.read(STUDY, TEXT, at, records[::-1]) == tune.read(STUDY, TEXT, at, records) == found


def test_an_optimum_at_the_edge_is_refused_with_the_estimate():
    with pytest.raises(FitError, match=r"width \d+ at 1.5e11 FLOPs is 16 times the recipe's.*Set lr_scale 16 times"):
        simulated(STUDY, lambda spec: -spec.lr)


def test_where_no_run_finishes_it_is_said_how_far_down_was_tried():
    with pytest.raises(FitError, match=r"down to 0\.0625 times the recipe's rate"):
        simulated(STUDY, lambda _: None)


def test_a_diverged_rate_is_shown_as_such():
    found = simulated(STUDY, lambda spec: None if spec.lr > 0.3 / spec.shape.d_model else 2 + math.log2(spec.lr * spec.shape.d_model / 0.15) ** 2)
    assert "diverged" in {str(cell) for row in words.table(found).rows for cell in row.cells}
    assert json.dumps(words.values(found))
    assert "times the recipe's" in words.sentence(found)


# --- into the file


def written(folder: Path, text: str) -> Path:
    (folder / "study.toml").write_bytes(text.encode())
    return folder / "study.toml"


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        FILE.replace("\n", "\r\n"),
        FILE.split("\n[proof]", maxsplit=1)[0],
        FILE.split("\n\n# the fight", maxsplit=1)[0],
        FILE.replace("target", 'recipe = "steplaw"  # as Li et al.\ntarget'),
        FILE.replace("target", "  'recipe' = {base = 'small', scale = 2.0, width = 8.0}\ntarget"),
    ],
)
def test_only_the_recipe_changes_in_the_file(tmp_path, text):
    path = written(tmp_path, text)
    study = studies.load(path)
    _write.into(path, study, TUNED, comment="measured")
    assert studies.load(path) == study.model_copy(update={"recipe": TUNED})
    before, after = text.splitlines(keepends=True), path.read_bytes().decode().splitlines(keepends=True)
    kept = [line for line in before if "recipe" not in line]
    assert [line.rstrip("\r\n") for line in after if "recipe" not in line and "isoflop tune" not in line] == [line.rstrip("\r\n") for line in kept]
    assert sum("# isoflop tune, measured" in line for line in after) == 1
    assert ("# as Li et al." in text) == any("# as Li et al." in line for line in after)
    assert all(line.endswith("\r\n") == text.count("\r\n").__bool__() for line in after[:-1])


def test_a_second_tuning_takes_the_place_of_the_first(tmp_path):
    path = written(tmp_path, FILE)
    _write.into(path, studies.load(path), TUNED, comment="first")
    _write.into(path, studies.load(path), TUNED.model_copy(update={"scale": 3.0}), comment="second")
    text = path.read_text()
    assert "first" not in text
    assert text.count("isoflop tune") == 1
    assert studies.load(path).recipe.scale == 3.0


@pytest.mark.parametrize(
    "text", [FILE + '[recipe]\nbase = "small"\nscale = 1.0\nwidth = 8.0\n', 'recipe.base = "small"\nrecipe.scale = 1.0\nrecipe.width = 8\n' + FILE]
)
def test_a_recipe_that_is_no_line_is_refused_with_the_line_to_set(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(StudyError, match=r"no line can be exchanged.*recipe = \{base"):
        _write.into(path, studies.load(path), TUNED, comment="measured")
    assert path.read_text() == text


def test_a_study_that_was_changed_meanwhile_is_left_alone(tmp_path):
    path = written(tmp_path, FILE)
    study = studies.load(path)
    path.write_text(FILE.replace("1.2e9", "1.3e9"))
    with pytest.raises(StudyError, match="was changed while"):
        _write.into(path, study, TUNED, comment="measured")


def test_a_link_stays_a_link(tmp_path):
    path = written(tmp_path, FILE)
    (tmp_path / "link.toml").symlink_to(path)
    _write.into(tmp_path / "link.toml", studies.load(tmp_path / "link.toml"), TUNED, comment="measured")
    assert (tmp_path / "link.toml").is_symlink()
    assert studies.load(path).recipe == TUNED


# --- for real


def typed(capsys, *line: object) -> tuple[int, str, str]:
    """A command in this process: its status, and what it printed."""
    before, sys.argv = sys.argv, ["isoflop", *map(str, line)]
    try:
        cli.main()
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    finally:
        sys.argv = before
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.fixture
def place(study, tmp_path) -> Path:
    """A folder with a text and a study of about a hundred steps a run."""
    shutil.copy(study.parent / "text.txt", tmp_path / "text.txt")
    text = study.read_text()
    for old, new in (
        ('["5e8", "1e9", "2e9"]', '["2.5e7", "5e7", "1e8"]'),
        ("[8, 12, 16, 20]", "[4, 6, 8]"),
        ('target = "6e9"', 'target = "3e8"'),
        ("eval_tokens = 4096", "eval_tokens = 1024"),
    ):
        assert old in text
        text = text.replace(old, new)
    return written(tmp_path, text).parent


def test_tune_trains_writes_the_study_and_goes_on_where_it_was(place, capsys):
    line = ("tune", place / "study.toml", "--folder", place / "kept", "--launcher", "inline")
    work = isoflop.open(place / "study.toml", folder=place / "kept")
    sweep = work.design().specs
    with Store(work.folder) as store:
        store.add(sweep)
    status, out, err = typed(capsys, *line, "--no-write")
    assert (status, "Traceback" in err) == (0, False), err
    assert "% of the study's" in out
    assert "recipe = {base" in out
    with Store(work.folder) as store:
        records = store.records()
        assert {row.id for row in store.rows() if row.current} >= {spec.id for spec in sweep}  # the sweep is as it was
    assert {r.spec.group for r in records} == {"tune"}
    assert studies.load(place / "study.toml").recipe == "small"
    again, said, err = typed(capsys, *line)
    assert again == 0
    assert "to train" not in err  # nothing a second time
    assert "the first are trained already" in said
    assert said.splitlines()[-1] == out.splitlines()[-1]
    recipe = studies.load(place / "study.toml").recipe
    assert isinstance(recipe, Tuned)
    assert f"recipe = {recipe.toml}" in said
    assert "next: isoflop design" in err


def test_a_dry_run_trains_nothing(place, capsys):
    status, out, _ = typed(capsys, "tune", place / "study.toml", "--folder", place / "kept", "--dry-run")
    assert status == 0
    assert "10 runs" in out
    assert not (place / "kept/runs").exists()


def test_bad_words_are_refused(place, capsys):
    assert typed(capsys, "tune", place / "study.toml", "--sizes", "5")[0] == 2
    assert typed(capsys, "tune", place / "none.toml")[0] == 2
    assert typed(capsys, "tune", place / "study.toml", "--launcher", "pol")[0] == 2
