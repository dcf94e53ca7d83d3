"""The paper's Figure 1 as a file: published laws, known models and a planned budget, as SVG, PNG or one page that opens offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from isoflop import units
from isoflop.compare import Model
from isoflop.errors import FitError, UsageError, not_importable
from isoflop.plan.estimate import Estimate
from isoflop.published import Published
from isoflop.report.table import DASH, Table, row

if TYPE_CHECKING:  # drawing loads Altair, which may not be installed
    from isoflop.report.figures import Figure

Kind = Literal["html", "png", "svg"]
TITLE = "Optimal size and tokens by compute"


def kind(path: Path) -> Kind:
    """What is to be written, by the file's suffix; light, to be asked before anything is computed.

    Raises:
        UsageError: Another suffix.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in get_args(Kind):
        msg = f"{path.name!r} does not say what kind of figure it should be. End it in .html (a page to explore), .png or .svg."
        raise UsageError(msg)
    return cast("Kind", suffix)


def page(estimates: Sequence[Estimate], models: Sequence[Model], *, rule: float | None, kind: Kind) -> bytes:
    """The figure as the content of a file. Equal arguments give equal bytes.

    Args:
        estimates: Of one goal by several laws; each is a line and a star.
        models: Known ones or one's own; where names would cover each other, some are left to the tooltip.
        rule: The budget in FLOPs that all estimates are of, if there is one.
        kind: Of file.

    Raises:
        FitError: No law says a size.
        MissingExtraError: A drawing library is not installed.
    """
    still = draw(estimates, models, rule=rule, still=True)
    if not still.panels:
        msg = f"{still.caption} `isoflop laws` lists those that say one."
        raise FitError(msg)
    try:
        from isoflop.report import charts
        from isoflop.report.figures import _landscape
    except ImportError as error:
        raise _missing(error) from None
    note = _landscape.key(estimates, models, rule=rule) if kind != "html" else ""  # the page has the caption
    drawn = charts.svg(charts.static(still, height=_landscape.HEIGHT, note=note))
    match kind:
        case "svg":
            return drawn.encode()
        case "png":
            return charts.png(drawn)
        case "html":
            tables = (laws_table([e.fit for e in estimates]), models_table(_landscape.shown(estimates, models)))
            return _html(draw(estimates, models, rule=rule), drawn, tables).encode()


def draw(estimates: Sequence[Estimate], models: Sequence[Model], *, rule: float | None, still: bool = False) -> "Figure":
    """The figure: two panels, params and tokens.

    Args:
        estimates: Of one goal by several laws.
        models: Known ones or one's own.
        rule: The budget in FLOPs that all estimates are of, if there is one.
        still: For a picture, whose width is known, and not for a page, where names stand apart at several.

    Raises:
        MissingExtraError: A drawing library is not installed.
    """
    try:
        from isoflop.report.figures import _landscape
    except ImportError as error:
        raise _missing(error) from None
    return _landscape.draw(estimates, models, rule=rule, widths=_landscape.STILL if still else _landscape.LIVE)


def _html(figure: "Figure", drawn: str, tables: Sequence[Table]) -> str:
    try:
        from isoflop.report import frame
        from isoflop.report.figures._landscape import HEIGHT
    except ImportError as error:
        raise _missing(error) from None
    return frame.alone(TITLE, figure, drawn, tables=tables, height=HEIGHT)


def laws_table(fits: Sequence[Published]) -> Table:
    """The laws drawn, with where they are printed and how they count."""
    rows = (row(fit.title, fit.corpus, fit.convention, fit.source) for fit in fits if fit.law is not None)
    return Table(title="The laws", head=("law", "corpus", "counts", "source"), rows=tuple(rows), words=frozenset(range(4)))


def models_table(models: Sequence[Model]) -> Table:
    """The models drawn, with where their counts are printed."""
    rows = (
        row(m.title, str(m.year or DASH), units.count(m.params), units.count(m.tokens), units.flops(m.flops), f"{m.source}{'; ' * bool(m.note)}{m.note}")
        for m in models
    )
    head = ("model", "year", "parameters", "tokens", "FLOPs (6ND)", "source")
    return Table(title="The models", head=head, rows=tuple(rows), words=frozenset({0, 5}))


def _missing(error: ImportError) -> Exception:
    if (error.name or "").startswith("isoflop"):  # a fault of ours, which no installing mends
        return error
    return not_importable(error, error.name or "altair", extra="report", needed_for="the figure")
