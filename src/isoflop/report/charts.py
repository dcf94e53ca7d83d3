"""Figures as files: Vega-Lite for the page's script, SVG and PNG without a browser."""

import base64
import functools
import gzip
import json
import re
import urllib.parse
from typing import cast

import altair as alt
import vl_convert
from markupsafe import Markup

from isoflop.report.figures import Figure, Panel, _look

HEIGHT = 300  # pixels of the plot
_FIGURE = 940  # pixels of a static figure: where one is shown 900 wide, as by a code host, type of 11 stays above 10
_AXIS = 66  # of which each panel's axis takes so much
_SPACING = 16
_LONE = 0.65  # of the width, for a figure of one panel
PNG_SCALE = 1.5  # pixels of the file a pixel of the page: sharp enough on paper and dense screens, and under 400 kB
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
# Altair's own version of Vega-Lite, as vl_convert names it: "v6.4.1" is "6.4"
_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def interactive(panel: Panel, *, height: int = HEIGHT) -> dict[str, object]:
    """A panel that fills its box, for the page's script."""
    return _spec(panel.chart.properties(width="container", height=height, title=panel.title))


def static(figure: Figure, *, height: int = HEIGHT, note: str = "") -> dict[str, object]:
    """All panels of a figure side by side, for SVG and PNG, over a line of words if there is one."""
    n, weights = len(figure.panels), sum(p.weight for p in figure.panels)
    room = _FIGURE * (_LONE if n == 1 else 1) - n * _AXIS - (n - 1) * _SPACING
    sized = [p.chart.properties(width=round(room * p.weight / weights), height=height, title=p.title) for p in figure.panels]
    beside = alt.hconcat(*sized, spacing=_SPACING).resolve_scale(color="independent", shape="independent")
    words = alt.TitleParams(note, orient="bottom", anchor="start", fontSize=11, fontWeight=400, color="#4a4d52", offset=12)
    return _spec(beside.properties(title=words) if note else beside)


def svg(spec: dict[str, object]) -> str:
    """The chart as SVG; nothing is loaded for it."""
    drawn = str(vl_convert.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[]))
    # at a third of the size: a hundredth of a pixel is enough, the type is said once, and an image has its words in its alt text
    plain = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family)="[^"]*"', "", drawn)
    short = re.sub(r"(\d+\.\d\d)\d+", r"\1", plain).replace("<svg ", f'<svg font-family="{_look.FONT}" ', 1)
    # the drawing library counts clips and gradients over all charts it ever drew; a chart should not depend on those before it
    found = dict.fromkeys(re.findall(r'\bid="([a-z_]+\d+)"', short))
    new = {name: f"p{i}" for i, name in enumerate(found)}
    return re.sub(r'(\bid="|url\(#)([a-z_]+\d+)', lambda match: match[1] + new.get(match[2], match[2]), short)


def png(drawn: str) -> bytes:
    """The SVG as PNG, half as large again."""
    return bytes(vl_convert.svg_to_png(drawn, scale=PNG_SCALE))


def address(drawn: str) -> Markup:
    """The SVG as a data address: as an image it can neither run scripts nor load anything."""
    # nothing that ends an attribute or starts an entity is left in it; quoting all the rest would add a third
    return Markup("data:image/svg+xml," + urllib.parse.quote(drawn.replace('"', "'"), safe=" <>/:=,;()'"))  # noqa: S704


@functools.cache
def script() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, gzipped, as base64: a third of the plain size."""
    bundle = vl_convert.javascript_bundle(vl_version=_VERSION)  # type: ignore[call-arg]  # its stub does not know that the snippet has a default
    return base64.b64encode(gzip.compress(bundle.encode(), compresslevel=9, mtime=0)).decode()


def embedded(value: object) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or be taken for HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 and U+2029 are escaped too
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _spec(chart: alt.TopLevelMixin) -> dict[str, object]:
    spec = chart.to_dict(validate=False)  # half the time; the tests draw them all
    spec.pop("$schema", None)  # an address; the version is given beside it
    spec["config"] = _look.CONFIG
    return cast("dict[str, object]", _drawable(spec))


def _drawable(value: object) -> object:
    """Return a value in which every character may stand in XML; a name with another ends the process of the drawing library."""
    match value:
        case str():
            return _NOT_XML.sub("\ufffd", value)
        case dict():
            return {key: _drawable(part) for key, part in value.items()}
        case list() | tuple():
            return [_drawable(part) for part in value]
        case _:
            return value
