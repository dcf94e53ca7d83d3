"""Text -> token ids: bytes as they are, or byte pairs merged as the corpus suggests. Id 0 ends a document in both."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorpusError, StoreError, UsageError, not_importable

if TYPE_CHECKING:
    import tokenizers

SEPARATOR = 0  # bytes: NUL, which no text has; BPE: the special token
SEPARATOR_TEXT = "<|end|>"
FILE = "tokenizer.json"
_TRAINING_BYTES = 1 << 28  # assumption: merges learnt from 256 MiB of documents, a random sample, are those of the whole; keeps training short and in memory
_BATCH_BYTES = 1 << 22  # encoded at a time


def dtype(vocab: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest little-endian unsigned type that holds every id."""
    return np.dtype("u1" if vocab <= 1 << 8 else "<u2" if vocab <= 1 << 16 else "<u4")


class Tokenizer(Protocol):
    """Turns documents into ids."""

    @property
    def vocab(self) -> int: ...

    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[np.unsignedinteger]]:
        """Yield the ids of the documents, each followed by the separator, in blocks of one or more whole documents."""
        ...


class Bytes:
    """Each byte of UTF-8 is its own id."""

    vocab = 256

    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[np.unsignedinteger]]:
        """Yield ids as `Tokenizer` says."""
        for text in texts:
            yield np.frombuffer(text + b"\0", dtype=np.uint8)


class Bpe:
    """Byte-level BPE of the `tokenizers` library."""

    def __init__(self, model: "tokenizers.Tokenizer") -> None:
        self._model = model
        model.encode_special_tokens = True  # a document that has "<|end|>" in it does not end there

    @property
    def vocab(self) -> int:
        return int(self._model.get_vocab_size())

    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[np.unsignedinteger]]:
        """Yield ids as `Tokenizer` says."""
        for batch in _batches(texts):
            encodings = self._model.encode_batch_fast([text.decode() for text in batch])
            yield np.array([i for encoding in encodings for i in (*encoding.ids, SEPARATOR)], dtype=dtype(self.vocab))


def check(name: str) -> int | None:
    """Return the vocabulary that a tokenizer's name says, None for bytes.

    Raises:
        UsageError: Not a tokenizer, or a vocabulary too small for BPE.
        MissingExtraError: `tokenizers` is not installed.
    """
    if name == "bytes":
        return None
    number = name.removeprefix("bpe-")
    if number == name or not number.isdecimal():
        raise UsageError(f'{name!r} is not a tokenizer. Write "bytes", or "bpe-VOCAB" such as "bpe-4096".')
    vocab = int(number)
    if vocab < 258:
        raise UsageError(f'{name!r} leaves nothing to merge: 256 ids are bytes and one ends documents. Take 258 or more, or "bytes".')
    try:
        import tokenizers  # noqa: F401  # better to know before the corpus is read
    except ImportError as error:
        raise not_importable(error, "tokenizers", extra="train", needed_for=f"The tokenizer {name!r}") from None
    return vocab


def train(texts: Iterable[bytes], *, vocab: int, path: Path) -> Bpe:
    """Learn merges from the texts and write them to `path`; the same texts give the same file on any number of threads.

    Raises:
        CorpusError: The texts have too few distinct pairs for the vocabulary.
    """
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, trainers

    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, min_frequency=2, special_tokens=[SEPARATOR_TEXT], initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator((text.decode() for text in _sample(texts)), trainer=trainer)
    if model.get_vocab_size() < vocab:
        found = model.get_vocab_size()
        raise CorpusError(f"the training text has repeated pairs for a vocabulary of {found}, not {vocab}. Ask for bpe-{found} at most, or give more text.")
    path.write_text(model.to_str(), encoding="utf-8")
    return Bpe(model)


def load(path: Path) -> Bpe:
    """Read the tokenizer that `train` wrote, to encode or to print text with.

    Raises:
        MissingExtraError: `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer as Model
    except ImportError as error:
        raise not_importable(error, "tokenizers", extra="train", needed_for="A BPE tokenizer") from None
    return Bpe(Model.from_file(str(path)))


def byte_lengths(path: Path, vocab: int) -> NDArray[np.int64]:
    """Return how many bytes of UTF-8 each id stands for, shape (vocab,); the separator stands for none.

    Args:
        path: Of the BPE tokenizer's file, which is read without `tokenizers`; not there for bytes.
        vocab: As the corpus says.

    Raises:
        StoreError: The file cannot be read.
    """
    lengths = np.ones(vocab, dtype=np.int64)
    if path.exists():
        try:
            ids: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{path} cannot be read as a tokenizer: {error!r}. Delete the folder {path.parent}; it will be rebuilt.") from None
        for token, i in ids.items():
            lengths[i] = len(token)  # the byte-level alphabet writes each byte as one character
    lengths[SEPARATOR] = 0
    return lengths


def _sample(texts: Iterable[bytes]) -> Iterator[bytes]:
    seen = 0
    for text in texts:
        yield text
        seen += len(text)
        if seen >= _TRAINING_BYTES:
            return


def _batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
