"""Documents as they come -> a spool file in which each is kept once, and the order and side (train, validation) that its text alone decides."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

NEAR_EMPTY = 32  # non-blank characters; assumption: less teaches a model nothing but where documents end
Side = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place to come back to."""

    documents: int
    end: int
    dropped: Counter[str]


class Spool:
    """Writes each document once to a file; keeps 16 bytes of its hash and its place, never its text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hashes: dict[bytes, None] = {}  # in order of arrival
        self._ends = [0]
        self.dropped: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Keep the document, or count why not: "binary", "near-empty" or "duplicate"."""
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        try:
            content = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as JSON can write it
            content = b"\0"
        digest = hashlib.sha256(content).digest()[:16]
        if b"\0" in content:
            self.dropped["binary"] += 1
        elif len("".join(text.split())) < NEAR_EMPTY:
            self.dropped["near-empty"] += 1
        elif digest in self._hashes:
            self.dropped["duplicate"] += 1
        else:
            self._file.write(content)
            self._hashes[digest] = None
            self._ends.append(self._ends[-1] + len(content))

    def mark(self) -> Mark:
        """Where the spool is now."""
        return Mark(documents=len(self._hashes), end=self._ends[-1], dropped=self.dropped.copy())

    def rollback(self, mark: Mark) -> None:
        """Forget every document since the mark."""
        for _ in range(len(self._hashes) - mark.documents):
            self._hashes.popitem()
        del self._ends[mark.documents + 1 :]
        self._file.seek(mark.end)
        self._file.truncate()
        self.dropped = mark.dropped

    def finish(self, path: Path, *, validation: float, seed: int) -> "Documents":
        """Order the documents and choose their sides."""
        self._file.flush()
        keys = np.array([_key(seed, digest) for digest in self._hashes], dtype=np.uint64)
        ends = np.array(self._ends, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        held_out = np.cumsum(np.diff(ends)[order], dtype=np.int64)
        val = int(np.searchsorted(held_out, validation * held_out[-1])) + 1 if order.size else 0
        return Documents(path=path, ends=ends, order=order, val=min(val, max(order.size - 1, 0)))


def _key(seed: int, digest: bytes) -> int:
    """A number that is uniform over documents and depends on seed and text alone; 64 bits, so ties are left to chance that never comes."""
    return int.from_bytes(hashlib.sha256(b"%d:%b" % (seed, digest)).digest()[:8], "little")


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents of a finished spool. The first `val` of `order` are for validation, the others for training."""

    path: Path
    ends: NDArray[np.int64]  # (documents + 1,) offsets into the file
    order: NDArray[np.int64]  # (documents,) by key
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
        """The documents of one side as UTF-8, in order."""
        chosen = self.order[: self.val] if side == "val" else self.order[self.val :]
        with self.path.open("rb") as file:
            for index in chosen.tolist():
                start, end = self.ends[index : index + 2].tolist()
                file.seek(start)
                yield file.read(end - start)
