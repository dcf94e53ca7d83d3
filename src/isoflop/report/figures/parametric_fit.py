"""Figure 4: the loss as a function of compute and size, and its slices at each budget (Hoffmann et al. 2022, Figure 4; Approach 3)."""

from collections.abc import Iterator
from typing import NamedTuple

import altair as alt
import numpy as np

from isoflop.fit.result import Fit
from isoflop.laws.chinchilla import Chinchilla
from isoflop.report.figures import Figure, Panel, _axes, _look
from isoflop.report.figures._axes import Domain, Place, Row
from isoflop.report.results import LossLaw, Results

NUMBER = 4
TITLE = "Parametric fit"

_ALT = "Lines of equal loss over training compute and parameters with the efficient frontier, and loss against parameters at each budget."
_LEVELS = 16  # lines of equal loss, at most
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # round distances between them, nats per token


def draw(results: Results) -> Figure:
    """Lines of equal loss with the efficient frontier and the runs, and the slices at each budget."""
    fit = results.fit("parametric")
    if fit is None or not isinstance(fit.law, LossLaw):
        why = dict(results.left_out_fits).get("parametric", "it was not asked for")
        return Figure(caption=f"Nothing is drawn, for Approach 3 is missing: {why}", alt=_ALT, panels=())
    panels = (Panel(title="Lines of equal loss", chart=_plane(results, fit, fit.law)), Panel(title="IsoFLOP slices", chart=_slices(results, fit.law)))
    return Figure(caption=_caption(fit), alt=_ALT, panels=panels)


class _Plane(NamedTuple):
    """What is seen: a law over a stretch of compute and of params."""

    law: LossLaw
    flops: Domain
    params: Domain

    def reaches(self, params: float, loss: float) -> float | None:
        """FLOPs at which a size reaches a loss: read off a fine grid along which loss only falls; beyond the edges too, for the plot cuts."""
        budgets = np.geomspace(self.flops[0] / 4, self.flops[1] * 4, 241)
        losses = self.law.loss(params, self.law.cost.tokens(params, budgets))
        if not losses[-1] <= loss <= losses[0]:
            return None
        return float(np.exp(np.interp(-loss, -losses, np.log(budgets))))

    def levels(self) -> list[float]:
        """Round losses, evenly spaced, from the best in the plane to somewhat worse than the best at its smallest budget."""
        sizes = np.geomspace(*self.params, 61)
        best = float(self.law.loss(sizes, self.law.cost.tokens(sizes, self.flops[1])).min())
        worst = float(self.law.loss(sizes, self.law.cost.tokens(sizes, self.flops[0])).min()) * 1.12
        step = next((s for s in _STEPS if (worst - best) / s <= _LEVELS), _STEPS[-1])
        return [round(i * step, 6) for i in range(int(best / step) + 1, int(worst / step) + 1)]


def _plane(results: Results, fit: Fit, law: LossLaw) -> alt.LayerChart:
    runs = results.runs
    c_limits = (float(runs.flops.min()) / 1.8, max(float(runs.flops.max()), results.study.target) * 1.9)
    plane = _Plane(law, c_limits, _axes.domain(runs.params, fit.law.optimum(np.array(c_limits)).params, pad=0.06))
    x, y = _axes.flops("flops", plane.flops), _axes.count("params", plane.params, title="parameters")
    lines = alt.MarkDef(type="line", strokeWidth=1, color="#b4b8bd", clip=True)
    contours = _axes.layer(_equal_loss(plane), lines, {"x": x, "y": y, "order": "params:Q", "detail": "loss:N", "tooltip": [_axes.tip_loss()]})
    color = _axes.color("budget", runs.budget, title="budget (FLOPs)", kind="flops")
    points = _axes.layer(_runs(results), alt.MarkDef(type="point", filled=True, size=34, opacity=1), {"x": x, "y": y, "color": color, "tooltip": _tooltip()})
    names = _axes.label(_names(plane), {"x": x, "y": y}, Place(size=9.5), color=_look.MUTED)
    return _axes.plot([contours, *names, points, *_efficient(results, fit, plane, x, y)])


def _equal_loss(plane: _Plane) -> Iterator[Row]:
    for loss in plane.levels():
        for params in np.geomspace(*plane.params, 61).tolist():
            flops = plane.reaches(params, loss)
            if flops is not None:
                yield {"flops": flops, "params": params, "loss": loss}


