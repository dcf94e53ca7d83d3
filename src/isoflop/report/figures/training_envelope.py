"""Figure 2: every training curve over its compute, and the optima on their lower envelope (Hoffmann et al. 2022, Figure 2; Approach 1)."""

import math
from collections.abc import Iterator

import altair as alt
import numpy as np

from isoflop.fit.result import Fit
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look
from isoflop.report.figures._axes import Row
from isoflop.report.results import Results
from isoflop.runs import Curve, Runs

NUMBER = 2
TITLE = "Training curve envelope"

_ALT = "Smoothed training loss against compute, a curve for each run, and the optimal parameters and tokens on the curves' lower envelope."
_POINTS = 60  # a curve, log-spaced: what a screen can show of thousands of steps
_WIDTH = 0.1  # of the Gaussian that a curve is smoothed by, in log tokens; assumption: by less, the noise of small batches hides the curves
_SHOWN = 1.9  # losses up to this many times the lowest final loss; the first steps of all curves are alike
_DOTS = 60  # of the envelope's many hundred


def draw(results: Results) -> Figure:
    """Loss against compute of all curves, and how the envelope's optima move with compute."""
    fit = results.fit("envelope")
    curves = [_smoothed(curve, loss) for curve, loss in zip(results.runs.curves, results.runs.loss, strict=True)]
    whole = sum(curve.loss.size > 0 for curve in curves)
    if not whole:
        return Figure(caption="Nothing is drawn, for these runs came without whole training curves.", alt=_ALT, panels=())
    panels = [Panel(title="Training curves", chart=_curves(results, curves, fit), weight=1.3)]
    if fit:
        panels += [Panel(title=f"Optimal {_frontier.TITLES[q]}", chart=_frontier.power_law(results, fit, q)) for q in _frontier.BOTH]
    return Figure(caption=_caption(results, whole, fit), alt=_ALT, panels=tuple(panels))


def _curves(results: Results, curves: list[Curve], fit: Fit | None) -> alt.LayerChart:
    runs, lowest = results.runs, float(results.runs.loss.min())
    highest = max(lowest * _SHOWN, float(np.median(runs.loss)) * 1.3)
    rows = list(_rows(results.runs, curves, highest))
    x = _axes.flops("flops", _axes.domain([row["flops"] for row in rows], pad=0.01))
    y = _axes.loss("loss", (lowest * 0.97, highest))
    chosen, bright = _axes.highlight("run", "run", faint=0.12)
    tooltip = [_axes.tip_count("params", "parameters"), _axes.tip_flops("flops"), _axes.tip_loss(title="training loss, smoothed")]
    color = _axes.color("params", runs.params, title="parameters", kind="count")
    encoding = {"x": x, "y": y, "detail": "run:N", "color": color, "opacity": bright, "tooltip": tooltip}
    lines = _axes.layer(rows, alt.MarkDef(type="line", strokeWidth=1.1, clip=True), encoding).add_params(chosen)
    return _axes.plot([lines, _envelope(fit, x, y)] if fit else [lines])


def _rows(runs: Runs, curves: list[Curve], highest: float) -> Iterator[Row]:
    for i, curve in enumerate(curves):
        for tokens, loss in zip(curve.tokens, curve.loss, strict=True):
            if loss < 1.1 * highest:  # more is off the chart
                yield {"run": i, "params": runs.params[i], "flops": runs.flops[i] * tokens / runs.tokens[i], "loss": loss}


def _smoothed(curve: Curve, final: float) -> Curve:
    """The curve for the eye: a Gaussian mean in log tokens at log-spaced points, made to end at the final loss; empty if it is not finite."""
    first = math.ceil(1 / _WIDTH)  # before, a width is less than a step
    if curve.loss.size <= first or not np.isfinite(curve.loss).all():
        return Curve(np.empty(0), np.empty(0))
    x = np.log(curve.tokens)
    at = np.linspace(x[first], x[-1], _POINTS)
    # steps lie ever closer in log tokens: each counts for the stretch that it covers
    weights = np.exp(-0.5 * ((at[:, None] - x) / _WIDTH) ** 2) / curve.tokens
    loss = weights @ curve.loss / weights.sum(axis=1)
    return Curve(np.exp(at), loss * final / loss[-1])


def _envelope(fit: Fit, x: alt.X, y: alt.Y) -> alt.Chart:
    found = fit.frontier
    thin = np.unique(np.linspace(0, found.flops.size - 1, min(found.flops.size, _DOTS)).astype(int))
    rows = [{"flops": found.flops[i], "loss": found.loss[i], "params": found.params[i], "tokens": found.tokens[i]} for i in thin]
    tooltip = [_axes.tip_flops("flops"), _axes.tip_count("params", "best parameters"), _axes.tip_count("tokens", "on tokens"), _axes.tip_loss()]
    mark = alt.MarkDef(type="point", size=13, filled=True, color=_look.INK, opacity=0.8, clip=True)
    return _axes.layer(rows, mark, {"x": x, "y": y, "tooltip": tooltip})


def _caption(results: Results, whole: int, fit: Fit | None) -> str:
    every = len(results.runs)
    drawn = every if whole == every else f"{whole} of {every}"
    words = f"Training loss of {drawn} runs, smoothed over a tenth of the tokens seen, ending at the final loss, coloured by parameters. "
    if fit is None:
        return words + f"Approach 1 is missing: {dict(results.left_out_fits).get('envelope', 'it was not asked for')}"
    return words + (
        f"Black points: the best run at each of {fit.frontier.flops.size} compute budgets. "
        f"Optimal parameters and optimal tokens: the power laws of Approach 1 through those points, "
        f"N_opt \u221d C^{fit.law.a:.2f} and D_opt \u221d C^{fit.law.b:.2f}, with 80 % intervals; "
        "the star is the target budget."
    )
