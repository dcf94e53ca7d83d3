"""A page that opens offline: a template with our style, behaviour and drawing library in it, under a policy that forbids any load."""

import base64
import hashlib
import importlib.resources
from collections.abc import Callable, Mapping, Sequence

import jinja2
from markupsafe import Markup

from isoflop.report import charts


def render(template: str, values: Mapping[str, object], *, live: Sequence[Mapping[str, object]], filters: Mapping[str, Callable[[str], Markup]]) -> str:
    """The page as text; every value is escaped.

    Args:
        template: File of this folder.
        values: Of the template.
        live: Charts, each with the id of the place it is put `at` and its Vega-Lite `spec`.
        filters: Of the template, beside jinja2's own.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(filters)
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


def _asset(name: str) -> str:
    return importlib.resources.files("isoflop.report").joinpath(name).read_text(encoding="utf-8")
