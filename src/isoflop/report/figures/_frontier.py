"""How the optimum moves with compute: the layers that Figures 1 to 3 share."""

from typing import Literal

import altair as alt
import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.fit.result import Fit, Frontier
from isoflop.laws import Allocation
from isoflop.plan import Plan
from isoflop.report.figures import _axes, _look
from isoflop.report.figures._axes import Domain, Place
from isoflop.report.results import LEVEL, Results

Floats = NDArray[np.float64]
Quantity = Literal["params", "tokens"]
BOTH: tuple[Quantity, ...] = ("params", "tokens")
TITLES = {"params": "parameters", "tokens": "tokens"}
_GRID = 33  # points along a line that is straight in log-log, or nearly
_MOST_POINTS = 90  # of Approach 1's many hundred; more overlap


def compute_limits(results: Results) -> Domain:
    """From the smallest run to beyond the target, with room for a label."""
    low, high = float(results.runs.flops.min()), max(results.study.target, float(results.runs.flops.max()))
    return (low / 1.6, high * 2.6)


def grid(limits: Domain, reach: float) -> Floats:
    """Budgets from the low end to just short of the high end, the end of the data among them."""
    return np.unique(np.append(np.geomspace(limits[0] * 1.3, limits[1] / 1.2, _GRID), reach))


def column(source: Allocation | Frontier, quantity: Quantity) -> Floats:
    """Params or tokens of optima."""
    return np.asarray(source.params if quantity == "params" else source.tokens, dtype=float)


def band(fit: Fit, quantity: Quantity, budgets: Floats) -> tuple[Floats, Floats]:
    """10th and 90th percentile of the optimum over the resamples at each budget; empty where there are none."""
    if not fit.resamples:
        return np.empty(0), np.empty(0)
    values = np.stack([column(law.optimum(budgets), quantity) for law in fit.resamples])
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def lines(fit: Fit, quantity: Quantity, limits: Domain, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """A fit's band and line, dashed beyond the largest run."""
    look, budgets = _look.APPROACH[fit.approach], grid(limits, fit.reach_flops)
    optimum = column(fit.law.optimum(budgets), quantity)
    low, high = band(fit, quantity, budgets)
    shade = [{"flops": c, "low": lo, "high": hi} for c, lo, hi in zip(budgets, low, high, strict=False)]
    area = alt.MarkDef(type="area", color=look.color, opacity=_look.BAND, clip=True)
    layers = [_axes.layer(shade, area, {"x": x, "y": _axes.of(y, "low"), "y2": "high:Q"})] if shade else []
    tooltip = [alt.Tooltip("approach:N", title="fit"), _axes.tip_flops("flops"), _axes.tip_count("value", TITLES[quantity])]
    for part, dash in ((budgets <= fit.reach_flops, _look.SOLID), (budgets >= fit.reach_flops, _look.DASHED)):
        rows = [{"flops": c, "value": v, "approach": look.label} for c, v in zip(budgets[part], optimum[part], strict=True)]
        stroke = alt.MarkDef(type="line", color=look.color, strokeWidth=2, strokeDash=dash, clip=True)
        layers.append(_axes.layer(rows, stroke, {"x": x, "y": y, "tooltip": tooltip}))
    return layers


def power_law(results: Results, fit: Fit, quantity: Quantity) -> alt.LayerChart:
    """The optima that a fit was drawn through, its line, and a star at the target."""
    limits, found = compute_limits(results), column(fit.frontier, quantity)
    budgets = grid(limits, fit.reach_flops)
    y_limits = _axes.domain(found, column(fit.law.optimum(budgets), quantity), *band(fit, quantity, budgets), pad=0.06)
    x, y = _axes.flops("flops", limits), _axes.count("value", y_limits, title=TITLES[quantity])
    plan = results.plan(fit.approach)
    stars = _target(plan, quantity, x, y) if plan else []
    return _axes.plot([*lines(fit, quantity, limits, x, y), _optima(fit, quantity, x, y), *stars])


def _optima(fit: Fit, quantity: Quantity, x: alt.X, y: alt.Y) -> alt.Chart:
    found, look = column(fit.frontier, quantity), _look.APPROACH[fit.approach]
    thin = np.unique(np.linspace(0, found.size - 1, min(found.size, _MOST_POINTS)).astype(int))
    rows = [{"flops": fit.frontier.flops[i], "value": found[i]} for i in thin]
    size, opacity = (46, 0.9) if thin.size < 20 else (16, 0.45)  # many points make a cloud
    mark = alt.MarkDef(type="point", shape=look.marker, filled=True, size=size, opacity=opacity, color=look.color, clip=True)
    return _axes.layer(rows, mark, {"x": x, "y": y, "tooltip": [_axes.tip_flops("flops"), _axes.tip_count("value", TITLES[quantity])]})


def _target(plan: Plan, quantity: Quantity, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    value, look = plan.params if quantity == "params" else plan.tokens, _look.APPROACH[plan.approach]
    rows = [{"flops": plan.flops, "value": value, "text": units.count(value)}]
    tooltip = [_axes.tip_flops("flops", "target (FLOPs)"), _axes.tip_count("value", TITLES[quantity])]
    place = Place(dx=6, dy=15, align="left")
    return [_axes.layer(rows, _look.star(look.color), {"x": x, "y": y, "tooltip": tooltip}), *_axes.label(rows, {"x": x, "y": y}, place, color=look.color)]
