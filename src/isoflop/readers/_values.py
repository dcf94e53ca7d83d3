"""Cells -> numbers and texts, a column at a time."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import UnitError
from isoflop.readers._names import SUPERSCRIPTS, flops_unit
from isoflop.runs import Floats

GIVEN, MISSING, TEXT = 0, 1, 2  # what a cell is where a number should be
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)$"
_NOTHING = ("", "null", "none", "na", "n/a", "-", "<na>")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0", *_NOTHING)


def numbers(column: Any) -> tuple[Floats, NDArray[np.int8]]:
    """Return the numbers of a column, NaN where there is none, and what each cell is."""
    column = _flat(column)
    kinds = np.where(column.is_null().to_numpy(zero_copy_only=False), MISSING, GIVEN).astype(np.int8)
    if pa.types.is_string(column.type):
        return _read(column, kinds)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return _floats(column), kinds
    return np.full(len(column), np.nan), np.where(kinds == MISSING, MISSING, TEXT).astype(np.int8)


def texts(column: Any) -> Any:
    """Return the column as Arrow strings, stripped; None where a cell is empty."""
    column = _flat(column)
    if not pa.types.is_string(column.type):
        try:
            column = pc.cast(column, pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = pa.array([None if cell is None else str(cell) for cell in column.to_pylist()], pa.string())
    stripped = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def truths(column: Any) -> tuple[NDArray[np.bool_], str | None]:
    """Return which cells are true (an empty one is false), and a cell that is neither true nor false, if there is one."""
    column = _flat(column)
    if pa.types.is_boolean(column.type):
        return column.fill_null(value=False).to_numpy(zero_copy_only=False).astype(bool), None
    lower = pc.utf8_lower(pc.fill_null(texts(column), ""))
    true = pc.is_in(lower, pa.array(_TRUE))
    neither = lower.filter(pc.invert(pc.or_(true, pc.is_in(lower, pa.array([*_FALSE, "nan"])))))
    return true.to_numpy(zero_copy_only=False).astype(bool), neither[0].as_py() if len(neither) else None


def whole_rows(source: Any, columns: tuple[str, ...], numbers: NDArray[np.int64]) -> dict[int, tuple[str | None, ...]]:
    """Read some rows again, with all columns.

    Args:
        source: The table.
        columns: To read.
        numbers: Of the rows, from 1.
    """
    found: dict[int, tuple[str | None, ...]] = {}
    wanted, done = np.sort(numbers), 0
    for batch, _ in source.batches(columns):
        size = len(next(iter(batch.values())))
        here = wanted[(wanted > done) & (wanted <= done + size)]
        cells = [texts(batch[name]).take(pa.array(here - done - 1)).to_pylist() for name in columns]
        found.update(zip(here.tolist(), zip(*cells, strict=True), strict=True))
        done += size
    return found


def _flat(column: Any) -> Any:
    """Return one plain array of a column of any Arrow type."""
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


# What people write about a number and isoflop does not need: a tilde before it, its error and its unit after it.
_ABOUT = re.compile(
    r"[~\u2248\u2243]?\s*(?P<number>.+?)\s*"
    r"(?:(?:\u00b1|\+/?-|\+\\?-)\s*[\d.,eE+\-]+\s?[kKmMbBgGtT]?|\([\d.eE+\-]+\))?\s*"
    r"(?P<unit>(?:non-?emb(?:edding)?\s*)?(?:params?|parameters?|tokens?|toks?|flops?|nats|seqs?|sequences?|steps?)(?:\s*/\s*(?:token|tok|byte))?\.?)?",
    re.IGNORECASE,
)
_POWER = re.compile(r"(?P<number>.+?)\s*[x*\u00d7\u00b7]\s*10\s*(?:\^|\*\*)?\s*\{?(?P<power>[+-]?\d{1,3})\}?")  # 2.6 x 10^8
_BARE_POWER = re.compile(r"10\s*(?:\^|\*\*)\s*\{?([+-]?\d{1,3})\}?")
_COMPUTE = re.compile(
    r"(?P<number>[\d.,eE+\-]+)\s*(?P<unit>(?:[GTPEZY]|giga|tera|peta|exa|zetta|yotta)[-\s]?F(?:LOPS?)?(?:[/\-\s]*s)?(?:[-\s*]*days?)?)", re.IGNORECASE
)
_WORD = re.compile(r"(?P<number>[\d.,_]+)\s*(?P<word>thousand|million|mio|mn|billion|bn|trillion|tn)s?", re.IGNORECASE)
_WORDS = {"thousand": "k", "million": "M", "mio": "M", "mn": "M", "billion": "B", "bn": "B", "trillion": "T", "tn": "T"}
_MARKS = re.compile("^[*_$\\s]+|[*_$\u2020\u2021\u00a7\\s]+$")  # bold of the best run, a sign of a footnote, mathematics
_MINUS = str.maketrans({"\u2212": "-", "\u2009": " ", "\u202f": " ", "\u00a0": " "})


def _quantity(text: str) -> float:
    """Return the number of a cell that is no plain one, such as "70M params", "2.6x10^8", "0.4 billion" or "2.31 +- 0.002"; NaN if there is none."""
    for written in (text, _without_words(text)):
        try:
            return units.read(written)
        except (UnitError, ValueError, OverflowError):
            continue
    return float("nan")


def _without_words(text: str) -> str:
    plain = _MARKS.sub("", text.translate(_MINUS))
    if compute := _COMPUTE.fullmatch(plain):
        scale = flops_unit(compute["unit"])
        return plain if scale is None else repr(units.read(compute["number"]) * scale)
    raised = "".join(("^" if one in _SUPERSCRIPT and (not at or plain[at - 1] not in _SUPERSCRIPT) else "") + one for at, one in enumerate(plain))
    about = _ABOUT.fullmatch(raised.translate(SUPERSCRIPTS))
    number = about["number"] if about else plain
    if power := _POWER.fullmatch(number):
        return f"{power['number'].strip()}e{int(power['power'])}"
    if bare := _BARE_POWER.fullmatch(number):
        return f"1e{int(bare[1])}"
    if word := _WORD.fullmatch(number):
        return word["number"] + _WORDS[word["word"].lower()]
    return number


_SUPERSCRIPT = frozenset("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b")
