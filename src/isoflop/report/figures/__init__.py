"""Figures, one draw() a file, of a study or of any runs; a file put here has a place in the page by itself.

Points are runs, lines are fits, a star is an optimum, a line turns dashed where the data end, a band is an interval and says its level.
"""

from dataclasses import dataclass
from typing import Protocol, cast

import altair as alt

from isoflop import _registry
from isoflop.report.results import Findings


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart of a figure, without width and theme: the page and the static files each set their own."""

    title: str
    chart: alt.LayerChart
    weight: float = 1.0  # share of the figure's width


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a draw() gives."""

    caption: str  # names law, approach, number of runs and what was left out
    alt: str  # what is seen, for who cannot see it
    panels: tuple[Panel, ...]  # none where there is nothing to draw: the caption says why


class Drawing(Protocol):
    """What every module of this folder offers."""

    __name__: str  # ends in the file's
    NUMBER: int  # place in the page; 1 to 4 are the paper's, 5 is the proof, and those after it show how far the fits can be trusted
    TITLE: str

    def draw(self, results: Findings) -> Figure:
        """The figure of finished results; no fitting, no files."""


def drawings() -> tuple[Drawing, ...]:
    """All figures in the page's order."""
    menu = (_registry.load(__name__, name, noun="figure") for name in _registry.names(__name__))
    return tuple(sorted((cast("Drawing", module) for module in menu), key=lambda drawing: drawing.NUMBER))
