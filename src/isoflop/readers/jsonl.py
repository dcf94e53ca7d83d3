"""JSON: an object a line, one list, or one object in any of the shapes that pandas and people write; nested names have points, as "config.params"."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoflop.errors import FitError
from isoflop.readers import _shapes
from isoflop.readers._bytes import check_line, check_rows, is_text, lines, stream

BLOCK = 1 << 23  # bytes read at once: memory does not grow with the file
ARROW_DEPTH = 200  # brackets in brackets that Arrow's parser, which recurses in C, is given; it crashed at 100,000
DEEPEST = 8  # objects in objects that are named; assumption: no tool's export of runs goes deeper
LARGEST_OBJECT = 1 << 25  # bytes of a file that is one object, which Python holds whole in up to 20 times as many

_MARK = b"\xef\xbb\xbf"
_SAMPLE = 100  # lines that tell whether all are alike
_ROWS = 10_000  # entries of a list at once
_OPENING, _CLOSING, _END = list(b"{["), list(b"}]"), 10
_NO_BRACKETS = bytes(set(range(256)) - {*_OPENING, *_CLOSING, _END})
_SPACE = re.compile(r"[ \t\r\n]*")


def certainty(path: Path, start: bytes) -> int:
    """Tell by the first sign."""
    return 2 if path.is_file() and is_text(start) and start.removeprefix(_MARK).lstrip()[:1] in {b"{", b"["} else 0


def open(path: Path) -> "Jsonl":  # noqa: A001  # readers.jsonl.open is how it is said
    """Open a file of JSON.

    Raises:
        FitError: Not JSON, with the line and column; or a shape that is no table.
    """
    names: dict[str, None] = {}
    form, whole = _form(path)
    found = Jsonl(path=path, columns=(), form=form, whole=whole)
    for _, columns, _ in found.blocks():
        names.update(dict.fromkeys(columns))
    return Jsonl(path=path, columns=tuple(names), form=form, whole=whole)


@dataclass(frozen=True, kw_only=True)
class Jsonl:
    """A file of JSON."""

    path: Path
    columns: tuple[str, ...]
    form: str  # "lines", "list" or "whole"
    whole: tuple[dict[str, Any], ...]  # rows of a file that is read at once

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns, a block of the file at a time.

        Raises:
            FitError: Not JSON, with the line and column.
        """
        import pyarrow as pa

        for rows, columns, fraction in self.blocks():
            yield {name: columns[name] if name in columns else pa.nulls(rows, pa.string()) for name in wanted}, fraction

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Any], float]]:
        """Yield the number of rows, all their columns, and the fraction that has been read.

        Raises:
            FitError: Not JSON, with the line and column.
        """
        rows = 0
        match self.form:
            case "lines":
                found = _blocks(self.path)
            case "list":
                found = _entries(self.path)
            case _:
                found = iter([(len(self.whole), _columns(self.path, self.whole), 1.0)])
        for block in found:
            rows += block[0]
            check_rows(self.path, rows)
            yield block

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Return the lines of rows, where there is one a line."""
        if self.form != "lines":
            return {}
        written = [number for number, line in enumerate(lines(self.path), start=1) if line.strip()]
        return {row: written[row - 1] for row in rows} if len(written) == of else {}


def _form(path: Path) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Tell how rows stand in a file; and the rows, where the file must be read at once."""
    with stream(path) as opened:
        start = opened.read(BLOCK)
        cut = len(start) == BLOCK
        start = start.removeprefix(_MARK).lstrip()
        if start.startswith(b"[") and start[1:].lstrip()[:1] in {b"{", b""}:
            return "list", ()
        if start.startswith(b"{"):
            first, _, more = start.partition(b"\n")
            if more.strip():
                if _is_object(first):
                    return "lines", ()
            elif not cut and not _is_object(first, nested=True):
                return "lines", ()  # a table of one row; or none, which is said where it is read
        rest = opened.read(LARGEST_OBJECT - len(start) + 1)
    if len(start) + len(rest) > LARGEST_OBJECT:
        raise FitError(f"{path}: one JSON object of over {LARGEST_OBJECT / 1e6:.0f} MB is not read. Write one object a line (JSONL).")
    found = _parsed(path, start + rest, 1)
    if not isinstance(found, list | dict):
        raise FitError(f"{path}, line 1, column 1: {str(found)[:40]!r} is no JSON object. Give one object a line.")
    try:
        return "whole", tuple(_shapes.rows(found))
    except FitError as error:
        raise FitError(str(error) if str(error).startswith(str(path)) else f"{path}, {error}") from error


