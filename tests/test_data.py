"""Text -> token shards -> batches."""

import bz2
import gzip
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from isoflop import data
from isoflop.data import order, tokenizer
from isoflop.data.formats import PIECE
from isoflop.errors import CorpusError, DesignError, MissingExtraError, StoreError, UsageError

WORDS = ("loss", "tokens", "params", "budget", "cosine", "größer", "→", "gradient", "optimum", "frontier")


def documents(n: int, *, words: int = 60) -> list[str]:
    draw = random.Random(1)
    return [f"document {i}: " + " ".join(draw.choices(WORDS, k=words)) + "\n" for i in range(n)]


def text_files(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return str(folder / "*.txt")


def prepare(*sources: str | Path, folder: Path, tokenizer: str = "bytes", validation: float = 0.1, seed: int = 0) -> data.Corpus:
    return data.prepare(tuple(map(str, sources)), folder=folder, tokenizer=tokenizer, validation=validation, seed=seed)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> data.Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    return prepare(text_files(folder / "texts", documents(40)), folder=folder / "data")


def split(tokens: np.ndarray) -> list[str]:
    return [part.decode() for part in tokens.tobytes().split(b"\0")[:-1]]


# What is in the shards


def test_every_document_is_in_one_shard_and_both_add_up(corpus: data.Corpus) -> None:
    train, val = split(corpus.tokens("train")), split(corpus.tokens("val"))
    assert sorted(train + val) == sorted(documents(40))
    assert (len(val), len(train) + len(val)) == (corpus.val_documents, corpus.documents)
    assert corpus.train_tokens + corpus.val_tokens == corpus.bytes + corpus.documents
    assert corpus.bytes == sum(len(text.encode()) for text in documents(40))
    assert corpus.vocab == 256


def test_the_share_held_out_is_the_one_asked_for_to_within_a_document(corpus: data.Corpus) -> None:
    longest = max(len(text.encode()) for text in documents(40))
    assert abs(corpus.val_tokens - corpus.val_documents - 0.1 * corpus.bytes) <= longest / 2
    assert corpus.held_out == pytest.approx((corpus.val_tokens - corpus.val_documents) / corpus.bytes)


def test_order_and_spread_of_files_do_not_matter(corpus: data.Corpus, tmp_path: Path) -> None:
    shuffled = documents(40)
    random.Random(2).shuffle(shuffled)
    glob = text_files(tmp_path / "a", shuffled[:30])
    lines = tmp_path / "rest.jsonl"
    lines.write_text("\n".join(json.dumps({"text": text}) for text in shuffled[30:]), encoding="utf-8")
    assert prepare(lines, glob, folder=tmp_path / "data").digest == corpus.digest


def test_seed_changes_sides_and_digest(corpus: data.Corpus, tmp_path: Path) -> None:
    other = prepare(text_files(tmp_path / "texts", documents(40)), folder=tmp_path / "data", seed=1)
    assert other.digest != corpus.digest
    assert set(split(other.tokens("val"))) != set(split(corpus.tokens("val")))


def excluded(corpus: data.Corpus) -> dict[str, int]:
    return {reason: entry.documents for reason, entry in corpus.excluded.items()}


def test_empty_and_duplicate_documents_are_excluded_and_counted(tmp_path: Path) -> None:
    texts = [*documents(5), documents(1)[0].replace("\n", "\r\n"), "\ufeff" + documents(1)[0], "short", " \n" * 400]
    made = prepare(text_files(tmp_path / "texts", texts), folder=tmp_path / "data")
    assert made.documents == 6
    assert excluded(made) == {"duplicate": 2, "empty": 1}


def test_a_binary_file_among_the_matches_of_a_glob_is_excluded_whole_and_counted(tmp_path: Path) -> None:
    glob = text_files(tmp_path / "texts", documents(5))
    (tmp_path / "texts" / "program.txt").write_bytes(b"\x7fELF\0\0" + bytes(range(256)))
    (tmp_path / "texts" / "latin.txt").write_bytes("größer".encode("latin-1") * 20)
    made = prepare(glob, folder=tmp_path / "data")
    assert (made.documents, excluded(made)) == (5, {"file that is binary": 1, "file that is not UTF-8": 1})
    assert sorted(split(made.tokens("val")) + split(made.tokens("train"))) == sorted(documents(5))


def test_a_record_that_is_not_text_is_excluded_and_counted(tmp_path: Path) -> None:
    lines = tmp_path / "some.jsonl"
    odd = ['{"text": "' + "words " * 20 + escape + '"}' for escape in ("\\u0000", "\\ud800")]
    odd += ["null", '{"text": null}']
    lines.write_text("\n".join([*(json.dumps({"text": text}) for text in documents(3)), "", *odd]), encoding="utf-8")
    assert excluded(prepare(lines, folder=tmp_path / "data")) == {"NUL byte": 1, "lone surrogate": 1, "null": 2}


def test_a_long_text_is_cut_at_blank_lines_and_loses_nothing(tmp_path: Path) -> None:
    book = "\n\n".join(f"paragraph {i} " + "word " * 100 for i in range(600))
    path = tmp_path / "book.txt"
    path.write_text(book, encoding="utf-8")
    made = prepare(path, folder=tmp_path / "data")
    pieces = split(made.tokens("val")) + split(made.tokens("train"))
    assert len(pieces) == -(-len(book) // PIECE) + 1  # one is cut for the share
    assert all(len(piece) <= PIECE for piece in pieces)
    assert "".join(sorted(pieces, key=lambda piece: int(piece.split()[1]))) == book


def test_a_long_text_without_lines_is_cut_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "one_line.txt"
    text = "".join(f"{i} größer " for i in range(20_000))
    path.write_text(text, encoding="utf-8")
    made = prepare(path, folder=tmp_path / "data")
    assert made.bytes == len(text.encode())
    assert made.documents == -(-len(text) // PIECE) + 1  # one is cut for the share


# Formats


def packed(content: bytes, suffix: str) -> bytes:
    match suffix:
        case ".gz":
            return gzip.compress(content)
        case ".bz2":
            return bz2.compress(content)
        case ".xz":
            return lzma.compress(content)
        case ".zst":
            half = len(content) // 2
            return zstandard.compress(content[:half]) + zstandard.compress(content[half:])  # two frames, as pzstd writes
        case _:
            return content


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_compression_does_not_matter(corpus: data.Corpus, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all.jsonl{suffix}"
    path.write_bytes(packed("\r\n".join(json.dumps({"id": 1, "content": text}) for text in documents(40)).encode(), suffix))
    assert prepare(path, folder=tmp_path / "data").digest == corpus.digest


def test_parquet_is_read(corpus: data.Corpus, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"id": range(40), "text": documents(40)}), tmp_path / "all.parquet", row_group_size=7)
    assert prepare(tmp_path / "all.parquet", folder=tmp_path / "data").digest == corpus.digest


def test_the_standard_library_is_a_corpus(tmp_path: Path) -> None:
    made = prepare("python", folder=tmp_path / "data", validation=0.05)
    # 7.7 MB in CPython 3.11; the bounds leave room for other versions
    assert 5e6 < made.bytes < 12e6
    assert made.documents > 300
    everything = made.tokens("val").tobytes() + made.tokens("train").tobytes()
    assert b"class OrderedDict(dict):" in everything
    assert b"import test.support" not in everything


def test_a_bundle_of_novels_is_a_corpus_with_the_same_digest_wherever_it_is_built(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "corpus" / "novels_small.txt.bz2"
    here, there = (prepare(source, folder=tmp_path / name / "data", validation=0.05) for name in ("here", "there"))
    assert here.digest == there.digest
    assert here.bytes == len(bz2.decompress(source.read_bytes()).decode().encode())
    assert (here.documents, here.excluded) == (59, {})
    assert here.held_out == pytest.approx(0.05, rel=0.1)
    assert here.val_tokens > 131_072  # what the default study measures on


def test_a_dataset_is_read_by_name(tmp_path: Path, corpus: data.Corpus) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents(40)), encoding="utf-8")
    assert prepare(f"hf:{tmp_path / 'set'}::train", folder=tmp_path / "data").digest == corpus.digest


# Tokenizers


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> data.Corpus:
    folder = tmp_path_factory.mktemp("bpe")
    texts = [*documents(40), "a document with <|end|> in its midst, which ends nothing, for it is only text"]
    return prepare(text_files(folder / "texts", texts), folder=folder / "data", tokenizer="bpe-300")


def test_bpe_gives_back_the_text(bpe: data.Corpus) -> None:
    from tokenizers import Tokenizer

    model = Tokenizer.from_file(str(bpe.folder / tokenizer.FILE))
    tokens = np.concatenate([bpe.tokens("val"), bpe.tokens("train")])
    ends = np.flatnonzero(tokens == tokenizer.SEPARATOR)
    texts = [model.decode(part[part != 0].tolist()) for part in np.split(tokens, ends + 1)[:-1]]
    assert ends.size == bpe.documents == 41
    assert sum(len(text.encode()) for text in texts) == bpe.bytes
    assert set(documents(40)) < set(texts)
    assert (bpe.vocab, tokens.dtype) == (300, np.dtype("<u2"))
    assert bpe.train_tokens + bpe.val_tokens < bpe.bytes / 1.5


def test_bpe_is_the_same_built_twice_and_on_more_threads(bpe: data.Corpus, tmp_path: Path) -> None:
    script = "import sys, pathlib; from isoflop import data; s, f = sys.argv[1:]; "
    script += "print(data.prepare((s,), folder=pathlib.Path(f), tokenizer='bpe-300', validation=0.1, seed=0).digest)"
    source = bpe.sources[0]
    out = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "data"], env={**os.environ, "RAYON_NUM_THREADS": "3"}, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == bpe.digest


