"""Figure 3: loss against size at each budget, the fitted valleys and their minima (Hoffmann et al. 2022, Figure 3; Approach 2)."""

from collections.abc import Iterator

import altair as alt

from isoflop import units
from isoflop.fit.result import Fit, Profile
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look, _runs
from isoflop.report.figures._axes import Row
from isoflop.report.results import Findings, fit_of, missing

NUMBER = 3
TITLE = "IsoFLOP profiles"

_ALT = "Loss against parameters, one valley for each compute budget with a star at its minimum, and the optimal parameters and tokens against compute."

_CROWD = 14  # budgets: where there are more, marks are smaller
_LISTED = 6  # budgets that the caption names


def draw(results: Findings) -> Figure:
    """The valleys, and how their minima move with compute."""
    fit = fit_of(results, "isoflop")
    panels = [Panel(title="IsoFLOP profiles", chart=_valleys(results, fit), weight=1.3)]
    if fit:
        panels += [Panel(title=f"Optimal {_frontier.TITLES[q]}", chart=_frontier.power_law(results, fit, q)) for q in _frontier.BOTH]
    return Figure(caption=_caption(results, fit), alt=_ALT, panels=tuple(panels))


def _valleys(results: Findings, fit: Fit | None) -> alt.LayerChart:
    profiles, runs = fit.profiles if fit else (), results.runs
    rows = list(_points(profiles)) or [{**row, "used": True} for row in _runs.rows(runs)]
    x = _axes.count_x("params", _axes.domain([row["params"] for row in rows]))
    y = _axes.loss("loss", _runs.losses(runs, [p.loss_opt for p in profiles if p.interior]), unit=runs.unit)
    color = _axes.color("budget", [row["budget"] for row in rows], title="budget (FLOPs)", kind="flops")
    chosen, bright = _axes.highlight("budget", "budget", faint=0.15)
    base = {"x": x, "y": y, "color": color, "opacity": bright}
    tooltip = [*_tips(runs.unit, "parameters", "tokens"), alt.Tooltip("used:N", title="in the fit")]
    star, dot = (240, 44) if len(profiles) <= _CROWD else (90, 22)
    filled = alt.MarkDef(type="point", filled=True, size=dot, clip=True)
    hollow = alt.MarkDef(type="point", filled=False, fill=_look.PAPER, size=0.8 * dot, strokeWidth=1.4, clip=True)
    minima = {"x": x, "y": y, "color": color, "tooltip": _tips(runs.unit, "best parameters", "on tokens")}
    return _axes.plot(
        [
            _axes.layer(_lines(profiles), alt.MarkDef(type="line", strokeWidth=1.6, clip=True), {**base, "detail": "budget:N"}),
            _axes.layer([row for row in rows if not row["used"]], hollow, {**base, "tooltip": tooltip}),
            _axes.layer([row for row in rows if row["used"]], filled, {**base, "tooltip": tooltip}).add_params(chosen),
            *_runs.set_aside(runs, fit, {"x": x, "y": y}),
            _axes.layer(_minima(profiles), _look.star(size=star), minima),
        ]
    )


def _tips(unit: str, params: str, tokens: str) -> list[alt.Tooltip]:
    loss = _axes.tip_loss(title=_axes.loss_in(unit))
    return [_axes.tip_flops("budget", "budget (FLOPs)"), _axes.tip_count("params", params), _axes.tip_count("tokens", tokens), loss]


def _points(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        for params, tokens, loss, used in zip(p.params, p.tokens, p.loss, p.used, strict=True):
            yield {"params": params, "tokens": tokens, "loss": loss, "budget": p.flops, "used": bool(used) and p.interior}


def _lines(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        if p.interior:
            for params, loss in zip(p.curve_params, p.curve_loss, strict=True):
                yield {"params": params, "loss": loss, "budget": p.flops}


def _minima(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        if p.interior:
            yield {"params": p.params_opt, "tokens": p.tokens_opt, "loss": p.loss_opt, "budget": p.flops}


def _caption(results: Findings, fit: Fit | None) -> str:
    if fit is None:
        words = f"Final losses of {len(results.runs)} runs.{_runs.few(results.runs)} Approach 2 is missing: {missing(results, 'isoflop')}"
        return words + _runs.left_out(results.runs, fit)
    without = [units.flops(p.flops) for p in fit.profiles if not p.interior]
    several = f"{', '.join(without[:_LISTED])}{f' and {len(without) - _LISTED} more' if len(without) > _LISTED else ''} FLOPs"
    left_out = f" Without a minimum inside, so left out of the fit: {several}." if without else ""
    return (
        f"Final losses of {fit.n_runs} runs at {len(fit.profiles)} budgets, seeds averaged. Lines go through the filled points ({fit.estimator}); "
        f"hollow ones were not used. Stars: the {len(fit.profiles) - len(without)} minima.{left_out} "
        "Optimal parameters and optimal tokens: the power laws of Approach 2 through the minima, "
        f"{_frontier.exponents(fit)}{_frontier.extras(results, fit)}{_runs.left_out(results.runs, fit)}"
    )
