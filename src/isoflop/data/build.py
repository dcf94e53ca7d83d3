"""Sources -> a corpus in a folder: read once into a spool, then written as tokens in the order that the texts themselves decide."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from isoflop.data import _aside, _decode, _shards, _stamps
from isoflop.data import tokenizer as ids
from isoflop.data.account import numbered, size
from isoflop.data.corpus import META, SEAL, Corpus, digest_of, load, seal
from isoflop.data.formats import Document, Excluded, NotTextError, Options, documents
from isoflop.data.sources import HubDataset, Located, Origin, locate
from isoflop.data.spool import Documents, Exclusion, Side, Spool
from isoflop.errors import CorpusError, StoreError
from isoflop.store import files

Progress = Callable[[str, float], None]
Notice = Callable[[str], None]
MIN_CHARACTERS = 1
# What ends a document in public corpora and chat formats, as a text: </s> is left out, since HTML has it too
_MARKS = re.compile(rb"<\|endoftext\|>|<\|end_of_text\|>|<\|eot_id\|>|<\|im_end\|>|<\|end_of_document\|>|<\|begin_of_text\|>|<eos>|<EOS>|<EOD>|<EOT>")
_FORMAT_1_CHARACTERS = 32  # non-blank characters of a document, at least


@dataclass(frozen=True, kw_only=True)
class Request:
    """The corpus that a study wants."""

    sources: tuple[str, ...]
    tokenizer: str
    validation: float
    seed: int
    min_characters: int = MIN_CHARACTERS
    separator: str = ""
    text_field: str = ""
    encoding: str = "utf-8"
    format: Literal[1, 2] = 2

    @property
    def options(self) -> Options:
        """How files are read."""
        return Options(separator=_decode.unified(self.separator), text_field=self.text_field, encoding=self.encoding, cut_records=self.format > 1)


_SHARDS = ("tokenizer", "validation", "seed")  # which always change the shards; the others of a request may not
_READING = ("sources", "min_characters", "separator", "text_field", "encoding")


def prepare(
    sources: tuple[str, ...],
    *,
    folder: Path,
    tokenizer: str,
    validation: float,
    seed: int,
    min_characters: int = MIN_CHARACTERS,
    separator: str = "",
    text_field: str = "",
    encoding: str = "utf-8",
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Corpus:
    """Return the corpus in the folder; built there if nothing is.

    A corpus that is there stays as it is when its text changes, and a notice says so.

    Args:
        sources: "python", files, globs, or "hf:NAME[:CONFIG:SPLIT]".
        folder: Of this corpus alone.
        tokenizer: "bytes" or "bpe-VOCAB".
        validation: Share of the bytes held out, by whole documents, in (0, 1).
        seed: Of the documents' order and sides.
        min_characters: Documents of fewer non-blank characters are excluded.
        separator: Text between documents; empty for none.
        text_field: The field or column of the text; empty for "text", or the only other usual name.
        encoding: Of text files and JSON lines, as Python names it.
        on_progress: Called with what is being done and how far that is, in [0, 1].
        on_notice: Called with a sentence if the text has changed since the corpus was built.

    Raises:
        CorpusError: Text that is missing, empty, damaged, not text or too little.
        StoreError: No space, a read-only place, a damaged corpus in the folder, or another one.
        UsageError: No such tokenizer or encoding.
        MissingExtraError: A package that the tokenizer or a source needs.
    """
    request = Request(
        sources=tuple(sources),
        tokenizer=tokenizer,
        validation=validation,
        seed=seed,
        min_characters=min_characters,
        separator=separator,
        text_field=text_field,
        encoding=encoding,
    )
    found = find(request, folder=folder, on_notice=on_notice)
    if found is None:
        return build(request, folder=folder, on_progress=on_progress)
    keep_names(found)  # the next call need not read all the text again
    return found


def find(request: Request, *, folder: Path, on_notice: Notice | None = None) -> Corpus | None:
    """Return the corpus in the folder, or None if nothing is there; nothing is written into it.

    Where the sources have other names, their content is compared. `keep_names` spares that from then on.

    Args:
        request: The corpus that is wanted.
        folder: Where it may be.
        on_notice: Called with a sentence if the text has changed since the corpus was built.

    Raises:
        CorpusError: As `prepare`.
        StoreError: A damaged corpus is in the folder, or another one.
    """
    _decode.check(request.encoding)
    try:
        return _as_requested(load(folder), request, on_notice or (lambda _: None)) if _aside.is_there(folder) else None
    except OSError as error:
        raise files.in_words(error, folder) from error


def build(request: Request, *, folder: Path, known: Collection[str] = (), on_progress: Progress | None = None) -> Corpus:
    """Build a corpus in a folder that has none, in memory for a few documents however long the text.

    Args:
        request: The corpus that is wanted.
        folder: A second process that builds there waits for the first, and finds its corpus.
        known: Digests of corpora that runs were trained on. If the text gives one of them by the rules of format 1, that one is built.
        on_progress: Called with what is being done and how far that is, in [0, 1].

    Raises:
        CorpusError: As `prepare`, and so for all others.
        StoreError: As there.
        UsageError: As there.
        MissingExtraError: As there.
    """
    _decode.check(request.encoding)
    try:
        _build(folder, request, _seldom(on_progress), known=known)
    except OSError as error:
        raise files.in_words(error, folder) from error
    return _as_requested(load(folder), request, lambda _: None)


def keep_names(corpus: Corpus) -> None:
    """Write the sources and keys by which a corpus was found, if they are not those that it was built from, and the times of its files.

    Raises:
        StoreError: The file cannot be written.
    """
    kept = json.loads(files.read(corpus.folder / META))
    wanted = corpus.model_dump(mode="json")
    renamed = any(kept.get(key, wanted[key]) != wanted[key] for key in _READING)
    then = _stamps.read(corpus.folder)
    if not renamed and then is None:
        return
    try:
        found = _stamps.compare(then or {}, locate(corpus.sources).origins)
    except CorpusError:  # the text is not there any more
        return
    if renamed:
        files.write(corpus.folder / META, _meta(corpus))
    if then is not None and (renamed or found.same) and found.stamps != then:
        _stamps.write(corpus.folder, _stamps.complete(found.stamps, corpus.sources))


def _as_requested(corpus: Corpus, request: Request, notice: Notice) -> Corpus:
    """Return the corpus that is there if it is the one of the request."""
    request = _in_format_of(corpus, request)
    differ = [key for key in (*_SHARDS, *_READING) if getattr(corpus, key) != getattr(request, key)]
    if not differ:
        _notice_changes(corpus, notice)
        return corpus
    reading = {key: getattr(request, key) for key in _READING}
    if set(differ) & set(_SHARDS) or not (_same_files(corpus, request, differ) or _same_shards(corpus, request)):
        values = ", ".join(f"{key} {getattr(corpus, key)!r} instead of {getattr(request, key)!r}" for key in differ)
        what = f"{corpus.folder} holds another corpus, with {values}, and runs may have been trained on it"
        raise StoreError(f"{what}. Give the study another name, or delete that folder to have it rebuilt.")
    return corpus.model_copy(update=reading)


def _in_format_of(corpus: Corpus, request: Request) -> Request:
    """Return the request by the rules that the corpus was built by. Those of format 1 knew no `min_characters`, so its default leaves them as they were."""
    if corpus.format == 1 and request.min_characters == MIN_CHARACTERS:
        request = replace(request, min_characters=_FORMAT_1_CHARACTERS)
    return replace(request, format=corpus.format)


def _notice_changes(corpus: Corpus, notice: Notice) -> None:
    try:
        origins = locate(corpus.sources).origins
        then = _stamps.read(corpus.folder)
        if then is None:
            newer = _stamps.newer(corpus.folder, origins)
            what = f"{numbered(len(newer), 'file')} of it changed later, the first: {newer[0]}" if newer else ""
        else:
            found = _stamps.compare(then, origins)
            what = "" if found.same else str(found)
    except CorpusError as error:
        what = f"it is not there any more: {error}"
    if what:
        notice(
            f"the text has changed since the corpus in {corpus.folder} was built: {what.rstrip('.')}. The corpus is used as it was built, "
            "so that all runs have the same text. To train on the new text, give the study another name."
        )


def _same_files(corpus: Corpus, request: Request, differ: list[str]) -> bool:
    """Return whether the sources have other names and the same content, as after a study has moved."""
    then = _stamps.read(corpus.folder)
    return differ == ["sources"] and then is not None and _stamps.compare(then, locate(request.sources).origins).same


def _same_shards(corpus: Corpus, request: Request) -> bool:
    """Return whether the request leads to the same shards; the text is read again for that."""
    with tempfile.TemporaryDirectory(prefix="isoflop-") as place:
        again = Path(place) / "data"
        _build(again, request, _seldom(None))
        return load(again).digest == corpus.digest


def _build(folder: Path, request: Request, report: Progress, *, known: Collection[str] = ()) -> None:
    vocab = ids.check(request.tokenizer)
    located = locate(request.sources)
    with _aside.building(folder) as aside:
        if aside is None:
            return
        corpus = _make(aside, located, request, vocab=vocab, report=report)
        earlier = replace(request, format=1, min_characters=_FORMAT_1_CHARACTERS)
        if known and corpus.digest not in known and earlier.options == replace(request.options, cut_records=False):
            with suppress(CorpusError):
                if _make(aside, located, earlier, vocab=vocab, report=report).digest in known:
                    return
            _make(aside, located, request, vocab=vocab, report=report)


def _make(aside: Path, located: Located, request: Request, *, vocab: int | None, report: Progress) -> Corpus:
    """Read the text and write its corpus into an empty folder, or over one that was made there before."""
    read = _read(located, aside / "spool", request, report)
    return _write(read, aside, request, vocab=vocab, report=report)


def _seldom(on_progress: Progress | None) -> Progress:
    """Return a report of each hundredth, not of each document."""
    reported: dict[str, int] = {}

    def report(what: str, fraction: float) -> None:
        hundredth = int(min(fraction, 1.0) * 100)
        if on_progress is not None and hundredth > reported.get(what, -1):
            reported[what] = hundredth
            on_progress(what, hundredth / 100)

    return report


@dataclass(frozen=True, kw_only=True)
class Read:
    """Text that has been read."""

    documents: Documents
    excluded: dict[str, Exclusion]
    marks: dict[str, int]
    stamps: _stamps.Stamps


def _read(located: Located, path: Path, request: Request, report: Progress) -> Read:
    total = max(sum(origin.size for origin in located.origins), 1)
    before = 0
    marks: Counter[str] = Counter()
    stamps: dict[str, _stamps.Stamp] = {}
    with path.open("w+b") as file:
        spool = Spool(file)
        for excluded in located.excluded:
            spool.exclude(excluded)
        for origin in located.origins:
            stamp = None if isinstance(origin, HubDataset) else _stamps.take(origin)
            for done in _add(spool, origin, request, marks):
                report("reading", (before + done) / total)
            before += origin.size
            if stamp and not isinstance(origin, HubDataset):
                stamps[_decode.shown(origin.path)] = _stamps.digested(origin, stamp)
        spooled = spool.finish(path, validation=request.validation, seed=request.seed, nearest=request.format > 1)
    if len(spooled) < 2:
        raise _too_little(spooled, spool, request)
    report("reading", 1.0)
    return Read(documents=spooled, excluded=dict(sorted(spool.excluded.items())), marks=dict(marks), stamps=stamps)


def _too_little(spooled: Documents, spool: Spool, request: Request) -> CorpusError:
    reasons = ", ".join(f"{entry.documents:,} {reason}, {size(entry.bytes)} ({'; '.join(entry.first)})" for reason, entry in spool.excluded.items())
    what = f"the corpus ({', '.join(request.sources)}) has {numbered(len(spooled), 'document')} of {request.min_characters} or more non-blank characters"
    return CorpusError(
        f"{what} (excluded: {reasons or 'none'}), but one is needed to train on and another to measure on. Give more files, or one of over 64 kB."
    )


def _add(spool: Spool, origin: Origin, request: Request, marks: Counter[str]) -> Iterator[int]:
    """Add the documents of one origin; yield after each how many bytes of its file have been read."""
    if isinstance(origin, HubDataset):
        for item in origin.documents(request.options):
            _add_one(spool, item, marks, least=request.min_characters)
            yield 0
        return
    options = replace(request.options, encoding="utf-8") if origin.whole else request.options
    mark, marks_before = spool.mark(), marks.copy()
    try:
        with origin.open() as raw:
            for item in documents(origin.path, raw, whole=origin.whole, options=options):
                if request.format == 1 and isinstance(item, Excluded) and item.reason in {_decode.NOT_UTF8, _decode.NUL}:
                    raise NotTextError(origin.path, "not text", f"{item.where}: {item.reason}")  # noqa: TRY301  # format 1 excluded whole files
                _add_one(spool, item, marks, least=max(request.min_characters, origin.least))
                yield raw.tell()
    except NotTextError as error:
        if origin.named:
            raise
        spool.rollback(mark)
        marks.clear()
        marks.update(marks_before)
        spool.exclude(Excluded(f"file that is {error.reason}", origin.size, _decode.shown(origin.path)))


def _add_one(spool: Spool, item: Document | Excluded, marks: Counter[str], *, least: int) -> None:
    if isinstance(item, Excluded):
        spool.exclude(item)
    elif content := spool.add(item, least=least):
        marks.update(mark.decode() for mark in _MARKS.findall(content))


def _write(read: Read, aside: Path, request: Request, *, vocab: int | None, report: Progress) -> Corpus:
    """Write tokenizer, shards, stamps and meta.json, and remove the spool."""
    spooled = read.documents
    tokenizer: ids.Tokenizer = ids.Bytes()
    if vocab is not None:
        report("training the tokenizer", 0.0)
        tokenizer = ids.train(spooled.texts("train"), vocab=vocab, path=aside / ids.FILE)
        report("training the tokenizer", 1.0)
    tokens: dict[str, int] = {}
    sha256: dict[str, str] = {ids.FILE: _shards.finished(aside / ids.FILE)} if vocab is not None else {}
    sides: tuple[Side, ...] = ("val", "train")
    for side in sides:
        path = aside / f"{side}.bin"
        tokens[f"{side}_tokens"], sha256[path.name] = _shards.write(path, tokenizer.encode(_reported(spooled, side, report)))
    spooled.path.unlink()
    corpus = Corpus(
        folder=aside,
        digest=digest_of(sha256, tokenizer.vocab),
        vocab=tokenizer.vocab,
        documents=len(spooled),
        val_documents=spooled.val,
        bytes=spooled.size,
        val_bytes=spooled.val_size,
        excluded=read.excluded,
        marks=read.marks,
        sha256=sha256,
        **asdict(request),
        **tokens,
    )
    _stamps.write(aside, read.stamps)
    files.write(aside / META, _meta(corpus))
    return corpus


def _meta(corpus: Corpus) -> bytes:
    fields = corpus.model_dump(mode="json")
    return (json.dumps(fields | {SEAL: seal(fields)}, indent=1) + "\n").encode()


def _reported(spooled: Documents, side: Side, report: Progress) -> Iterator[bytes]:
    written = 0 if side == "val" else spooled.val_size
    for text in spooled.texts(side):
        yield text
        written += len(text)
        report("writing tokens", written / spooled.size)
