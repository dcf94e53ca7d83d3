"""A page that opens offline: a template with our style, behaviour and drawing library in it, under a policy that forbids any load."""

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup, escape

from isoflop.report import charts
from isoflop.report.figures import Figure
from isoflop.report.table import Table


def render(template: str, values: Mapping[str, object], *, live: Sequence[Mapping[str, object]]) -> str:
    """The page as text; every value is escaped.

    Args:
        template: File of this folder.
        values: Of the template.
        live: Charts, each with the id of the place it is put `at` and its Vega-Lite `spec`.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["maths"] = maths
    behaviour = _asset("page.js")
    return environment.from_string(_asset(template)).render(
        values,
        # ours, not the user's: the only texts that are not escaped, beside the charts, which `embedded` escapes
        style=Markup(_asset("page.css")),  # noqa: S704
        behaviour=Markup(behaviour),  # noqa: S704
        behaviour_sha256=base64.b64encode(hashlib.sha256(behaviour.encode()).digest()).decode(),
        charts=Markup(charts.embedded(list(live))),  # noqa: S704
        library=Markup(charts.script()),  # noqa: S704
    )


def alone(title: str, figure: Figure, drawn: str, *, tables: Sequence[Table] = (), height: int = charts.HEIGHT) -> str:
    """A page of one figure, with tables under it.

    Args:
        title: Of the page.
        figure: With its panels.
        drawn: All panels as SVG; empty where there are none.
        tables: Those without rows are left out.
        height: Of the plots, pixels.
    """
    live = [{"at": f"chart-{i}", "spec": charts.interactive(panel, height=height)} for i, panel in enumerate(figure.panels)]
    return render("figure.html.j2", {"title": title, "figure": figure, "image": charts.address(drawn), "tables": tables}, live=live)


def maths(text: str) -> Markup:
    """N_opt and C^0.5 as they are printed; escaped first."""
    lowered = re.sub(r"\b([A-Z])_opt\b", r"<i>\1</i><sub>opt</sub>", str(escape(text)))
    return Markup(re.sub(r"\b([A-Z])\^([a-z]+|-?[0-9.]*[0-9])", r"<i>\1</i><sup>\2</sup>", lowered))  # noqa: S704  # escaped above


def _asset(name: str) -> str:
    return importlib.resources.files("isoflop.report").joinpath(name).read_text(encoding="utf-8")
