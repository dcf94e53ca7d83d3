"""How the optimum moves with compute: the layers that Figures 1 to 3 share."""

import warnings
from collections.abc import Mapping
from typing import Literal

import altair as alt
import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import FitError
from isoflop.fit.result import Fit, Frontier, fewest
from isoflop.laws import Allocation, Law
from isoflop.report.figures import _axes, _look
from isoflop.report.figures._axes import Domain, Place
from isoflop.report.results import LEVEL, Findings, plan_of

Floats = NDArray[np.float64]
Quantity = Literal["params", "tokens"]
BOTH: tuple[Quantity, ...] = ("params", "tokens")
TITLES = {"params": "parameters", "tokens": "tokens"}
_GRID = 33  # points along a line that is straight in log-log, or nearly
_MOST_POINTS = 90  # of Approach 1's many hundred; more overlap


def compute_limits(found: Findings) -> Domain:
    """From the smallest run to beyond the largest and the target, with room for a label."""
    low, high = float(found.runs.flops.min()), float(found.runs.flops.max())
    return (low / 1.6, max(found.target or 0.0, high) * 2.6)


def grid(limits: Domain, reach: float) -> Floats:
    """Budgets from the low end to just short of the high end, the end of the data among them."""
    return np.unique(np.append(np.geomspace(limits[0] * 1.3, limits[1] / 1.2, _GRID), reach))


def column(source: Allocation | Frontier, quantity: Quantity) -> Floats:
    """Params or tokens of optima."""
    return np.asarray(source.params if quantity == "params" else source.tokens, dtype=float)


def best(law: Law, budgets: Floats, quantity: Quantity) -> Floats:
    """Optimal params or tokens; NaN where the law has no optimum."""
    try:
        return column(law.optimum(budgets), quantity)
    except FitError:
        return np.full(1, np.nan) if budgets.size == 1 else np.concatenate([best(law, one, quantity) for one in budgets[:, None]])


def band(fit: Fit, quantity: Quantity, budgets: Floats) -> tuple[Floats, Floats]:
    """10th and 90th percentile of the optimum over the resamples at each budget; empty where there are too few to tell."""
    if len(fit.resamples) < fewest(LEVEL):
        return np.empty(0), np.empty(0)
    values = np.stack([best(law, budgets, quantity) for law in fit.resamples])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # budgets at which no resample has an optimum
        low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def lines(fit: Fit, quantity: Quantity, limits: Domain, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """A fit's band and line, dashed beyond the largest run."""
    look, budgets = _look.APPROACH[fit.approach], grid(limits, fit.reach_flops)
    optimum = best(fit.law, budgets, quantity)
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


def power_law(found: Findings, fit: Fit, quantity: Quantity) -> alt.LayerChart:
    """The optima that a fit was drawn through, its line, and a star at the target."""
    (low, high), optima = compute_limits(found), column(fit.frontier, quantity)
    limits = (min(low, float(fit.frontier.flops.min()) / 1.6), high)  # an envelope may begin inside its runs
    budgets = grid(limits, fit.reach_flops)
    y_limits = _axes.domain(optima, best(fit.law, budgets, quantity), *band(fit, quantity, budgets), pad=0.06)
    x, y = _axes.flops("flops", limits), _axes.count("value", y_limits, title=TITLES[quantity])
    return _axes.plot([*lines(fit, quantity, limits, x, y), _optima(fit, quantity, x, y), *_named(found, fit, quantity, {"x": x, "y": y})])


def at_target(found: Findings, fit: Fit) -> tuple[float, float, float] | None:
    """Params, tokens and loss at the target: of the plan, or of the fit itself where none was made; None without a target."""
    plan = plan_of(found, fit.approach)
    if plan:
        return plan.params, plan.tokens, plan.loss
    if found.target is None or found.plans:  # a study whose plan leaves this approach out has said why
        return None
    try:
        optimum = fit.law.optimum(found.target)
    except FitError:
        return None
    return float(optimum.params), float(optimum.tokens), float(optimum.loss)


def _optima(fit: Fit, quantity: Quantity, x: alt.X, y: alt.Y) -> alt.Chart:
    found, look = column(fit.frontier, quantity), _look.APPROACH[fit.approach]
    thin = np.unique(np.linspace(0, found.size - 1, min(found.size, _MOST_POINTS)).astype(int))
    rows = [{"flops": fit.frontier.flops[i], "value": found[i]} for i in thin]
    size, opacity = (46, 0.9) if thin.size < 20 else (16, 0.45)  # many points make a cloud
    mark = alt.MarkDef(type="point", shape=look.marker, filled=True, size=size, opacity=opacity, color=look.color, clip=True)
    return _axes.layer(rows, mark, {"x": x, "y": y, "tooltip": [_axes.tip_flops("flops"), _axes.tip_count("value", TITLES[quantity])]})


def star(found: Findings, fit: Fit, quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    """The optimum at the target; nothing without one."""
    optimum, look = at_target(found, fit), _look.APPROACH[fit.approach]
    if optimum is None:
        return []
    rows = [{"flops": found.target, "value": optimum[BOTH.index(quantity)], "by": look.label}]
    tooltip = [alt.Tooltip("by:N", title="fit"), _axes.tip_flops("flops", "target (FLOPs)"), _axes.tip_count("value", TITLES[quantity])]
    return [_axes.layer(rows, _look.star(look.color), {**at, "tooltip": tooltip})]


def _named(found: Findings, fit: Fit, quantity: Quantity, at: Mapping[str, object]) -> list[alt.Chart]:
    """The star with its value."""
    optimum, color = at_target(found, fit), _look.APPROACH[fit.approach].color
    if optimum is None:
        return []
    value = optimum[BOTH.index(quantity)]
    rows = [{"flops": found.target, "value": value, "text": units.count(value)}]
    return [*star(found, fit, quantity, at), *_axes.label(rows, at, Place(dx=6, dy=15, align="left"), color=color)]


def exponents(fit: Fit) -> str:
    """N_opt and D_opt as powers of compute, where they are."""
    if not (np.isfinite(fit.law.a) and np.isfinite(fit.law.b)):
        return "whose exponents change with compute"
    return f"N_opt \u221d C^{fit.law.a:.2f} and D_opt \u221d C^{fit.law.b:.2f}"


def extras(found: Findings, fit: Fit) -> str:
    """What else is seen beside a fit's line: intervals and a star."""
    words = ", with 80 % intervals" if fit.resamples else ""
    return words + ("; the star is the target budget." if at_target(found, fit) else ".")
