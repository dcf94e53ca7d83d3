"""Tune: the learning rate of a study's recipe, measured on its own text at two or three small sizes, and written into the study.

At each of the smallest budgets the size near its expected optimum is trained at a few rates, an octave apart and then half of one; a
parabola in the log of the rate has the best rate and its error; a line through the sizes says how that changes as models grow.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from isoflop import design, launch, units
from isoflop.arch import Shape
from isoflop.design import Text
from isoflop.design._recipe import get as recipe_of
from isoflop.errors import FitError, UsageError
from isoflop.launch import USUAL, Event, Means, Mended, View
from isoflop.runs import Group, RunRecord, RunSpec
from isoflop.store import Store
from isoflop.study import Study, Tuned
from isoflop.tune import _curve, _search, _write
from isoflop.tune._curve import Best, Trend

SIZES = range(2, 4)  # one says nothing of a trend, and more than three cost as much as the sweep's small budgets
MOST = 2 * _search.LIMIT // _search.OCTAVE + 2  # runs of one size: every octave, and half of one on either side of the best
GROUP: Group = "tune"
Watch = Callable[[Sequence[RunSpec], Sequence[RunRecord]], AbstractContextManager[View]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where rates are tried."""

    shape: Shape
    budget: float  # FLOPs


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found at one size."""

    site: Site
    lr: float  # of the recipe as it is
    losses: dict[float, float | None]  # final, by the rate over that; None where the run diverged or failed
    best: Best

    @property
    def lr_best(self) -> float:
        return float(self.lr * 2.0**self.best.rate)

    @property
    def lr_interval(self) -> tuple[float, float]:
        """One standard error to either side."""
        return float(self.lr * 2.0 ** (self.best.rate - self.best.error)), float(self.lr * 2.0 ** (self.best.rate + self.best.error))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a search found."""

    study: Study
    sizes: tuple[Found, ...]
    trend: Trend
    recipe: Tuned
    flops: float  # of all runs

    @property
    def comment(self) -> str:
        """What was measured, in one line."""
        found = "; ".join(
            f"{units.flops(f.site.budget)} FLOPs, width {f.site.shape.d_model}: {f.lr_best:.3g} ({f.lr_interval[0]:.3g} to {f.lr_interval[1]:.3g})"
            for f in self.sizes
        )
        return f"best peak rate and one standard error: {found}"

    @property
    def line(self) -> str:
        """The recipe as a study file has it."""
        return _write.line(self.recipe)

    def write(self, path: Path) -> None:
        """Put the recipe into the study's file, whose comments and form stay.

        Raises:
            StudyError: The file is no longer the study that was tuned, or cannot be edited safely; nothing is written.
            StoreError: The file cannot be written.
        """
        _write.into(path, self.study, self.recipe, comment=self.comment)


def sites(study: Study, text: Text, *, sizes: int = 2) -> tuple[Site, ...]:
    """At each of the smallest budgets the size of the design next to its expected optimum, larger from one to the next.

    Raises:
        UsageError: Another number of sizes than two or three.
        DesignError: The study's design cannot answer anyway.
    """
    if sizes not in SIZES:
        raise UsageError(f"{sizes} sizes cannot be tuned: two show how the best rate changes with size, three show it better. Give --sizes 2 or 3.")
    ladder = sorted({spec.shape for spec in design.design(study, text).specs}, key=lambda shape: shape.params.total)
    expected = recipe_of(study.recipe).expected_params
    chosen: list[Site] = []
    for i in range(sizes):
        budget = study.budgets[min(i, len(study.budgets) - 1)]
        optimum = expected(budget)
        smallest = ladder.index(chosen[-1].shape) + 1 if chosen else 0
        open_ = ladder[smallest : len(ladder) - (sizes - 1 - i)]  # some are left for those to come
        distances = [abs(math.log(shape.params.total / optimum)) for shape in open_]
        chosen.append(Site(shape=open_[distances.index(min(distances))], budget=budget))
    return tuple(chosen)


def spec(study: Study, text: Text, site: Site, step: int) -> RunSpec:
    """The run at so many half octaves from the recipe's own rate."""
    scaled = study.model_copy(update={"lr_scale": study.lr_scale * _times(step)})
    return design.spec(scaled, text, shape=site.shape, budget=site.budget, group=GROUP, seed=study.seed)


def asked(study: Study, text: Text, at: Sequence[Site], records: Iterable[RunRecord] = ()) -> tuple[RunSpec, ...]:
    """The runs that the search asks for, given what is known: those that are finished, and what is to be trained next; no more when it is over."""
    known = {record.id: record for record in records}
    specs: list[RunSpec] = []
    for site in at:
        tried = _tried(study, text, site, known)
        specs += [spec(study, text, site, step) for step in (*sorted(tried), *_search.wanted(tried))]
    return tuple(specs)


