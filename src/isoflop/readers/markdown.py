"""Tables with bars between cells, anywhere in a document: Markdown's, those of `tabulate` and of databases, and those drawn with lines."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoflop.errors import FitError
from isoflop.readers._bytes import is_text
from isoflop.readers._text_rows import Cells, Row, check_names, text_lines

_RULE = re.compile(r"[\s|+:=-]*[-=]{1,}[\s|+:=-]*")
_CORNERS = "┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋┡┩╇╒╕╘╛╞╡╤╧╪╔╗╚╝╠╣╦╩╬╭╮╯╰┠┨┯┷┿╂╟╢"
_BOX = {**dict.fromkeys(map(ord, "│┃║"), "|"), **dict.fromkeys(map(ord, "─━═┄┅╌┈"), "-"), **dict.fromkeys(map(ord, _CORNERS), "+")}
_BAR = re.compile(r"(?<!\\)\|")
_MARKS = re.compile(r"\*\*|`|\\(?=[|_*])")  # bold, code, escapes


def certainty(path: Path, start: bytes) -> int:
    """Tell by a header with bars and a line of dashes below it."""
    if not (path.is_file() and is_text(start)):
        return 0
    lines = enumerate(start.decode(errors="replace").splitlines(), start=1)
    return 2 if any(True for _ in _tables(lines)) else 0


def open(path: Path) -> Cells:  # noqa: A001  # readers.markdown.open is how it is said
    """Open the one table of a document.

    Raises:
        FitError: No table, or several.
    """
    headers = list(_tables(text_lines(path)))
    if len(headers) != 1:
        where = f", at lines {', '.join(str(line) for line, _ in headers[:6])}" if headers else ""
        raise FitError(f"{path} holds {len(headers)} tables{where}. Put the table of runs into a file of its own.")
    ((line, names),) = headers
    check_names(path, line, names)
    return Cells(path=path, columns=tuple(names), rows=lambda: _rows(path, line + 1))


def _tables(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    """Yield the header of each table, with its line: the first row of a block of rows and rules, if a rule stands below it."""
    header: Row | None = None
    inside = False
    for number, written in lines:
        line = written.translate(_BOX)
        if _is_rule(line):
            if header is not None:
                yield header
                header, inside = None, True
        elif "|" in line:
            header = None if inside or header is not None else (number, _cells(line))
            inside = inside or header is None
        else:
            header, inside = None, False


def _rows(path: Path, first: int) -> Iterator[Row]:
    for number, written in text_lines(path):
        line = written.translate(_BOX)
        if number < first or _is_rule(line):
            continue
        if "|" not in line:
            return
        yield number, _cells(line)


def _is_rule(line: str) -> bool:
    return len(line) < 10_000 and ("-" in line or "=" in line) and _RULE.fullmatch(line) is not None


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return [_MARKS.sub("", cell).strip().strip("*") for cell in _BAR.split(inside)]
