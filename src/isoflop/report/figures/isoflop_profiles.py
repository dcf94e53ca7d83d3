"""Figure 3: loss against size at each budget, the parabolas and their minima (Hoffmann et al. 2022, Figure 3; Approach 2)."""

from collections.abc import Iterator

import altair as alt
import numpy as np

from isoflop import units
from isoflop.fit.result import Fit, Profile
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look
from isoflop.report.figures._axes import Row
from isoflop.report.results import Results

NUMBER = 3
TITLE = "IsoFLOP profiles"

_ALT = "Loss against parameters, one valley for each compute budget with a star at its minimum, and the optimal parameters and tokens against compute."


def draw(results: Results) -> Figure:
    """The valleys, and how their minima move with compute."""
    fit = results.fit("isoflop")
    panels = [Panel(title="IsoFLOP profiles", chart=_valleys(results, fit), weight=1.3)]
    if fit:
        panels += [Panel(title=f"Optimal {_frontier.TITLES[q]}", chart=_frontier.power_law(results, fit, q)) for q in _frontier.BOTH]
    return Figure(caption=_caption(results, fit), alt=_ALT, panels=tuple(panels))


def _valleys(results: Results, fit: Fit | None) -> alt.LayerChart:
    profiles = fit.profiles if fit else ()
    rows = list(_points(profiles)) or list(_runs(results))
    x = _axes.params_x("params", _axes.domain([row["params"] for row in rows]))
    y = _axes.loss("loss", _axes.domain([row["loss"] for row in rows], [p.loss_opt for p in profiles]))
    color = _axes.color("budget", [row["budget"] for row in rows], title="budget (FLOPs)", kind="flops")
    chosen, bright = _axes.highlight("budget", "budget", faint=0.15)
    base = {"x": x, "y": y, "color": color, "opacity": bright}
    tooltip = [*_tips("parameters", "tokens"), alt.Tooltip("used:N", title="in the parabola")]
    filled = alt.MarkDef(type="point", filled=True, size=44)
    hollow = alt.MarkDef(type="point", filled=False, fill=_look.PAPER, size=36, strokeWidth=1.4)
    return _axes.plot(
        [
            _axes.layer(_parabolas(profiles), alt.MarkDef(type="line", strokeWidth=1.6, clip=True), {**base, "detail": "budget:N"}),
            _axes.layer([row for row in rows if not row["used"]], hollow, {**base, "tooltip": tooltip}),
            _axes.layer([row for row in rows if row["used"]], filled, {**base, "tooltip": tooltip}).add_params(chosen),
            _axes.layer(_minima(profiles), _look.star(size=240), {"x": x, "y": y, "color": color, "tooltip": _tips("best parameters", "on tokens")}),
        ]
    )


def _tips(params: str, tokens: str) -> list[alt.Tooltip]:
    return [_axes.tip_flops("budget", "budget (FLOPs)"), _axes.tip_count("params", params), _axes.tip_count("tokens", tokens), _axes.tip_loss()]


def _points(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        for params, tokens, loss, used in zip(p.params, p.tokens, p.loss, p.used, strict=True):
            yield {"params": params, "tokens": tokens, "loss": loss, "budget": p.flops, "used": bool(used) and p.interior}


def _runs(results: Results) -> Iterator[Row]:
    runs = results.runs
    for i in range(len(runs)):
        yield {"params": runs.params[i], "tokens": runs.tokens[i], "loss": runs.loss[i], "budget": runs.budget[i], "used": True}


def _parabolas(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        if p.interior:
            sizes = np.geomspace(p.params[p.used].min(), p.params[p.used].max(), 41)
            for params, loss in zip(sizes, np.polyval(p.coefficients, np.log(sizes)), strict=True):
                yield {"params": params, "loss": loss, "budget": p.flops}


def _minima(profiles: tuple[Profile, ...]) -> Iterator[Row]:
    for p in profiles:
        if p.interior:
            yield {"params": p.params_opt, "tokens": p.tokens_opt, "loss": p.loss_opt, "budget": p.flops}


def _caption(results: Results, fit: Fit | None) -> str:
    if fit is None:
        return f"Final losses of {len(results.runs)} runs. Approach 2 is missing: {dict(results.left_out_fits).get('isoflop', 'it was not asked for')}"
    without = [units.flops(p.flops) for p in fit.profiles if not p.interior]
    left_out = f" Without a minimum inside, so left out of the fit: {', '.join(without)} FLOPs." if without else ""
    return (
        f"Final losses of {fit.n_runs} runs at {len(fit.profiles)} budgets, seeds averaged. Parabolas go through the filled points; hollow ones were not used. "
        f"Stars: the {len(fit.profiles) - len(without)} minima.{left_out} "
        f"Optimal parameters and optimal tokens: the power laws of Approach 2 through the minima, "
        f"N_opt \u221d C^{fit.law.a:.2f} and D_opt \u221d C^{fit.law.b:.2f}, with 80 % intervals; "
        "the star is the target budget."
    )
