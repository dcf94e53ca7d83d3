"""Figure 4: the loss as a function of compute and size, and its slices at each budget (Hoffmann et al. 2022, Figure 4; Approach 3)."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np

from isoflop.fit.result import Fit
from isoflop.laws import Floats
from isoflop.laws.chinchilla import Chinchilla
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look, _runs
from isoflop.report.figures._axes import Domain, Place, Row
from isoflop.report.laws import constants_of
from isoflop.report.results import Findings, LossLaw, fit_of, missing
from isoflop.runs import Runs

NUMBER = 4
TITLE = "Parametric fit"

_ALT = "Lines of equal loss over training compute and parameters with the efficient frontier, and loss against parameters at each budget."
_LEVELS = 16  # lines of equal loss, at most
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # round distances between them, in the unit of the loss
_FINE, _CORNER = 401, 0.02  # sizes at which a line of equal loss is looked up, and shares of the frame from one corner of it to the next
_POINTS = 25  # of the frontier, which bends where the law is not a plain sum
_ABOVE = 1.02  # of the largest loss among the runs: what is higher is cut
_SLICES = 6  # where there are too many budgets for a line each
_FULL = 3  # runs that make a budget one to slice at
_SIDE = math.log(1.3)  # either side of a budget, runs show which sizes are drawn there
_NARROW = 4.0  # sizes that span less show no valley: all sizes are drawn instead


def draw(results: Findings) -> Figure:
    """Lines of equal loss with the efficient frontier and the runs, and the slices at each budget."""
    fit = fit_of(results, "parametric")
    if fit is None or not isinstance(fit.law, LossLaw):
        why = missing(results, "parametric") if fit is None else f"{fit.form} says no loss of every size."
        return Figure(caption=f"Nothing is drawn, for Approach 3 is missing: {why}", alt=_ALT, panels=())
    panels = (Panel(title="Lines of equal loss", chart=_plane(results, fit, fit.law)), Panel(title="IsoFLOP slices", chart=_slices(results, fit, fit.law)))
    return Figure(caption=_caption(results, fit), alt=_ALT, panels=panels)


class _Plane(NamedTuple):
    """What is seen: a law over a stretch of compute and of params."""

    law: LossLaw
    flops: Domain
    params: Domain

    def reaches(self, params: Floats, levels: Sequence[float]) -> Floats:
        """(levels, sizes) FLOPs at which each size reaches each loss; NaN where it does not.

        Read off a fine grid along which loss only falls; beyond the edges too, for the plot cuts.
        """
        budgets = np.geomspace(self.flops[0] / 4, self.flops[1] * 4, 241)
        losses = np.minimum.accumulate(self.law.loss(params[:, None], self.law.cost.tokens(params[:, None], budgets)), axis=1)
        found = np.stack([[np.interp(-loss, -row, np.log(budgets), np.nan, np.nan) for row in losses] for loss in levels]) if levels else np.empty((0, 0))
        return np.asarray(np.exp(found))

    def levels(self) -> list[float]:
        """Round losses, evenly spaced, from the best in the plane to somewhat worse than the best at its smallest budget."""
        sizes = np.geomspace(*self.params, 61)
        best = float(self.law.loss(sizes, self.law.cost.tokens(sizes, self.flops[1])).min())
        worst = float(self.law.loss(sizes, self.law.cost.tokens(sizes, self.flops[0])).min()) * 1.12
        step = next((s for s in _STEPS if (worst - best) / s <= _LEVELS), _STEPS[-1])
        return [round(i * step, 6) for i in range(int(best / step) + 1, int(worst / step) + 1)]


def _plane(results: Findings, fit: Fit, law: LossLaw) -> alt.LayerChart:
    runs = results.runs
    c_limits = (float(runs.flops.min()) / 1.8, max(float(runs.flops.max()), results.target or 0.0) * 1.9)
    plane = _Plane(law, c_limits, _axes.domain(runs.params, _frontier.best(fit.law, np.array(c_limits), "params"), pad=0.06))
    x, y = _axes.flops("flops", plane.flops), _axes.count("params", plane.params, title="parameters")
    lines, tip = alt.MarkDef(type="line", strokeWidth=1, color="#b4b8bd", clip=True), _axes.tip_loss(title=_axes.loss_in(runs.unit))
    contours = _axes.layer(_equal_loss(plane), lines, {"x": x, "y": y, "order": "params:Q", "detail": "loss:N", "tooltip": [tip]})
    color = _axes.color("budget", runs.budget, title="budget (FLOPs)", kind="flops")
    rows, tips = _runs.rows(runs, apart=_runs.names_aside(fit)), _runs.tooltip(runs)
    points = _axes.layer(rows, alt.MarkDef(type="point", filled=True, size=34, opacity=1), {"x": x, "y": y, "color": color, "tooltip": tips})
    names = _axes.label(_names(plane, runs), {"x": x, "y": y}, Place(size=9.5), color=_look.MUTED)
    return _axes.plot([contours, *names, points, *_runs.set_aside(runs, fit, {"x": x, "y": y}), *_efficient(results, fit, plane, x, y)])


def _equal_loss(plane: _Plane) -> Iterator[Row]:
    sizes, levels = np.geomspace(*plane.params, _FINE), plane.levels()
    for loss, line in zip(levels, plane.reaches(sizes, levels), strict=True):
        last = None
        for params, flops in zip(sizes.tolist(), line.tolist(), strict=True):
            here = (_share(flops, plane.flops), _share(params, plane.params))
            if math.isfinite(flops) and (last is None or math.dist(here, last) > _CORNER):  # evenly along the line, which is steep here and flat there
                last = here
                yield {"flops": flops, "params": params, "loss": loss}


def _share(value: float, limits: Domain) -> float:
    return math.log(value / limits[0]) / math.log(limits[1] / limits[0])


def _names(plane: _Plane, runs: Runs) -> Iterator[Row]:
    """A name on some lines, in a row near the upper edge, each with room to the one before, to both edges and to the runs."""
    (left, right), (low, high) = plane.flops, plane.params
    at, room = high * (low / high) ** 0.05, (right / left) ** 0.085  # a label's width on a narrow screen
    beside = runs.flops[np.abs(np.log(runs.params / at)) < 0.04 * math.log(high / low)]
    last, levels = right, plane.levels()
    for loss, flops in zip(levels, plane.reaches(np.array([at]), levels).ravel().tolist(), strict=True):
        if left * room < flops < last / room and not (np.abs(np.log(beside / flops)) < math.log(room) / 2).any():
            last = flops
            yield {"flops": flops, "params": at, "text": f"{loss:.4g}"}


def _efficient(results: Findings, fit: Fit, plane: _Plane, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    color, layers = _look.APPROACH["parametric"].color, []
    for low, high, dash in ((plane.flops[0], fit.reach_flops, _look.SOLID), (fit.reach_flops, plane.flops[1], _look.DASHED)):
        budgets = np.geomspace(low, high, _POINTS)
        rows = [{"flops": c, "params": n} for c, n in zip(budgets, _frontier.best(fit.law, budgets, "params"), strict=True) if math.isfinite(n)]
        layers.append(_axes.layer(rows, alt.MarkDef(type="line", color=color, strokeWidth=2.2, strokeDash=dash, clip=True), {"x": x, "y": y}))
    optimum = _frontier.at_target(results, fit)
    if optimum:
        loss = _axes.tip_loss(title=_axes.loss_in(results.runs.unit))
        tooltip = [_axes.tip_flops("flops", "target (FLOPs)"), _axes.tip_count("params", "parameters"), loss]
        rows = [{"flops": results.target, "params": optimum[0], "loss": optimum[2]}]
        layers.append(_axes.layer(rows, _look.star(color), {"x": x, "y": y, "tooltip": tooltip}))
    return layers


def _slices(results: Findings, fit: Fit, law: LossLaw) -> alt.LayerChart:
    runs = results.runs
    most = _runs.losses(runs)[1]
    rows = [row for row in _slice_rows(runs, law, _budgets(runs)) if row["loss"] <= most * _ABOVE]
    x = _axes.count_x("params", _axes.domain(runs.params, [row["params"] for row in rows], pad=0.02))
    y = _axes.loss("loss", _runs.losses(runs, [row["loss"] for row in rows]), unit=runs.unit)
    chosen, bright = _axes.highlight("slice", "budget", faint=0.15)
    base = {"x": x, "y": y, "opacity": bright, "color": _axes.color("budget", runs.budget, title="budget (FLOPs)", kind="flops")}
    lines = _axes.layer(rows, alt.MarkDef(type="line", strokeWidth=1.6, clip=True), {**base, "detail": "budget:N"})
    dots = _runs.rows(runs, apart=_runs.names_aside(fit))
    points = _axes.layer(dots, alt.MarkDef(type="point", filled=True, size=40, clip=True), {**base, "tooltip": _runs.tooltip(runs)})
    return _axes.plot([lines, points.add_params(chosen), *_runs.set_aside(runs, fit, {"x": x, "y": y})])


def _budgets(runs: Runs) -> list[float]:
    """Those that are sliced at: all, or where they are many some of those with several runs."""
    values, counts = np.unique(runs.budget, return_counts=True)
    full = values[counts >= _FULL]
    values = values if values.size <= 10 or not full.size else full
    return [float(v) for v in (values if values.size <= 10 else values[_runs.drawn(values.size, _SLICES)])]


def _slice_rows(runs: Runs, law: LossLaw, budgets: list[float]) -> Iterator[Row]:
    for budget in budgets:
        there = runs.params[np.abs(np.log(runs.budget / budget)) < _SIDE]
        there = there if there.max() > _NARROW * there.min() else runs.params
        sizes = np.geomspace(there.min() / 1.25, there.max() * 1.25, 41)
        for params, loss in zip(sizes, law.loss(sizes, law.cost.tokens(sizes, budget)), strict=True):
            yield {"params": params, "loss": loss, "budget": budget}


def _formula(fit: Fit, unit: str) -> str:
    law = fit.law
    if isinstance(law, Chinchilla):
        return f"L(N, D) = {law.E:.3g} + {law.A:.3g} / N^{law.alpha:.3g} + {law.B:.3g} / D^{law.beta:.3g} in {_axes.short_unit(unit)}"
    constants = ", ".join(f"{name} {value:.3g}" for name, value in constants_of(law).items())
    return f"the law {fit.form} ({constants}) in {_axes.short_unit(unit)}"


def _caption(results: Findings, fit: Fit) -> str:
    star = "; the star is the target budget" if _frontier.at_target(results, fit) else ""
    return (
        f"Approach 3: {_formula(fit, results.runs.unit)}, from {fit.n_runs} runs by {fit.estimator}. Lines of equal loss: in grey, with the runs and the "
        f"efficient frontier (green), dashed beyond the largest run{star}. IsoFLOP slices: the law at "
        f"{'each budget' if len(_budgets(results.runs)) == np.unique(results.runs.budget).size else 'some budgets'} against the measured losses."
        f"{_runs.few(results.runs)}{_runs.left_out(results.runs, fit)}"
    )
