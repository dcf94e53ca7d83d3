"""Documents as they come -> a spool file in which each is kept once, and the order and side (train, validation) that its text alone decides."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.data._cut import Document, Excluded

Side = Literal["train", "val"]
_NAMED = 3  # excluded documents of each reason that are named
_NEAR = 0.1  # of the share: so near to it, whole documents are held out
_CUT = 8192  # bytes of a document that may be cut for the share; assumption: what is shorter was written to be read as one
_PART = 512  # bytes of each part, at least


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """The documents that are excluded for one reason."""

    documents: int = 0
    bytes: int = 0  # of UTF-8
    first: tuple[str, ...] = ()  # where some of them are

    def plus(self, excluded: Excluded) -> "Exclusion":
        """Return the same with one document more."""
        first = self.first if len(self.first) >= _NAMED else (*self.first, excluded.where)
        return Exclusion(documents=self.documents + 1, bytes=self.bytes + excluded.bytes, first=first)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place to come back to."""

    documents: int
    end: int
    excluded: Mapping[str, Exclusion]


class Spool:
    """Writes each document once to a file; keeps 16 bytes of its hash and its place, never its text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hashes: dict[bytes, None] = {}  # in order of arrival
        self._ends = [0]
        self.excluded: dict[str, Exclusion] = {}  # by reason

    def add(self, document: Document, *, least: int) -> bytes:
        """Keep a document of at least so many non-blank characters, or count why not; return its content if it is kept."""
        text, where = document
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        try:
            content = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as JSON can write it
            self.exclude(Excluded("lone surrogate", len(text.encode(errors="surrogatepass")), where))
            return b""
        digest = hashlib.sha256(content).digest()[:16]
        reason = _reason(text, least) or ("duplicate" if digest in self._hashes else "")
        if reason:
            self.exclude(Excluded(reason, len(content), where))
            return b""
        self._file.write(content)
        self._hashes[digest] = None
        self._ends.append(self._ends[-1] + len(content))
        return content

    def exclude(self, excluded: Excluded) -> None:
        """Count what is excluded."""
        self.excluded[excluded.reason] = self.excluded.get(excluded.reason, Exclusion()).plus(excluded)

    def mark(self) -> Mark:
        """Return where the spool is now."""
        return Mark(documents=len(self._hashes), end=self._ends[-1], excluded=dict(self.excluded))

    def rollback(self, mark: Mark) -> None:
        """Forget every document since the mark."""
        for _ in range(len(self._hashes) - mark.documents):
            self._hashes.popitem()
        del self._ends[mark.documents + 1 :]
        self._file.seek(mark.end)
        self._file.truncate()
        self.excluded = dict(mark.excluded)

    def finish(self, path: Path, *, validation: float, seed: int, nearest: bool = True) -> "Documents":
        """Order the documents and choose their sides.

        Args:
            path: Of the spool's file.
            validation: Share of the bytes to hold out.
            seed: Of the order.
            nearest: Hold out what comes nearest to the share, and cut a long document for that; corpora of format 1 hold out the shortest beginning
                of the order that reaches it.
        """
        self._file.flush()
        keys = np.array([_key(seed, digest) for digest in self._hashes], dtype=np.uint64)
        ends = np.array(self._ends, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        sizes = np.diff(ends)[order]
        target = validation * int(sizes.sum())
        val = _reaching(sizes, target)
        off = int(sizes[:val].sum()) - target
        if nearest and abs(off) > _NEAR * target and order.size:
            last = int(order[val - 1])
            cut = self._cut(ends[last : last + 2].tolist(), int(sizes[val - 1] - off))
            if cut:
                ends = np.insert(ends, last + 1, cut)
                order = np.where(order > last, order + 1, order)
                order = np.insert(order, val, last + 1)
            elif val > 1 and sizes[val - 1] - off < off:
                val -= 1
        return Documents(path=path, ends=ends, order=order, val=val)

    def _cut(self, place: list[int], wanted: int) -> int:
        """Return where to cut a document so that about the wanted bytes come before: at a blank line, a line end, a blank, or anywhere; 0 if nowhere."""
        start, end = place
        low, high = max(_PART, wanted - wanted // 10), min(end - start - _PART, wanted + wanted // 10)
        if end - start < _CUT or low >= high:
            return 0
        self._file.seek(start + low)
        near = self._file.read(high - low)
        self._file.seek(0, os.SEEK_END)
        for mark in (b"\n\n", b"\n", b" "):
            at = near.rfind(mark)
            if at >= 0:
                return start + low + at + len(mark)
        return start + low + next(at for at, byte in enumerate(near) if byte & 0xC0 != 0x80)  # the first byte of a character


def _reason(text: str, least: int) -> str:
    """Return why a text is excluded whatever the others are; empty if it is not."""
    if "\0" in text:
        return "NUL byte"
    if not text.strip():
        return "empty"
    return "short" if least > 1 and len("".join(text.split())) < least else ""


def _key(seed: int, digest: bytes) -> int:
    """Return a number that is uniform over documents and depends on seed and text alone; 64 bits, so ties are left to chance that never comes."""
    return int.from_bytes(hashlib.sha256(b"%d:%b" % (seed, digest)).digest()[:8], "little")


def _reaching(sizes: NDArray[np.int64], target: float) -> int:
    """Return how many documents from the beginning reach a number of bytes: at least one, never all."""
    reached = int(np.searchsorted(np.cumsum(sizes, dtype=np.int64), target)) + 1
    return max(min(reached, sizes.size - 1), 0)


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents of a finished spool. The first `val` of `order` are for validation, the others for training."""

    path: Path
    ends: NDArray[np.int64]  # (documents + 1,) offsets into the file
    order: NDArray[np.int64]  # (documents,) by side, then by key
    val: int

    def __len__(self) -> int:
        return self.order.size

    @property
    def size(self) -> int:  # bytes of UTF-8
        return int(self.ends[-1])

    @property
    def val_size(self) -> int:  # bytes of UTF-8
        return int(np.diff(self.ends)[self.order[: self.val]].sum())

    def texts(self, side: Side) -> Iterator[bytes]:
        """Yield the documents of one side as UTF-8, in order."""
        chosen = self.order[: self.val] if side == "val" else self.order[self.val :]
        with self.path.open("rb") as file:
            for index in chosen.tolist():
                start, end = self.ends[index : index + 2].tolist()
                file.seek(start)
                yield file.read(end - start)
