"""The paper's Figure 1 with published laws in place of a study's: what each says is best for a budget, and where known models stand (Hoffmann et al. 2022)."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np

from isoflop import units
from isoflop.compare import Model
from isoflop.laws import Law
from isoflop.plan.estimate import Estimate
from isoflop.published import Published
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _labels, _look
from isoflop.report.figures._axes import Domain, Place
from isoflop.report.figures._frontier import Quantity
from isoflop.report.figures._labels import Named

HEIGHT = 420  # pixels of the plot
# pixels of the plot in a picture; on a telephone, on a page of two columns and of one: names stand apart at each
STILL, LIVE = (396.0,), (315.0, 490.0, 780.0)
_TYPE = 10.5  # pixels, of the names
_PAPER: Domain = (1e17, 1e26)  # FLOPs: Hoffmann et al. 2022, Figure 1, and a decade for what came after
_GRID = 49  # points along a line that is straight in log-log, or nearly
_PARTS = {"below": (1.0, _look.SOLID), "inside": (2.2, _look.SOLID), "beyond": (2.0, _look.DASHED)}  # of the law's data: width, dash
_PAPERS = {"hoffmann1": _look.APPROACH["envelope"].color, "hoffmann2": _look.APPROACH["isoflop"].color, "hoffmann3": _look.APPROACH["parametric"].color}
_NEAR = 100.0  # times beyond the laws and the plan: a model farther off would press all else into a corner
# beside those of the approaches: told apart in the three common kinds of colour blindness by lightness, after Okabe and Ito 2008 and Tol 2021
_OTHERS = ("#882255", "#c99700", "#56b4e9", "#332288", "#e377c2", "#7a5230", "#0b3d2e", "#ee8866")
_ALT = "Optimal parameters and tokens against training compute on log axes, a line for each law, a point for each known model."


class Line(NamedTuple):
    """One law as it is drawn."""

    fit: Published
    law: Law
    color: str


def draw(estimates: Sequence[Estimate], models: Sequence[Model], *, rule: float | None, widths: Sequence[float] = LIVE) -> Figure:
    """Optimal params and tokens by compute, of all laws, with models, a star at each estimate, and a rule at the budget if it is one for all."""
    if not estimates:
        return Figure(caption="Nothing is drawn, for no law that was asked says a size.", alt=_ALT, panels=())
    lines, x, near = _lines([e.fit for e in estimates]), _compute(estimates, models), shown(estimates, models)
    stars = {"params": [Named(e.flops, e.params, e.fit.title) for e in estimates], "tokens": [Named(e.flops, e.tokens, e.fit.title) for e in estimates]}
    panels = (
        Panel(title="Optimal model size", chart=_panel(lines, near, stars["params"], rule=rule, quantity="params", limits=x, widths=widths)),
        Panel(title="Optimal training tokens", chart=_panel(lines, near, stars["tokens"], rule=rule, quantity="tokens", limits=x, widths=widths)),
    )
    return Figure(caption=_caption(lines, near, estimates, rule, left_out=len(models) - len(near)), alt=_ALT, panels=panels)


def shown(estimates: Sequence[Estimate], models: Sequence[Model]) -> list[Model]:
    """The models that are not too far from the laws' data and the plan."""
    x = _compute(estimates, models)
    return [m for m in models if x[0] <= m.flops <= x[1]]


def key(estimates: Sequence[Estimate], models: Sequence[Model], *, rule: float | None) -> str:
    """What the marks mean, for a picture that goes without its caption."""
    near = shown(estimates, models)
    words = ["thin: below the law's data", "dashed: beyond every run of it", "star: the plan"]
    words += [f"vertical line: {units.flops(rule)} FLOPs"] if rule else []
    words += ["point: known model"] if near else []
    words += ["diamond: mixture of experts, active parameters"] if any(m.all_params for m in near) else []
    return " \u00b7 ".join(words)


