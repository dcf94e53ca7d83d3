"""Text as it comes -> documents: split at a separator, and cut where it is long."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

PIECE = 65_536  # characters; assumption: long enough to keep a chapter together, short enough that one book can be split into train and validation


class Document(NamedTuple):
    """A text to train on or to measure on."""

    text: str
    where: str  # file, line and part, for messages


class Excluded(NamedTuple):
    """Text that enters no corpus, and why."""

    reason: str
    bytes: int
    where: str


def documents(blocks: Iterable[str | Excluded], where: str, separator: str = "") -> Iterator[Document | Excluded]:
    """Yield the documents of a text: those between separators, and each cut at blank lines, else at line ends, where it is long.

    Args:
        blocks: The text in order, in parts of any size; what is excluded is passed on.
        where: What to call the first document; the others are parts of it.
        separator: Text between documents, which belongs to none; empty for none.
    """
    number = 0
    for piece in _pieces(blocks, separator):
        if isinstance(piece, Excluded):
            yield piece
            continue
        number += 1
        yield Document(piece, where if number == 1 else f"{where}, part {number}")


def _pieces(blocks: Iterable[str | Excluded], separator: str) -> Iterator[str | Excluded]:
    rest = ""
    for block in blocks:
        if isinstance(block, Excluded):
            yield block
            continue
        rest += block
        if separator and separator in rest:
            *whole, rest = rest.split(separator)
            for text in whole:
                yield from _long(text)
        while len(rest) > PIECE + len(separator):  # so that a separator of which only a part is here stays whole
            cut = _end(rest)
            yield rest[:cut]
            rest = rest[cut:]
    yield from _long(rest)


def _long(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > PIECE:
        piece = text[start : start + PIECE]
        start += (cut := _end(piece))
        yield piece[:cut]
    yield text[start:]


def _end(text: str) -> int:
    """Return where to end a piece: at the last blank line of its second half, else at the last line end there, else anywhere."""
    for end in ("\n\n", "\n"):
        at = text.rfind(end, PIECE // 2, PIECE)
        if at >= 0:
            return at + len(end)
    return PIECE
