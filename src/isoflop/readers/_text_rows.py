"""Rows of text that Python takes apart, as a table: for formats that Arrow does not know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from isoflop.errors import FitError
from isoflop.readers._bytes import check_rows, lines

_SAMPLE = 100  # rows
_ROWS = 10_000  # at once
_MARK = "\ufeff"

Row = tuple[int, Sequence[str]]  # line of the file, from 1, and the cells


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table of cells of text."""

    path: Path
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]

    @property
    def sample(self) -> tuple[str, ...]:
        """Some cells, by which decimal commas are told."""
        return tuple(cell for _, cells in islice(self.rows(), _SAMPLE) for cell in cells)

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns as strings, some thousand rows at a time; the fraction read is not known before the end.

        Raises:
            FitError: A row with too few or too many cells, with its line.
        """
        import pyarrow as pa

        places = [self.columns.index(name) for name in wanted]
        some: list[list[str]] = []

        def batch() -> Mapping[str, Any]:
            return {name: pa.array([row[at] for row in some], pa.string()) for at, name in enumerate(wanted)}

        for number, (line, cells) in enumerate(self.rows(), start=1):
            if len(cells) != len(self.columns):
                raise FitError(
                    f"{self.path}, line {line}: {len(cells)} fields, but the header names {len(self.columns)}. Correct that line, or write the table as CSV."
                )
            some.append([cells[place] for place in places])
            if len(some) == _ROWS:
                check_rows(self.path, number)
                yield batch(), 0.5
                some = []
        if some:
            yield batch(), 1.0

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Return the lines of rows."""
        wanted, found = frozenset(rows), {}
        for row, (line, _) in enumerate(self.rows(), start=1):
            if row in wanted:
                found[row] = line
            if row >= of:
                break
        return found


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file as text, numbered from 1, without their ends.

    Raises:
        FitError: A line that is no UTF-8.
    """
    for number, line in enumerate(lines(path), start=1):
        try:
            yield number, line.decode().removeprefix(_MARK).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise FitError(f"{path}, line {number}: byte {line[error.start]:#04x} is no UTF-8. Save the file as UTF-8.") from error


def check_names(path: Path, line: int, names: Sequence[str]) -> None:
    """Refuse a header that gives one name to two columns.

    Raises:
        FitError: The name, with its line.
    """
    twice = next((name for place, name in enumerate(names) if name and name in names[:place]), None)
    if twice is not None:
        raise FitError(f"{path}, line {line}: the name {twice!r} stands twice in the header, so it names neither. Rename one.")
