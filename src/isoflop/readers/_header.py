"""The header of delimited text: below a title, comments and empty lines, or inside a comment."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from isoflop.errors import FitError

_DELIMITERS = ",\t;|"
_AT_MOST = 100  # lines above a header
_MARK = b"\xef\xbb\xbf"
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # as Excel writes in a first line
_NUMBER = re.compile(r"[+-]?(\d[\d_,]*\.?\d*|\.\d+)([eE][+-]?\d+)?\s*[kKmMbBgGtT]?|nan|[+-]?inf", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Header:
    """Names of columns, and where they stand."""

    names: tuple[str, ...]
    delimiter: str
    skip: int  # lines before the header; before the first row, where the names stand in a comment
    in_comment: bool


def find(path: Path, start: bytes, *, tabs: bool) -> Header:
    """Find the header of a file.

    Args:
        path: For messages.
        start: The first bytes of the file.
        tabs: The file's name says that tabs part its columns.

    Raises:
        FitError: Empty, without names, or with one name for two columns.
    """
    text = start.decode("utf-8-sig", errors="replace")
    lines = [line.rstrip("\r") for line in text.split("\n", _AT_MOST)[:_AT_MOST]]
    if "\n" not in text and "\r" in text:
        lines = text.split("\r", _AT_MOST)[:_AT_MOST]
    told = next((match[1] for line in lines[:1] if (match := _SEPARATOR.fullmatch(line))), None)
    skip, delimiter = _first(lines, tabs=tabs, told=told)
    _check_utf8(path, start, skip, delimiter)
    names = _names(path, "\n".join(lines[skip:]) if skip else text, skip, delimiter)
    if comment := _names_in_comment(lines[:skip], names, delimiter):
        return Header(names=_checked(path, comment, skip), delimiter=delimiter, skip=skip, in_comment=True)
    if all(_NUMBER.fullmatch(name.strip()) for name in names):
        raise FitError(f"{path}, line {skip + 1}: the first row holds numbers alone, so nothing says what its columns are. Give it a header with their names.")
    return Header(names=_checked(path, names, skip), delimiter=delimiter, skip=skip, in_comment=False)


def _first(lines: list[str], *, tabs: bool, told: str | None) -> tuple[int, str]:
    """Return how many lines stand before the header, or before the first row, and the sign that parts them."""
    at = [place for place, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    if told is not None:
        at = [place for place in at if place]
    if not at:
        at = [place for place, line in enumerate(lines) if line.strip()] or [0]
    for place in at:
        line = lines[place]
        delimiter = told or _delimiter(line, tabs=tabs)
        if _filled(line, delimiter) > 1 or line.count('"') % 2:
            alike = [p for p in at if p > place][:1]
            if not alike or place == at[0] or _fields(lines[alike[0]], delimiter) == _fields(line, delimiter):
                return place, delimiter
    return at[0], told or _delimiter(lines[at[0]], tabs=tabs)


def _fields(line: str, delimiter: str) -> int:
    return "".join(line.split('"')[::2]).count(delimiter) + 1


def _filled(line: str, delimiter: str) -> int:
    return sum(bool(cell.strip()) for cell in line.split(delimiter))


def _delimiter(header: str, *, tabs: bool) -> str:
    """Return the sign that parts the header into most names; quoted ones do not count."""
    outside = "".join(header.split('"')[::2])
    return max("\t," if tabs else _DELIMITERS, key=outside.count)


def _names(path: Path, text: str, skip: int, delimiter: str) -> tuple[str, ...]:
    try:
        names = next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row), [])
    except csv.Error as error:
        raise FitError(f"{path}, line {skip + 1}: the header cannot be read ({error}). Give it one name for each column.") from error
    if not any(name.strip() for name in names):
        raise FitError(f"{path} is empty. Give a file with a header and a row for each run.")
    return tuple(names)


def _names_in_comment(above: list[str], first: tuple[str, ...], delimiter: str) -> tuple[str, ...] | None:
    """Return names that stand in the last comment above numbers, as numpy.savetxt writes them; None where there are none."""
    comments = [line.lstrip(" #\t") for line in above if line.lstrip().startswith("#")]
    if not comments or not any(_NUMBER.fullmatch(cell.strip()) for cell in first):
        return None
    names = tuple(name.strip() for name in comments[-1].split(delimiter))
    return names if len(names) == len(first) > 1 and not any(map(_NUMBER.fullmatch, names)) else None


def _checked(path: Path, names: tuple[str, ...], skip: int) -> tuple[str, ...]:
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            raise FitError(f"{path}, line {skip + 1}, column {place + 1}: the name {name!r} stands twice in the header, so it names neither. Rename one.")
        seen.add(name)
    return names


def _check_utf8(path: Path, start: bytes, skip: int, delimiter: str) -> None:
    """Refuse a header that is no UTF-8."""
    line = next(iter(start.removeprefix(_MARK).split(b"\n")[skip : skip + 1]), b"")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        if error.end < len(line) or b"\n" in start:  # else the block cut a character
            raise not_utf8(path, skip + 1, line, error, delimiter.encode()) from error


def not_utf8(path: Path, number: int, line: bytes, error: UnicodeDecodeError, delimiter: bytes) -> FitError:
    """Return the error of a byte that is no UTF-8, with its line and column."""
    column = line[: error.start].count(delimiter) + 1
    return FitError(
        f"{path}, line {number}, column {column}: byte {line[error.start]:#04x} is no UTF-8, so the text cannot be trusted. Save the file as UTF-8."
    )
