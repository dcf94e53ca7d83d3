"""Axes, ticks and colour scales that the figures share: logarithmic, with units in the titles."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

from isoflop.report.figures import _look
from isoflop.runs import NATS

Domain = tuple[float, float]
Row = Mapping[str, Any]  # field -> value

# Vega would print 1e+11 and 1.5G where people write 1e11 and 1.5B. Constant expressions: no word of a user's ever comes into one.
_FLOPS_LABEL = "replace(format(datum.value, '.2~e'), 'e+', 'e')"
_COUNT_LABEL = "replace(format(datum.value, '.3~s'), 'G', 'B')"
PERCENT_LABEL = "(datum.value ? format(datum.value, '+.3~g') : '0') + ' %'"
FACTOR_LABEL = "format(datum.value, '.3~g') + '\u00d7'"
_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))


def domain(*values: ArrayLike, pad: float = 0.05) -> Domain:
    """Range of all finite positive values, widened at either end by a share of its length in log."""
    every = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    every = every[np.isfinite(every) & (every > 0)]
    if every.size == 0:
        return (1.0, 10.0)
    low, high = math.log(every.min()), math.log(every.max())
    margin = max(pad * (high - low), 0.01)
    return (math.exp(low - margin), math.exp(high + margin))


def ticks(limits: Domain) -> list[float]:
    """Round values in a range, about three to eight of them, evenly spread in log."""
    edge = (limits[1] / limits[0]) ** 0.02  # a label at the very end would push the plot aside
    low, high = limits[0] * edge, limits[1] / edge
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        inside = [m * 10.0**e for e in exponents for m in mantissas if low <= m * 10.0**e <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 8)]
    return _linear_ticks(limits)


def flops(field: str, limits: Domain, *, title: str = "training compute (FLOPs)") -> alt.X:
    """Horizontal axis of compute."""
    return alt.X(f"{field}:Q", title=title, scale=_log(limits), axis=alt.Axis(values=ticks(limits), labelExpr=_FLOPS_LABEL))


def count_x(field: str, limits: Domain, *, title: str = "parameters") -> alt.X:
    """Horizontal axis of parameters or tokens."""
    return alt.X(f"{field}:Q", title=title, scale=_log(limits), axis=alt.Axis(values=ticks(limits), labelExpr=_COUNT_LABEL))


def count(field: str, limits: Domain, *, title: str) -> alt.Y:
    """Vertical axis of parameters or tokens."""
    return alt.Y(f"{field}:Q", title=title, scale=_log(limits), axis=alt.Axis(values=ticks(limits), labelExpr=_COUNT_LABEL))


def loss(field: str, limits: Domain, *, unit: str = NATS) -> alt.Y:
    """Vertical axis of loss."""
    return alt.Y(f"{field}:Q", title=loss_in(unit), scale=_log(limits), axis=alt.Axis(values=_linear_ticks(limits), format=".4~g"))


def loss_in(unit: str, name: str = "loss") -> str:
    """Loss with its unit, for titles."""
    return f"{name} ({short_unit(unit)})"


def short_unit(unit: str) -> str:
    """A unit as axes have it. Titles of tooltips become part of an expression, so nothing but letters, digits, spaces and a stroke is left of it."""
    return "nats/token" if unit == NATS else re.sub("[^A-Za-z0-9 /]", "", unit)[:40]


def percent(field: str, limit: float, *, title: str) -> alt.Y:
    """Vertical axis of errors in percent, as far down as up."""
    scale = alt.Scale(domain=[-limit, limit], nice=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(values=_linear_ticks((-limit, limit)), labelExpr=PERCENT_LABEL))


def factor_x(field: str, limits: Domain, *, title: str) -> alt.X:
    """Horizontal axis of factors."""
    return alt.X(f"{field}:Q", title=title, scale=_log(limits), axis=alt.Axis(values=ticks(limits), labelExpr=FACTOR_LABEL))


def factor(field: str, limits: Domain, *, title: str) -> alt.Y:
    """Vertical axis of factors."""
    return alt.Y(f"{field}:Q", title=title, scale=_log(limits), axis=alt.Axis(values=ticks(limits), labelExpr=FACTOR_LABEL))


def color(field: str, values: Sequence[float] | np.ndarray[Any, Any], *, title: str, kind: str, legend: bool = True) -> alt.Color:
    """Viridis over the log of a quantity: of each value where they are few, as a ramp where they are many.

    Args:
        field: Of the data.
        values: That occur.
        title: Of the legend.
        kind: How the legend prints numbers: "flops" or "count".
        legend: Whether there is one.
    """
    distinct = sorted(set(np.asarray(values, dtype=float).tolist())) or [1.0]
    low, high = distinct[0], distinct[-1] if distinct[-1] > distinct[0] else distinct[0] * 1.01
    few = len(distinct) <= 10
    expr = _FLOPS_LABEL if kind == "flops" else _COUNT_LABEL
    if few:
        shown = alt.Legend(title=title, type="symbol", values=distinct, labelExpr=expr, columns=5)  # a row as wide as a telephone
    else:
        shown = alt.Legend(title=title, type="gradient", values=ticks((low, high)), labelExpr=expr)
    stops = np.geomspace(low, high, len(_look.VIRIDIS)).tolist()
    return alt.Color(f"{field}:Q", scale=alt.Scale(type="log", domain=stops, range=list(_look.VIRIDIS)), legend=shown if legend else None)


def data(rows: Iterable[Row]) -> alt.InlineData:
    """Rows as CSV inside the chart: a third of the size of JSON objects, and Altair need not look at every value."""
    rows = list(rows)
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    kinds = {key: _kind(value) for key, value in rows[0].items()} if rows else {}
    return alt.InlineData(values=text.getvalue(), format=alt.CsvDataFormat(type="csv", parse=kinds))


def tip_flops(field: str, title: str = "FLOPs") -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=".2~e")


def tip_count(field: str, title: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=".3~s")


def tip_loss(field: str = "loss", title: str = "loss (nats/token)") -> alt.Tooltip:
    """A loss; `title` is ours or comes from `loss_in`."""
    return alt.Tooltip(f"{field}:Q", title=title, format=".4f")


def layer(rows: Iterable[Row], mark: alt.MarkDef, encoding: Mapping[str, Any]) -> alt.Chart:
    """One kind of mark over rows; channels by Vega-Lite's names."""
    return alt.Chart(data(rows), mark=mark).encode(**encoding)


