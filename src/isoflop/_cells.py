"""Text cells of CSV that no spreadsheet takes for a formula, and back.

A spreadsheet runs a cell that begins with =, +, - or @, also behind spaces, a tab or a line end (CWE-1236). A single quote before it makes it text. Numbers
stay as they are: only cells of text are escaped. Every text is read back unchanged, also one that begins with quotes itself.
"""

import re

_RUNS = re.compile(r"'* *[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are full-width: a spreadsheet in Chinese or Japanese runs them too


def escape(text: str) -> str:
    """Return a text cell as CSV has it: with a single quote before it, if a spreadsheet would run it."""
    return f"'{text}" if _RUNS.match(text) else text


def unescape(cell: str) -> str:
    """Return the text of a cell that `escape` wrote."""
    return cell[1:] if cell.startswith("'") and _RUNS.match(cell) else cell
