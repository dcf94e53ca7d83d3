"""Bytes -> text, without the lines that are not text."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from isoflop._bounded import buffered
from isoflop.data._cut import PIECE, Excluded
from isoflop.errors import CorpusError, UsageError

NOT_UTF8, NUL = "not UTF-8", "NUL byte"
_SAMPLE = 1 << 16  # bytes that say what a file is
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))
_BINARY = 0.02  # of the sample; assumption: text has fewer control characters, compressed data and programs have over 0.1
_FEW_BAD, _OTHER_ENCODING = 16, 0.002  # bad characters, and their share; assumption: a damaged file has fewer, one in another encoding has more
_LINES = re.compile(r"[^\r\n]{0,4096}(?:\r\n|\r|\n)|[^\r\n]{1,4096}")  # so much of a line is lost with one bad byte
_ENDS = re.compile(r"\r\n|\r|\n")
_NOT_OF_FILES = frozenset({"idna", "punycode", "undefined", "unicode-escape", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape"})
_SIGNATURES = {
    b"%PDF-": ("a PDF", "Extract its text"),
    b"PK\x03\x04": ("a ZIP archive or an office document", "Unpack it, or save it as text"),
    b"\x1f\x8b": ("compressed by gzip", "Let its name end in .gz"),
    b"BZh": ("compressed by bzip2", "Let its name end in .bz2"),
    b"\xfd7zXZ\0": ("compressed by xz", "Let its name end in .xz"),
    b"\x28\xb5\x2f\xfd": ("compressed by Zstandard", "Let its name end in .zst"),
    b"PAR1": ("a Parquet file", "Let its name end in .parquet"),
}
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotTextError(CorpusError):
    """A file that is not text. One among the matches of a glob is excluded, one that is named by itself is refused."""

    def __init__(self, path: Path, reason: str, why: str, cure: str = "Convert the file, or leave it out of the corpus") -> None:
        super().__init__(f"{shown(path)} is not text that can be trained on: {why}. {cure}.")
        self.reason = reason


class Block(NamedTuple):
    """A part of a file as text: whole lines, or a part of a long one."""

    raw: str  # with the line ends of the file
    line: int  # number of the first
    offset: int  # bytes of the file before it
    bad: bool  # it has characters that are not text

    def lines(self) -> Iterator[tuple[str, int, int]]:
        """Yield each line, its number and the bytes of the file before it; of a long line each part of 4096 characters."""
        line, offset = self.line, self.offset
        for part in _LINES.findall(self.raw):
            yield part, line, offset
            line += part.endswith(("\n", "\r"))
            offset += _size(part)


class Text:
    """A file that is being read as text, without the lines that are not text.

    Attributes:
        bad: Characters so far that are not text.
        bytes: Bytes of text so far, as UTF-8.
    """

    def __init__(self, path: Path, stream: IO[bytes], encoding: str) -> None:
        """Look at the beginning of a file.

        Args:
            path: For messages.
            stream: Its bytes, decompressed.
            encoding: A codec of Python. A byte order mark at the beginning of the file overrules it.

        Raises:
            NotTextError: The file is no text in any encoding.
        """
        start = stream.read(_SAMPLE)
        self._path, self._encoding = path, _encoding_of(path, start, encoding)
        self._utf8 = self._encoding in {"utf-8", "utf-8-sig"}
        self._undecodable = NOT_UTF8 if self._utf8 else f"not {self._encoding}"
        self._mark = len(codecs.BOM_UTF8) if self._encoding == "utf-8-sig" else 0
        self._bad = re.compile("[\0\udc80-\udcff]" if self._utf8 else "[\0\ufffd]")
        rest = iter(lambda: stream.read(_SAMPLE), b"")
        errors = "surrogateescape" if self._utf8 else "replace"  # both mark what cannot be decoded
        self._text = io.TextIOWrapper(buffered(chain((start,), rest)), encoding=self._encoding, errors=errors, newline="")
        self.bad = self.bytes = 0
        self._first = ""

    def blocks(self) -> Iterator[Block]:
        """Yield the text, bad lines included."""
        line, offset = 1, self._mark
        for raw in _parts(self._text):
            try:
                size = len(raw.encode())
                bad = "\0" in raw if self._utf8 else bool(self._bad.search(raw))
            except UnicodeEncodeError:
                size, bad = _size(raw), True
            yield Block(raw, line, offset, bad)
            line += len(_ENDS.findall(raw))
            offset += size
            self.bytes += size

    def clean(self) -> Iterator[str | Excluded]:
        """Yield the text without bad lines and with the line ends of Unix, and what is excluded."""
        for block in self.blocks():
            if not block.bad:
                yield unified(block.raw)
                continue
            for part, line, offset in block.lines():
                yield self.excluded(part, line, offset) or unified(part)

    def excluded(self, raw: str, line: int, offset: int) -> Excluded | None:
        """Return why a line is excluded and where its first bad character is; None if it has none."""
        found = self._bad.search(raw)
        if not found:
            return None
        bad = len(self._bad.findall(raw))
        self.bad += bad
        place = f"line {line}"
        if self._utf8:  # in other encodings the bytes of what could not be decoded are not known
            place += f", byte {offset + _size(raw[: found.start()])}"
        self._first = self._first or place
        return Excluded(NUL if found[0] == "\0" else self._undecodable, _size(raw), f"{shown(self._path)}, {place}")

    def check(self) -> None:
        """Refuse a file that is in another encoding: it has more bad characters than damage explains.

        Raises:
            NotTextError: It is.
        """
        if self.bad >= _FEW_BAD and self.bad > _OTHER_ENCODING * self.bytes:
            what = f"{self.bad:,} of its {self.bytes:,} bytes are {self._undecodable} (the first: {self._first})"
            cure = 'If it is in another encoding, set encoding in the study, for example encoding = "latin-1"; else convert the file, or leave it out'
            raise NotTextError(self._path, self._undecodable, what, cure)


def check(encoding: str) -> None:
    """Refuse what is not an encoding of text.

    Raises:
        UsageError: Python has no such codec, or it is not one of whole files.
    """
    try:
        with io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace") as text:
            text.read()
        known = codecs.lookup(encoding).name not in _NOT_OF_FILES
    except (LookupError, ValueError):
        known = False
    if not known:
        raise UsageError(f'{encoding!r} is not an encoding of text. Write for example "utf-8", "latin-1", "cp1252", "gb18030" or "shift_jis".')


def unified(text: str) -> str:
    """Return a text with the line ends of Unix."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def whole(text: Text, path: Path) -> str:
    """Return a text as one document.

    Raises:
        NotTextError: A part of it is not text.
    """
    return "".join(_only(text.clean(), path))