def plot(layers: Iterable[alt.Chart]) -> alt.LayerChart:
    """Layers over each other, the first at the bottom."""
    return cast("alt.LayerChart", alt.layer(*layers))


class Place(NamedTuple):
    """Where words stand beside their mark."""

    dx: float = 0  # pixels
    dy: float = 0
    align: Literal["left", "center", "right"] = "center"
    size: float = 11  # of the type, pixels


def label(rows: Iterable[Row], encoding: Mapping[str, Any], place: Place, *, color: str = _look.INK) -> list[alt.Chart]:
    """The words of the rows' field `text` beside their marks, with a rim of paper so that lines behind do not strike them through.

    Args:
        rows: With a field `text`.
        encoding: x and y.
        place: Beside the mark.
        color: Of the words.
    """
    rows, encoding = list(rows), {**encoding, "text": alt.Text("text:N")}
    dx, dy, align, size = place
    rim = alt.MarkDef(
        type="text", stroke=_look.PAPER, strokeWidth=3.5, strokeJoin="round", color=_look.PAPER, fontWeight=600, dx=dx, dy=dy, align=align, fontSize=size
    )
    words = alt.MarkDef(type="text", color=color, fontWeight=600, dx=dx, dy=dy, align=align, fontSize=size)
    return [layer(rows, rim, encoding), layer(rows, words, encoding)]


def of(axis: alt.Y, field: str) -> alt.Y:
    """The same axis for another field."""
    changed = axis.copy()
    changed["shorthand"] = f"{field}:Q"
    return changed


def highlight(name: str, field: str, faint: float) -> tuple[alt.Parameter, object]:
    """A selection of what is pointed at by a field, and the opacity that makes all else faint."""
    chosen = alt.selection_point(name=name, fields=[field], on="pointerover", clear="pointerout", empty=True)
    return chosen, alt.condition(chosen, alt.value(1.0), alt.value(faint))


def _log(limits: Domain) -> alt.Scale:
    return alt.Scale(type="log", domain=list(limits), nice=False)


def _linear_ticks(limits: Domain) -> list[float]:
    low, high = limits
    raw = (high - low) / 7
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * 0.85)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _kind(value: object) -> str:
    return "string" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number"


def _short(value: object) -> object:
    """Five significant digits: more is not seen. Nothing for what is not a number; "true" as Vega reads it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() | np.floating():
            return f"{float(value):.5g}" if math.isfinite(float(value)) else ""
        case _:
            return value
