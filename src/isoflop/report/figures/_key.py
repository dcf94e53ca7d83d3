"""A legend of marks that are told apart by colour, shape and dash at once."""

import math
from collections.abc import Mapping, Sequence

import altair as alt

from isoflop.report.figures import _axes, _look


def key(marks: Sequence[_look.Mark], at: Mapping[str, object], fields: Sequence[str]) -> alt.Chart:
    """Nothing but a legend.

    Args:
        marks: In the legend's order.
        at: x and y of the panel that it stands under.
        fields: Names of theirs.
    """
    names = [mark.label for mark in marks]  # no sort of them: Vega-Lite would make an expression of the names
    legend = alt.Legend(symbolSize=60, symbolStrokeWidth=1.5, columns=1)
    color = alt.Color("name:N", title=None, scale=alt.Scale(domain=names, range=[mark.color for mark in marks]), legend=legend)
    shape = alt.Shape("name:N", title=None, scale=alt.Scale(domain=names, range=[mark.marker for mark in marks]), legend=legend)
    rows = [{"name": name, **dict.fromkeys(fields, math.nan)} for name in names]
    return _axes.layer(rows, alt.MarkDef(type="point", filled=True, opacity=1), {**at, "color": color, "shape": shape})