def shown(path: Path) -> str:
    """Return a path as text that can be printed and kept, whatever bytes it has."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _parts(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the text in parts of whole lines; a line of over 64 thousand characters in parts."""
    rest = ""
    while block := text.read(PIECE):
        rest += block
        end = rest.rfind("\n") + 1
        if not end and len(rest) >= PIECE:
            end = len(rest) - rest.endswith("\r")  # its "\n" may follow
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _size(text: str) -> int:
    """Return the bytes of a text as UTF-8, where bytes that could not be decoded count as they are."""
    return len(text.encode(errors="surrogateescape"))


def _encoding_of(path: Path, start: bytes, encoding: str) -> str:
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    for signature, (what, cure) in _SIGNATURES.items():
        if start.startswith(signature):
            raise NotTextError(path, "binary", f"it is {what}", f"{cure}, or leave it out of the corpus")
    if start[257:262] == b"ustar":
        raise NotTextError(path, "binary", "it is a tar archive", "Unpack it, or leave it out of the corpus")
    named = codecs.lookup(encoding).name
    if named in {"utf-16", "utf-32"}:  # which need a mark
        return f"{named}-le" if named == "utf-32" else _wide(start) or "utf-16-le"
    if named.startswith(("utf-16", "utf-32")):
        return named
    wide = _wide(start) if named == "utf-8" else None
    if wide:
        return wide
    controls = len(start) - len(start.translate(None, _CONTROL))
    if controls > _BINARY * len(start) and controls > 1:
        raise NotTextError(path, "binary", f"{100 * controls / len(start):.0f} % of its first {len(start):,} bytes are control characters, as in a program")
    return named


def _wide(start: bytes) -> str | None:
    """Return the encoding of UTF-16 without a byte order mark, which has a NUL in every other byte where its letters are Latin."""
    half = len(start) // 2
    if half < 2:
        return None
    first, second = (start[at : 2 * half : 2].count(0) / half for at in (0, 1))
    if second > 0.4 and first < 0.05:
        return "utf-16-le"
    return "utf-16-be" if first > 0.4 and second < 0.05 else None


def _only(parts: Iterable[str | Excluded], path: Path) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Excluded):
            raise NotTextError(path, "not text", f"{part.where}: {part.reason}")
        yield part
