"""JSONL: an object a line, or one JSON list of objects; what is nested is named with points, as "config.params"."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import FitError
from isoflop.readers._bytes import is_text, lines, stream

BLOCK = 1 << 23  # bytes read at once: memory does not grow with the file
ARROW_DEPTH = 1000  # brackets that Arrow's parser, which recurses in C, is given in a line; it crashed at 100,000
DEEPEST = 8  # objects in objects that are named; assumption: no tool's export of runs goes deeper


def certainty(path: Path, start: bytes) -> int:
    """By its first sign."""
    return 2 if path.is_file() and is_text(start) and start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["} else 0


def open(path: Path) -> "Jsonl":  # noqa: A001  # readers.jsonl.open is how it is said
    """A file of JSON.

    Raises:
        FitError: Not JSON, with the line and column.
    """
    names: dict[str, None] = {}
    whole = _whole(path)
    for _, columns, _ in _blocks(path) if whole is None else [(1, _columns(whole), 1.0)]:
        names.update(dict.fromkeys(columns))
    return Jsonl(path=path, columns=tuple(names), whole=whole)


@dataclass(frozen=True, kw_only=True)
class Jsonl:
    """A file of JSON."""

    path: Path
    columns: tuple[str, ...]
    whole: list[dict[str, Any]] | None  # of a file that is one list

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Columns, a block of the file at a time.

        Raises:
            FitError: Not JSON, with the line and column.
        """
        import pyarrow as pa

        for rows, columns, fraction in _blocks(self.path) if self.whole is None else [(len(self.whole), _columns(self.whole), 1.0)]:
            yield {name: columns[name] if name in columns else pa.nulls(rows, pa.string()) for name in wanted}, fraction

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Lines of rows, where there is one a line."""
        if self.whole is not None:
            return {}
        written = [number for number, line in enumerate(lines(self.path), start=1) if line.strip()]
        return {row: written[row - 1] for row in rows} if len(written) == of else {}


def _blocks(path: Path) -> Iterator[tuple[int, Mapping[str, Any], float]]:
    line = 1
    with stream(path) as opened:
        rest = b""
        while True:
            block = bytes(opened.file.read(BLOCK))
            text = rest + block
            end = text.rfind(b"\n") + 1 if block else len(text)
            text, rest = text[:end], text[end:]
            if text.strip():
                rows, columns = _table(path, text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text, line)
                yield rows, columns, opened.fraction
            line += text.count(b"\n")
            if not block:
                return


def _table(path: Path, text: bytes, line: int) -> tuple[int, Mapping[str, Any]]:
    import pyarrow as pa
    from pyarrow import json as arrow

    if _crashes_arrow(text):
        rows = list(_objects(path, text, line))
        return len(rows), _columns(rows)
    try:
        text.decode()  # Arrow does not look
        table = arrow.read_json(io.BytesIO(text), read_options=arrow.ReadOptions(block_size=2 * BLOCK))
    except (pa.ArrowException, UnicodeDecodeError):  # NaN, a column of numbers and texts, or no JSON: Python's reader takes the first two and names the third
        rows = list(_objects(path, text, line))
        return len(rows), _columns(rows)
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    if len(set(table.column_names)) != table.num_columns:
        rows = list(_objects(path, text, line))
        return len(rows), _columns(rows)
    return table.num_rows, {name: _plain(table[name]) for name in table.column_names}


def _crashes_arrow(text: bytes) -> bool:
    """Return whether Arrow might end the process with a segmentation fault (seen with pyarrow 26): a leading null, or deep nesting."""
    return text.lstrip().startswith(b"null") or any(line.count(b"[") + line.count(b"{") > ARROW_DEPTH for line in text.split(b"\n"))


def _plain(column: Any) -> Any:
    """A column without lists, which are no numbers, and which Arrow cannot always put together."""
    import pyarrow as pa

    return pa.array(["[...]"] * len(column), pa.string()) if pa.types.is_nested(column.type) else column


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
        raise FitError(f"{path}, line {line + error.lineno - 1}, column {error.colno}: no JSON ({error.msg}). Mend that line, or leave it out.") from error
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line, at = line + before.count(b"\n"), len(before) - before.rfind(b"\n")
        raise FitError(f"{path}, line {line}, column {at}: byte {text[error.start]:#04x} is no UTF-8. Save the file as UTF-8.") from error
    except (RecursionError, ValueError) as error:
        raise FitError(f"{path}, line {line}: JSON that cannot be read ({error}).") from error


def _whole(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file that is one list, or one object over several lines; None of JSONL."""
    with stream(path) as opened:
        start = bytes(opened.file.read(BLOCK)).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start[:1] != b"[":
            return None
        found = _parsed(path, start + bytes(opened.file.read()), 1)
    rows = found if isinstance(found, list) else [found]
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise FitError(f"{path}, entry {place} of the list: {str(row)[:40]!r} is no object. Give a list of objects, one for each run.")
    return rows


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects as columns of strings."""
    import pyarrow as pa

    flat = [dict(_flat(row, "", DEEPEST)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: pa.array([row.get(name) for row in flat], pa.string()) for name in names}


def _flat(row: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, str | None]]:
    for name, value in row.items():
        if isinstance(value, dict) and depth:
            yield from _flat(value, f"{before}{name}.", depth - 1)
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield _encodable(f"{before}{name}"), None if value is None else _encodable(text)


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which JSON allows and UTF-8 does not, written as escapes."""
    return text.encode(errors="backslashreplace").decode()