def _names(plane: _Plane) -> Iterator[Row]:
    """The loss of a line, written near the upper edge, where the plane is empty; of those lines that are far enough from their neighbour."""
    (left, right), (low, high) = plane.flops, plane.params
    at, room = high * (low / high) ** 0.05, (right / left) ** 0.085  # a label's width on a narrow screen
    last = right
    for loss in plane.levels():
        flops = plane.reaches(at, loss)
        if flops is not None and left * room < flops < last / room:
            last = flops
            yield {"flops": flops, "params": at, "text": f"{loss:.3g}"}


def _efficient(results: Results, fit: Fit, plane: _Plane, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    color, layers = _look.APPROACH["parametric"].color, []
    for low, high, dash in ((plane.flops[0], fit.reach_flops, _look.SOLID), (fit.reach_flops, plane.flops[1], _look.DASHED)):
        best = fit.law.optimum(np.geomspace(low, high, 9))
        rows = [{"flops": c, "params": n} for c, n in zip(best.flops, best.params, strict=True)]
        layers.append(_axes.layer(rows, alt.MarkDef(type="line", color=color, strokeWidth=2.2, strokeDash=dash, clip=True), {"x": x, "y": y}))
    plan = results.plan("parametric")
    if plan:
        tooltip = [_axes.tip_flops("flops", "target (FLOPs)"), _axes.tip_count("params", "parameters"), _axes.tip_loss()]
        rows = [{"flops": plan.flops, "params": plan.params, "loss": plan.loss}]
        layers.append(_axes.layer(rows, _look.star(color), {"x": x, "y": y, "tooltip": tooltip}))
    return layers


def _slices(results: Results, law: LossLaw) -> alt.LayerChart:
    runs = results.runs
    budgets = sorted(set(runs.budget.tolist()))
    rows = list(_slice_rows(results, law, budgets if len(budgets) <= 10 else budgets[:: len(budgets) // 5]))
    x = _axes.params_x("params", _axes.domain([row["params"] for row in rows], pad=0.02))
    y = _axes.loss("loss", _axes.domain(runs.loss, [row["loss"] for row in rows]))
    chosen, bright = _axes.highlight("slice", "budget", faint=0.15)
    base = {"x": x, "y": y, "opacity": bright, "color": _axes.color("budget", runs.budget, title="budget (FLOPs)", kind="flops")}
    lines = _axes.layer(rows, alt.MarkDef(type="line", strokeWidth=1.6, clip=True), {**base, "detail": "budget:N"})
    points = _axes.layer(_runs(results), alt.MarkDef(type="point", filled=True, size=40), {**base, "tooltip": _tooltip()})
    return _axes.plot([lines, points.add_params(chosen)])


def _slice_rows(results: Results, law: LossLaw, budgets: list[float]) -> Iterator[Row]:
    for budget in budgets:
        there = results.runs.params[results.runs.budget == budget]
        sizes = np.geomspace(there.min() / 1.25, there.max() * 1.25, 41)
        for params, loss in zip(sizes, law.loss(sizes, law.cost.tokens(sizes, budget)), strict=True):
            yield {"params": params, "loss": loss, "budget": budget}


def _runs(results: Results) -> Iterator[Row]:
    runs = results.runs
    for i in range(len(runs)):
        yield {"flops": runs.flops[i], "params": runs.params[i], "tokens": runs.tokens[i], "loss": runs.loss[i], "budget": runs.budget[i]}


def _tooltip() -> list[alt.Tooltip]:
    return [_axes.tip_flops("flops"), _axes.tip_count("params", "parameters"), _axes.tip_count("tokens", "tokens"), _axes.tip_loss()]


def _caption(fit: Fit) -> str:
    law, formula = fit.law, "a law of params and tokens"
    if isinstance(law, Chinchilla):
        formula = f"L(N, D) = {law.E:.3g} + {law.A:.3g} / N^{law.alpha:.3g} + {law.B:.3g} / D^{law.beta:.3g}"
    return (
        f"Approach 3: {formula}, from {fit.n_runs} runs by {fit.estimator}. Lines of equal loss: in grey (nats/token), with the runs and the efficient "
        "frontier (green), dashed beyond the largest run; the star is the target budget. IsoFLOP slices: the law at each budget against the measured losses."
    )
