"""`isoflop fit RUNS`, `isoflop plan --fit FILE` and the tutorial: what a person meets who has runs and no study."""

import contextlib
import functools
import io
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from isoflop import cli, readers, units
from isoflop.fit import APPROACHES, parametric
from isoflop.fit.limits import Limits
from isoflop.laws.chinchilla import Chinchilla
from isoflop.report import limits

ROOT = Path(__file__).parents[1]
LAW = Chinchilla(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)


def asked(*words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isoflop", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()


def refused(status: int, *words: object) -> str:
    found, out, err = asked(*words)
    assert (found, out) == (status, ""), err
    assert "Traceback" not in err
    return " ".join(err.split())


def refused_in_json(status: int, *words: object) -> str:
    """The reason of an error, which stands on stdout as JSON where --json is given, and on stderr."""
    found, out, err = asked(*words)
    said = json.loads(out)
    assert (found, said["answer"]) == (status, None), err
    assert "Traceback" not in err
    assert flat(said["reason"]) in flat(err)
    return flat(err)


def flat(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def table(unit: str = "loss") -> str:
    """28 runs at four budgets, 0.2 % of noise; one of them without a loss."""
    budget = np.repeat([1e17, 3e17, 1e18, 3e18], 7)
    params = LAW.optimum(budget).params * np.tile(np.geomspace(0.25, 4.0, 7), 4)
    tokens = budget / (6 * params)
    loss = LAW.loss(params, tokens) * np.exp(np.random.default_rng(0).normal(scale=0.002, size=28))
    rows = [f"{n:.0f},{d:.0f},{c:g},{x:.5f},{c < 2e18}" for n, d, c, x in zip(params, tokens, budget, loss, strict=True)]
    return "\n".join([f"params,tokens,flops,{unit},lower", *rows, "1e7,1e9,6e16,nan,True"]) + "\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    path.write_text(table())
    return path


@pytest.fixture(scope="module")
def kept(runs) -> Path:
    path = runs.parent / "fits.json"
    status, _, err = asked("fit", runs, "--resamples", "40", "--out", path)
    assert status == 0, err
    return path


@pytest.fixture(scope="module")
def said(kept) -> dict:
    return json.loads(kept.read_text())


def test_a_file_of_runs_is_fitted_and_the_answer_is_in_words(runs):
    status, out, err = asked("fit", runs, "--resamples", "40")
    assert status == 0, err
    words = flat(out)
    assert "With 3e19 FLOPs, train a model of about" in words  # ten times the largest run
    assert "Expect a loss of" in words
    assert "10 times beyond the largest run" in words
    assert "Kaplan et al. 2020" in words
    assert "0.73" in words
    assert "Error of the loss" in words  # in-sample error never stands alone
    assert "29 from runs.csv" in words
    assert "kept 28" in words
    assert "envelope is left out" in flat(err)
    assert err.splitlines()[-1].startswith("next: ")


def test_the_exponents_are_those_of_the_law_that_the_runs_were_drawn_from(said):
    by = {f["approach"]: f for f in said["fits"]}
    assert list(by) == ["isoflop", "parametric"]
    for found in by.values():
        assert found["a"] == pytest.approx(LAW.a, abs=0.03)  # seven runs a budget with 0.2 % of noise; the intervals are as wide
        assert found["a_interval"][0] <= found["a"] + 0.02


def test_json_says_all_of_a_fit(said):
    assert {"runs", "level", "fits", "left_out", "holdout", "forecast", "prediction", "predictions", "disagreement", "answer"} <= set(said)
    assert {"approach", "law", "form", "constants", "a", "a_interval", "b", "b_interval", "estimator", "objective", "noise", "noise_freedom"} <= set(
        said["fits"][0]
    )
    assert {"ok", "status", "warnings", "reach_flops", "convention", "runs", "runs_digest", "unit", "dropped", "set_aside"} <= set(said["fits"][0])
    assert said["fits"][1]["form"] == "chinchilla"
    assert {"E", "A", "B", "alpha", "beta"} <= set(said["fits"][1]["constants"])
    assert [gone["approach"] for gone in said["left_out"]] == ["envelope"]
    assert said["runs"]["kept"] == 28
    assert said["runs"]["read"] == 29
    assert sum(group["runs"] for group in said["runs"]["dropped_by_reason"]) == 1
    assert said["runs"]["flops_from"] == "as given"
    low, high = said["prediction"]["loss_interval"]
    assert low < said["prediction"]["loss"] < high
    assert all(t["reach"] > 1 for t in said["holdout"])


def test_what_is_printed_as_json_is_what_is_saved(runs, kept):
    status, out, err = asked("fit", runs, "--resamples", "40", "--json")
    assert status == 0, err
    assert out == kept.read_text()  # the same seed, the same bits


def test_a_level_widens_the_intervals(runs):
    words = ["fit", runs, "--approach", "parametric", "--resamples", "60", "--json", "--level"]
    narrow, wide = (json.loads(asked(*words, level)[1])["fits"][0]["a_interval"] for level in ("0.5", "0.95"))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("number", "name"), [(2, "isoflop"), (3, "parametric")])
def test_an_approach_is_asked_by_number_or_name_and_still_shows_its_hold_out(runs, number, name):
    by_number, by_name = (json.loads(asked("fit", runs, "--approach", word, "--resamples", "9", "--json")[1]) for word in (number, name))
    assert by_number == by_name
    assert [f["approach"] for f in by_name["fits"]] == [name]
    assert by_name["holdout"]


@pytest.mark.parametrize("approach", ["2", "3"])
def test_intervals_are_made_as_asked(runs, approach):
    words = ["fit", runs, "--approach", approach, "--resamples", "20", "--json", "--intervals"]
    by_noise, by_runs = (json.loads(asked(*words, how)[1])["fits"][0] for how in ("noise", "runs"))
    assert "noise" in by_noise["intervals_by"]
    assert by_runs["intervals_by"] == "runs drawn with replacement within budgets"
    assert by_noise["a"] == by_runs["a"]
    assert by_noise["a_interval"] != by_runs["a_interval"]


def by_profile(found: dict) -> dict[str, list[float | None]]:
    (fit,) = (fit for fit in found["fits"] if fit["approach"] == "parametric")
    return {entry["quantity"]: entry["by_profile"] for entry in fit["profile_likelihood"]}


def test_limits_by_profile_likelihood_are_those_of_figure_4_without_the_runs_set_aside(shared):
    source = shared / "data/runs/hoffmann2022_figure4.csv"
    words = ["fit", source, "--approach", "3", "--resamples", "40", "--at", "5.76e23", "--level", "0.9", "--profile"]
    status, out, err = asked(*words, "--json")
    assert status == 0, err
    published = readers.read(source, where="in_published_fit")  # 240 of 245, which are those that are fitted
    fit = parametric.fit(published, resamples=0, influence=False)
    found = by_profile(json.loads(out))
    assert list(found) == ["E", "alpha", "beta", "a", "params_opt", "loss"]
    for quantity, ends in found.items():
        wanted = parametric.profile(published, fit, quantity, level=0.9, flops=5.76e23)
        assert ends == pytest.approx(wanted, rel=1e-9), quantity
    entries = {entry["quantity"]: entry for entry in json.loads(out)["fits"][0]["profile_likelihood"]}
    assert entries["params_opt"]["flops"] == 5.76e23
    assert entries["alpha"]["value"] == pytest.approx(0.347310, abs=1e-6)
    assert entries["a"]["by_resamples"] == json.loads(out)["fits"][0]["a_interval"]
    shown = asked(*words, "--markdown")[1].split("**Approach 3 by profile likelihood**")[1]
    low, high = found["alpha"]
    assert re.search(rf"\\| alpha \\| 0\\.347 \\| 0\\.\\d+ to 0\\.\\d+ \\| {low:.3f} to {high:.3f} \\|", shown)
    assert f"| best parameters at 5.76e23 FLOPs | {units.count(entries['params_opt']['value'])} | " in shown
    assert f"| {' to '.join(map(units.count, found['params_opt']))} |" in shown


@pytest.mark.parametrize(
    ("words", "kwargs"),
    [
        ([], {}),
        (["--estimator", "mse"], {"estimator": "mse"}),
        (["--delta", "0.01"], {"delta": 0.01}),
        (["--keep-all"], {}),
        (["--approach", "all", "--estimator", "lse", "--level", "0.5"], {"estimator": "lse", "level": 0.5}),
    ],
)
def test_limits_are_of_the_runs_and_the_estimator_that_were_fitted(tmp_path, words, kwargs):
    far = "3e8,1e9,1.8e18,4.4,False\n"  # the law says 3.46
    (tmp_path / "all.csv").write_text(table() + far)
    (tmp_path / "sound.csv").write_text(table())
    said = json.loads(asked("fit", tmp_path / "all.csv", "--approach", "3", "--resamples", "0", "--json", "--profile", *words)[1])
    fitted = readers.read(tmp_path / ("all.csv" if "--keep-all" in words else "sound.csv"))
    (found,) = (fit for fit in said["fits"] if fit["approach"] == "parametric")
    assert found["runs"] == len(fitted)
    fit = parametric.fit(fitted, resamples=0, influence=False)
    for quantity, ends in by_profile(said).items():
        assert ends == pytest.approx(parametric.profile(fitted, fit, quantity, flops=said["predictions"][0]["flops"], **kwargs), rel=1e-9), quantity


def test_limits_are_shown_only_where_asked(runs):
    words = ["fit", runs, "--approach", "3", "--resamples", "9"]
    assert "profile likelihood" not in asked(*words)[1]
    assert json.loads(asked(*words, "--json")[1])["fits"][0]["profile_likelihood"] == []
    shown = flat(asked(*words, "--profile")[1])
    assert shown.index("Expect a loss of") < shown.index("Approach 3 by profile likelihood")
    assert "best loss at 3e19 FLOPs (nats/token)" in shown


def test_where_the_runs_set_no_limit_is_said_in_words():
    none = (math.nan, math.nan)
    ends = [(0.0, 1.9), (0.3, math.inf), (0.0, math.inf), (0.4, 0.5)]
    found = [Limits(quantity="E", flops=None, value=1.0, by_resamples=none, by_profile=pair) for pair in ends]
    shown = [[str(cell) for cell in row.cells][2:] for row in limits.table(found, unit="nats/token", level=0.8).rows]
    assert shown == [["\u2013", "1.900 or less"], ["\u2013", "0.300 or more"], ["\u2013", "no limit found"], ["\u2013", "0.400 to 0.500"]]


def test_runs_that_are_mostly_noise_set_no_limit(tmp_path):
    head, *rows = (line.split(",") for line in table().splitlines()[:9])
    noise = np.exp(np.random.default_rng(1).normal(scale=0.03, size=8))
    lines = [head, *([n, d, c, f"{float(x) * e:.5f}", lower] for (n, d, c, x, lower), e in zip(rows, noise, strict=True))]
    (tmp_path / "noise.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    words = ["fit", tmp_path / "noise.csv", "--approach", "3", "--resamples", "0", "--profile"]
    found = by_profile(json.loads(asked(*words, "--json")[1], parse_constant=pytest.fail))
    open_above = [quantity for quantity, (_, high) in found.items() if high is None]
    assert "alpha" in open_above
    shown = asked(*words, "--markdown")[1].split("**Approach 3 by profile likelihood**")[1]
    assert all(re.search(rf"\\| {quantity} \\|.*(or more|no limit found) \\|\n", shown) for quantity in open_above)
    assert "inf" not in shown


def test_limits_of_an_approach_that_could_not_be_fitted_are_refused(tmp_path):
    sizes, parts = np.geomspace(1e8, 1.6e9, 5), np.linspace(0.025, 1.0, 40)  # five curves show an envelope, and cannot determine five constants
    points = [(i, n, part * 1e19 / (6 * n)) for i, n in enumerate(sizes) for part in parts]
    (tmp_path / "curves.csv").write_text("\n".join(["run,params,tokens,loss", *(f"r{i},{n:.0f},{d:.0f},{LAW.loss(n, d):.5f}" for i, n, d in points)]) + "\n")
    words = ["fit", tmp_path / "curves.csv", "--rule", "all", "--resamples", "0"]
    assert asked(*words)[0] == 0
    said = refused(2, *words, "--profile")
    assert "--profile is of Approach 3, which could not be fitted: 5 runs cannot determine the five constants" in said
    assert said.endswith("Or leave --profile out.")


def test_rows_are_chosen_and_columns_are_named(runs, tmp_path):
    renamed = tmp_path / "other.csv"
    renamed.write_text(table().replace("params,tokens,flops,loss", "weights,seen,work,score"))
    words = ["--approach", "3", "--resamples", "0", "--json"]
    same = json.loads(asked("fit", renamed, "--map", "params=weights,tokens=seen", "--map", "flops=work", "--map", "loss=score", *words)[1])
    usual = json.loads(asked("fit", runs, *words)[1])
    assert same["fits"][0]["constants"] == usual["fits"][0]["constants"]
    lower = json.loads(asked("fit", runs, "--where", "lower", *words)[1])
    assert lower["runs"]["kept"] == 21
    assert lower["prediction"]["flops"] == 1e19  # ten times the largest of those


def test_other_estimators_and_forms_are_said(runs):
    found = json.loads(asked("fit", runs, "--approach", "3", "--law", "kaplan", "--estimator", "mse", "--resamples", "0", "--json")[1])["fits"][0]
    assert found["form"] == "kaplan"
    assert found["a_interval"] == [None, None]


@pytest.mark.parametrize("width", [80, 160])
def test_it_is_readable_at_any_width(runs, monkeypatch, width):
    monkeypatch.setattr(cli, "out", Console(highlight=False, markup=False, emoji=False, width=width))
    status, out, _ = asked("fit", runs, "--resamples", "9", "--profile")
    assert status == 0
    assert max(map(len, out.splitlines())) <= width
    assert "\u2026" not in out  # nothing cut
    assert re.search(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", out)


def test_markdown_is_tables_and_sentences(runs):
    out = asked("fit", runs, "--resamples", "9", "--markdown")[1]
    assert "| 3. Parametric loss | 0." in out
    assert "\nExpect a loss of" in out


def test_saved_fits_are_planned_by_as_published_laws_are(kept, said):
    status, out, err = asked("plan", "--fit", kept, "3e19", "--json")
    assert status == 0, err
    rows = {row["law"]: row for row in json.loads(out)}
    assert list(rows) == ["isoflop", "parametric", "forecast"]
    for prediction in said["predictions"]:
        row = rows[prediction["by"]]
        assert row["params"] == pytest.approx(prediction["params"])
        assert row["params_interval"] == pytest.approx(prediction["params_interval"])
        assert row["loss_interval"] == pytest.approx(prediction["loss_interval"])
    assert rows["parametric"]["reach"] == pytest.approx(10)


def test_every_option_of_a_plan_works_with_saved_fits(kept, tmp_path):
    words = ["--gpus", "8", "--gpu", "h100", "--shape", "--smaller", "--inference-tokens", "1T", "--unique-tokens", "1B", "--law", "hoffmann3"]
    status, out, err = asked("plan", "--fit", kept, "3e19", *words, "--figure", tmp_path / "plan.svg", "--json")
    assert status == 0, err
    assert [row["law"] for row in json.loads(out)] == ["isoflop", "parametric", "forecast", "hoffmann3"]
    assert (tmp_path / "plan.svg").read_bytes().startswith(b"<svg")
    status, out, err = asked("plan", "--fit", kept, "--days", "1", "--gpus", "1", "--gpu", "h100", "--extrapolate")
    assert status == 0, err
    for goal in (["--params", "1B"], ["--tokens", "20B"], ["--loss", "2.5"]):
        status, out, err = asked("plan", "--fit", kept, *goal, "--extrapolate")
        assert status == 0, err


def test_a_plan_by_saved_fits_says_the_forecast_in_words(kept):
    out = asked("plan", "--fit", kept, "3e19")[1]
    assert "train a model of about" in flat(out)
    assert "Expect a loss of" in flat(out)


def test_a_budget_beyond_reach_is_refused_with_the_estimate(kept):
    assert "would say" in refused(1, "plan", "--fit", kept, "1e25")
    assert asked("plan", "--fit", kept, "1e25", "--extrapolate")[0] == 0


def test_bits_per_byte_are_not_called_nats(tmp_path):
    path = tmp_path / "bits.csv"
    path.write_text(table("bits_per_byte"))
    status, out, err = asked("fit", path, "--approach", "3", "--resamples", "9", "--out", tmp_path / "fits.json")
    assert status == 0, err
    assert "bits per byte" in out
    assert "nats" not in out
    status, out, err = asked("plan", "--fit", tmp_path / "fits.json", "3e19", "--unique-tokens", "1B", "--inference-tokens", "1B")
    assert status == 0, err
    assert "loss (bits per byte)" in flat(out)
    assert "nats/token" not in out
    assert "nats" in refused(2, "plan", "--fit", tmp_path / "fits.json", "--loss", "3", "--law", "hoffmann3")


def test_a_study_is_fitted_as_before_and_knows_its_columns(undisturbed, tmp_path):
    folder = undisturbed
    status, out, err = asked("fit", folder, "--resamples", "20", "--profile", "--json", "--out", tmp_path / "fits.json")
    assert status == 0, err
    found = json.loads(out)
    assert {f["approach"] for f in found["fits"]} | {gone["approach"] for gone in found["left_out"]} == set(APPROACHES)
    target = found["prediction"]["flops"]
    assert target == 6e9  # the study's
    assert {entry["flops"] for fit in found["fits"] for entry in fit["profile_likelihood"]} == {None, target}
    assert asked("plan", "--fit", tmp_path / "fits.json", f"{target:g}")[0] == 0
    assert "a study knows" in refused(2, "fit", folder, "--map", "params=N")
    assert "two sets of fits" in refused(2, "plan", folder, "--fit", tmp_path / "fits.json")


@functools.cache
def drawn(runs: Path) -> Path:
    status, _, err = asked("fit", runs, "--approach", "3", "--resamples", "9", "--figures", runs.parent / "figures")
    assert status == 0, err
    return runs.parent / "figures"


def test_figures_are_drawn_beside(runs):
    pytest.importorskip("altair")
    assert {path.suffix for path in drawn(runs).iterdir()} == {".png", ".svg", ".html"}


DRAWS = """
import itertools, resource, signal, sys
from pathlib import Path
from isoflop import readers
from isoflop.fit.asked import Asked, fits
from isoflop.report import fitted

source, folder, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
runs = readers.read(source)
found = fits(runs, Asked(approach="3", resamples=0))
if limit:  # the system ends the process in the middle of the write that goes beyond it, which Python by itself would live through
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
for target in itertools.cycle((1e19, 1e20)):  # other pictures each time, over those that are there
    fitted.write(found, runs, folder, target=target)
"""


def ended(source: Path, folder: Path, *, limit: int = 0, after: float = 0.0) -> int:
    """Draw again and again until the process is ended, by the system or some seconds after its first file; its exit status."""
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", DRAWS, source, folder, str(limit)], stderr=subprocess.DEVNULL)
    try:
        while not limit and process.poll() is None and not any(folder.iterdir()):
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=120 if limit else after)
    finally:
        process.kill()
    return process.wait()


def is_whole(path: Path) -> bool:
    data = path.read_bytes()
    match path.suffix:
        case ".svg":
            return ElementTree.fromstring(data).tag.endswith("svg")
        case ".png":
            at = 8
            while at < len(data):
                size = int.from_bytes(data[at : at + 4], "big") + 4
                if zlib.crc32(data[at + 4 : at + 4 + size]) != int.from_bytes(data[at + 4 + size : at + 8 + size], "big"):
                    return False
                at += 8 + size
            return data[-8:-4] == b"IEND"
        case _:
            return data.startswith(b"<!doctype html>") and data.rstrip().endswith(b"</html>")


def figures_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("limit", [pytest.param(20_000, marks=pytest.mark.slow), 300_000])
def test_a_process_ended_inside_a_write_leaves_no_part_of_a_figure(runs, tmp_path, limit):
    """At 20 kB the first PNG is cut, at 300 kB the first page."""
    pytest.importorskip("altair")
    assert ended(runs, tmp_path / "figures", limit=limit) == -signal.SIGXFSZ
    assert [path.stat().st_size for path in (tmp_path / "figures").glob(".*.part")] == [limit]
    found = figures_of(tmp_path / "figures")
    assert found
    assert all(map(is_whole, found))


@pytest.mark.slow  # one that dies inside a write is above, and quicker
@pytest.mark.parametrize("seed", range(22))
def test_a_kill_at_any_moment_leaves_whole_figures(runs, tmp_path, seed):
    pytest.importorskip("altair")
    folder = tmp_path / "figures"
    assert ended(runs, folder, after=np.random.default_rng(seed).uniform(0, 5)) == -signal.SIGKILL
    assert all(map(is_whole, figures_of(folder)))


@pytest.mark.parametrize("cut", ["svg", "png", "html"])
def test_a_figure_cut_short_is_seen(runs, tmp_path, cut):
    """So that the tests above can fail."""
    pytest.importorskip("altair")
    path = next(drawn(runs).glob(f"*.{cut}"))
    (tmp_path / path.name).write_bytes(path.read_bytes()[:-9])
    assert is_whole(path)
    with contextlib.suppress(ElementTree.ParseError):
        assert not is_whole(tmp_path / path.name)


@contextlib.contextmanager
def no_file_over(size: int):
    """A file system on which no file can be larger, as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_figures_that_cannot_be_written_are_an_error_in_words_after_the_answer(runs, tmp_path):
    pytest.importorskip("altair")
    words = ["fit", runs, "--approach", "3", "--resamples", "0", "--figures"]
    with no_file_over(50_000):
        status, out, err = asked(*words, tmp_path / "figures")
    assert status == 1
    assert "train a model of about" in flat(out)
    assert re.search(r"\.png would be larger than this process may write\. .* then run the same command again", flat(err))
    assert all(map(is_whole, figures_of(tmp_path / "figures")))
    assert not list((tmp_path / "figures").glob(".*"))
    (tmp_path / "file").write_text("")
    status, out, err = asked(*words, tmp_path / "file" / "figures")
    assert status == 1
    assert "train a model of about" in flat(out)
    assert "a part of that path is a file, not a folder. Nothing that was finished is lost. Take another folder" in flat(err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--approach", "4"], "no approach '4'"),
        (["--approach", "isoflop", "--law", "farseer"], "law 'farseer' is a choice of the parametric approach"),
        (["--approach", "3", "--method", "akima"], "choice of the isoflop approach"),
        (["--law", "chinchila"], "Did you mean 'chinchilla'"),
        (["--estimator", "best"], "no estimator"),
        (["--delta", "-1"], "--delta"),
        (["--delta", "nan"], "--delta"),
        (["--level", "1"], "--level"),
        (["--resamples", "-1"], "--resamples"),
        (["--resamples", "8"], "8 resamples make no 80 % interval: even their least and greatest hold only 78 %, and it takes 9."),
        (["--level", "0.999"], "400 resamples make no 99.9 % interval"),
        (["--level", "0.5", "--resamples", "4"], "it takes 9"),
        (["--seed", "-1"], "--seed"),
        (["--intervals", "best"], "no kind of intervals 'best'"),
        (["--approach", "1", "--intervals", "noise"], "not for the envelope approach"),
        (["--approach", "2", "--profile"], "--profile is of Approach 3, which --approach 2 leaves out. Give --approach parametric, or leave --profile out."),
        (["--law", "kaplan", "--profile"], "--profile is of the additive law (chinchilla), and --law kaplan is another. Leave one of them out"),
        (["--approach", "4", "--profile"], "no approach '4'"),
        (["--budget-tolerance", "2"], "--budget-tolerance"),
        (["--map", "params"], "NAME=COLUMN"),
        (["--map", "params=a,params=b"], "twice"),
        (["--map", "params=nowhere"], "nowhere"),
        (["--count", "some"], "way to count"),
        (["--from", "xml"], "xml"),
        (["--where", "flops <"], "flops <"),
        (["--at", "soon"], "soon"),
        (["--json", "--markdown"], "two ways"),
        (["--folder", "x"], "--folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(runs, words, said):
    assert said in (refused_in_json if "--json" in words else refused)(2, "fit", runs, *words)


def test_files_that_are_not_there_or_no_runs_are_refused(tmp_path, kept):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_text("nothing of use\n")
    for path in (tmp_path / "none.csv", tmp_path / "empty", tmp_path / "text.csv", tmp_path / "none.toml"):
        status, out, err = asked("fit", path)
        assert (status in {1, 2}, out) == (True, ""), path
        assert path.name in flat(err)
    assert "isoflop fit RUNS --out" in refused(2, "plan", "--fit", tmp_path / "none.json", "1e20")
    assert "not JSON" in refused(2, "plan", "--fit", tmp_path / "text.csv", "1e20")
    assert refused(2, "plan", "--fit", tmp_path / "empty", "1e20")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert "not text" in refused(2, "plan", "--fit", tmp_path / "bytes.json", "1e20")
    assert "what to plan for" in refused(2, "plan", "--fit", kept)


def test_no_name_in_a_file_can_speak_to_the_terminal(tmp_path):
    header, *rows = table().splitlines()
    named = [f"id,{header}", *(f"\x1b]0;title\x07\x1b[31mrun{i}\x9b2J,{row}" for i, row in enumerate(rows)), "far,3e8,1e9,1.8e18,9.9,False"]
    path = tmp_path / "runs\x1b[2J.csv"
    path.write_text("\n".join(named))
    for words in (["--approach", "all", "--resamples", "0"], ["--map", "loss=nowhere"], ["--approach", "3", "--resamples", "0", "--markdown"]):
        _, out, err = asked("fit", path, *words)
        assert "runs[2J.csv" in out + err
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err)


def test_what_was_dropped_or_set_aside_is_said_once(tmp_path):
    (tmp_path / "runs.csv").write_text(table() + "3e8,1e9,1.8e18,9.9,False\n")
    _, out, err = asked("fit", tmp_path / "runs.csv", "--resamples", "0")
    assert flat(out).count("row 29, line 30: loss is NaN") == 1
    assert "not in the fit" not in err
    assert flat(out).count("row 30: ") == 1
    assert "excluded (isoflop, parametric)" in flat(out)


def test_rows_and_runs_of_a_file_of_curves_are_told_apart(tmp_path):
    points = [line.split(",") for line in table().splitlines()[1:-1]]
    rows = [f"run{i},{n},{float(d) * part},{float(x) * (1 + (1 - part) / 5)}" for i, (n, d, _, x, _) in enumerate(points) for part in (0.25, 0.5, 0.75, 1.0)]
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(["run,params,tokens,loss", *rows, "run0,1e7,oops,3", "run1,1e7,1e9,", "bad,1e7,1e9,3", "bad,1e7,2e9,nan"]) + "\n")
    status, out, err = asked("fit", path, "--approach", "3", "--resamples", "0")
    assert status == 0, err
    assert "read 29 runs and 2 rows that count in none, from curves.csv" in flat(out)
    assert "kept 28" in flat(out)
    assert "row 113, line 114: column 'tokens' holds 'oops' where a number should be" in flat(out)
    assert "row 114, line 115: no loss" in flat(out)
    assert "bad: diverged" in flat(out)


def test_a_device_is_written_into_and_stays_a_device(runs, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    asked("fit", runs, "--approach", "3", "--resamples", "0", "--out", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    reader.join()
    assert json.loads(found[0])["format"] == "isoflop fits"


def test_the_file_is_whole_or_not_there(runs, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = asked("fit", runs, "--approach", "3", "--resamples", "0", "--out", tmp_path / "file" / "fits.json")
    assert status == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


names = st.sampled_from(["chinchilla", "kaplan", "lse", "mse", "huber", "parabola", "akima", "additive", "finished", "hull", "all", "x", ""])
numbers = st.one_of(st.floats().map(str), st.integers(-3, 40).map(str), st.sampled_from(["0.001", "0.9", "1e400", "nan", "ten", ""]))
columns = ["params=params", "loss=tokens", "tokens=70M", "params=params*1e6", "=", "a=b,c", "flops=loss"]
filters = ["lower", "flops > 2e17", "not lower", "loss < 0", "flops <", "1/0", "x"]
options = st.lists(
    st.one_of(
        st.tuples(st.just("--approach"), st.sampled_from(["1", "2", "3", "isoflop", "parametric", "envelope", "4", ""])),
        st.tuples(st.sampled_from(["--law", "--estimator", "--method", "--rule"]), names),
        st.tuples(st.sampled_from(["--delta", "--level", "--budget-tolerance", "--seed", "--resamples", "--at"]), numbers),
        st.tuples(st.just("--map"), st.one_of(st.sampled_from(columns), st.text(max_size=6))),
        st.tuples(st.just("--where"), st.one_of(st.sampled_from(filters), st.text(max_size=8))),
        st.tuples(st.just("--from"), st.sampled_from(["delimited", "jsonl", "parquet", "wandb", "x"])),
        st.tuples(st.just("--count"), st.sampled_from(["total", "nonembedding", "x"])),
        st.tuples(st.just("--folder"), st.just("studies")),
        st.tuples(st.sampled_from(["--keep-all", "--every-point", "--profile", "--markdown", "--json"])),
    ),
    max_size=6,
)  # fmt: skip


@given(words=options)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_words_end_in_a_traceback(tmp_path, words):
    runs = tmp_path / "runs.csv"  # of few runs, and by one approach if none is drawn: all of them take seconds
    runs.write_text("\n".join(table().splitlines()[:11]) + "\n")
    given_approach = [] if any(option[0] == "--approach" for option in words) else ["--approach", "parametric"]
    status, out, err = asked("fit", runs, *given_approach, "--resamples", "9", *(word for option in words for word in option))
    assert status in {0, 1, 2}
    assert "Traceback" not in err
    if status:
        assert err.strip()
        assert "train a model of about" not in out
    if ("--json",) in words and (out or not status):  # nothing on stdout: the command line itself could not be read
        said = json.loads(out, parse_constant=pytest.fail)
        assert (said["answer"] is None) == bool(status)


@pytest.mark.slow
def test_the_tutorial_shows_what_its_commands_print(shared):
    source = shared / "data/runs/hoffmann2022_figure4.csv"
    done = subprocess.run([sys.executable, ROOT / "docs/_tutorial.py", source], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), "write it anew: python docs/_tutorial.py POINTS > docs/tutorial.md"


def test_the_tutorial_shows_the_papers_answer():
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    assert re.search(r"3\. Parametric loss +73\.2B \(.*\) +1\.31T", page)  # the numbers of the test below
    assert re.search(r"3\. Parametric loss +0\.514 ", page)
    assert page.count("```text") == len(re.findall(r"^    isoflop ", page, re.MULTILINE)) == 3


def test_hoffmanns_points_give_the_papers_answer_for_gophers_budget(shared, tmp_path):
    """73B parameters on 1.3T tokens: the true optimum of Huber's loss on the 240 points (Besiroglu et al. 2024 re-analyse the same)."""
    source = shared / "data/runs/hoffmann2022_figure4.csv"
    words = ["--where", "in_published_fit", "--keep-all", "--approach", "parametric", "--resamples", "20"]
    status, _, err = asked("fit", source, *words, "--out", tmp_path / "fits.json")
    assert status == 0, err
    (row,) = json.loads(asked("plan", "--fit", tmp_path / "fits.json", "5.76e23", "--json")[1])
    assert units.count(row["params"]) == "73.2B"
    assert units.count(row["tokens"]) == "1.31T"
    found = json.loads((tmp_path / "fits.json").read_text())["fits"][0]["constants"]
    assert math.isclose(found["alpha"], 0.347310, rel_tol=1e-5)
    assert math.isclose(found["A"], 477.826, rel_tol=1e-5)
