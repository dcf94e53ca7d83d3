"""CSV and TSV: text with a header, separated by commas, tabs, semicolons or bars."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import FitError
from isoflop.readers._bytes import head, is_text, lines, stream

BLOCK = 1 << 23  # bytes read at once: memory does not grow with the file
_HEADER = 1 << 20  # bytes in which a header ends
_DELIMITERS = ",\t;|"


def certainty(path: Path, start: bytes) -> int:
    """Any text might be a table; a suffix makes it no surer, since exports are called anything."""
    return int(path.is_file() and is_text(start) and start.lstrip()[:1] not in {b"{", b"["})


def open(path: Path) -> "Delimited":  # noqa: A001  # readers.delimited.open is how it is said
    """A file of delimited text.

    Raises:
        FitError: Empty, or a header that cannot be read.
    """
    start = head(path, _HEADER)
    first = next((line for line in start.splitlines() if line.strip(b" \t\xef\xbb\xbf")), b"")
    try:
        first.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, 1, first, error, b",") from error
    delimiter = _delimiter(first.decode("utf-8-sig"), tabs=".tsv" in path.suffixes)
    text = start.decode("utf-8-sig", errors="replace")
    try:
        names = next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row), [])
    except csv.Error as error:
        raise FitError(f"{path}, line 1: the header cannot be read ({error}). Give it one name for each column.") from error
    if not any(name.strip() for name in names):
        raise FitError(f"{path} is empty. Give a file with a header and a row for each run.")
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            raise FitError(f"{path}, line 1, column {place + 1}: the name {name!r} stands twice in the header, so it names neither. Rename one.")
        seen.add(name)
    quotes = sum(block.count(b'"') for block in _blocks(path))
    found = Delimited(path=path, delimiter=delimiter, columns=tuple(names), quoted=quotes > 0)
    if quotes % 2 and (malformed := found.malformed()):  # one that never closes would swallow the rows after it without a word
        raise malformed
    return found


@dataclass(frozen=True, kw_only=True)
class Delimited:
    """A file of delimited text."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    quoted: bool  # so that a line might end inside quotes

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Columns as strings, a block of the file at a time.

        Raises:
            FitError: Malformed, with line and column.
        """
        import pyarrow as pa

        try:
            with stream(self.path) as opened:
                for batch in self._reader(opened.file, wanted):
                    yield dict(zip(batch.schema.names, batch.columns, strict=True)), opened.fraction
        except pa.ArrowException as error:
            raise self.malformed() or FitError(f"{self.path} is malformed: {error}. Mend it, or write it again.") from error

    def _reader(self, file: Any, wanted: tuple[str, ...]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow

        return arrow.open_csv(
            file,
            read_options=arrow.ReadOptions(block_size=BLOCK),
            parse_options=arrow.ParseOptions(delimiter=self.delimiter, newlines_in_values=self.quoted),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string()), include_columns=list(wanted)),
        )

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Lines on which rows begin, by reading up to the last of them; of none where quotes are not as Python's reader takes them."""
        wanted, found = frozenset(rows), {}
        last = min(max(wanted, default=0), of)
        try:
            for row, line in enumerate(self._begun()):  # the header is row 0
                if row in wanted:
                    found[row] = line
                if row >= last:
                    break
        except csv.Error:
            return {}
        return found

    def _begun(self) -> Iterator[int]:
        """Lines on which the header and each row begin; empty lines are no rows."""
        if not self.quoted:
            yield from (number for number, line in enumerate(lines(self.path), start=1) if line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf"))
            return
        text = (line.decode("latin-1") for line in lines(self.path))  # where text is no matter: signs that part fields are of one byte
        reader, begun = csv.reader(text, delimiter=self.delimiter), 1
        for row in reader:
            if row:
                yield begun
            begun = reader.line_num + 1

    def malformed(self) -> FitError | None:
        """Where the file is malformed, found by reading it line by line, which is slow; None if nowhere."""
        decoded = _Decoded(self.path, self.delimiter.encode())
        rows = csv.reader(decoded, delimiter=self.delimiter, strict=True)
        begun = 1
        try:
            for row in rows:
                if row and len(row) != len(self.columns):
                    return self._uneven(begun, row)
                begun = rows.line_num + 1
        except csv.Error as malformed:
            return FitError(f"{self.path}, line {begun}: {malformed}. A quote that opens must close; mend that line.")
        except FitError as malformed:
            return malformed
        return None

    def _uneven(self, line: int, row: list[str]) -> FitError:
        wanted, found = len(self.columns), len(row)
        where = f"column {found + 1} ({self.columns[found]}) is not there" if found < wanted else f"column {wanted + 1} has no name"
        return FitError(
            f"{self.path}, line {line}: {found} fields, but the header names {wanted}; {where}. Mend that line, or quote fields that hold {self.delimiter!r}."
        )


class _Decoded:
    """Lines as text, until one is no UTF-8."""

    def __init__(self, path: Path, delimiter: bytes) -> None:
        self.path = path
        self.delimiter = delimiter
        self.lines = enumerate(lines(path), start=1)

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        number, line = next(self.lines)
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(self.path, number, line, error, self.delimiter) from error


def _not_utf8(path: Path, number: int, line: bytes, error: UnicodeDecodeError, delimiter: bytes) -> FitError:
    column = line[: error.start].count(delimiter) + 1
    return FitError(
        f"{path}, line {number}, column {column}: byte {line[error.start]:#04x} is no UTF-8, so the text cannot be trusted. Save the file as UTF-8."
    )


def _delimiter(header: str, *, tabs: bool) -> str:
    """The sign that parts the header into most names; quoted ones do not count."""
    outside = "".join(header.split('"')[::2])
    return max("\t," if tabs else _DELIMITERS, key=outside.count)


def _blocks(path: Path) -> Iterator[bytes]:
    with stream(path) as opened:
        while block := bytes(opened.file.read(BLOCK)):
            yield block
