"""One file -> its documents, streaming: text, JSON lines and Parquet, plain or compressed."""

import io
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TextIO

from isoflop._bounded import COMPRESSIONS, decompressed
from isoflop.errors import CorpusError, not_importable

PIECE = 65_536  # characters; assumption: long enough to keep a chapter together, short enough that one book can be split into train and validation
TEXT_FIELDS = ("text", "content", "document", "body", "code")  # assumption: the names that public corpora use


class NotTextError(CorpusError):
    """A file that is not UTF-8 text; one among the matches of a glob is counted, one named directly is refused."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not text: {why}. Only UTF-8 text can be trained on; convert the file, or leave it out of the corpus.")


def documents(path: Path, raw: IO[bytes], *, whole: bool) -> Iterator[str]:
    """The documents of one file, read as they are asked for.

    Args:
        path: Its suffixes say the format: .jsonl, .ndjson, .json and .parquet are records, all else is text; .gz, .bz2, .xz and .zst are decompressed.
        raw: The open file.
        whole: Keep a text file as one document, however long; else it is cut at blank lines into documents of about 64 kB.

    Raises:
        NotTextError: NUL bytes or bytes that are not UTF-8.
        CorpusError: A damaged file, or a record without text.
    """
    suffixes = [s.lower() for s in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind == ".parquet":
            yield from _parquet(path, raw, compression)
            return
        with io.TextIOWrapper(decompressed(raw, compression), encoding="utf-8-sig") as lines:
            yield from _json_lines(path, lines) if kind in {".jsonl", ".ndjson", ".json"} else _text(path, lines, whole=whole)
    except UnicodeDecodeError as error:
        raise NotTextError(path, f"byte {error.object[error.start]:#04x} is not UTF-8") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path} cannot be read to its end ({error}): it is damaged or incomplete. Fetch or make it again, or leave it out.") from None


def text_of(record: Mapping[str, object], where: str) -> str:
    """The text of a record: its field "text", or the only other one of `TEXT_FIELDS`.

    Raises:
        CorpusError: There is none, more than one, or it is not a string.
    """
    name = text_field(record, where)
    value = record[name]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: field {name!r} is {type(value).__name__}, not a string. Mend the record, or leave it out.")
    return value


def text_field(names: Iterable[str], where: str) -> str:
    """Which of the names holds the text, by the rule of `text_of`."""
    known = [name for name in TEXT_FIELDS if name in names]
    if known and (known[0] == "text" or len(known) == 1):
        return known[0]
    found = f"several of them could be the text: {', '.join(known)}" if known else f"there are only: {', '.join(map(str, names)) or 'none'}"
    raise CorpusError(f'{where}: no field "text"; {found}. Rename the field that holds the text to "text".')


def _text(path: Path, stream: TextIO, *, whole: bool) -> Iterator[str]:
    for piece in [stream.read()] if whole else _pieces(stream):
        if "\0" in piece:
            raise NotTextError(path, "it has NUL bytes")
        yield piece


def _pieces(stream: TextIO) -> Iterator[str]:
    rest = ""
    while block := stream.read(PIECE):
        rest += block
        while len(rest) > PIECE:
            cut = _cut(rest)
            yield rest[:cut]
            rest = rest[cut:]
    yield rest


def _cut(text: str) -> int:
    """Where to end a piece: at the last blank line of its second half, else at the last line end there, else anywhere."""
    for end in ("\n\n", "\n"):
        at = text.rfind(end, PIECE // 2, PIECE)
        if at >= 0:
            return at + len(end)
    return PIECE


def _json_lines(path: Path, lines: TextIO) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where} is not JSON: {error}. Each line must be one object; mend the line or leave it out.") from None
        if not isinstance(record, dict):
            raise CorpusError(f'{where} is a JSON {type(record).__name__}, not an object. Each line must be one object with a field "text".')
        yield text_of(record, where)


def _parquet(path: Path, raw: IO[bytes], compression: str) -> Iterator[str]:
    if compression:
        raise CorpusError(f"{path} is a compressed Parquet file, which cannot be read in parts. Decompress it first; Parquet compresses its columns itself.")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise not_importable(error, "pyarrow", extra="train", needed_for=f"Reading {path}") from None
    try:
        table = parquet.ParquetFile(raw)
        name = text_field(table.schema_arrow.names, str(path))
        row = 0
        for batch in table.iter_batches(batch_size=1024, columns=[name]):
            for text in batch.column(0).to_pylist():
                yield text_of({name: text}, f"{path}, row {row}")
                row += 1
    except pa.ArrowException as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}. It is damaged or of another format; make it again, or leave it out.") from None
