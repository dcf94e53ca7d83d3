"""Columns that spaces part: what `print`, NumPy, pandas and Fortran write."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from isoflop.errors import FitError
from isoflop.readers._bytes import is_text
from isoflop.readers._text_rows import Cells, Row, check_names, text_lines

_SAMPLE = 20  # rows by which columns are told apart
_WIDE = re.compile(r"\s{2,}|\t")
_RULE = re.compile(r"\s*[-=]{2}[-=\s]*")  # between a header and its rows
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[nN]a[nN]|[+-]?inf", re.ASCII)

Split = Callable[[str], list[str]]


def certainty(path: Path, start: bytes) -> int:
    """Tell by a header without other signs between its names, and rows with as many fields."""
    if not (path.is_file() and is_text(start)):
        return 0
    lines = [line for line in start.decode(errors="replace").splitlines()[: _SAMPLE + 10] if line.strip()]
    if len(start) >= 1 << 16:
        lines = lines[:-1]  # which may be cut
    return 2 if _layout(lines) is not None else 0


def open(path: Path) -> Cells:  # noqa: A001  # readers.whitespace.open is how it is said
    """Open a table in columns.

    Raises:
        FitError: Rows have not as many fields as the header has names.
    """
    sample = [(number, line) for number, line in islice(text_lines(path), _SAMPLE + 10) if line.strip()]
    layout = _layout([line for _, line in sample])
    if layout is None:
        raise FitError(f"{path}: the rows have not as many fields as the header has names. Write the table as CSV.")
    names, split, indexed = layout
    header = next(number for number, line in sample if (not _RULE.fullmatch(line) and not line.lstrip().startswith("#")) or split(line.lstrip(" #\t")) == names)
    check_names(path, header, names)

    def rows() -> Iterator[Row]:
        for number, line in text_lines(path):
            if number > header and line.strip() and not line.lstrip().startswith("#") and not _RULE.fullmatch(line):
                cells = split(line.strip())
                yield number, cells[1:] if indexed and len(cells) == len(names) + 1 else cells

    return Cells(path=path, columns=tuple(names), rows=rows)


def _layout(lines: list[str]) -> tuple[list[str], Split, bool] | None:
    """Return the names of columns, how a line is taken apart, and whether rows begin with a number that has no name; None of no such table."""
    rows = [line for line in lines if not line.lstrip().startswith("#") and not _RULE.fullmatch(line)]
    comments = [line.lstrip(" #\t") for line in lines if line.lstrip().startswith("#")]
    if comments and rows and all(map(_NUMBER.fullmatch, rows[0].split())):  # as numpy.savetxt writes a header
        rows = [comments[-1], *rows]
    if len(rows) < 2 or re.search(r"[,;|\t\"{]", rows[0].strip()):
        return None
    for split in (str.split, _wide):
        names, *cells = [split(row.strip()) for row in rows]
        if len(names) < 2 or all(map(_NUMBER.fullmatch, names)):
            continue
        if all(len(row) == len(names) for row in cells):
            return names, split, False
        if all(len(row) == len(names) + 1 and row[0] == str(place) for place, row in enumerate(cells)):  # as pandas prints a frame
            return names, split, True
    return None


def _wide(line: str) -> list[str]:
    return _WIDE.split(line)
