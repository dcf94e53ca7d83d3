"""One look for all figures: colours, markers, type."""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from isoflop import validate
from isoflop.fit.result import Approach

INK, MUTED, GRID = "#22252a", "#767a80", "#e8e8e4"
PAPER = "#ffffff"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
STAR = "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118L-0.951,-0.309L-0.225,-0.309Z"
CROSS = "M-1,-1L1,1M-1,1L1,-1"  # of a run that was set aside
SOLID, DASHED, DOTTED = [1, 0], [5, 4], [2, 3]
BAND = 0.14  # opacity


class Look(NamedTuple):
    """How an approach is drawn, everywhere."""

    label: str
    method: str
    color: str  # told apart in the three common kinds of colour blindness, and in grey by lightness
    marker: str


APPROACH: dict[Approach, Look] = {
    "envelope": Look("Approach 1", "envelope of the training curves", "#2b6cb0", "circle"),
    "isoflop": Look("Approach 2", "IsoFLOP profiles", "#c2512f", "square"),
    "parametric": Look("Approach 3", "parametric loss", "#1f8a70", "triangle-up"),
}
# further laws of one approach keep its colour; shapes and dashes tell them apart
SHAPES = ("diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES: tuple[list[int], ...] = ([6, 3], [2, 2], [9, 3, 2, 3], [1, 3], [12, 3])
NEUTRAL = (INK, "#882255", "#c99700")  # of what is no single approach: a combination
KAPLAN = "#8d8d8d"
PROVED = "#c2512f"  # the trained optimum

# Viridis (van der Walt and Smith 2015) from 0 to 0.9 in steps of 0.15; beyond that it is too light on white
VIRIDIS = ("#440154", "#46317e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")

CONFIG: dict[str, object] = {
    "background": PAPER,
    "font": FONT,
    "padding": {"left": 2, "right": 10, "top": 6, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#4a4d52",
        "labelFontSize": 11,
        "titleColor": INK,
        "titleFontSize": 11.5,
        "titleFontWeight": 500,
        "titlePadding": 8,
        "gridColor": GRID,
        "domainColor": "#a5a7aa",
        "tickColor": "#a5a7aa",
        "tickSize": 4,
        "labelFlush": False,
        "labelOverlap": "greedy",
    },
    "legend": {
        "orient": "bottom",
        "labelColor": "#4a4d52",
        "labelFontSize": 11,
        "titleColor": INK,
        "titleFontSize": 11,
        "titleFontWeight": 500,
        "symbolSize": 70,
        "symbolStrokeWidth": 2,
        "offset": 10,
        "labelLimit": 260,
        "gradientLength": 180,
        "gradientThickness": 9,
    },
    "title": {"fontSize": 12.5, "fontWeight": 600, "color": INK, "anchor": "start", "offset": 8},
    "text": {"font": FONT, "fontSize": 11, "color": INK},
}


class Mark(NamedTuple):
    """How one of several things is drawn where some may be of one approach."""

    label: str
    color: str
    marker: str
    dash: list[int]


def marks(names: Sequence[tuple[str, str]]) -> list[Mark]:
    """How each of some things is drawn, unlike each other.

    Args:
        names: Approach and law or method of each, either may be empty or unknown.
    """
    approaches = [approach for approach, _ in names]
    return [_mark(approach, form, approaches[:i].count(approach), alone=approaches.count(approach) == 1) for i, (approach, form) in enumerate(names)]


def _mark(approach: str, form: str, number: int, *, alone: bool) -> Mark:
    look = next((look for name, look in APPROACH.items() if name == approach), None)
    if look is None:
        label = f"{approach} {form}".strip()
        return Mark(label[:40], NEUTRAL[number % len(NEUTRAL)], SHAPES[(number + 1) % len(SHAPES)], DASHES[number % len(DASHES)])
    label = look.label if alone and not form else f"{look.label}, {form or look.method}"
    if number == 0:
        return Mark(label, look.color, look.marker, SOLID)
    return Mark(label, look.color, SHAPES[(number - 1) % len(SHAPES)], DASHES[(number - 1) % len(DASHES)])


def star(color: str | None = None, *, size: int = 220) -> alt.MarkDef:
    """The mark of an optimum, with a rim of paper; its colour may come from the data."""
    fill = alt.Undefined if color is None else color
    return alt.MarkDef(type="point", shape=STAR, size=size, filled=True, opacity=1, color=fill, stroke=PAPER, strokeWidth=0.7)


def rival(label: str) -> alt.MarkDef:
    """The mark of a model that the optimum was measured against."""
    shape = "cross" if label == validate.KAPLAN else "diamond"
    return alt.MarkDef(type="point", shape=shape, size=100, filled=True, opacity=1, color=INK, stroke=PAPER, strokeWidth=0.8)
