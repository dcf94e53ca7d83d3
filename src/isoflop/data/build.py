"""Sources -> a corpus in a folder: read once into a spool, then written as tokens in the order that the texts themselves decide."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.data import _aside
from isoflop.data import tokenizer as ids
from isoflop.data.corpus import META, Corpus, digest_of, load
from isoflop.data.formats import NotTextError, documents
from isoflop.data.sources import File, HubDataset, locate
from isoflop.data.spool import NEAR_EMPTY, Documents, Side, Spool
from isoflop.errors import CorpusError, StoreError
from isoflop.store import files

Progress = Callable[[str, float], None]
Request = Mapping[str, Any]


def prepare(sources: tuple[str, ...], *, folder: Path, tokenizer: str, validation: float, seed: int, on_progress: Progress | None = None) -> Corpus:
    """The corpus in the folder; built there if nothing is, in memory for a few documents however long the text.

    What is there stays as it is when the text it was made from changes.

    Args:
        sources: "python", files, globs, or "hf:NAME[:CONFIG:SPLIT]".
        folder: Of this corpus alone. A second process that wants the same waits for the first.
        tokenizer: "bytes" or "bpe-VOCAB".
        validation: Share of the bytes held out, by whole documents, in (0, 1).
        seed: Of the documents' order and sides.
        on_progress: Told what is being done and how far that is, in [0, 1].

    Raises:
        CorpusError: Text that is missing, empty, damaged, not text or too little.
        StoreError: No space, a read-only place, a damaged corpus in the folder, or another one.
        UsageError: No such tokenizer.
        MissingExtraError: A package that the tokenizer or a source needs.
    """
    request: Request = {"sources": tuple(sources), "tokenizer": tokenizer, "validation": validation, "seed": seed}
    try:
        if _aside.is_there(folder):
            return _as_requested(load(folder), request)
        _build(folder, request, _seldom(on_progress))
    except OSError as error:
        raise files.in_words(error, folder) from error
    return _as_requested(load(folder), request)


def find(sources: tuple[str, ...], *, folder: Path, tokenizer: str, validation: float, seed: int) -> Corpus | None:
    """Return the corpus in the folder, or None if nothing is there; nothing is written into it.

    Where the sources have other names, the text is read again and compared. `keep_names` spares that from then on.

    Args:
        sources: As `prepare`, and so for all others.
        folder: As there.
        tokenizer: As there.
        validation: As there.
        seed: As there.

    Raises:
        CorpusError: As `prepare`.
        StoreError: A damaged corpus is in the folder, or another one.
    """
    request: Request = {"sources": tuple(sources), "tokenizer": tokenizer, "validation": validation, "seed": seed}
    try:
        return _as_requested(load(folder), request, keep=False) if _aside.is_there(folder) else None
    except OSError as error:
        raise files.in_words(error, folder) from error


def keep_names(corpus: Corpus) -> None:
    """Write the sources by which a corpus was found, if they are not those that it was built from.

    Raises:
        StoreError: The file cannot be written.
    """
    kept = json.loads(files.read(corpus.folder / META))
    if kept["sources"] != list(corpus.sources):
        files.write(corpus.folder / META, (json.dumps(corpus.model_dump(mode="json"), indent=1) + "\n").encode())


def _as_requested(corpus: Corpus, request: Request, *, keep: bool = True) -> Corpus:
    differ = [f"{key} {getattr(corpus, key)!r} instead of {value!r}" for key, value in request.items() if getattr(corpus, key) != value]
    if not differ:
        return corpus
    renamed = _renamed(corpus, request, keep=keep)
    if renamed is None:
        what = f"{corpus.folder} holds another corpus, with {', '.join(differ)}, and runs may have been trained on it"
        raise StoreError(f"{what}. Give the study another name, or delete that folder to have it rebuilt.")
    return renamed


def _renamed(corpus: Corpus, request: Request, *, keep: bool) -> Corpus | None:
    """Return the corpus by the names of the request, if those lead to the same shards, as after a study has moved; else None."""
    if any(getattr(corpus, key) != request[key] for key in request if key != "sources"):
        return None
    with contextlib.ExitStack() as stack:
        place = corpus.folder.parent if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isoflop-")))
        again = place / f".{corpus.folder.name}.again-{os.getpid()}"
        stack.callback(shutil.rmtree, again, ignore_errors=True)
        _build(again, request, _seldom(None))
        found = load(again)
        if found.digest != corpus.digest:
            return None
        if keep:  # the next call need not read all the text again
            files.write(corpus.folder / META, (again / META).read_bytes())
        return found.model_copy(update={"folder": corpus.folder})


def _build(folder: Path, request: Request, report: Progress) -> None:
    vocab = ids.check(request["tokenizer"])
    origins = locate(request["sources"])
    with _aside.building(folder) as aside:
        if aside is not None:
            spooled, dropped = _read(origins, aside / "spool", request, report)
            _write(spooled, aside, {**request, "dropped": dropped}, vocab=vocab, report=report)


def _seldom(on_progress: Progress | None) -> Progress:
    """Reports each hundredth, not each document."""
    told: dict[str, int] = {}

    def report(what: str, fraction: float) -> None:
        hundredth = int(min(fraction, 1.0) * 100)
        if on_progress is not None and hundredth > told.get(what, -1):
            told[what] = hundredth
            on_progress(what, hundredth / 100)

    return report


def _read(origins: tuple[File | HubDataset, ...], path: Path, request: Request, report: Progress) -> tuple[Documents, Mapping[str, int]]:
    total = max(sum(origin.size for origin in origins), 1)
    before = 0
    with path.open("w+b") as file:
        spool = Spool(file)
        for origin in origins:
            for done in _add(spool, origin):
                report("reading", (before + done) / total)
            before += origin.size
        spooled = spool.finish(path, validation=request["validation"], seed=request["seed"])
    if len(spooled) < 2:
        left_out = ", ".join(f"{n} {reason}" for reason, n in spool.dropped.items()) or "none"
        named = ", ".join(request["sources"])
        what = (
            f"the corpus ({named}) has {len(spooled)} document{'s' * (len(spooled) != 1)} of {NEAR_EMPTY} or more non-blank characters (left out: {left_out})"
        )
        raise CorpusError(f"{what}, but one is needed to train on and another to measure on. Give more files, or one of over 64 kB.")
    report("reading", 1.0)
    return spooled, dict(sorted(spool.dropped.items()))


def _add(spool: Spool, origin: File | HubDataset) -> Iterator[int]:
    """Add the documents of one origin; after each, how many bytes of its file have been read."""
    if isinstance(origin, HubDataset):
        for text in origin.documents():
            spool.add(text)
            yield 0
        return
    mark = spool.mark()
    try:
        with origin.open() as raw:
            for text in documents(origin.path, raw, whole=origin.whole):
                spool.add(text)
                yield raw.tell()
    except NotTextError:
        if origin.named:
            raise
        spool.rollback(mark)
        spool.dropped["binary"] += 1


def _write(spooled: Documents, aside: Path, meta: Mapping[str, Any], *, vocab: int | None, report: Progress) -> None:
    """Tokenizer, shards and meta.json; removes the spool."""
    tokenizer: ids.Tokenizer = ids.Bytes()
    if vocab is not None:
        report("training the tokenizer", 0.0)
        tokenizer = ids.train(spooled.texts("train"), vocab=vocab, path=aside / ids.FILE)
        report("training the tokenizer", 1.0)
    tokens: dict[str, int] = {}
    sha256: dict[str, str] = {ids.FILE: _finished(aside / ids.FILE)} if vocab is not None else {}
    sides: tuple[Side, ...] = ("val", "train")
    for side in sides:
        path = aside / f"{side}.bin"
        tokens[f"{side}_tokens"], sha256[path.name] = _shard(path, tokenizer.encode(_told(spooled, side, report)))
    spooled.path.unlink()
    corpus = Corpus(
        folder=aside,
        digest=digest_of(sha256, tokenizer.vocab),
        vocab=tokenizer.vocab,
        documents=len(spooled),
        val_documents=spooled.val,
        bytes=spooled.size,
        sha256=sha256,
        **meta,
        **tokens,
    )
    (aside / META).write_text(json.dumps(corpus.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    _finished(aside / META)


def _told(spooled: Documents, side: Side, report: Progress) -> Iterator[bytes]:
    written = 0 if side == "val" else spooled.val_size
    for text in spooled.texts(side):
        yield text
        written += len(text)
        report("writing tokens", written / spooled.size)


def _shard(path: Path, blocks: Iterable[NDArray[np.unsignedinteger]]) -> tuple[int, str]:
    """Write the blocks; how many tokens they are, and their SHA-256."""
    digest, tokens = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            content = block.tobytes()
            file.write(content)
            digest.update(content)
            tokens += block.size
        file.flush()
        os.fsync(file.fileno())
    return tokens, digest.hexdigest()


def _finished(path: Path) -> str:
    """Make a file outlive a power cut; its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