def price(at: Sequence[Site], seconds: Sequence[float] | None, *, study_flops: float, workers: int) -> str:
    """Return what the search will take, in words.

    Args:
        at: Where rates are tried.
        seconds: Predicted, of each of the first runs that are not trained yet; None where nothing predicts them.
        study_flops: Of the study's own runs.
        workers: Runs at once.
    """
    flops = _search.USUAL * sum(site.budget for site in at)
    rounds = _search.USUAL / len(_search.FIRST)
    if seconds is None:
        ahead = f"{workers} at once; the time on this device cannot be predicted"
    elif seconds:
        ahead = f"about {units.duration(rounds * max(sum(seconds) / workers, *seconds))} as predicted, {workers} at once"
    else:
        ahead = "the first are trained already"
    return (
        f"{_search.USUAL * len(at)} runs, {units.flops(flops)} FLOPs, {100 * flops / study_flops:.2g} % of the study's: {ahead}. "
        f"More where the best rate is not near the recipe's: at most {MOST} runs a size."
    )


def run(
    study: Study,
    text: Text,
    at: Sequence[Site],
    *,
    folder: Path,
    corpus_folder: Path,
    workers: int,
    launcher: str = "pool",
    means: Means = USUAL,
    watch: Watch | None = None,
) -> Tuning:
    """Train what the search asks for, round after round, in the study's own store; it goes on where it was stopped.

    Args:
        study: To tune.
        text: Of its corpus.
        at: Where; see `sites`.
        folder: Of the study.
        corpus_folder: Of its tokens.
        workers: Runs at once.
        launcher: One of the menu in isoflop.launch.
        means: What they train with.
        watch: Makes the view of a round from its runs and the records known.

    Raises:
        FitError: The best rate lies at the edge of all that may be tried, or no run finished well.
        StoreError: Another process is working on this study, or the folder cannot be written.
    """
    with Store(folder) as store, store.lock() as notes:
        while True:
            records = store.records([row.id for row in store.rows()], sound_only=True)
            specs = asked(study, text, at, records)
            done = {record.id for record in records}
            if all(one.id in done for one in specs):
                return read(study, text, at, records)
            store.add(specs, instead_of=(GROUP,))
            with watch(specs, records) if watch else contextlib.nullcontext() as view:
                tell = view.on_event if view else _unheard
                for note in notes:
                    tell(Mended(note=note))
                launch.get(launcher).run(store, specs, corpus_folder, workers=workers, means=means, on_event=tell)


def read(study: Study, text: Text, at: Sequence[Site], records: Iterable[RunRecord]) -> Tuning:
    """What the finished runs say.

    Raises:
        FitError: The best rate lies at the edge of all that may be tried, or no run finished well.
    """
    known = {record.id: record for record in records}
    tried = [_tried(study, text, site, known) for site in at]
    for site, losses in zip(at, tried, strict=True):
        _refuse_edge(site, losses)
    bests = _curve.bests(tried)
    trend = _curve.trend([site.shape.d_model for site in at], bests)
    return Tuning(
        study=study,
        sizes=tuple(_found(study, text, site, losses, best) for site, losses, best in zip(at, tried, bests, strict=True)),
        trend=trend,
        recipe=_recipe(study, trend),
        flops=sum(spec.flops for spec in asked(study, text, at, known.values())),
    )


def _found(study: Study, text: Text, site: Site, tried: _search.Tried, best: Best) -> Found:
    losses = {_times(step): tried[step] if math.isfinite(tried[step]) else None for step in sorted(tried)}
    return Found(site=site, lr=spec(study, text, site, 0).lr, losses=losses, best=best)


def _tried(study: Study, text: Text, site: Site, known: dict[str, RunRecord]) -> dict[int, float]:
    """Losses of the finished runs by half octaves; infinite where there is none."""
    runs = {step: known.get(spec(study, text, site, step).id) for step in range(-_search.LIMIT, _search.LIMIT + 1)}
    return {step: _loss(record) for step, record in runs.items() if record is not None}


def _loss(record: RunRecord) -> float:
    return record.loss if record.status == "ok" and record.loss is not None else math.inf


def _refuse_edge(site: Site, tried: _search.Tried) -> None:
    where = f"width {site.shape.d_model} at {units.flops(site.budget)} FLOPs"
    if not any(map(math.isfinite, tried.values())):
        raise FitError(
            f"none of {len(tried)} runs of {where} finished well, down to {_times(min(tried)):.3g} times the recipe's rate. `isoflop runs` shows why; "
            "set lr_scale far lower, or mend what failed and tune again."
        )
    if _search.at_edge(tried):
        best = _times(_search.best(tried))
        raise FitError(
            f"the best rate of {where} is {best:.3g} times the recipe's, and none beyond it was tried, so that the true one may lie anywhere there. "
            f"Set lr_scale {best:.3g} times what it is, and tune again."
        )


def _recipe(study: Study, trend: Trend) -> Tuned:
    """The recipe as it is, times what was found; a tuned one is tuned further."""
    before = study.recipe if isinstance(study.recipe, Tuned) else Tuned(base=study.recipe, scale=1.0, width=trend.width)
    width = float(f"{trend.width:.4g}")
    scale = before.correction(width) * 2.0**trend.rate
    return Tuned(base=before.base, scale=float(f"{scale:.4g}"), width=width, power=float(f"{before.power + trend.power:.3g}"))


def _times(step: int) -> float:
    return float(2.0 ** (step / _search.OCTAVE))


def _unheard(_event: Event) -> None:
    pass
