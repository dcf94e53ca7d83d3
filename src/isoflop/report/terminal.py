"""A table on a terminal: whole numbers and names at any width; where the columns do not fit, a record a row."""

import textwrap

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from isoflop.report.table import Table

_GAP = 2  # characters between columns
_HEAD = 11  # characters that a heading may take though its numbers are narrower
_NAME = 22  # characters of a name that is typed, and kept on one line
_NARROWEST = 20  # characters of a column of words, before a table becomes records


def show(console: Console, table: Table) -> None:
    """Print a table so that no number and no name is cut."""
    heads = [_head(table, i) for i in range(len(table.head))]
    needed = sum(_narrowest(table, i, head) + _GAP for i, head in enumerate(heads)) - _GAP
    if needed <= console.width:
        console.print(_grid(table, heads))
    else:
        _records(console, table)


def _head(table: Table, column: int) -> str:
    """A heading on as many lines as keep it within its numbers."""
    head = table.head[column]
    if column in table.words:
        return head
    return "\n".join(textwrap.wrap(head, max([_HEAD, _longest(table, column), *map(len, head.split())]), break_long_words=False, break_on_hyphens=False))


def _longest(table: Table, column: int) -> int:
    return max((len(str(row.cells[column])) for row in table.rows), default=0)


def _narrowest(table: Table, column: int, head: str) -> int:
    longest = max(_longest(table, column), *map(len, head.split("\n")))
    return longest if _whole(table, column) else min(longest, _NARROWEST)


def _whole(table: Table, column: int) -> bool:
    """Numbers, and names that are short enough to be typed."""
    return column not in table.words or (column == 0 and _longest(table, column) <= _NAME)


def _grid(table: Table, heads: list[str]) -> RichTable:
    grid = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        caption=table.note or None,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
    )
    for i, head in enumerate(heads):
        grid.add_column(head, justify="left" if i in table.words else "right", vertical="top" if table.words else "bottom", no_wrap=_whole(table, i))
    for row in table.rows:
        grid.add_row(*[Text(str(cell)) for cell in row.cells], style="dim" if row.muted else None)
    return grid


def _records(console: Console, table: Table) -> None:
    """Each row under its first cell, a line for each column that says something."""
    console.print(Text(table.title, style="bold"))
    widest = max((len(head) for head in table.head[1:]), default=0)
    for row in table.rows:
        lines = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        lines.add_column(min_width=min(widest, console.width // 3))
        lines.add_column(overflow="fold")
        for head, cell in zip(table.head[1:], row.cells[1:], strict=True):
            if str(cell):
                lines.add_row(f"  {head}", Text(str(cell)))
        console.print(Text(str(row.cells[0]), style="dim" if row.muted else ""), soft_wrap=True)
        console.print(lines, style="dim" if row.muted else None)
    if table.note:
        console.print(Text(table.note, style="italic"))
