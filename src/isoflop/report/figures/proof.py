"""Figure 5: what the models of the proof reached, against what was predicted at their budget (after Hoffmann et al. 2022, Sec. 4)."""

import altair as alt
import numpy as np

from isoflop import units
from isoflop.report import contenders
from isoflop.report.figures import Figure, Panel, _axes, _look
from isoflop.report.figures._axes import Domain, Place, Row
from isoflop.report.results import LEVEL, Findings, LossLaw, Results
from isoflop.runs import RunRecord
from isoflop.validate import OPTIMUM, Contender, Validation

NUMBER = 5
TITLE = "The proof"

_ALT = "Loss against parameters at the target budget: the predicted curve with its interval, and the measured loss of each model trained."


def draw(results: Findings) -> Figure:
    """Predicted and measured losses at the target budget."""
    if not isinstance(results, Results):
        return Figure(caption="Nothing is drawn: what a proof needs is trained by a study, and these are runs alone.", alt=_ALT, panels=())
    proof = results.validation
    if proof is None:
        why = results.proof_note or "the prediction has not been put to the proof."
        return Figure(caption=f"Nothing is drawn: {why}", alt=_ALT, panels=())
    panel = Panel(title=f"Models trained with {units.flops(proof.flops)} FLOPs", chart=_chart(results, proof))
    return Figure(caption=_caption(results, proof), alt=_ALT, panels=(panel,))


def _chart(results: Results, proof: Validation) -> alt.LayerChart:
    measured = [(c, c.record.loss) for c in proof.contenders if c.record.loss is not None]
    sizes = [_size(results, c.record) for c, _ in measured] + [proof.plan.params]
    curve = _curve(results, proof, (min(sizes) / 2.2, max(sizes) * 2.2))
    x = _axes.count_x("params", (min(sizes) / 2.5, max(sizes) * 2.5))
    losses = [loss for _, loss in measured] + [row[edge] for row in curve for edge in ("low", "high")]
    y = _axes.loss("loss", _axes.domain(losses, proof.interval, [proof.predicted], pad=0.12))
    marks = [layer for c, _ in measured for layer in _measured(results, proof, c, x, y)]
    return _axes.plot([*_predicted(curve, x, y), *_interval(results, proof, x, y), *marks])


def _size(results: Results, record: RunRecord) -> float:
    return float(record.params.count(results.runs.convention))


def _curve(results: Results, proof: Validation, limits: Domain) -> list[Row]:
    """Approach 3's loss of every size at the proof's budget; nothing without that approach."""
    fit = results.fit("parametric")
    if fit is None or not isinstance(fit.law, LossLaw):
        return []
    sizes = np.geomspace(*limits, 49)
    best = fit.law.loss(sizes, fit.law.cost.tokens(sizes, proof.flops))
    drawn = [law.loss(sizes, law.cost.tokens(sizes, proof.flops)) for law in fit.resamples if isinstance(law, LossLaw)] or [best]
    low, high = np.nanquantile(np.stack(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [{"params": n, "loss": loss, "low": lo, "high": hi} for n, loss, lo, hi in zip(sizes, best, low, high, strict=True)]


def _predicted(curve: list[Row], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    color = _look.APPROACH["parametric"].color
    if not curve:
        return []
    area = alt.MarkDef(type="area", color=color, opacity=_look.BAND, clip=True)
    line = alt.MarkDef(type="line", color=color, strokeDash=_look.DASHED, strokeWidth=1.8, clip=True)
    return [_axes.layer(curve, area, {"x": x, "y": _axes.of(y, "low"), "y2": "high:Q"}), _axes.layer(curve, line, {"x": x, "y": y})]


def _interval(results: Results, proof: Validation, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    optimum = next((c for c in proof.contenders if c.label == OPTIMUM), None)
    if optimum is None or not np.isfinite([*proof.interval, proof.predicted]).all():
        return []
    rows = [{"params": _size(results, optimum.record), "low": proof.interval[0], "high": proof.interval[1], "loss": proof.predicted}]
    tooltip = [_axes.tip_loss(title="predicted"), _axes.tip_loss("low", "10th percentile"), _axes.tip_loss("high", "90th percentile")]
    bar = alt.MarkDef(type="rule", color=_look.INK, strokeWidth=9, opacity=0.25)
    middle = alt.MarkDef(type="point", shape="stroke", size=300, color=_look.INK, strokeWidth=1.5, opacity=1)
    return [
        _axes.layer(rows, bar, {"x": x, "y": _axes.of(y, "low"), "y2": "high:Q", "tooltip": tooltip}),
        _axes.layer(rows, middle, {"x": x, "y": y, "tooltip": tooltip}),
    ]


def _measured(results: Results, proof: Validation, contender: Contender, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    record, name = contender.record, contenders.mark(proof, contender.label)
    rows = [{"params": _size(results, record), "tokens": record.tokens, "loss": record.loss, "predicted": contender.predicted, "text": name}]
    counts = [_axes.tip_count("params", "parameters"), _axes.tip_count("tokens", "tokens")]
    tooltip = [alt.Tooltip("text:N", title="model"), *counts, _axes.tip_loss(title="measured"), _axes.tip_loss("predicted", "predicted by Approach 3")]
    optimum = contender.label == OPTIMUM
    mark = _look.star(_look.PROVED) if optimum else _look.rival(contender.label)
    return [_axes.layer(rows, mark, {"x": x, "y": y, "tooltip": tooltip}), *_axes.label(rows, {"x": x, "y": y}, Place(dy=18 if optimum else -18))]


def _caption(results: Results, proof: Validation) -> str:
    words = f"Each mark is a model trained with {units.flops(proof.flops)} FLOPs, {proof.reach:.1f} times the largest run of the sweep. "
    if results.fit("parametric"):
        words += f"The dashed line is what Approach 3, fitted to {len(results.runs)} smaller runs, predicts for each size there, with its 80 % interval. "
    by = "what predicted held-out budgets best" if proof.predicted_by == "forecast" else _look.APPROACH[proof.predicted_by].label
    words += f"The grey bar is the 80 % interval for one new run at the predicted optimum, by {by}."
    lost = [contenders.mark(proof, c.label) for c in proof.contenders if c.record.loss is None]
    return words + (f" Not drawn, for it has no loss: {', '.join(lost)}." if lost else "")
