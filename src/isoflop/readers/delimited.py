"""CSV and TSV: text with a header, separated by commas, tabs, semicolons or bars."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from isoflop.errors import FitError
from isoflop.readers import _header
from isoflop.readers._bytes import Stream, check_line, check_rows, head, is_text, lines, stream

BLOCK = 1 << 23  # bytes read at once: memory does not grow with the file
_HEADER = 1 << 20  # bytes in which a header ends
_COMMENT = re.compile(rb"^[ \t]*#[^\n]*\n?", re.MULTILINE)
_SAMPLE = 100  # rows by which decimal commas are told


def certainty(path: Path, start: bytes) -> int:
    """Take any text for a table; a suffix makes it no surer, since exports are called anything."""
    return int(path.is_file() and is_text(start) and start.lstrip()[:1] not in {b"{", b"["})


def open(path: Path) -> "Delimited":  # noqa: A001  # readers.delimited.open is how it is said
    """Open a file of delimited text.

    Raises:
        FitError: Empty, or a header that cannot be read.
    """
    start = head(path, _HEADER)
    header = _header.find(path, start, tabs=".tsv" in path.suffixes)
    quotes, comments = map(sum, zip(*((block.count(b'"'), block.count(b"\n#")) for block in _blocks(path)), strict=True))
    found = Delimited(path=path, header=header, columns=header.names, quoted=quotes > 0, commented=comments > 0 and not quotes, sample=_sample(start, header))
    if quotes % 2 and (malformed := found.malformed()):  # one that never closes would swallow the rows after it without a word
        raise malformed
    return found


def _sample(start: bytes, header: "_header.Header") -> tuple[str, ...]:
    """Return some cells of a file."""
    text = io.StringIO(start.decode("utf-8", errors="replace"), newline="")
    try:
        rows = list(islice(csv.reader(text, delimiter=header.delimiter), header.skip + 1, header.skip + 1 + _SAMPLE))
    except csv.Error:
        return ()
    return tuple(cell for row in rows for cell in row)


@dataclass(frozen=True, kw_only=True)
class Delimited:
    """A file of delimited text."""

    path: Path
    header: "_header.Header"
    columns: tuple[str, ...]
    quoted: bool  # so that a line might end inside quotes
    commented: bool  # so that a line might be a comment
    sample: tuple[str, ...]  # cells by which decimal commas are told

    @property
    def delimiter(self) -> str:
        """Sign between columns."""
        return self.header.delimiter

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns as strings, a block of the file at a time.

        Raises:
            FitError: Malformed, with line and column.
        """
        import pyarrow as pa

        rows = 0
        try:
            with stream(self.path) as opened:
                for batch in self._reader(self._rows(opened) if self.header.skip or self.commented else opened, wanted):
                    rows += batch.num_rows
                    check_rows(self.path, rows)
                    yield dict(zip(batch.schema.names, batch.columns, strict=True)), opened.fraction
        except pa.ArrowException as error:
            if isinstance(error, MemoryError):
                raise
            raise self.malformed() or FitError(f"{self.path} is malformed: {error}. Correct it, or write it again.") from error

    def _rows(self, opened: Stream) -> "_Rows":
        return _Rows(opened, skip=self.header.skip, delimiter=self.delimiter.encode(), fields=len(self.columns))

    def _reader(self, file: Any, wanted: tuple[str, ...]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow

        return arrow.open_csv(
            file,
            read_options=arrow.ReadOptions(block_size=BLOCK, column_names=list(self.columns) if self.header.in_comment else None),
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
        """Yield the lines on which the header and each row begin; empty lines and comments are no rows."""
        if self.header.in_comment:
            yield self.header.skip
        if not self.quoted:
            for number, line in enumerate(lines(self.path), start=1):
                text = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
                if number > self.header.skip and text and not self._skipped(text.decode("latin-1"), text.count(self.delimiter.encode()) + 1):
                    yield number
            return
        decoded = (line.decode("latin-1") for line in islice(lines(self.path), self.header.skip, None))  # signs that part fields are of one byte
        reader, begun = csv.reader(decoded, delimiter=self.delimiter), self.header.skip + 1
        for row in reader:
            if row and not self._skipped(row[0], len(row)):
                yield begun
            begun = self.header.skip + reader.line_num + 1

    def _skipped(self, start: str, fields: int) -> bool:
        """Return whether a row is a comment, which has as many fields as there are only by chance."""
        return fields != len(self.columns) and _is_comment(start)

    def malformed(self) -> FitError | None:
        """Return where the file is malformed, found by reading it line by line, which is slow; None if nowhere."""
        decoded = _Decoded(self.path, self.delimiter.encode(), skip=self.header.skip)
        rows = csv.reader(decoded, delimiter=self.delimiter, strict=True)
        begun = self.header.skip + 1
        try:
            for row in rows:
                if row and len(row) != len(self.columns) and not self._skipped(row[0], len(row)):
                    return self._uneven(begun, row)
                begun = self.header.skip + rows.line_num + 1
        except csv.Error as malformed:
            return FitError(f"{self.path}, line {begun}: {malformed}. A quote that opens must close; correct that line.")
        except FitError as malformed:
            return malformed
        return None

    def _uneven(self, line: int, row: list[str]) -> FitError:
        wanted, found = len(self.columns), len(row)
        where = f"column {found + 1} ({self.columns[found]}) is not there" if found < wanted else f"column {wanted + 1} has no name"
        advice = f"Correct that line, or quote fields that hold {self.delimiter!r}."
        return FitError(f"{self.path}, line {line}: {found} fields, but the header names {wanted}; {where}. {advice}")


class _Rows:
    """The text of a file without the lines above its header and without comments, for Arrow, which knows neither."""

    closed = False

    def __init__(self, opened: Stream, *, skip: int, delimiter: bytes, fields: int) -> None:
        self.opened = opened
        self.skip = skip
        self.delimiter = delimiter
        self.fields = fields
        self.rest = b""  # of a line that the block before cut
        self.ready = b""

    def read(self, size: int) -> bytes:
        """Read the next bytes; none only at the end."""
        while not self.ready:
            block = self.opened.read(size)
            text = self.rest + block
            end = text.rfind(b"\n") + 1 if block else len(text)
            text, self.rest = text[:end], text[end:]
            check_line(self.opened.path, self.skip + 1, len(self.rest))
            while self.skip and text:
                _, _, text = text.partition(b"\n")
                self.skip -= 1
            self.ready = _COMMENT.sub(lambda match: match[0] if match[0].count(self.delimiter) + 1 == self.fields else b"", text)
            if not block:
                break
        found, self.ready = self.ready[:size], self.ready[size:]
        return found

    def readable(self) -> bool:
        """Return that the text can be read."""
        return True

    def writable(self) -> bool:
        """Return that the text cannot be written."""
        return False

    def seekable(self) -> bool:
        """Return that the text is read from its start to its end."""
        return False

    def close(self) -> None:
        """Do nothing: the context manager closes the file."""


class _Decoded:
    """Lines as text, until one is no UTF-8."""

    def __init__(self, path: Path, delimiter: bytes, *, skip: int) -> None:
        self.path = path
        self.delimiter = delimiter
        self.lines = islice(enumerate(lines(path), start=1), skip, None)

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        number, line = next(self.lines)
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _header.not_utf8(self.path, number, line, error, self.delimiter) from error


def _is_comment(text: str) -> bool:
    return text.lstrip().startswith("#")


def _blocks(path: Path) -> Iterator[bytes]:
    with stream(path) as opened:
        while block := opened.read(BLOCK):
            yield block
