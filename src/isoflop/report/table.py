"""A table: rows under headings, for the page, the terminal, and Markdown."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

DASH = "\u2013"


class Cell(NamedTuple):
    """What a cell says, and in smaller type how sure that is."""

    text: str
    sub: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.sub})" if self.sub else self.text


class Row(NamedTuple):
    """One line of a table; the first cell names it."""

    cells: tuple[Cell, ...]
    muted: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under headings; `str` of a cell is its plain text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    words: frozenset[int] = frozenset({0})  # columns that hold words: set left, the others right
    note: str = ""


def row(*cells: Cell | str, muted: bool = False) -> Row:
    """One line from its cells."""
    return Row(tuple(c if isinstance(c, Cell) else Cell(c) for c in cells), muted)


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown reads it, title above and note below."""
    rule = ("---" if i in table.words else "--:" for i in range(len(table.head)))
    lines = [_line(table.head), _line(rule), *(_line(map(str, r.cells)) for r in table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines, *(["", table.note] if table.note else [])]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def nats(value: float) -> str:
    """Loss with three decimals; a dash where nothing is known."""
    return f"{value:.3f}" if math.isfinite(value) else DASH


def shown(print_: Callable[[float], str], value: float) -> str:
    """A number as `print_` prints it; a dash where it is not known."""
    return print_(value) if math.isfinite(value) else DASH


def ratio(value: float) -> str:
    """Tokens per parameter."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"
