"""Report: results -> one page that opens offline, and its figures as SVG and PNG. Computes nothing: what is drawn was finished before.

results    everything a page or a figure is drawn from
answer     the answer in words
contenders what the models of the proof are called
table      what a table is, and how numbers are said in it
tables     tables of a study, for the page and the terminal
costs      what one shape costs
laws       published laws
planning   plans by them
standings  known models against them
terminal   a table at any width
export     rows and values of a study for other programs
values     laws, plans and standings as values for JSON
figures    the paper's Figures 1 to 4, the proof, residuals, and error against reach; one draw() a file
charts     a figure -> Vega-Lite for the page, SVG and PNG beside it
frame      what every page has: style, behaviour, policy
page       all of it -> report.html
fitted     the figures of laws fitted to any runs, each as a page, SVG and PNG
landscape  published laws, known models and a budget -> the paper's Figure 1 as a page, SVG or PNG
"""

from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.errors import not_importable

if TYPE_CHECKING:  # planning with published laws prints tables and needs no study
    from isoflop.report.results import Results


def write(results: "Results", folder: Path) -> Path:
    """Write report.html, and figures/ beside it; the path of the page. Equal results give equal pages.

    Args:
        results: Of a study, proved or not.
        folder: Made if it is not there; files of an earlier report are written over, each whole.

    Raises:
        MissingExtraError: A drawing library is not installed.
        StoreError: The folder cannot be written.
    """
    try:
        from isoflop.report import page
    except ImportError as error:
        raise not_importable(error, error.name or "altair", extra="report", needed_for="the report") from None
    return page.write(results, folder)
