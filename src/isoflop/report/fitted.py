"""Figures of the laws fitted to any runs: each as a picture for paper, as one for the screen, and as a page that opens offline."""

from pathlib import Path

from isoflop.errors import not_importable
from isoflop.fit import Fits
from isoflop.runs import Runs


def write(fits: Fits, runs: Runs, folder: Path, *, target: float | None = None) -> tuple[Path, ...]:
    """Write NAME.svg, NAME.png and NAME.html of every figure that these fits have; the paths. Equal arguments give equal bytes.

    Args:
        fits: Of the runs.
        runs: All that were read, those among them that a fit set aside too.
        folder: Made if it is not there. Figures of an earlier fit are written over, each file whole; those of them that are no longer true go.
        target: FLOPs that a model is planned for, which a star marks.

    Raises:
        MissingExtraError: A drawing library is not installed.
        StoreError: The folder cannot be written.
    """
    try:
        from isoflop.report import charts, frame
        from isoflop.report.figures import drawings
        from isoflop.report.results import Fitted
        from isoflop.store import files
    except ImportError as error:
        if (error.name or "").startswith("isoflop"):  # a fault of ours, which no installing mends
            raise
        raise not_importable(error, error.name or "altair", extra="report", needed_for="the figures") from None
    found = Fitted.of(fits, runs, target=target)
    written = []
    for drawing in drawings():
        name = drawing.__name__.rpartition(".")[2]
        figure = drawing.draw(found)
        svg = charts.svg(charts.static(figure)) if figure.panels else ""
        contents = {"svg": svg.encode(), "png": charts.png(svg), "html": frame.alone(drawing.TITLE, figure, svg).encode()} if svg else {}
        stale = not contents and _ours(folder / f"{name}.html")
        for suffix in ("svg", "png", "html"):
            path = folder / f"{name}.{suffix}"
            if suffix in contents:
                files.write(path, contents[suffix])
                written.append(path)
            elif stale:
                files.remove(path)
    return tuple(written)


def _ours(path: Path) -> bool:
    """Whether an earlier call has written this page: the folder may be the user's own, with files of such a name."""
    try:
        with path.open("rb") as file:
            return b'<meta name="generator" content="isoflop">' in file.read(2000)
    except OSError:
        return False
