"""Cells -> numbers and texts, a column at a time."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import UnitError
from isoflop.runs import Floats

GIVEN, MISSING, TEXT = 0, 1, 2  # what a cell is where a number should be
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)$"
_NOTHING = ("", "null", "none", "na", "n/a", "-", "<na>")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0", *_NOTHING)


def numbers(column: Any) -> tuple[Floats, NDArray[np.int8]]:
    """Numbers of a column, NaN where there is none, and what each cell is."""
    column = _flat(column)
    kinds = np.where(column.is_null().to_numpy(zero_copy_only=False), MISSING, GIVEN).astype(np.int8)
    if pa.types.is_string(column.type):
        return _read(column, kinds)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return _floats(column), kinds
    return np.full(len(column), np.nan), np.where(kinds == MISSING, MISSING, TEXT).astype(np.int8)


def texts(column: Any) -> Any:
    """The column as Arrow strings, stripped; None where a cell says nothing."""
    column = _flat(column)
    if not pa.types.is_string(column.type):
        try:
            column = pc.cast(column, pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = pa.array([None if cell is None else str(cell) for cell in column.to_pylist()], pa.string())
    stripped = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def truths(column: Any) -> tuple[NDArray[np.bool_], str | None]:
    """Which cells are true, nothing being false; and a cell that is neither, if there is one."""
    column = _flat(column)
    if pa.types.is_boolean(column.type):
        return column.fill_null(value=False).to_numpy(zero_copy_only=False).astype(bool), None
    lower = pc.utf8_lower(pc.fill_null(texts(column), ""))
    true = pc.is_in(lower, pa.array(_TRUE))
    neither = lower.filter(pc.invert(pc.or_(true, pc.is_in(lower, pa.array([*_FALSE, "nan"])))))
    return true.to_numpy(zero_copy_only=False).astype(bool), neither[0].as_py() if len(neither) else None


def _flat(column: Any) -> Any:
    """One plain array, whatever Arrow made of it."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = pc.cast(column, pa.string())
    return column


def _floats(column: Any) -> Floats:
    floats: Floats = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return floats


def _read(column: Any, kinds: NDArray[np.int8]) -> tuple[Floats, NDArray[np.int8]]:
    try:
        return _floats(column), kinds
    except pa.ArrowInvalid:
        pass
    stripped = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    nothing = pc.is_in(pc.utf8_lower(stripped), pa.array(_NOTHING))
    plain = pc.match_substring_regex(stripped, _NUMBER)
    values = _floats(pc.if_else(plain, stripped, pa.scalar("nan")))
    kinds = np.where(nothing.to_numpy(zero_copy_only=False), MISSING, kinds).astype(np.int8)
    odd = np.flatnonzero(~plain.to_numpy(zero_copy_only=False) & (kinds == GIVEN))
    coded = stripped.take(pa.array(odd)).dictionary_encode()
    read = np.array([_quantity(text) for text in coded.dictionary.to_pylist()], dtype=float)
    if odd.size:
        found = read[coded.indices.to_numpy(zero_copy_only=False)]
        values = np.array(values)  # what Arrow hands out cannot be written
        values[odd] = found
        kinds[odd[np.isnan(found)]] = TEXT
    return values, kinds


def _quantity(text: str) -> float:
    try:
        return units.read(text)
    except (UnitError, ValueError, OverflowError):
        return float("nan")
