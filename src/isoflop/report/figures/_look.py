"""One look for all figures: colours, markers, type."""

from typing import NamedTuple

import altair as alt

from isoflop import validate
from isoflop.fit.result import Approach

INK, MUTED, GRID = "#22252a", "#767a80", "#e8e8e4"
PAPER = "#ffffff"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
STAR = "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118L-0.951,-0.309L-0.225,-0.309Z"
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


def star(color: str | None = None, *, size: int = 220) -> alt.MarkDef:
    """The mark of an optimum, with a rim of paper; its colour may come from the data."""
    fill = alt.Undefined if color is None else color
    return alt.MarkDef(type="point", shape=STAR, size=size, filled=True, opacity=1, color=fill, stroke=PAPER, strokeWidth=0.7)


def rival(label: str) -> alt.MarkDef:
    """The mark of a model that the optimum was measured against."""
    shape = "cross" if label == validate.KAPLAN else "diamond"
    return alt.MarkDef(type="point", shape=shape, size=100, filled=True, opacity=1, color=INK, stroke=PAPER, strokeWidth=0.8)
