"""Figure 1: what every approach says is the best size for a budget, over each other (Hoffmann et al. 2022, Figure 1)."""

import math
from collections.abc import Mapping

import altair as alt
import numpy as np

from isoflop import units
from isoflop.published import kaplan
from isoflop.report import contenders
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look
from isoflop.report.figures._axes import Domain, Place
from isoflop.report.figures._frontier import Floats, Quantity
from isoflop.report.results import Findings, Results, proof_of
from isoflop.runs import RunRecord
from isoflop.validate import OPTIMUM, Contender, Validation

NUMBER = 1
TITLE = "Overlaid predictions"

_ALT = "Optimal parameters and tokens against training compute on log axes, a line for each approach."
_BELOW, _BESIDE = Place(dx=7, dy=15, align="left"), Place(dx=-10, dy=-2, align="right")


def draw(results: Findings) -> Figure:
    """Optimal params and tokens by compute, of all approaches, with Kaplan's slope and the models of the proof."""
    if not results.fits:
        return Figure(caption="Nothing is drawn, for no approach could be fitted.", alt=_ALT, panels=())
    panels = (
        Panel(title="Optimal model size", chart=_panel(results, "params", legend=True)),
        Panel(title="Optimal training tokens", chart=_panel(results, "tokens", legend=False)),
    )
    return Figure(caption=_caption(results), alt=_ALT, panels=panels)


def _panel(results: Findings, quantity: Quantity, *, legend: bool) -> alt.LayerChart:
    limits = _frontier.compute_limits(results)
    x, y = _axes.flops("flops", limits), _axes.count("value", _limits(results, quantity, limits), title=_frontier.TITLES[quantity])
    layers = [layer for fit in results.fits for layer in _frontier.lines(fit, quantity, limits, x, y)]
    layers += [_kaplan(results, quantity, limits, x, y), _end_of_data(results, x)]
    proof = proof_of(results)
    layers += [layer for c in proof.contenders for layer in _contender(results, proof, c, quantity, {"x": x, "y": y})] if proof else []
    layers += [] if isinstance(results, Results) else [layer for fit in results.fits for layer in _frontier.star(results, fit, quantity, {"x": x, "y": y})]
    return _axes.plot([*layers, _legend(results, x, y)] if legend else layers)


def _limits(results: Findings, quantity: Quantity, limits: Domain) -> Domain:
    optima = [_frontier.best(fit.law, _frontier.grid(limits, fit.reach_flops), quantity) for fit in results.fits]
    bands = [edge for fit in results.fits for edge in _frontier.band(fit, quantity, np.array(limits))]
    proof = proof_of(results)
    raced = [_value(contender.record, results, quantity) for contender in proof.contenders] if proof else []
    return _axes.domain(*optima, *bands, raced, _slope(results, quantity, limits[1])[1], pad=0.04)


def _slope(results: Findings, quantity: Quantity, far: float) -> tuple[Floats, Floats]:
    """Kaplan's exponents from the smallest optimum seen, as the proof's contender of that name is sized: both ends, in FLOPs and in the quantity."""
    plan = results.headline if isinstance(results, Results) else None
    start = next((fit for fit in results.fits if plan and fit.approach == plan.approach), results.fits[0]).frontier
    ends = np.array([start.flops[0], far], dtype=float)
    law = kaplan.through(float(start.flops[0]), float(start.params[0]), float(start.tokens[0]))
    return ends, _frontier.column(law.optimum(ends), quantity)


def _kaplan(results: Findings, quantity: Quantity, limits: Domain, x: alt.X, y: alt.Y) -> alt.Chart:
    ends = zip(*_slope(results, quantity, limits[1] / 1.2), strict=True)
    mark = alt.MarkDef(type="line", color=_look.KAPLAN, strokeWidth=1.5, strokeDash=_look.DOTTED, clip=True)
    return _axes.layer(({"flops": c, "value": v} for c, v in ends), mark, {"x": x, "y": y})


def _end_of_data(results: Findings, x: alt.X) -> alt.Chart:
    mark = alt.MarkDef(type="rule", color="#b9bbbe", strokeWidth=1)
    return _axes.layer([{"flops": float(results.runs.flops.max())}], mark, {"x": x, "tooltip": [_axes.tip_flops("flops", "largest run (FLOPs)")]})


def _contender(results: Findings, proof: Validation, contender: Contender, quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    record, optimum = contender.record, contender.label == OPTIMUM
    rows = [{"flops": record.flops, "value": _value(record, results, quantity), "loss": record.loss, "text": contenders.mark(proof, contender.label)}]
    tooltip = [alt.Tooltip("text:N", title="model"), _axes.tip_flops("flops"), _axes.tip_count("value", _frontier.TITLES[quantity]), _axes.tip_loss()]
    mark = _look.star(_look.INK) if optimum else _look.rival(contender.label)
    return [_axes.layer(rows, mark, {**at, "tooltip": tooltip}), *_axes.label(rows, at, _BELOW if optimum else _BESIDE)]


def _value(record: RunRecord, results: Findings, quantity: Quantity) -> float:
    return float(record.params.count(results.runs.convention)) if quantity == "params" else float(record.tokens)


def _legend(results: Findings, x: alt.X, y: alt.Y) -> alt.Chart:
    looks = [_look.APPROACH[fit.approach] for fit in results.fits]
    names = [*(look.label for look in looks), "Kaplan et al. 2020, slope"]
    scale = alt.Scale(domain=names, range=[*(look.color for look in looks), _look.KAPLAN])
    color = alt.Color("name:N", title=None, scale=scale, sort=names, legend=alt.Legend(symbolType="stroke", symbolStrokeWidth=2.5, columns=2))
    return _axes.layer(({"name": name, "flops": math.nan, "value": math.nan} for name in names), alt.MarkDef(type="line"), {"x": x, "y": y, "color": color})


def _caption(results: Findings) -> str:
    drawn = ", ".join(f"{_look.APPROACH[fit.approach].label} ({_look.APPROACH[fit.approach].method})" for fit in results.fits)
    words = (
        f"Optimal size and tokens by {drawn}, from {len(results.runs)} runs; each line turns dashed beyond the largest run (thin vertical line), "
        "and bands are 80 % intervals. Dotted: the slope of Kaplan et al. 2020 from the smallest optimum seen."
    )
    proof = proof_of(results)
    if proof:
        words += f" Marks: the models trained to prove it at {units.flops(proof.flops)} FLOPs."
    elif not isinstance(results, Results) and results.target is not None:
        words += f" Stars: the optima at the target, {units.flops(results.target)} FLOPs."
    missing = [look.label for approach, look in _look.APPROACH.items() if approach in dict(results.left_out_fits)]
    return words + (f" Left out: {', '.join(missing)}, which could not be fitted." if missing else "")
