"""One schedule for all lengths beside schedules that end with each run: what was put into the runs is what is said of them."""

import contextlib
import dataclasses
import io
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import isoflop
from isoflop import cli, fit, plan
from isoflop.fit.asked import Asked
from isoflop.report import page, schedules
from isoflop.report.results import Results
from isoflop.runs import Clock, Curve, RunRecord, RunSpec
from isoflop.store import Store, files
from isoflop.store import studies as kept_studies
from isoflop.workspace import SWEEP, Workspace

A = 0.5  # of the best size in compute, on schedules that end with each run
NOISE = 5e-4  # nats between runs. A minimum of five sizes over 16x is then known to 0.0023 in log params, and the exponent of four of them to 0.001
LEVEL = 0.8
STUDY = """
name = "schedules"
corpus = "text.txt"
validation = 0.2
context = 32
budgets = ["1e11", "3e11", "1e12", "3e12"]
sizes = 5
seeds = 2
eval_tokens = 1024
target = "1e13"
overlong = true
"""
EMPTY = Curve(np.empty(0), np.empty(0))


def loss(spec: RunSpec, bend: float) -> float:
    """A valley that is a parabola, so that Approach 2 reads its minimum off exactly; on one schedule the shorter runs, which stop early, look the worse
    the larger they are: their best size is smaller by (C / C_max)**bend, and there is no such loss at the longest.
    """
    best = math.log(60e3) + A * math.log(spec.budget / 1e12)
    early = math.log(3e12 / spec.budget) if spec.group == "overlong" else 0.0
    return 1.2 + 0.8 * (spec.budget / 1e12) ** -0.1 + 0.02 * early + 0.05 * (math.log(spec.shape.params.total) - best + bend * early) ** 2


def record(spec: RunSpec, value: float) -> RunRecord:
    """Of a run that ended well."""
    clock = Clock(seconds=1.0, finished="2026-01-02T03:04:05Z", attempt=1, device="cpu, 1 thread", versions={})
    return RunRecord(
        id=spec.id,
        spec=spec,
        status="ok" if math.isfinite(value) else "diverged",
        reason="" if math.isfinite(value) else "the loss is nan",
        loss=value if math.isfinite(value) else None,
        bits_per_byte=None,
        params=spec.shape.params,
        tokens=spec.tokens,
        flops=spec.flops,
        epochs=1.0,
        clock=clock,
    )


