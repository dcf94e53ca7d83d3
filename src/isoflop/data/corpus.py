"""The corpus: token shards in a folder, with a meta.json that says what they are and proves that they are whole."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from isoflop.data import tokenizer as ids
from isoflop.data.spool import Exclusion, Side
from isoflop.errors import CorpusError, StoreError
from isoflop.store import files

META = "meta.json"
SEAL = "meta_sha256"  # key of meta.json: the digest of all others


class Corpus(BaseModel):
    """Text as token shards in a folder.

    The digest is of the shards and the tokenizer, so equal texts, however they are spread over files, have equal digests wherever they are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path = Field(exclude=True)
    digest: str  # 16 hex digits
    sources: tuple[str, ...]
    tokenizer: str
    validation: float  # share of the bytes to hold out, as the study has it
    seed: int  # of the documents' order and sides
    vocab: PositiveInt
    min_characters: NonNegativeInt = 32  # this default and those below are what corpora of format 1 were built with
    separator: str = ""
    text_field: str = ""
    encoding: str = "utf-8"
    documents: PositiveInt
    val_documents: PositiveInt  # of these
    bytes: PositiveInt  # UTF-8, of all documents
    val_bytes: NonNegativeInt = 0  # of these; 0 where format 1 does not say
    train_tokens: PositiveInt  # the end of a document is a token too
    val_tokens: PositiveInt
    excluded: Mapping[str, Exclusion] = {}  # by reason
    marks: Mapping[str, NonNegativeInt] = {}  # how often the text has what looks like a separator
    dropped: Mapping[str, NonNegativeInt] = Field({}, exclude_if=lambda value: not value)  # documents excluded, by reason, as format 1 counts them
    sha256: Mapping[str, str]  # of each file beside meta.json
    format: Literal[1, 2] = 2

    @property
    def held_out(self) -> float:
        """Share of the text that is for validation: of the bytes, or of the tokens where the bytes are not known."""
        return self.val_bytes / self.bytes if self.val_bytes else self.val_tokens / (self.train_tokens + self.val_tokens)

    def tokens(self, side: Side) -> NDArray[np.unsignedinteger]:
        """Return the shard of one side, memory-mapped, shape (tokens,)."""
        return np.memmap(self.folder / f"{side}.bin", dtype=ids.dtype(self.vocab), mode="r").view(np.ndarray)


def load(folder: Path) -> Corpus:
    """Read the corpus in a folder, every byte of it checked against its digest.

    Raises:
        StoreError: There is none, or it is not what was built.
    """
    path = folder / META
    try:
        corpus = Corpus.model_validate({**_unsealed(path), "folder": folder})
        for name, digest in corpus.sha256.items():
            _check(folder / name, digest, size=_size(corpus, name))
    except FileNotFoundError as error:
        raise _damaged(folder, f"{error.filename} is not there") from None
    except OSError as error:
        raise StoreError(f"the corpus in {folder} cannot be read: {error}. Make it readable, then run the same command again.") from None
    except ValidationError as error:
        raise _damaged(folder, f"{META}: {'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"{META} is not what was written, {error}") from None
    if corpus.digest != digest_of(corpus.sha256, corpus.vocab):
        raise _damaged(folder, f"{META}: the digest is not that of its files")
    return corpus


def seal(fields: Mapping[str, object]) -> str:
    """Return the digest of all that meta.json says, which is written beside it."""
    return hashlib.sha256(files.canonical(dict(fields))).hexdigest()


def _unsealed(path: Path) -> dict[str, object]:
    """Return the fields of meta.json without their digest. Earlier versions wrote none.

    Raises:
        ValueError: They do not have that digest.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    claimed = fields.pop(SEAL, None)
    if claimed is not None and claimed != seal(fields):
        raise ValueError("its digest does not match its content")
    return dict(fields)


def digest_of(sha256: Mapping[str, str], vocab: int) -> str:
    """Return sixteen hex digits over the files of a corpus and the vocabulary."""
    return hashlib.sha256(json.dumps([vocab, sorted(sha256.items())]).encode()).hexdigest()[:16]


def windows(corpus: Corpus, context: int) -> int:
    """Return how many training windows of `context` + 1 tokens there are at stride `context`.

    Raises:
        CorpusError: Fewer than two.
    """
    n = (corpus.train_tokens - 1) // context
    if n < 2:
        raise CorpusError(f"the corpus has {corpus.train_tokens} training tokens, under two windows of {context + 1}. Give more text, or a shorter context.")
    return n


def epochs(corpus: Corpus, tokens: int, context: int) -> float:
    """Return how many times a run of so many tokens reads the training text.

    Raises:
        CorpusError: As `windows`.
    """
    return tokens / (windows(corpus, context) * context)


def validation_windows(corpus: Corpus, *, tokens: int, context: int) -> NDArray[np.unsignedinteger]:
    """Return the validation windows of `context` + 1 tokens that `tokens` pay for, spread evenly over the whole set: shape (tokens // context, context + 1).

    The set's start alone would be a handful of documents.

    Raises:
        CorpusError: The validation set is shorter, or `tokens` is under one window.
    """
    wanted, there = tokens // context, (corpus.val_tokens - 1) // context
    if wanted == 0:
        raise CorpusError(f"eval_tokens is {tokens}, under one window of {context} tokens, so no loss can be measured. Raise eval_tokens.")
    if wanted > there:
        raise CorpusError(
            f"the validation set has {corpus.val_tokens} tokens, but eval_tokens needs {wanted * context + 1}. "
            "Lower eval_tokens, hold out more (validation), or give more text."
        )
    chosen = np.arange(wanted) * there // wanted
    return np.lib.stride_tricks.sliding_window_view(corpus.tokens("val"), context + 1)[::context][chosen]


def validation_bytes(corpus: Corpus, *, tokens: int, context: int) -> int:
    """Return the bytes of UTF-8 that the targets of `validation` stand for: total loss / ln 2 / this is bits per byte.

    The end of a document stands for no bytes, with either tokenizer, though predicting it costs.

    Raises:
        CorpusError: As `validation_windows`.
    """
    targets = validation_windows(corpus, tokens=tokens, context=context)[:, 1:]
    counts = np.bincount(targets.ravel(), minlength=corpus.vocab)
    return int(counts @ ids.byte_lengths(corpus.folder / ids.FILE, corpus.vocab))


def _size(corpus: Corpus, name: str) -> int | None:
    """Return the bytes that a shard must have; None for the tokenizer."""
    tokens = {"train.bin": corpus.train_tokens, "val.bin": corpus.val_tokens}.get(name)
    return None if tokens is None else tokens * ids.dtype(corpus.vocab).itemsize


def _check(path: Path, digest: str, *, size: int | None) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        raise _damaged(path.parent, f"{path.name} has {found} bytes, not {size}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise _damaged(path.parent, f"the content of {path.name} has changed")


def _damaged(folder: Path, why: str) -> StoreError:
    return StoreError(f"the corpus in {folder} is not what was built there: {why}. Training on it would not be repeatable. Delete the folder; it is rebuilt.")
