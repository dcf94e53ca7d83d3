"""Figure 7: how far off predictions were when higher budgets were held out, against how far beyond the data they lie."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np
from numpy.typing import NDArray

from isoflop.fit import Trial
from isoflop.report.figures import Figure, Panel, _axes, _key, _look, _runs
from isoflop.report.figures._axes import Domain, Row
from isoflop.report.results import LEVEL, Findings

Floats = NDArray[np.float64]

NUMBER = 6
TITLE = "Error against reach"

_ALT = "Error of the predicted loss in percent against reach, a line for each way of fitting, and predicted over observed best size."
_STEP = math.log(1.5)  # of reach, within which trials are taken together for the line
_FAR = 12.0  # times the median error: what is farther is drawn at the edge (assumption)
_TOLD = 3  # candidates left out that the caption names
_EDGE = 0.97  # of the way to the edge
_CLOUD = 40  # trials of one candidate
_APART = 1.025  # so many times the reach each candidate stands from the next, so that their marks do not hide each other


class Candidate(NamedTuple):
    """One way of fitting, and how far off its predictions were."""

    mark: _look.Mark
    trials: tuple[Trial, ...]
    inside: Floats  # percent, of the runs that it was fitted to; empty where that is not known
    shift: float  # factor on the reach, for the eye


def draw(results: Findings) -> Figure:
    """The error of the loss, and the factor of the best size where it is known."""
    some = _candidates(results)
    if not some:
        return Figure(caption="Nothing is drawn, for no budget was held out.", alt=_ALT, panels=())
    farthest = max(trial.reach for one in some for trial in one.trials)
    limits = (0.85 / farthest**0.03, farthest * 1.12)  # with room for the tick at 1
    panels = [Panel(title="Predicted loss", chart=_losses(some, limits), weight=1.3)]
    if any(math.isfinite(trial.params_factor) for one in some for trial in one.trials):
        panels.append(Panel(title="Predicted best size", chart=_sizes(some, limits)))
    return Figure(caption=_caption(results, some), alt=_ALT, panels=tuple(panels))


def _candidates(results: Findings) -> list[Candidate]:
    if results.holdout is None:
        return []
    names = [name for name in results.holdout.candidates if any(_told(trial) for trial in results.holdout.of(name))]
    parts = [name.partition(" ")[::2] for name in names]
    marks, middle = _look.marks(parts), (len(names) - 1) / 2
    return [
        Candidate(mark, tuple(filter(_told, results.holdout.of(name))), _inside(results, *part), _APART ** (i - middle))
        for i, (name, part, mark) in enumerate(zip(names, parts, marks, strict=True))
    ]


def _told(trial: Trial) -> bool:
    return math.isfinite(trial.error) and math.isfinite(trial.reach) and trial.reach > 0


def _inside(results: Findings, approach: str, form: str) -> Floats:
    """Residuals in percent of the fit to all runs."""
    fit = next((fit for fit in results.fits if fit.approach == approach and form in {"", fit.form}), None)
    return np.empty(0) if fit is None else 100 * np.expm1(-fit.residuals[np.isfinite(fit.residuals)])  # as of trials: predicted over observed


def _losses(some: Sequence[Candidate], limits: Domain) -> alt.LayerChart:
    limit = _limit([100 * trial.error for one in some for trial in one.trials])
    at = {"x": _reach(limits), "y": _axes.percent("error", limit, title="predicted over observed loss")}
    zero = _axes.layer([{"error": 0.0}], alt.MarkDef(type="rule", color=_look.MUTED, strokeWidth=1), {"y": at["y"]})
    lines = [_line(one, _through(one, limit), at) for one in some]
    spans = [layer for one in some for layer in _span(one, limit, at)]
    dots = [_dots(one, ({"error": _seen(row["off"], limit), **row} for row in _rows(one)), at) for one in some]
    return _axes.plot([zero, *spans, *lines, *dots, _key.key([one.mark for one in some], at, ("reach", "error"))])


def _sizes(some: Sequence[Candidate], limits: Domain) -> alt.LayerChart:
    factors = np.array([trial.params_factor for one in some for trial in one.trials if math.isfinite(trial.params_factor)])
    most = float(np.exp(np.abs(np.log(factors)).max())) ** 1.1 * 1.05
    at = {"x": _reach(limits), "y": _axes.factor("factor", (1 / most, most), title="predicted over observed parameters")}
    one_to_one = _axes.layer([{"factor": 1.0}], alt.MarkDef(type="rule", color=_look.MUTED, strokeWidth=1), {"y": at["y"]})
    dots = [_dots(one, (row for row in _rows(one) if math.isfinite(row["factor"])), at) for one in some]
    return _axes.plot([one_to_one, *dots])


def _reach(limits: Domain) -> alt.X:
    return _axes.factor_x("reach", limits, title="reach (budget predicted over largest budget fitted)")


def _rows(one: Candidate) -> Iterator[Row]:
    for trial in one.trials:
        at = {"by": one.mark.label, "reach": trial.reach * one.shift, "times": trial.reach, "fitted": trial.fitted_flops, "flops": trial.flops}
        yield {**at, "off": 100 * trial.error, "factor": trial.params_factor}


def _dots(one: Candidate, rows: Iterator[Row], at: Mapping[str, object]) -> alt.Chart:
    budgets = [_axes.tip_flops("fitted", "fitted up to (FLOPs)"), _axes.tip_flops("flops", "predicted at (FLOPs)")]
    errors = [alt.Tooltip("off:Q", title="error of the loss (%)", format="+.3~g"), alt.Tooltip("factor:Q", title="factor of the size", format=".3~g")]
    tooltip = [alt.Tooltip("by:N", title="fit"), *budgets, alt.Tooltip("times:Q", title="reach", format=".3~g"), *errors]
    size, opacity = (34, 0.8) if len(one.trials) <= _CLOUD else (16, 0.4)  # many points make a cloud, and the line is what is seen
    mark = alt.MarkDef(type="point", shape=one.mark.marker, filled=True, size=size, opacity=opacity, color=one.mark.color)
    return _axes.layer(rows, mark, {**at, "tooltip": tooltip})


def _through(one: Candidate, limit: float) -> list[Row]:
    """Medians from the runs themselves, at reach 1, out to the farthest trials."""
    reach = np.array([trial.reach for trial in one.trials])
    error = np.array([100 * trial.error for trial in one.trials])
    step = np.round(np.log(reach) / _STEP)
    found = [(1.0, float(np.median(one.inside)))] if one.inside.size else []
    found += [(float(np.exp(np.log(reach[step == k]).mean())), float(np.median(error[step == k]))) for k in np.unique(step)]
    return [{"reach": at * one.shift, "error": _seen(value, limit)} for at, value in found]


def _line(one: Candidate, rows: list[Row], at: Mapping[str, object]) -> alt.Chart:
    return _axes.layer(rows, alt.MarkDef(type="line", color=one.mark.color, strokeWidth=1.8, strokeDash=one.mark.dash), at)


def _span(one: Candidate, limit: float, at: Mapping[str, object]) -> list[alt.Chart]:
    """At reach 1: between which errors most of the runs lie that the fit was made of."""
    if not one.inside.size:
        return []
    low, high = np.quantile(one.inside, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    rows = [{"reach": one.shift, "error": _seen(float(low), limit), "high": _seen(float(high), limit), "by": one.mark.label, "low": low, "up": high}]
    percentiles = [alt.Tooltip("low:Q", title="10th percentile (%)", format="+.3~g"), alt.Tooltip("up:Q", title="90th percentile (%)", format="+.3~g")]
    tooltip = [alt.Tooltip("by:N", title="in sample"), *percentiles]
    return [_axes.layer(rows, alt.MarkDef(type="rule", color=one.mark.color, strokeWidth=4, opacity=0.45), {**at, "y2": "high:Q", "tooltip": tooltip})]


def _limit(errors: Sequence[float]) -> float:
    sizes = np.abs(np.array(errors))
    return max(1.15 * float(sizes[sizes <= _FAR * max(float(np.median(sizes)), 1e-9)].max(initial=0.0)), 1e-3)


def _seen(error: float, limit: float) -> float:
    return float(np.clip(error, -_EDGE * limit, _EDGE * limit))


def _caption(results: Findings, some: Sequence[Candidate]) -> str:
    holdout, trials = results.holdout, [trial for one in some for trial in one.trials]
    assert holdout is not None
    farthest, limit = max(trial.reach for trial in trials), _limit([100 * trial.error for trial in trials])
    ways = "; ".join(one.mark.label for one in some)
    words = (
        f"Fits to the lower budgets of {len(results.runs)} runs predict the higher ones, by {ways}: {len(trials)} trials, up to "
        f"{farthest:.3g} times beyond the data. Lines join the medians; at reach 1 a bar spans the middle 80 % of the errors of the runs "
        "that each was fitted to. Predicted best size: where a budget has a minimum of its own to compare with."
    )
    outside = sum(abs(100 * trial.error) > limit for trial in trials)
    words += f" Outside the frame, and drawn at its edge: {outside} of the trials." if outside else ""
    untried = "; ".join(f"{_runs.short(name, 40)}, for {_runs.short(reason.partition('. ')[0].rstrip('.'), 90)}" for name, reason in holdout.left_out[:_TOLD])
    more = len(holdout.left_out) - _TOLD
    words += f" Left out where they could not be fitted: {untried}{f'; and {more} more' if more > 0 else ''}." if untried else ""
    return words + (f" The forecast: {results.forecast.why.rstrip('.')}." if results.forecast else "")
