"""Figure 6: how far each run lies from each fit, against size, length and compute."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np
from numpy.typing import NDArray

from isoflop.fit.result import Fit
from isoflop.report.figures import Figure, Panel, _axes, _key, _labels, _look, _runs
from isoflop.report.figures._axes import Domain, Row
from isoflop.report.figures._labels import Named, Plot
from isoflop.report.results import Findings, LossLaw
from isoflop.runs import Runs

Floats = NDArray[np.float64]

NUMBER = 7
TITLE = "Residuals"

_ALT = "Observed over fitted loss in percent, a mark for each run and approach, against parameters, tokens and compute."
_TITLES = {"params": "parameters", "tokens": "tokens", "flops": "training compute (FLOPs)"}
_FAR = 10.0  # times the median residual: farther runs are named, and do not widen the frame (assumption: of normal noise one in 1e11 is so far off)
_NAMED = 4  # runs at most
_EDGE = 0.97  # of the way to the edge: where a run outside the frame is drawn
_WIDTHS, _HEIGHT = (225.0, 290.0, 330.0), 300.0  # pixels of a panel: in a picture, in three columns, on a telephone
_TYPE = 10.0


class Left(NamedTuple):
    """What one fit leaves of the runs."""

    fit: Fit
    mark: _look.Mark
    errors: Floats  # (runs,) percent; NaN where the fit says nothing
    counted: NDArray[np.bool_]  # (runs,) whether the run was fitted


class Far(NamedTuple):
    """A run that is named."""

    run: int
    error: float  # percent
    seen: float  # percent at which it is drawn
    height: float  # of that, from -1 at the lower edge to 1


def draw(results: Findings) -> Figure:
    """Three panels of the same residuals."""
    marks = _look.marks([(fit.approach, fit.form if fit.approach == "parametric" else "") for fit in results.fits])
    every = [_left(results.runs, fit, mark) for fit, mark in zip(results.fits, marks, strict=True)]
    some = [one for one in every if np.isfinite(one.errors).any()]
    if not some:
        return Figure(caption="Nothing is drawn, for no fit left residuals.", alt=_ALT, panels=())
    limit = _limit(some)
    panels = tuple(Panel(title=f"Against {_TITLES[q].partition(' (')[0]}", chart=_panel(results.runs, some, q, limit)) for q in _TITLES)
    return Figure(caption=_caption(results, some, every, limit), alt=_ALT, panels=panels)


def _left(runs: Runs, fit: Fit, mark: _look.Mark) -> Left:
    """Residuals of the runs fitted, and of those set aside where the law says the loss of any model."""
    aside = np.isin(runs.ids, list(_runs.names_aside(fit)))
    logs = np.full(len(runs), np.nan)
    for rows in (np.ones(len(runs), dtype=bool), ~aside):  # a fit counts the runs that were set aside among its residuals, or does not
        if rows.sum() == fit.residuals.size:
            logs[rows] = fit.residuals
            break
    unknown = aside & ~np.isfinite(logs)
    if unknown.any() and isinstance(fit.law, LossLaw):
        logs[unknown] = np.log(runs.loss / fit.law.loss(runs.params, runs.tokens))[unknown]
    return Left(fit, mark, 100 * np.expm1(logs), ~aside)


def _limit(some: Sequence[Left]) -> float:
    """Percent from the middle to the edge of the frame: what holds all but the far-off runs of each fit."""
    inside = [1e-3 / 1.12]
    for one in some:
        sizes = np.abs(one.errors[np.isfinite(one.errors)])
        inside.append(float(sizes[sizes <= _FAR * max(float(np.median(sizes)), 1e-9)].max(initial=0.0)))
    return 1.12 * max(inside)


def _panel(runs: Runs, some: Sequence[Left], quantity: str, limit: float) -> alt.LayerChart:
    values = getattr(runs, quantity)
    limits = _axes.domain(values)
    x = _axes.flops(quantity, limits) if quantity == "flops" else _axes.count_x(quantity, limits, title=_TITLES[quantity])
    at = {"x": x, "y": _axes.percent("error", limit, title="observed over fitted loss")}
    zero = _axes.layer([{"error": 0.0}], alt.MarkDef(type="rule", color=_look.MUTED, strokeWidth=1), {"y": at["y"]})
    layers = [layer for one in some for layer in _marks(runs, one, limit, at)]
    names = _names(runs, _farthest(some, limit), quantity, limits, at)
    legend = [_key.key([one.mark for one in some], at, (quantity, "error"))] if quantity == "params" else []
    return _axes.plot([zero, *layers, *names, *legend])


def _marks(runs: Runs, one: Left, limit: float, at: Mapping[str, object]) -> list[alt.Chart]:
    """Runs fitted and runs set aside, those outside the frame at its edge."""
    loss, tips = _axes.tip_loss(title=_axes.loss_in(runs.unit)), _runs.tooltip(runs)[:-1]
    tooltip = [alt.Tooltip("run:N", title="run"), alt.Tooltip("by:N", title="fit"), *tips, loss, alt.Tooltip("off:Q", title="off by (%)", format="+.3~g")]
    rows = list(_rows(runs, one, limit))
    kept, aside = [row for row in rows if row["counted"]], [row for row in rows if not row["counted"]]
    faint = 0.75 if len(kept) < 100 else 0.45
    dots = alt.MarkDef(type="point", shape=one.mark.marker, filled=True, size=26, opacity=faint, color=one.mark.color)
    crosses = alt.MarkDef(type="point", shape=_look.CROSS, size=26, strokeWidth=1.8, color=_look.INK, opacity=1)
    return [_axes.layer(some, mark, {**at, "tooltip": tooltip}) for some, mark in ((kept, dots), (aside, crosses)) if some]


def _rows(runs: Runs, one: Left, limit: float) -> Iterator[Row]:
    known = np.flatnonzero(np.isfinite(one.errors))
    for i in known[_runs.drawn(known.size)]:
        row = {"run": runs.ids[i], "by": one.mark.label, "params": runs.params[i], "tokens": runs.tokens[i], "flops": runs.flops[i], "loss": runs.loss[i]}
        yield {**row, "off": one.errors[i], "error": _seen(one.errors[i], limit), "counted": bool(one.counted[i])}


def _seen(error: float, limit: float) -> float:
    return float(np.clip(error, -_EDGE * limit, _EDGE * limit))


def _names(runs: Runs, far: Sequence[Far], quantity: str, limits: Domain, at: Mapping[str, object]) -> list[alt.Chart]:
    """The runs that are farthest off, by name, where there is room."""
    values = getattr(runs, quantity)
    plots = [Plot(limits, (math.exp(-1), math.e), width, _HEIGHT) for width in _WIDTHS]  # the errors are no logs: their place in the frame is made one
    points = [Named(float(values[one.run]), math.exp(one.height), _runs.short(runs.ids[one.run], 18)) for one in far]
    layers = []
    for one, point, place in zip(far, points, _labels.places(points, marks=(), plots=plots, size=_TYPE), strict=True):
        if place is not None and not _labels.distant(place):
            rows = [{quantity: values[one.run], "error": one.seen, "text": point.text}]
            layers += _axes.label(rows, {"x": at["x"], "y": at["y"]}, place)
    return layers


def _farthest(some: Sequence[Left], limit: float) -> list[Far]:
    """Runs set aside or outside the frame, the farthest first, each once; a run that several fits miss, by the farthest miss."""
    found: dict[int, float] = {}
    for one in some:
        for i in np.flatnonzero(np.isfinite(one.errors) & (~one.counted | (np.abs(one.errors) > limit))):
            found[int(i)] = max(found.get(int(i), 0.0), float(one.errors[i]), key=abs)
    first = sorted(found.items(), key=lambda item: (-abs(item[1]), item[0]))[:_NAMED]
    return [Far(i, error, _seen(error, limit), _seen(error, limit) / limit) for i, error in first]


def _caption(results: Findings, some: Sequence[Left], every: Sequence[Left], limit: float) -> str:
    said = "; ".join(f"{one.mark.label} ({_law(one.fit)}{_count(one)} runs, half of them within {_middle(one):.2g} %)" for one in some)
    silent = ", ".join(one.mark.label for one in every if not np.isfinite(one.errors).any())
    words = f"How far the loss of each of {len(results.runs)} runs lies from what was fitted, by {said}.{_runs.few(results.runs)}"
    words += f" Without residuals: {silent}." if silent else ""
    far = _farthest(some, limit)
    if far:
        named = ", ".join(f"{_runs.short(results.runs.ids[one.run])} ({one.error:+.3g} %)".replace("-", "\u2212") for one in far)
        words += f" Farthest off of the runs that were set aside (crosses) or lie outside the frame (drawn at its edge): {named}."
    held = "how far off predictions are is in the errors against reach" if results.holdout and results.holdout.trials else "nothing was held out"
    return f"{words} These errors are in sample: {held}.{_runs.dropped(results.runs, some[0].fit)}"


def _law(fit: Fit) -> str:
    return "" if fit.approach == "parametric" else "power laws, " if fit.form == "powerlaw" else f"{fit.form}, "


def _count(one: Left) -> int:
    return int((np.isfinite(one.errors) & one.counted).sum())


def _middle(one: Left) -> float:
    """Percent within which half of the runs fitted lie."""
    sizes = np.abs(one.errors[np.isfinite(one.errors) & one.counted])
    return float(np.median(sizes)) if sizes.size else 0.0