def test_bytes_of_the_validation_targets_are_counted(corpus: data.Corpus, bpe: data.Corpus) -> None:
    _, targets = data.validation(corpus, tokens=200, context=50)
    assert data.validation_bytes(corpus, tokens=200, context=50) == int((targets != 0).sum())
    n = (bpe.val_tokens - 1) // 8 * 8
    from tokenizers import Tokenizer

    kept = [i for i in bpe.tokens("val")[1 : n + 1].tolist() if i != tokenizer.SEPARATOR]
    alphabet_text = "".join(Tokenizer.from_file(str(bpe.folder / tokenizer.FILE)).id_to_token(i) for i in kept)
    assert data.validation_bytes(bpe, tokens=n, context=8) == len(alphabet_text)
    # all but the first token's bytes and what does not fill a window: each token here is under 16 bytes
    val_bytes = sum(len(text.encode()) for text in [*documents(40)]) * bpe.val_tokens / (bpe.train_tokens + bpe.val_tokens)
    assert data.validation_bytes(bpe, tokens=n, context=8) == pytest.approx(val_bytes, rel=0.1)  # compression varies between documents


@pytest.mark.parametrize(
    ("name", "words"),
    [("bpe-200", "leaves nothing to merge"), ("bpe-", "is not a tokenizer"), ("words", "is not a tokenizer"), ("bpe-4k", "is not a tokenizer")],
)
def test_a_tokenizer_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prepare(text_files(tmp_path / "texts", documents(5)), folder=tmp_path / "data", tokenizer=name)


