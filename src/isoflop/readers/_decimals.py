"""Numbers with a decimal comma, as half the world writes them: 3,0723 and 1.234.567."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import FitError, QuestionError, Reading, UsageError
from isoflop.readers import Lined

SIGNS = (".", ",")

_SPACES = " \u00a0\u2009\u202f_'\u2019"  # between thousands
_COMMA = rf"^\s*[+-]?(\d{{1,3}}([.{_SPACES}]\d{{3}})+|\d+)?(,\d+)?([eE][+-]?\d+)?\s*[A-Za-zµ%]*\s*$"  # a number with a decimal comma, and its unit
_POINT = r"^\s*[+-]?\d+\.\d+"  # how a number begins that has a decimal point
_FRACTION = re.compile(r"[+-]?(\d{1,3}|\d{4,}),(\d{1,2}|\d{4,})([eE][+-]?\d+)?\s*[A-Za-z]?|[+-]?0,\d+\s*[A-Za-z]?|[+-]?\d{4,},\d+")  # no commas of thousands
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}\s*[A-Za-z]?")  # 3,072: three thousand, or three and a bit


@dataclass(frozen=True, kw_only=True)
class WithCommas:
    """A table whose cells have decimal commas, read as numbers with a point."""

    path: Path
    table: Any
    columns: tuple[str, ...]

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns of the table, decimal commas turned into points.

        Raises:
            FitError: A number with a decimal point.
        """
        for batch, fraction in self.table.batches(wanted):
            yield {name: self._converted(name, column) for name, column in batch.items()}, fraction

    def _converted(self, name: str, column: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_string(column.type):
            return column
        number = pc.fill_null(pc.match_substring_regex(column, _COMMA), fill_value=False)
        point = pc.fill_null(pc.match_substring_regex(column, _POINT), fill_value=False)
        wrong = column.filter(pc.and_(point, pc.invert(number)))
        if len(wrong):
            raise FitError(
                f"{self.path}, column {name!r}: {wrong[0].as_py()!r} has a decimal point, though decimals stand after a comma elsewhere. "
                "Write all numbers in one way, or give --decimal . if commas part thousands."
            )
        plain = pc.replace_substring_regex(column, rf"(\d)[.{_SPACES}](\d)", r"\1\2")
        plain = pc.replace_substring_regex(pc.replace_substring_regex(plain, rf"(\d)[.{_SPACES}](\d)", r"\1\2"), r"(\d),(\d)", r"\1.\2")
        return pc.if_else(number, plain, column)

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Return the lines of rows, where they are known."""
        return self.table.lines(rows, of=of) if isinstance(self.table, Lined) else {}


def read(table: Any, decimal: str | None, path: Path) -> Any:
    """Return a table with its decimals read.

    Args:
        table: The table.
        decimal: Sign before decimals, "." or ","; None to tell by the text.
        path: The file, for messages.

    Raises:
        UsageError: No such sign.
        QuestionError: Commas may stand before decimals or between thousands.
    """
    if decimal is not None and decimal not in SIGNS:
        raise UsageError(f"--decimal {decimal!r}: the sign before decimals is . or a comma. Give --decimal , for numbers such as 3,07.")
    sample = getattr(table, "sample", ())
    if decimal is None and sample and _has_commas(sample):
        decimal = ","
    return WithCommas(path=path, table=table, columns=table.columns) if decimal == "," else table


def _has_commas(sample: Sequence[str]) -> bool:
    """Tell by some cells whether decimals stand after a comma."""
    cells = [cell.strip() for cell in sample]
    if any(re.match(r"[+-]?\d+\.\d", cell) and not re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?\s*[A-Za-z]?", cell) for cell in cells):
        return False  # a decimal point
    if any(re.fullmatch(r"[+-]?\d{1,3}(,\d{3}){2,}", cell) for cell in cells):
        return False  # commas between thousands
    if any(map(_FRACTION.fullmatch, cells)):
        return True
    either = next((cell for cell in cells if _EITHER.fullmatch(cell)), None)
    if either is None:
        return False
    number = re.sub(r"\D", "", either)
    raise QuestionError(
        f"{either!r} is a number with decimals, or with a comma between thousands.",
        (Reading(f"{either.replace(',', '.')}: decimals stand after a comma", "--decimal ,"), Reading(f"{number}: thousands", "--decimal .")),
    )