def _lines(fits: Sequence[Published]) -> list[Line]:
    """Laws with their colours: a study's own approaches keep theirs everywhere, and the paper's have them where no study is drawn."""
    names = {fit.name for fit in fits}
    own: dict[str, str] = {approach: look.color for approach, look in _look.APPROACH.items() if approach in names}
    fixed = own or _PAPERS
    spare, lines = iter(_OTHERS * (1 + len(fits) // len(_OTHERS))), []
    for fit in fits:
        assert fit.law is not None  # an estimate was made of it
        lines.append(Line(fit, fit.law, fixed.get(fit.name) or (_look.KAPLAN if fit.name == "kaplan" else next(spare))))
    return lines


def _compute(estimates: Sequence[Estimate], models: Sequence[Model]) -> Domain:
    """From the laws' data and the plan, with the models that are not too far from both."""
    asked = [e.flops for e in estimates]
    backed = [c for e in estimates for c in (e.fit.fitted_flops[0], e.fit.reach_flops) if math.isfinite(c)]
    low, high = min(asked + backed), max(asked + backed)
    near = [m.flops for m in models if low / _NEAR <= m.flops <= high * _NEAR]
    if high * 1000 > _PAPER[1]:  # among the models of the paper: as its figure
        return (min(_PAPER[0], *(c / 3 for c in asked)), max(_PAPER[1], *(c * 3 for c in asked + near)))
    return (low / 3, max([high, *near]) * 3)


def _panel(
    lines: Sequence[Line], models: Sequence[Model], optima: Sequence[Named], *, rule: float | None, quantity: Quantity, limits: Domain, widths: Sequence[float]
) -> alt.LayerChart:
    budgets = np.geomspace(*limits, _GRID)
    values = [_frontier.best(line.law, budgets, quantity) for line in lines]
    heights = _axes.domain(*values, [getattr(m, quantity) for m in models], [one.y for one in optima], pad=0.03)
    at = {"x": _axes.flops("flops", limits), "y": _axes.count("value", heights, title=_frontier.TITLES[quantity])}
    layers = [layer for line in lines for layer in _line(line, quantity, limits, at)]
    layers += [layer for line in lines if line.color == _look.KAPLAN for layer in _said(line, quantity, limits, at)]
    layers += [_rule(rule, at)] if rule else []
    layers += [*_points(models, quantity, at), *_stars(optima, [line.color for line in lines], quantity, at), *_rings(models, quantity, at)]
    layers += _names(models, quantity, [_labels.Plot(limits, heights, width, HEIGHT) for width in widths], optima, at)
    return _axes.plot([*layers, _legend(lines, at)] if quantity == "params" else layers)


def _line(line: Line, quantity: Quantity, limits: Domain, at: Mapping[str, object]) -> list[alt.Chart]:
    """Thin below the law's data, thick within, dashed beyond."""
    first, last = line.fit.fitted_flops[0], line.fit.reach_flops
    edges = (limits[0], first if math.isfinite(first) else limits[0], last if math.isfinite(last) else limits[0], limits[1])
    tooltip = [alt.Tooltip("law:N", title="law"), _axes.tip_flops("flops"), _axes.tip_count("value", f"optimal {_frontier.TITLES[quantity]}")]
    layers = []
    for (width, dash), low, high in zip(_PARTS.values(), edges, edges[1:], strict=False):
        ends = (max(low, limits[0]), min(high, limits[1]))
        if ends[0] < ends[1]:
            budgets = np.geomspace(*ends, _GRID)
            values = _frontier.best(line.law, budgets, quantity)
            rows = [{"flops": c, "value": v, "law": line.fit.title} for c, v in zip(budgets, values, strict=True) if math.isfinite(v)]
            mark = alt.MarkDef(type="line", color=line.color, strokeWidth=width, strokeDash=dash, clip=True)
            layers.append(_axes.layer(rows, mark, {**at, "tooltip": tooltip}))
    return layers


def _said(line: Line, quantity: Quantity, limits: Domain, at: Mapping[str, object]) -> list[alt.Chart]:
    """The law's title at its line: grey and the green of Approach 3 are nearly one to some eyes."""
    middle = math.sqrt(limits[0] * limits[1])
    rows = [{"flops": middle, "value": float(_frontier.best(line.law, np.array([middle]), quantity)[0]), "text": line.fit.title}]
    place = Place(-9, -5, "right", _TYPE) if quantity == "params" else Place(7, 12, "left", _TYPE)  # its line is the steepest of sizes, the flattest of tokens
    return _axes.label(rows, at, place, color=_look.MUTED)


def _rule(budget: float, at: Mapping[str, object]) -> alt.Chart:
    mark = alt.MarkDef(type="rule", color="#b9bbbe", strokeWidth=1)
    return _axes.layer([{"flops": budget}], mark, {"x": at["x"], "tooltip": [_axes.tip_flops("flops", "planned budget (FLOPs)")]})


def _stars(optima: Sequence[Named], colors: Sequence[str], quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    tooltip = [
        alt.Tooltip("law:N", title="law"),
        _axes.tip_flops("flops", "planned budget (FLOPs)"),
        _axes.tip_count("value", f"optimal {_frontier.TITLES[quantity]}"),
    ]
    return [
        _axes.layer([{"flops": one.x, "value": one.y, "law": one.text}], _look.star(color, size=290), {**at, "tooltip": tooltip})
        for one, color in zip(optima, colors, strict=False)
        if math.isfinite(one.y)
    ]


def _points(models: Sequence[Model], quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    counts = [_axes.tip_count("params", "parameters"), _axes.tip_count("tokens", "tokens")]
    tooltip = [alt.Tooltip("text:N", title="model"), *counts, _axes.tip_flops("flops", "FLOPs (6ND)")]
    layers = []
    for shape, sparse in (("circle", False), ("diamond", True)):
        some = [m for m in models if (m.all_params is not None) == sparse]
        rows = [{"flops": m.flops, "value": getattr(m, quantity), "text": m.title, "params": m.params, "tokens": m.tokens} for m in some]
        mark = alt.MarkDef(type="point", shape=shape, filled=True, size=52, opacity=1, color=_look.INK, stroke=_look.PAPER, strokeWidth=0.8)
        layers += [_axes.layer(rows, mark, {**at, "tooltip": tooltip})] if rows else []
    return layers


def _rings(models: Sequence[Model], quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    """The outlines of the points once more, over the stars that hide some."""
    shapes: dict[str, list[Model]] = {"circle": [], "diamond": []}
    for one in models:
        shapes["circle" if one.all_params is None else "diamond"].append(one)
    return [
        _axes.layer(
            [{"flops": m.flops, "value": getattr(m, quantity)} for m in some],
            alt.MarkDef(type="point", shape=shape, filled=False, size=44, opacity=1, color=_look.INK, strokeWidth=1.4),
            at,
        )
        for shape, some in shapes.items()
        if some
    ]


def _names(models: Sequence[Model], quantity: Quantity, plots: Sequence[_labels.Plot], optima: Sequence[Named], at: Mapping[str, object]) -> list[alt.Chart]:
    points = [Named(m.flops, getattr(m, quantity), m.title) for m in models]
    by_place: dict[Place, list[dict[str, object]]] = defaultdict(list)
    for point, place in zip(points, _labels.places(points, marks=optima, plots=plots, size=_TYPE), strict=True):
        if place is not None:
            by_place[place].append({"flops": point.x, "value": point.y, "text": point.text})
    leads = [_lead(rows, place, at) for place, rows in by_place.items() if _labels.distant(place)]
    return [*leads, *(layer for place, rows in by_place.items() for layer in _axes.label(rows, at, place))]


def _lead(rows: Sequence[dict[str, object]], place: Place, at: Mapping[str, object]) -> alt.Chart:
    mark = alt.MarkDef(type="rule", color=_look.MUTED, strokeWidth=0.7, x2Offset=place.dx, y2Offset=place.dy)
    ends = [{**row, "flops2": row["flops"], "value2": row["value"]} for row in rows]
    return _axes.layer(ends, mark, {**at, "x2": "flops2:Q", "y2": "value2:Q"})


def _legend(lines: Sequence[Line], at: Mapping[str, object]) -> alt.Chart:
    names = [line.fit.title for line in lines]
    scale = alt.Scale(domain=names, range=[line.color for line in lines])
    legend = alt.Legend(symbolType="stroke", symbolStrokeWidth=2.5, columns=1, labelLimit=370)
    color = alt.Color("name:N", title=None, scale=scale, legend=legend)  # no sort: Vega-Lite would make an expression of the titles
    return _axes.layer(({"name": name, "flops": math.nan, "value": math.nan} for name in names), alt.MarkDef(type="line"), {**at, "color": color})


def _caption(lines: Sequence[Line], models: Sequence[Model], estimates: Sequence[Estimate], rule: float | None, *, left_out: int) -> str:
    few = len(lines) <= len(_OTHERS)
    laws = "; ".join(line.fit.title for line in lines) if few else f"{len(lines)} published laws, named in the legend"
    words = f"Optimal size and tokens by {laws}. A line is thin below the law's data, and dashed where no run backs it. "
    if models:
        words += "Points are known models at 6ND FLOPs"
        words += ", a diamond a mixture of experts by its active params; " if any(m.all_params for m in models) else "; "
        words += "where a name has no room it is in the tooltip."
    if left_out:
        words += f" {left_out} known models lie far off and are not drawn." if left_out > 1 else " One known model lies far off and is not drawn."
    budgets = list(dict.fromkeys(units.flops(e.flops) for e in sorted(estimates, key=lambda e: e.flops)))
    planned = f"{units.flops(rule)} FLOPs (thin vertical line)" if rule else f"{' to '.join(budgets[:: max(1, len(budgets) - 1)])} FLOPs, as each law asks"
    words += f" Stars: the optima at the planned {planned}."
    if any("kaplan" in line.fit.name for line in lines):
        words += " Kaplan et al. count params without embeddings."
    return words.strip()