def study(folder: Path, *, bend: float = 0.0, noise: float = NOISE, text: str = STUDY, lost: bool = False) -> Workspace:
    """A study whose runs are all finished, without training anything: records like those that training leaves, in its store."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n\n".join(" ".join(f"w{i * j % 61}" for j in range(40)) for i in range(1500)), encoding="utf-8")
    (folder / "study.toml").write_text(text, encoding="utf-8")
    work = isoflop.open(folder / "study.toml", folder=folder / "made")
    specs = work.design().specs
    cells = {(spec.budget, spec.shape, spec.seed): i for i, spec in enumerate(specs) if spec.group != "overlong"}
    drawn = np.random.default_rng(0).normal(scale=noise, size=len(specs))  # of a cell, whichever its schedule: a pair of runs differs by the schedule alone
    with Store(work.folder) as store:
        kept_studies.write(work.folder, work.study, runs=[spec.id for spec in specs])
        store.add(specs, instead_of=SWEEP)
        for spec in specs:
            value = loss(spec, bend) + drawn[cells[spec.budget, spec.shape, spec.seed]]
            files.write_record(work.folder / "runs" / spec.id, record(spec, math.nan if lost and spec.group == "overlong" else value), EMPTY)
        with store.lock():  # what lies there is accepted
            pass
    return work


class Made(NamedTuple):
    """A study with both fits of its grid."""

    work: Workspace
    own: fit.Fit
    one: fit.Fit | None


def made(folder: Path, **values: object) -> Made:
    work = study(folder, **values)
    return Made(work, fit.fit(work.runs(), approach="isoflop"), work.overlong())


def printed(*words: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isoflop", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0, out.getvalue()
    return " ".join(out.getvalue().split())


@pytest.fixture(scope="module")
def bent(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("bent"), bend=0.2)


@pytest.mark.parametrize("bend", [0.2, -0.2])
def test_both_exponents_come_out_as_put_in(bend, bent, tmp_path):
    _, own, one = bent if bend > 0 else made(tmp_path, bend=bend)
    assert own.law.a == pytest.approx(A, abs=0.005)  # five standard errors
    assert one.law.a == pytest.approx(A + bend, abs=0.005)
    assert (own.n_runs, one.n_runs) == (21, 20)  # five sizes at four budgets, and a second seed that only the matched ones have
    said = schedules.sentence(own, one, level=LEVEL)
    assert f"a = {one.law.a:.2f} where matched ones give {own.law.a:.2f}" in said
    assert ("larger models trained on fewer tokens" in said) == (bend > 0)
    assert ("smaller models trained on more tokens" in said) == (bend < 0)
    assert "chance" not in said


def test_a_difference_within_the_intervals_is_said_to_be_chance(tmp_path):
    """A bend of a hundredth, under noise that hides much more."""
    _, own, one = made(tmp_path, bend=0.01, noise=0.02)
    assert one.law.a - own.law.a == pytest.approx(0.01, abs=0.02)  # the noise is the same, but for the runs that count in one of the two alone
    (low, high), (other_low, other_high) = (each.interval(lambda law: law.a, level=LEVEL) for each in (own, one))
    assert high - low > 0.02
    assert low < one.law.a < high
    assert other_low < own.law.a < other_high
    said = schedules.sentence(own, one, level=LEVEL)
    assert said == f"One schedule for all lengths gives a = {one.law.a:.2f}, where matched ones give {own.law.a:.2f}: no more apart than chance allows here."


@pytest.mark.parametrize(
    ("own", "one", "chance"),
    [
        ((0.50, 0.49, 0.51), (0.60, 0.58, 0.62), False),  # apart
        ((0.50, 0.40, 0.60), (0.58, 0.57, 0.59), True),  # the one lies within the other's, though not the other within its
        ((0.50, 0.49, 0.51), (0.58, 0.45, 0.70), True),  # and the other way round
        ((0.50, 0.45, 0.55), (0.58, 0.53, 0.63), False),  # intervals overlap, but neither exponent lies in the other's
        ((0.50, 0.49, 0.51), (0.40, 0.38, 0.42), False),
    ],
)
def test_chance_is_where_an_exponent_lies_in_the_others_interval(bent, own, one, chance):
    said = schedules.sentence(_moved(bent.one, *own), _moved(bent.one, *one), level=LEVEL)
    assert ("chance" in said) == chance
    if not chance:
        assert ("larger" in said) == (one[0] > own[0])


def test_without_intervals_of_both_no_difference_is_claimed(bent):
    _, own, one = bent
    for pair in ((dataclasses.replace(own, resamples=()), one), (own, dataclasses.replace(one, resamples=())), (dataclasses.replace(own, resamples=()),) * 2):
        said = schedules.sentence(*pair, level=LEVEL)
        assert "without intervals of both, that may be chance" in said
        assert "worse than they are" not in said


def _moved(found: fit.Fit, a: float, low: float, high: float) -> fit.Fit:
    """The fit with another exponent; nine draws make an 80 % interval that ends at their least and greatest."""
    laws = [dataclasses.replace(found.law, a=value, b=1 - value) for value in (a, *np.linspace(low, high, 9))]
    return dataclasses.replace(found, law=laws[0], resamples=tuple(laws[1:]))


def test_the_table_has_both_and_kaplans_and_the_command_prints_it(bent):
    work, own, one = bent
    table = schedules.table(own, one, level=LEVEL)
    cells = {row.cells[0].text: [str(cell) for cell in row.cells[1:]] for row in table.rows}
    low, high = one.interval(lambda law: law.a, level=LEVEL)
    assert list(cells) == ["a schedule that ends with each run", "one schedule for all lengths", "Kaplan et al. 2020, one schedule"]
    assert cells["one schedule for all lengths"][0] == f"{one.law.a:.3f} ({low:.3f} to {high:.3f})"
    assert cells["a schedule that ends with each run"][0].startswith(f"{own.law.a:.3f} (")
    assert cells["Kaplan et al. 2020, one schedule"] == ["0.73", "0.27"]
    said = printed("fit", work.folder, "--approach", "isoflop", "--markdown")
    assert f"| one schedule for all lengths | {' | '.join(cells['one schedule for all lengths'])} |" in said
    assert f"| a schedule that ends with each run | {' | '.join(cells['a schedule that ends with each run'])} |" in said
    assert schedules.sentence(own, one, level=LEVEL) in said


def test_both_are_fitted_as_asked(bent):
    one, parabola = bent.work.overlong(Asked(choices=fit.Choices(method="akima"), resamples=19, seed=3)), bent.work.overlong(Asked(resamples=19, seed=3))
    assert "Akima" in one.estimator
    assert "Akima" not in parabola.estimator
    assert len(parabola.resamples) == 19
    assert "90 % intervals" in " ".join(printed("fit", bent.work.folder, "--level", "0.9", "--markdown").split())


def test_the_page_shows_it_where_there_is_one(bent):
    work, own, one = bent
    plans = plan.plan_all((own,), work.study.target, kind=work.study.kind(256))
    results = Results(
        study=work.study, corpus=work.corpus, records=work.records(), runs=work.runs(), fits=(own,), left_out_fits=(), plans=plans, validation=None,
        overlong=one, command="isoflop report",
    )  # fmt: skip
    said = schedules.sentence(own, one, level=LEVEL)
    assert said in page.render(results, ())
    assert "one schedule for all lengths" not in page.render(dataclasses.replace(results, overlong=None), ())


@pytest.mark.parametrize(("without", "text", "lost"), [("overlong = true", "", False), ("", "", True)], ids=["not asked for", "all diverged"])
def test_nothing_is_compared_where_there_is_nothing_to_compare(tmp_path, without, text, lost):
    work, own, one = made(tmp_path, text=STUDY.replace(without, text) if without else STUDY, lost=lost)
    assert one is None
    assert own.law.a == pytest.approx(A, abs=0.005)
    said = printed("fit", work.folder, "--approach", "isoflop")
    assert "How the best size and length grow with compute" in said
    assert "one schedule for all lengths" not in said


def test_nothing_is_compared_where_approach_2_was_not_fitted(bent):
    said = printed("fit", bent.work.folder, "--approach", "parametric", "--resamples", "9")
    assert "How the best size and length grow with compute" in said
    assert "one schedule for all lengths" not in said
