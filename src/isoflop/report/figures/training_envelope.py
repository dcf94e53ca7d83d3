"""Figure 2: every training curve over its compute, and the optima on their lower envelope (Hoffmann et al. 2022, Figure 2; Approach 1)."""

import math
from collections.abc import Iterator

import altair as alt
import numpy as np

from isoflop.fit.result import Fit
from isoflop.report.figures import Figure, Panel, _axes, _frontier, _look, _runs
from isoflop.report.figures._axes import Row
from isoflop.report.results import Findings, fit_of, missing
from isoflop.runs import Curve, Runs

NUMBER = 2
TITLE = "Training curve envelope"

_ALT = "Smoothed training loss against compute, a curve for each run, and the optimal parameters and tokens on the curves' lower envelope."
_POINTS = 60  # a curve, log-spaced: what a screen can show of thousands of steps
_WIDTH = 0.1  # of the Gaussian that a curve is smoothed by, in log tokens; assumption: by less, the noise of small batches hides the curves
_SHOWN = 1.9  # losses up to this many times the lowest final loss; the first steps of all curves are alike
_DOTS = 60  # of the envelope's many hundred
_MOST = 150  # curves: more are one blot, and a page of 1 MB


def draw(results: Findings) -> Figure:
    """Loss against compute of all curves, and how the envelope's optima move with compute."""
    fit, runs = fit_of(results, "envelope"), results.runs
    whole = np.array([i for i, curve in enumerate(runs.curves) if curve.loss.size > 1 and np.isfinite(curve.loss).all()], dtype=np.intp)
    if not whole.size:
        return Figure(caption="Nothing is drawn, for these runs came without whole training curves.", alt=_ALT, panels=())
    shown = runs.take(whole[_runs.drawn(whole.size, _MOST)])
    panels = [Panel(title="Training curves", chart=_curves(shown, fit), weight=1.3)]
    if fit:
        panels += [Panel(title=f"Optimal {_frontier.TITLES[q]}", chart=_frontier.power_law(results, fit, q)) for q in _frontier.BOTH]
    return Figure(caption=_caption(results, len(shown), fit), alt=_ALT, panels=tuple(panels))


def _curves(runs: Runs, fit: Fit | None) -> alt.LayerChart:
    lowest = float(runs.loss.min())
    highest = max(lowest * _SHOWN, float(np.median(runs.loss)) * 1.3)
    rows = list(_rows(runs, highest))
    highest = min(highest, max([row["loss"] for row in rows], default=highest) * 1.02)
    x = _axes.flops("flops", _axes.domain([row["flops"] for row in rows], pad=0.01))
    y = _axes.loss("loss", (lowest * 0.97, highest), unit=runs.unit)
    chosen, bright = _axes.highlight("run", "run", faint=0.12)
    tooltip = [_axes.tip_count("params", "parameters"), _axes.tip_flops("flops"), _axes.tip_loss(title=_axes.loss_in(runs.unit, "training loss, smoothed"))]
    color = _axes.color("params", runs.params, title="parameters", kind="count")
    encoding = {"x": x, "y": y, "detail": "run:N", "color": color, "opacity": bright, "tooltip": tooltip}
    lines = _axes.layer(rows, alt.MarkDef(type="line", strokeWidth=1.1, clip=True), encoding).add_params(chosen)
    return _axes.plot([lines, _envelope(fit, x, y)] if fit else [lines])


def _rows(runs: Runs, highest: float) -> Iterator[Row]:
    for i, whole in enumerate(runs.curves):
        curve = _smoothed(whole, float(runs.loss[i]))
        for tokens, loss in zip(curve.tokens, curve.loss, strict=True):
            if loss < 1.1 * highest:  # more is off the chart
                yield {"run": i, "params": runs.params[i], "flops": runs.flops[i] * tokens / runs.tokens[i], "loss": loss}


def _smoothed(curve: Curve, final: float) -> Curve:
    """The curve for the eye: a Gaussian mean in log tokens at log-spaced points, made to end at the final loss; as it is where its points lie apart."""
    x, first = np.log(curve.tokens), math.ceil(1 / _WIDTH)  # before, a width is less than a step
    if curve.loss.size <= first + 1 or np.diff(x[first:]).max() > _WIDTH:
        return Curve(curve.tokens, curve.loss)
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


def _caption(results: Findings, shown: int, fit: Fit | None) -> str:
    every = len(results.runs)
    drawn = every if shown == every else f"{shown} of {every}"
    words = f"Training loss of {drawn} runs, smoothed over a tenth of the tokens seen, ending at the final loss, coloured by parameters. "
    if fit is None:
        return words + f"Approach 1 is missing: {missing(results, 'envelope')}"
    return words + (
        f"Black points: the best run at each of {fit.frontier.flops.size} compute budgets ({fit.estimator}). "
        f"Optimal parameters and optimal tokens: the power laws of Approach 1 through those points, "
        f"{_frontier.exponents(fit)}{_frontier.extras(results, fit)}{_runs.dropped(results.runs, fit)}{_runs.apart(fit)}"
    )
