"""Markdown tables: rows between bars, under a header and a line of dashes, anywhere in a document."""

import re
from collections.abc import Iterator
from pathlib import Path

from isoflop.errors import FitError
from isoflop.readers._bytes import is_text
from isoflop.readers._text_rows import Cells, Row, check_names, text_lines

_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")
_MARKS = re.compile(r"\*\*|`|\\(?=[|_*])")  # bold, code, escapes


def certainty(path: Path, start: bytes) -> int:
    """Tell by a header with bars and a line of dashes below it."""
    if not (path.is_file() and is_text(start)):
        return 0
    above = ""
    for line in start.decode(errors="replace").splitlines():
        if "|" in above and _is_rule(line):
            return 2
        above = line
    return 0


def open(path: Path) -> Cells:  # noqa: A001  # readers.markdown.open is how it is said
    """Open the one table of a document.

    Raises:
        FitError: No table, or several.
    """
    headers = list(_headers(path))
    if len(headers) != 1:
        where = f", at lines {', '.join(str(line) for line, _ in headers[:6])}" if headers else ""
        raise FitError(f"{path} holds {len(headers)} tables{where}. Put the table of runs into a file of its own.")
    ((line, names),) = headers
    check_names(path, line, names)
    return Cells(path=path, columns=tuple(names), rows=lambda: _rows(path, line + 2))


def _headers(path: Path) -> Iterator[Row]:
    above = ""
    for number, line in text_lines(path):
        if "|" in above and _is_rule(line):
            yield number - 1, _cells(above)
        above = line


def _rows(path: Path, first: int) -> Iterator[Row]:
    for number, line in text_lines(path):
        if number < first:
            continue
        if "|" not in line:
            return
        yield number, _cells(line)


def _is_rule(line: str) -> bool:
    return "-" in line and "|" in line and len(line) < 10_000 and _RULE.fullmatch(line) is not None


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return [_MARKS.sub("", cell).strip().strip("*") for cell in _BAR.split(inside)]