def _is_object(line: bytes, *, nested: bool = False) -> bool:
    """Return whether a line is one JSON object; if asked, one with objects or lists inside."""
    try:
        found = json.loads(line.decode())
    except (UnicodeDecodeError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and (not nested or any(isinstance(value, dict | list) for value in found.values()))


def _blocks(path: Path) -> Iterator[tuple[int, Mapping[str, Any], float]]:
    line = 1
    with stream(path) as opened:
        rest = b""
        while True:
            block = opened.read(BLOCK)
            text = rest + block
            end = text.rfind(b"\n") + 1 if block else len(text)
            text, rest = text[:end], text[end:]
            check_line(path, line + text.count(b"\n"), len(rest))
            if text.strip():
                rows, columns = _table(path, text.removeprefix(_MARK) if line == 1 else text, line)
                yield rows, columns, opened.fraction
            line += text.count(b"\n")
            if not block:
                return


def _table(path: Path, text: bytes, line: int) -> tuple[int, Mapping[str, Any]]:
    import pyarrow as pa
    from pyarrow import json as arrow

    try:
        if _crashes_arrow(text) or not _is_alike(text):
            raise pa.ArrowInvalid
        text.decode()  # Arrow does not look
        table = arrow.read_json(io.BytesIO(text), read_options=arrow.ReadOptions(block_size=max(2 * BLOCK, len(text))))
        while any(pa.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
        if len(set(table.column_names)) == table.num_columns and not any(pa.types.is_list(field.type) for field in table.schema):
            return table.num_rows, {name: table[name] for name in table.column_names}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError):
            raise
        # NaN, a column of numbers and texts, or no JSON: Python's reader takes the first two and names the third
    rows = [point for row in _objects(path, text, line) for point in _shapes.spread(row)]
    return len(rows), _columns(path, rows)


def _crashes_arrow(text: bytes) -> bool:
    """Return whether Arrow might end the process with a segmentation fault (seen with pyarrow 26): a leading null, or deep nesting."""
    return text.lstrip().startswith(b"null") or _depth(text) > ARROW_DEPTH


def _is_alike(text: bytes) -> bool:
    """Return whether some lines have the same names by and large; else Arrow would hold a column for each name, as long as the file."""
    lines = text.split(b"\n")
    names, most = set[str](), 1
    for line in lines[:: max(1, len(lines) // _SAMPLE)]:
        try:
            found = json.loads(line.decode())
        except (ValueError, RecursionError):  # which is said where it is read
            continue
        if isinstance(found, dict):
            names.update(found)
            most = max(most, len(found))
    return len(names) <= 10 * most


def _depth(text: bytes) -> int:
    """Return how deeply a line is nested at most, brackets in texts counted too."""
    brackets = np.frombuffer(text.translate(None, _NO_BRACKETS), dtype=np.uint8)
    if not brackets.size:
        return 0
    depth = np.isin(brackets, _OPENING).astype(np.int32)
    depth -= np.isin(brackets, _CLOSING)
    depth = depth.cumsum()
    ends = brackets == _END
    before = np.concatenate([[0], depth[ends]])  # where each line begins
    return int((depth - before[ends.cumsum()]).max())


def _objects(path: Path, text: bytes, line: int) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(text.split(b"\n"), start=line):
        if not row.strip():
            continue
        found = _parsed(path, row, number)
        if not isinstance(found, dict):
            raise FitError(f"{path}, line {number}, column 1: {row[:40].decode(errors='replace')!r} is no JSON object. Give one object a line.")
        yield found


def _parsed(path: Path, text: bytes, line: int) -> Any:
    try:
        return json.loads(text.decode())
    except json.JSONDecodeError as error:
        raise _no_json(path, line + error.lineno - 1, error.colno, error.msg) from error
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line, at = line + before.count(b"\n"), len(before) - before.rfind(b"\n")
        raise FitError(f"{path}, line {line}, column {at}: byte {text[error.start]:#04x} is no UTF-8. Save the file as UTF-8.") from error
    except (RecursionError, ValueError) as error:
        raise FitError(f"{path}, line {line}: JSON that cannot be read ({error}).") from error


def _no_json(path: Path, line: int, column: int, why: str) -> FitError:
    return FitError(f"{path}, line {line}, column {column}: no JSON ({why}). Correct that line, or leave it out.")


def _entries(path: Path) -> Iterator[tuple[int, Mapping[str, Any], float]]:
    """Yield the entries of a file that is one list, some thousand at a time."""
    rows: list[dict[str, Any]] = []
    place = 0
    with stream(path) as opened:
        for place, row in enumerate(_List(path, opened), start=1):
            if not isinstance(row, dict):
                raise FitError(f"{path}, entry {place} of the list: {str(row)[:40]!r} is no object. Give a list of objects, one for each run.")
            rows += _shapes.spread(row)
            if len(rows) >= _ROWS:
                yield len(rows), _columns(path, rows), opened.fraction
                rows = []
        if rows or not place:
            yield len(rows), _columns(path, rows), 1.0


class _List:
    """Entries of a JSON list, of which no more than one block and one entry are in memory."""

    def __init__(self, path: Path, opened: Any) -> None:
        self.path = path
        self.opened = opened
        self.bytes = b""  # of a character that the block before cut
        self.text = ""
        self.at = 0  # in the text
        self.line, self.column = 1, 1  # of its beginning
        self.ended = False

    def __iter__(self) -> Iterator[Any]:
        decoder = json.JSONDecoder()
        self._more(BLOCK)
        self.at = self.text.index("[") + 1
        first = True
        while (sign := self._sign()) != "]":
            if not first:
                if sign != ",":
                    raise self._error("Expecting ',' delimiter")
                self.at += 1
                self._sign()
            first = False
            yield self._entry(decoder)
        self.at += 1
        if self._sign():
            raise self._error("Extra data")

    def _sign(self) -> str:
        """Return the next sign that is no space; empty at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text) or not self._more(BLOCK):
                return self.text[self.at : self.at + 1]

    def _entry(self, decoder: json.JSONDecoder) -> Any:
        more = BLOCK
        while True:
            try:
                found, end = decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                malformed = self._error(error.msg, error.pos)
                check_line(self.path, self.line, len(self.text) - self.at)
                if not self._more(more):
                    raise malformed from error
                more *= 2
            except (RecursionError, ValueError) as error:
                raise FitError(f"{self.path}, line {self._place(self.at)[0]}: JSON that cannot be read ({error}).") from error
            else:
                self.at = end
                return found

    def _more(self, size: int) -> bool:
        """Read on, and forget what has been yielded; False at the end."""
        self.line, self.column = self._place(self.at)
        self.text, self.at = self.text[self.at :], 0
        block = self.opened.read(size)
        if not self.line - 1 and not self.text and not self.bytes:
            block = block.removeprefix(_MARK)
        whole = self.bytes + block
        try:
            text, self.bytes = whole.decode(), b""
        except UnicodeDecodeError as error:
            if not block or len(whole) - error.start > 3:
                line, column = self._place(len(self.text))
                before = whole[: error.start].decode()
                line, column = line + before.count("\n"), column + len(before) if "\n" not in before else len(before) - before.rfind("\n")
                raise FitError(f"{self.path}, line {line}, column {column}: byte {whole[error.start]:#04x} is no UTF-8. Save the file as UTF-8.") from error
            text, self.bytes = whole[: error.start].decode(), whole[error.start :]
        self.text += text
        return bool(block)

    def _place(self, at: int) -> tuple[int, int]:
        """Return the line and column of a place in the text."""
        breaks = self.text.count("\n", 0, at)
        return self.line + breaks, at - self.text.rfind("\n", 0, at) if breaks else self.column + at

    def _error(self, why: str, at: int | None = None) -> FitError:
        return _no_json(self.path, *self._place(self.at if at is None else at), why)


def _columns(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return objects as columns of strings.

    Raises:
        FitError: Nearly every object has names of its own.
    """
    import pyarrow as pa

    flat = [dict(_flat(row, "", DEEPEST)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    if len(names) * len(flat) > _shapes.MOST_CELLS:
        raise FitError(f"{path}: {len(flat):,} objects have {len(names):,} different names, so they are no table. Give all runs the same names.")
    return {name: pa.array([row.get(name) for row in flat], pa.string()) for name in names}


def _flat(row: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, str | None]]:
    for name, value in row.items():
        if isinstance(value, dict) and depth:
            yield from _flat(value, f"{before}{name}.", depth - 1)
        else:
            text = None if value is None else "[...]" if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
            yield _encodable(f"{before}{name}"), None if text is None else _encodable(text)


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which JSON allows and UTF-8 does not, written as escapes."""
    return text.encode(errors="backslashreplace").decode()
