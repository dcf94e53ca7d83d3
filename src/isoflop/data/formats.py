"""One file -> its documents, streaming: text, JSON lines and Parquet, plain or compressed."""

import json
import lzma
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from isoflop._bounded import COMPRESSIONS, chunks, decompressed, largest_page
from isoflop.data import _cut, _decode
from isoflop.data._cut import PIECE, Document, Excluded
from isoflop.data._decode import NotTextError, shown
from isoflop.errors import CorpusError, not_importable

__all__ = ["PIECE", "TABLES", "TEXT_FIELDS", "Document", "Excluded", "NotTextError", "Options", "documents", "record", "shown", "text_field"]

TEXT_FIELDS = ("text", "content", "document", "body", "code")  # assumption: the names that public corpora use
TABLES = (".csv", ".tsv")
LONGEST = 1 << 24  # bytes of a record; assumption: no document is longer (the Bible has 4.5 MB), and memory holds several copies
_LARGEST_PAGE = 1 << 27  # bytes of a Parquet page, decompressed; writers make them of 1 MB, or of one value
_ROWS = 1024  # of Parquet at once
_ROW_BYTES = 1 << 24  # of these, on average
_COMMAND = "python3 -c"
_LINE_TYPES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How text is read from files.

    Attributes:
        separator: Text between documents; empty for none.
        text_field: The field or column that holds the text; empty for "text", or the only other of `TEXT_FIELDS`.
        encoding: Of text files and JSON lines.
        cut_records: Cut long records as text files are cut; corpora of the first format have them whole.
    """

    separator: str = ""
    text_field: str = ""
    encoding: str = "utf-8"
    cut_records: bool = True


DEFAULT = Options()


def documents(path: Path, raw: IO[bytes], *, whole: bool = False, options: Options = DEFAULT) -> Iterator[Document | Excluded]:
    """Yield the documents of one file as they are read, and what is excluded.

    Args:
        path: Its suffixes say the format: .jsonl, .ndjson, .json and .parquet are records, all else is text; .gz, .bz2, .xz and .zst are decompressed.
        raw: The open file.
        whole: Keep a text file as one document, however long; else it is cut at blank lines into documents of about 64 kB.
        options: How to read it.

    Raises:
        NotTextError: A binary file, a table, or text in another encoding.
        CorpusError: A damaged file, or records without text.
        MissingExtraError: A package that the format needs.
    """
    suffixes = [s.lower() for s in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind in TABLES:
        raise _table(path, kind)
    try:
        if kind == ".parquet":
            yield from _parquet(path, raw, compression, options)
            return
        text = _decode.Text(path, decompressed(raw, compression), options.encoding)
        if whole:
            yield Document(_decode.whole(text, path), shown(path))
        elif kind in _LINE_TYPES:
            yield from _json_lines(path, text, options)
        else:
            yield from _cut.documents(text.clean(), shown(path), options.separator)
        text.check()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if "memory" in str(error).lower():  # a header may demand gigabytes
            what = f"{shown(path)} takes more memory to be decompressed than isoflop gives it ({error})"
            raise CorpusError(f"{what}. Decompress it first, and name the decompressed file.") from None
        what = f"{shown(path)} cannot be read to its end ({error}): it is damaged or incomplete"
        raise CorpusError(f"{what}. Fetch or make it again, or leave it out of the corpus.") from None


def record(fields: Mapping[str, object], where: str, options: Options = DEFAULT) -> Iterator[Document | Excluded]:
    """Yield the documents of one record.

    Raises:
        CorpusError: No field holds its text, or several could, or it is not a string.
    """
    name = text_field(fields, where, options.text_field)
    value = fields[name]
    if value is None:
        yield Excluded("null", 0, where)
    elif isinstance(value, str):
        yield from _record_text(value, where, options)
    else:
        raise CorpusError(f"{where}: field {_plain(name)!r} is {type(value).__name__}, not a string. Correct the record, or leave it out.")


def text_field(names: Iterable[str], where: str, wanted: str = "") -> str:
    """Return which of the names holds the text: the wanted one, else "text", else the only other one of `TEXT_FIELDS`.

    Raises:
        CorpusError: None of them, or several.
    """
    names = tuple(names)
    there = f"there are only: {', '.join(_plain(name) for name in names) or 'none'}"
    if wanted:
        if wanted in names:
            return wanted
        raise CorpusError(f"{where}: no field {_plain(wanted)}, which text_field names; {there}. Correct text_field in the study.")
    known = [name for name in TEXT_FIELDS if name in names]
    if known and (known[0] == "text" or len(known) == 1):
        return known[0]
    found = f"several of them could be the text: {', '.join(known)}" if known else there
    raise CorpusError(f'{where}: no field "text"; {found}. Name the field that holds the text in the study, for example text_field = "body".')


def _plain(name: object) -> str:
    """Return a name that can be printed, whatever a file calls it, and not too long."""
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return text if len(text) < 80 else f"{text[:76]} ..."


def _record_text(text: str, where: str, options: Options) -> Iterator[Document | Excluded]:
    if len(text) > LONGEST:
        yield _too_long(len(text.encode(errors="replace")), where)
    elif options.cut_records:
        yield from _cut.documents((_decode.unified(text),), where, options.separator)
    else:
        yield Document(text, where)


def _too_long(size: int, where: str) -> Excluded:
    return Excluded(f"record of over {LONGEST >> 20} MB", size, where)


def _json_lines(path: Path, text: _decode.Text, options: Options) -> Iterator[Document | Excluded]:
    for line in _whole_lines(text):
        where = f"{shown(path)}, line {line.number}"
        if line.size > LONGEST:
            yield _too_long(line.size, where)
        elif line.bad and (excluded := text.excluded(line.raw, line.number, line.offset)):
            yield excluded
        elif line.raw.strip():
            yield from _json_record(line.raw, where, options, first=line.number == 1)


class _Line(NamedTuple):
    raw: str  # empty if it is too long to be a record
    size: int  # characters
    number: int
    offset: int  # bytes of the file before it
    bad: bool  # it may have characters that are not text


def _whole_lines(text: _decode.Text) -> Iterator[_Line]:
    parts: list[str] = []
    size, number, start, bad = 0, 1, 0, False
    for block in text.blocks():
        for part, line, offset in block.lines():
            if not size:
                number, start, bad = line, offset, False
            parts.append(part)
            size, bad = size + len(part), bad or block.bad
            if size > LONGEST:
                parts.clear()
            if part.endswith(("\n", "\r")):
                yield _Line("".join(parts), size, number, start, bad)
                parts, size = [], 0
    if size:
        yield _Line("".join(parts), size, number, start, bad)


def _json_record(line: str, where: str, options: Options, *, first: bool) -> Iterator[Document | Excluded]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        cure = "Each line must be one object: correct the line or leave it out"
        if first and line.lstrip().startswith("["):
            name = where.rpartition(", line ")[0]
            cure = f"It seems to be one array over many lines. Write one object a line, for example: jq -c '.[]' {shlex.quote(name)} > {shlex.quote(name)}l"
        raise CorpusError(f"{where} is not JSON: {error}. {cure}.") from None
    if fields is None:
        yield Excluded("null", len(line), where)
    elif isinstance(fields, dict):
        yield from record(fields, where, options)
    else:
        raise CorpusError(f'{where} is a JSON {type(fields).__name__}, not an object. Each line must be one object with a field "text".')


def _parquet(path: Path, raw: IO[bytes], compression: str, options: Options) -> Iterator[Document | Excluded]:
    if compression:
        what = f"{shown(path)} is a compressed Parquet file, which cannot be read in parts"
        raise CorpusError(f"{what}. Decompress it first; Parquet compresses its columns itself.")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise not_importable(error, "pyarrow", extra="train", needed_for=f"Reading {shown(path)}") from None
    try:
        file = parquet.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)
        name = text_field(file.schema_arrow.names, shown(path), options.text_field)
        found = file.schema_arrow.field(name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        if not (pa.types.is_string(found) or pa.types.is_large_string(found)):
            raise CorpusError(f"{shown(path)}: column {_plain(name)} is {found}, not text. Name the column of the text as text_field in the study.")
        mean = _refuse_large_pages(path, raw, name) // max(file.metadata.num_rows, 1)
        # As a dictionary, so that a million rows with one long text take no more memory than it.
        file = parquet.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20, read_dictionary=[name])
        row = 0
        for batch in file.iter_batches(batch_size=max(1, min(_ROWS, _ROW_BYTES // max(mean, 1))), columns=[name]):
            yield from _column(batch.column(0), path, row, options)
            row += batch.num_rows
    except MemoryError:  # pyarrow's is an error of both kinds
        raise
    except (pa.ArrowException, ValueError) as error:
        what = f"{shown(path)} cannot be read as Parquet: {error}. It is damaged or of another format"
        raise CorpusError(f"{what}. Make it again, or leave it out of the corpus.") from None


def _refuse_large_pages(path: Path, raw: IO[bytes], name: str) -> int:
    """Return the bytes of a column, decompressed."""
    total = 0
    for chunk in [found for found in chunks(raw) if found.column == name]:
        size = largest_page(raw, chunk.start, chunk.end)
        if size > _LARGEST_PAGE:
            what = f"{shown(path)}: a page of the column {_plain(name)} has {size >> 20:,} MB when decompressed, more than the {_LARGEST_PAGE >> 20} MB"
            raise CorpusError(f"{what} that isoflop keeps memory for. Write the file again with shorter texts in its rows, or leave it out of the corpus.")
        total += chunk.unpacked
    return total


def _column(column: Any, path: Path, row: int, options: Options) -> Iterator[Document | Excluded]:
    """Yield the documents of one batch; a long text that occurs again in it is excluded without another look."""
    seen: set[int] = set()
    sizes = [len(value.as_buffer() or b"") for value in column.dictionary]
    for number, index in enumerate(column.indices.to_pylist(), start=row):
        where = f"{shown(path)}, row {number}"
        if index is None:
            yield Excluded("null", 0, where)
        elif not 0 <= index < len(sizes):
            raise ValueError(f"row {number} is none of the texts that the column has")
        elif sizes[index] > LONGEST:
            yield _too_long(sizes[index], where)
        elif index in seen and sizes[index] > PIECE:
            yield Excluded("duplicate", sizes[index], where)
        else:
            seen.add(index)
            yield from _text_of_row(column.dictionary[index], where, options)


def _text_of_row(value: Any, where: str, options: Options) -> Iterator[Document | Excluded]:
    try:
        text = value.as_py()
    except UnicodeDecodeError:
        yield Excluded(_decode.NOT_UTF8, len(value.as_buffer()), where)
        return
    yield from _record_text(text, where, options)


def _table(path: Path, kind: str) -> NotTextError:
    why = "it is a table, whose commas, quotes and numbers a model would learn as text"
    if path.suffix.lower() != kind:
        return NotTextError(
            path, "a table", why, "Decompress it, then name the decompressed file here to see how to write its text as JSON lines; or leave it out"
        )
    delimiter = ", delimiter=chr(9)" if kind == ".tsv" else ""
    script = f'import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(open(sys.argv[1], newline=""){delimiter})]'
    command = f"{_COMMAND} {shlex.quote(script)} {shlex.quote(shown(path))} > {shlex.quote(shown(path.with_suffix('.jsonl')))}"
    cure = f"Write its rows as JSON lines, name that file as the corpus, and the column of the text as text_field:\n  {command}\nOr leave it out"
    return NotTextError(path, "a table", why, cure)