def test_a_vocabulary_that_the_text_cannot_fill_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"not 4096. Ask for bpe-\d+ at most"):
        prepare(text_files(tmp_path / "texts", documents(5)), folder=tmp_path / "data", tokenizer="bpe-4096")
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize(
    ("package", "name", "kind"),
    [("tokenizers", "a.txt", "bpe-300"), ("zstandard", "a.txt.zst", "bytes"), ("pyarrow", "a.parquet", "bytes"), ("datasets", "hf:a", "bytes")],
)
def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, kind: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(b"x"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=f"{package}.*pip install"):
        prepare(name if name.startswith("hf:") else tmp_path / name, folder=tmp_path / "data", tokenizer=kind)


def test_importing_data_loads_nothing_heavy() -> None:
    script = "import sys, isoflop.data; print([m for m in ('torch', 'tokenizers', 'pyarrow', 'datasets', 'zstandard') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Batches


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**64), epoch=st.integers(0, 10**6))
def test_each_epoch_sees_every_window_once(n: int, seed: int, epoch: int) -> None:
    seen = order.windows(np.arange(epoch * n, (epoch + 1) * n), n=n, seed=seed)
    assert np.array_equal(np.sort(seen), np.arange(n))


def test_orders_of_seeds_and_epochs_look_unrelated() -> None:
    n = 10_000
    first, second = order.windows(np.arange(2 * n), n=n, seed=0).reshape(2, n)
    other = order.windows(np.arange(n), n=n, seed=1)
    for a, b in ((first, second), (first, other), (first, np.arange(n)), (first[:-1], first[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.05  # five standard deviations of 1 / sqrt(n)
        assert np.sum(a == b) < 12  # Poisson with mean 1: above 11 once in 1e9


def test_a_window_is_equally_likely_anywhere() -> None:
    n, seeds = 16, 4000
    counts = np.zeros((n, n))
    for seed in range(seeds):
        counts[np.arange(n), order.windows(np.arange(n), n=n, seed=seed)] += 1
    expected = seeds / n
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < (n - 1) ** 2 + 6 * np.sqrt(2 * (n - 1) ** 2)  # six standard deviations


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), step=st.integers(0, 5000), rows=st.integers(1, 8))
def test_a_batch_is_a_function_of_seed_and_step(corpus: data.Corpus, seed: int, step: int, rows: int) -> None:
    context = 32
    batches = data.Batches(corpus, seed=seed, batch=rows * context, context=context)
    inputs, targets = batches[step]
    batches[step + 300]  # another block
    for again in (batches[step], data.batch(corpus, seed=seed, step=step, batch=rows * context, context=context)):
        assert torch.equal(again[0], inputs)
        assert torch.equal(again[1], targets)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.shape == targets.shape == (rows, context)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_an_epoch_of_batches_is_the_shard(corpus: data.Corpus) -> None:
    context = 64
    n = data.windows(corpus, context)
    batches = data.Batches(corpus, seed=5, batch=context, context=context)
    rows = sorted(tuple(batches[step][0][0].tolist()) for step in range(n))
    tokens = corpus.tokens("train")
    assert rows == sorted(tuple(tokens[i * context : (i + 1) * context].tolist()) for i in range(n))
    assert data.epochs(corpus, tokens=3 * n * context, context=context) == 3.0


def test_batch_size_changes_how_the_reading_is_cut_not_the_reading(corpus: data.Corpus) -> None:
    one = data.Batches(corpus, seed=3, batch=32, context=32)
    four = data.Batches(corpus, seed=3, batch=128, context=32)
    assert torch.equal(torch.cat([one[i][0] for i in range(40)]), torch.cat([four[i][0] for i in range(10)]))


def test_validation_is_spread_over_the_whole_validation_shard(corpus: data.Corpus) -> None:
    inputs, targets = data.validation(corpus, tokens=210, context=50)
    tokens = corpus.tokens("val").tolist()
    there = (len(tokens) - 1) // 50
    starts = [50 * (i * there // 4) for i in range(4)]
    assert inputs.tolist() == [tokens[at : at + 50] for at in starts]
    assert targets.tolist() == [tokens[at + 1 : at + 51] for at in starts]
    whole, _ = data.validation(corpus, tokens=50 * there, context=50)
    assert whole.flatten().tolist() == tokens[: 50 * there]


def test_text_too_short_for_the_batches_or_the_measurement_is_refused(corpus: data.Corpus) -> None:
    with pytest.raises(CorpusError, match="under two windows"):
        data.Batches(corpus, seed=0, batch=1 << 20, context=1 << 20)
    with pytest.raises(CorpusError, match=r"Lower eval_tokens"):
        data.validation(corpus, tokens=corpus.val_tokens + 50, context=50)
    with pytest.raises(CorpusError, match="under one window"):
        data.validation_bytes(corpus, tokens=20, context=50)
    with pytest.raises(DesignError, match="whole sequences"):
        data.Batches(corpus, seed=0, batch=100, context=64)


# Bad input


def bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """What is named -> the source, and words of the message."""
    good = "\n".join(json.dumps({"text": text}) for text in documents(40))
    contents: dict[str, bytes] = {
        "binary.txt": b"\x7fELF\0\0" + bytes(range(256)),
        "latin.txt": ("größer " * 50).encode("latin-1"),
        "empty.txt": b"",
        "line.jsonl": (good + '\n{"text": "cut').encode(),
        "array.json": b'[\n {"text": "words"}\n]',
        "nofield.jsonl": b'{"id": 1, "url": "here"}',
        "two.jsonl": b'{"content": "a", "body": "b"}',
        "number.jsonl": b'{"text": 7}',
        "cut.jsonl.gz": gzip.compress(good.encode())[:-20],
        "flipped.txt.gz": b"\x1f\x8b\x08\x00" + b"\xff" * 60,
        "cut.jsonl.bz2": bz2.compress(good.encode())[:-20],
        "cut.jsonl.xz": lzma.compress(good.encode())[:-20],
        "cut.jsonl.zst": zstandard.compress(good.encode())[:-20],
        "not.jsonl.zst": good.encode(),
        "not.parquet": good.encode(),
        "some.parquet.gz": b"",
        "one.txt": documents(1)[0].encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    words = {
        "binary.txt": "binary.txt is not text",
        "latin.txt": "100 of its 350 bytes are not UTF-8 .the first: line 1, byte 2.*encoding = .latin-1",
        "empty.txt": "0 documents.*1 empty",
        "line.jsonl": "line.jsonl, line 41 is not JSON",
        "array.json": "array.json, line 1 is not JSON",
        "nofield.jsonl": 'line 1: no field "text"; there are only: id, url',
        "two.jsonl": "several of them could be the text: content, body",
        "number.jsonl": "line 1: field 'text' is int, not a string",
        "not.parquet": "cannot be read as Parquet",
        "some.parquet.gz": "Decompress it first",
        "one.txt": "has 1 document of",
    }
    return {name: (str(folder / name), words.get(name, "cannot be read to its end")) for name in contents}


CUT = ["cut.jsonl.gz", "flipped.txt.gz", "cut.jsonl.bz2", "cut.jsonl.xz", "cut.jsonl.zst", "not.jsonl.zst", "not.parquet", "some.parquet.gz"]
ODD = ["binary.txt", "latin.txt", "empty.txt", "one.txt", "line.jsonl", "array.json", "nofield.jsonl", "two.jsonl", "number.jsonl"]


@pytest.mark.parametrize("name", [*ODD, *CUT])
def test_a_bad_file_is_named_and_nothing_is_left_behind(tmp_path: Path, name: str) -> None:
    (tmp_path / "texts").mkdir()
    source, words = bad_files(tmp_path / "texts")[name]
    with pytest.raises(CorpusError, match=words):
        prepare(source, folder=tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.txt", "matches no file"),
        ("*.nothing", "matches no file"),
        (".", r"is a folder. Say which"),
        ("hf:a:b", "does not name a dataset"),
        ("hf:", "does not name"),
    ],
)
def test_a_source_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=words):
        prepare(source, folder=tmp_path / "data")


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no corpus is named"):
        prepare(folder=tmp_path / "data")


# The folder


@pytest.fixture
def own(tmp_path: Path) -> data.Corpus:
    return prepare(text_files(tmp_path / "texts", documents(40)), folder=tmp_path / "data", tokenizer="bpe-300")


def test_a_second_call_finds_the_corpus_even_without_its_text(own: data.Corpus) -> None:
    for path in Path(own.sources[0]).parent.iterdir():
        path.unlink()
    assert prepare(*own.sources, folder=own.folder, tokenizer="bpe-300") == own == data.load(own.folder)
    assert sorted(p.name for p in own.folder.iterdir()) == ["meta.json", "sources.json", "tokenizer.json", "train.bin", "val.bin"]


def test_another_corpus_in_the_folder_is_not_overwritten(own: data.Corpus, tmp_path: Path) -> None:
    other = text_files(tmp_path / "other", documents(41))
    with pytest.raises(StoreError, match="tokenizer 'bpe-300' instead of 'bytes'"):
        prepare(*own.sources, folder=own.folder)
    with pytest.raises(StoreError, match="holds another corpus, with sources"):
        prepare(other, folder=own.folder, tokenizer="bpe-300")
    assert data.load(own.folder) == own


def test_the_same_text_by_another_name_is_the_same_corpus(own: data.Corpus, tmp_path: Path) -> None:
    moved = text_files(tmp_path / "moved", documents(40))
    found = prepare(moved, folder=own.folder, tokenizer="bpe-300")
    assert (found.digest, found.sources) == (own.digest, (moved,))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "moved", "texts"]
    for path in (tmp_path / "moved").iterdir():
        path.unlink()
    assert prepare(moved, folder=own.folder, tokenizer="bpe-300") == found  # the text is read for the new name once, not every time


def test_meta_has_a_digest_of_itself_and_one_without_it_is_read(own):
    path = own.folder / "meta.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "meta_sha256"}))  # as earlier versions wrote it
    assert data.load(own.folder) == own
    path.write_text(json.dumps(whole | {"bytes": whole["bytes"] + 1}))
    with pytest.raises(StoreError, match="its digest does not match its content"):
        data.load(own.folder)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "tokenizer.json", "meta.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_damaged_file_is_found(own: data.Corpus, name: str, harm: str) -> None:
    path = own.folder / name
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[content.index(b'digest": "') + 12 if name == "meta.json" else len(content) // 2] ^= 1
    path.write_bytes(content[:-1] if harm == "cut" and name != "meta.json" else content[:-3] if harm == "cut" else content)
    if harm == "gone":
        path.unlink()
    with pytest.raises(StoreError, match=r"is not what was built there.*Delete the folder"):
        data.load(own.folder)
    with pytest.raises(StoreError, match="Delete the folder"):
        prepare(*own.sources, folder=own.folder, tokenizer="bpe-300")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    source = text_files(tmp_path / "texts", documents(5))
    with pytest.raises(StoreError, match="is a file, not a folder"):
        prepare(source, folder=tmp_path / "file" / "study" / "data")
    with pytest.raises(StoreError, match="proc"):  # a place where nobody may write
        prepare(source, folder=Path("/proc/isoflop/data"))


RUN = """
import pathlib, sys, time
from isoflop import data
print(data.prepare((sys.argv[1],), folder=pathlib.Path(sys.argv[2]), tokenizer="bytes", validation=0.1, seed=0).digest)
"""


def test_no_space_is_said_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source = text_files(tmp_path / "texts", documents(40, words=600))
    limited = "import resource, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    out = subprocess.run([sys.executable, "-c", limited + RUN, source, tmp_path / "data"], capture_output=True, text=True, check=False)
    assert "isoflop.errors.StoreError" in out.stderr
    assert "would be larger than this process may write" in out.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]


def test_processes_that_build_at_once_agree_and_a_killed_one_is_cleared_away(corpus: data.Corpus, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, corpus.sources[0], str(tmp_path / "data")]
    stuck = RUN.replace("seed=0", "seed=0, on_progress=lambda what, _: time.sleep(60 * (what == 'writing tokens'))")
    killed = subprocess.Popen([sys.executable, "-c", stuck, *command[3:]])
    spool = tmp_path / ".data.building" / "spool"
    deadline = time.monotonic() + 30
    while not (spool.exists() and spool.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(0.3)  # they wait for the lock; if not yet, the test is weaker but still true
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert {other.communicate()[0].strip() for other in others} == {corpus.digest}
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert data.load(tmp_path / "data").digest == corpus.digest


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    path = tmp_path / "big.txt.gz"
    block = "\n".join(documents(100)) + "\n"
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for i in range(120):
            file.write(block.replace("document", f"part {i}, document"))
    tracemalloc.start()
    try:
        made = prepare(path, folder=tmp_path / "data")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.bytes > 5e6
    assert peak < 2.5e6  # a few documents of 64 kB, as characters and as bytes, and buffers of up to 1 MB; the text itself is over twice that


def test_progress_is_told_in_rising_hundredths(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    source = text_files(tmp_path / "texts", documents(200))
    data.prepare(
        (source,), folder=tmp_path / "data", tokenizer="bpe-300", validation=0.1, seed=0, on_progress=lambda what, fraction: told.append((what, fraction))
    )
    assert list(dict.fromkeys(what for what, _ in told)) == ["reading", "training the tokenizer", "writing tokens"]
    for stage in {what for what, _ in told}:
        fractions = [fraction for what, fraction in told if what == stage]
        assert fractions == sorted(set(fractions))
        assert fractions[-1] == 1.0
    assert len(told) <= 303
