"""The page: one self-contained HTML file that opens offline."""

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from isoflop.report import appendix, charts, export, frame, schedules, tables
from isoflop.report.answer import answer
from isoflop.report.figures import Figure, drawings
from isoflop.report.results import LEVEL, Results
from isoflop.runs import RunRecord
from isoflop.store import files

PROOF, LAST = 5, 6  # Figure 6 shows how far the fits can be trusted; residuals, an eighth of the page, are drawn by `isoflop fit --figures`


class Drawn(NamedTuple):
    """A figure with all that the page and the folder need of it."""

    number: int
    title: str
    figure: Figure
    specs: tuple[dict[str, object], ...]  # a panel each, interactive
    svg: str  # all panels; empty where nothing is drawn
    png: bytes

    @property
    def image(self) -> Markup:
        """The SVG as a data address: as an image it can neither run scripts nor load anything."""
        return charts.address(self.svg)


def write(results: Results, folder: Path) -> Path:
    """Write figures/figureN.{svg,png}, then report.html; the path of the page.

    Raises:
        StoreError: The folder cannot be written.
    """
    return save(results, tuple(_draw(results)), folder)


def save(results: Results, drawn: tuple[Drawn, ...], folder: Path) -> Path:
    """As `write`, of figures that are drawn already."""
    for one in drawn:
        for suffix, content in (("svg", one.svg.encode()), ("png", one.png)):
            place = folder / "figures" / f"figure{one.number}.{suffix}"
            if content:
                files.write(place, content)
            else:  # an earlier report may have drawn it
                files.remove(place)
    path = folder / "report.html"
    files.write(path, render(results, drawn).encode())
    return path


def _draw(results: Results) -> list[Drawn]:
    every = []
    for drawing in drawings():
        if drawing.NUMBER > LAST or (drawing.NUMBER > PROOF and not (results.holdout and results.holdout.trials)):
            continue
        figure = drawing.draw(results)
        if not figure.panels:
            every.append(Drawn(drawing.NUMBER, drawing.TITLE, figure, (), "", b""))
            continue
        picture = charts.svg(charts.static(figure))
        specs = tuple(charts.interactive(panel) for panel in figure.panels)
        every.append(Drawn(drawing.NUMBER, drawing.TITLE, figure, specs, picture, charts.png(picture)))
    return every


def render(results: Results, drawn: tuple[Drawn, ...]) -> str:
    """The page as text."""
    live = [{"at": f"chart-{one.number}-{i}", "spec": spec} for one in drawn for i, spec in enumerate(one.specs)]
    fit = results.fit("isoflop")
    values = {
        "results": results,
        "answer": answer(results),
        "approaches": tables.approaches(results.fits, results.plans, results.left_out_fits),
        "proof": tables.proof(results.validation) if results.validation else None,
        "schedules": schedules.table(fit, results.overlong, level=LEVEL) if fit and results.overlong else None,
        "minima": tables.minima(fit) if fit else None,
        "runs": tables.runs([export.row(record.spec, record) for record in sorted(results.records, key=_order)]),
        "made": appendix.made(results),
        "noise": appendix.noise(results),
        "left_out": appendix.left_out(results),
        "warnings": appendix.warnings(results),
        "provenance": appendix.provenance(results),
        "toml": appendix.toml(results),
        "drawn": drawn,
    }
    return frame.render("page.html.j2", values, live=live)


def _order(record: RunRecord) -> tuple[str, float, int, str]:
    return (record.spec.group, record.spec.budget, record.params.total, record.id)
