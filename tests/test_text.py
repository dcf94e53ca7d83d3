"""Text is read rightly, or what is not is named: nothing is lost in silence, and a corpus that is built stays as it is."""

import bz2
import csv
import gzip
import json
import lzma
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from isoflop import data, workspace
from isoflop.data.build import Request, _build
from isoflop.data.formats import LONGEST, PIECE
from isoflop.errors import CorpusError, StoreError, UsageError
from isoflop.store import Store

GOLDEN = Path(__file__).parent / "golden/format_1"
WORDS = ("loss", "tokens", "params", "budget", "cosine", "größer", "→", "gradient", "optimum", "frontier")
# Built by the last version that wrote format 1, over the texts of `write_texts`.
FORMAT_1 = [
    (("plain/*.txt",), "bytes", 0.05, 0, "c4d90de2c49ec4b7"),
    (("plain/*.txt",), "bytes", 0.2, 1, "d9b55d6b719be5be"),
    (("plain/*.txt",), "bpe-300", 0.05, 0, "5481337c7aa3ca2c"),
    (("book.txt",), "bytes", 0.05, 0, "09a47a86098ea840"),
    (("book.txt",), "bytes", 0.2, 1, "63a7cef387252f06"),
    (("records.jsonl.gz",), "bytes", 0.05, 0, "8699812209726638"),
    (("records.jsonl.gz",), "bytes", 0.2, 1, "e5489524033d5a10"),
    (("records.parquet",), "bytes", 0.05, 0, "8699812209726638"),
    (("records.parquet",), "bpe-300", 0.2, 1, "b266401a19836937"),
    (("plain/*.txt", "book.txt", "records.jsonl.gz"), "bytes", 0.05, 0, "12ef326bfc6865f5"),
    (("plain/*.txt", "book.txt", "records.jsonl.gz"), "bpe-300", 0.2, 1, "922ec8cbf340c29a"),
]


def text_of(seed: int, words: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=words)) + "\n"


def write_texts(folder: Path) -> None:
    (folder / "plain").mkdir(parents=True)
    for i in range(30):
        (folder / "plain" / f"{i:02d}.txt").write_text(text_of(i, 60), encoding="utf-8")
    (folder / "plain" / "short.txt").write_text("too short")
    (folder / "plain" / "twice.txt").write_text(text_of(3, 60).replace("\n", "\r\n"), encoding="utf-8", newline="")
    (folder / "plain" / "latin.txt").write_bytes("größer ".encode("latin-1") * 40)
    (folder / "book.txt").write_text("\n\n".join(text_of(100 + i, 90) for i in range(500)), encoding="utf-8")
    records = [text_of(200 + i, 40 + i) for i in range(40)] + [text_of(300, 30_000), "short"]
    (folder / "records.jsonl.gz").write_bytes(gzip.compress("\n".join(json.dumps({"content": r}) for r in records).encode()))
    parquet.write_table(pa.table({"id": range(42), "text": records}), folder / "records.parquet")


def prepare(*sources: str | Path, folder: Path, validation: float = 0.1, **options) -> data.Corpus:
    return data.prepare(tuple(map(str, sources)), folder=folder, tokenizer="bytes", validation=validation, seed=options.pop("seed", 0), **options)


def texts(corpus: data.Corpus) -> list[str]:
    return [part.decode() for side in ("val", "train") for part in corpus.tokens(side).tobytes().split(b"\0")[:-1]]


def counts(corpus: data.Corpus) -> dict[str, int]:
    return {reason: entry.documents for reason, entry in corpus.excluded.items()}


def lines(*records: object) -> str:
    return "\n".join(json.dumps(record) for record in records)


@pytest.fixture
def filler(tmp_path: Path) -> Path:
    """Enough text that a corpus can be built beside what a test is about."""
    path = tmp_path / "filler.jsonl"
    path.write_text(lines(*({"text": f"{i} " + text_of(i, 60)} for i in range(20))), encoding="utf-8")
    return path


# The share that is held out


LINES = [text_of(i, 14) for i in range(500)]


def share(sizes: list[int], folder: Path, *, validation: float, seed: int, suffix: str) -> data.Corpus:
    draw = random.Random(seed)
    books = ["".join(f"{j} {draw.choice(LINES)}" for j in range(size // 100)) for size in sizes]
    if suffix == ".jsonl":
        (folder / "books.jsonl").write_text(lines(*({"text": book} for book in books)), encoding="utf-8")
    else:
        parquet.write_table(pa.table({"text": books}), folder / "books.parquet")
    return prepare(folder / f"books{suffix}", folder=folder / "data", validation=validation, seed=seed)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("seed", range(12))
def test_three_books_hold_out_the_share_that_is_asked_for(tmp_path: Path, seed: int, suffix: str) -> None:
    made = share([300_000, 150_000, 120_000], tmp_path, validation=0.05, seed=seed, suffix=suffix)
    assert made.held_out == pytest.approx(0.05, rel=0.15)
    assert data.warnings(made) == ()


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(2, 90).map(lambda n: 1000 * n), min_size=2, max_size=12).filter(lambda sizes: sum(sizes) > 100_000),
    validation=st.floats(0.02, 0.45),
    seed=st.integers(0, 1000),
)
def test_the_share_is_near_for_documents_of_any_size(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], validation: float, seed: int) -> None:
    made = share(sizes, tmp_path_factory.mktemp("share"), validation=validation, seed=seed, suffix=".jsonl")
    assert abs(made.held_out - validation) <= max(0.15 * validation, 8192 / made.bytes)  # documents of 8 kB are whole


def test_a_share_that_documents_do_not_allow_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text(lines(*({"text": text_of(i, 200)} for i in range(3))), encoding="utf-8")
    made = prepare(path, folder=tmp_path / "data", validation=0.05)
    assert made.held_out > 0.3
    assert any("% of the text is held out instead of 5 %" in warning for warning in data.warnings(made))
    assert "held out (1 document of 3)" in data.summary(made)


# What is excluded


def test_what_is_excluded_is_named_with_bytes_and_share_and_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(lines(*({"text": f"{i} " + text_of(i, 60)} for i in range(10)), *({"text": "again " * 20} for _ in range(6))), encoding="utf-8")
    made = prepare(path, folder=tmp_path / "data")
    entry = made.excluded["duplicate"]
    assert (entry.documents, entry.bytes) == (5, 5 * 120)
    assert entry.first == tuple(f"{path}, line {n}" for n in (12, 13, 14))
    assert "excluded: 5 duplicate (600 bytes, 1" in data.summary(made)
    assert any("% of the text is excluded" in warning and f"{path}, line 12" in warning for warning in data.warnings(made))


def test_a_little_that_is_excluded_is_counted_and_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(lines(*({"text": f"{i} " + text_of(i, 100)} for i in range(100)), {"text": " "}), encoding="utf-8")
    made = prepare(path, folder=tmp_path / "data")
    assert counts(made) == {"empty": 1}
    assert data.warnings(made) == ()


@pytest.mark.parametrize("document", ["床前明月光疑是地上霜", "CC(=O)O", "Ada", "7"])
def test_short_documents_are_kept_unless_the_study_says_otherwise(tmp_path: Path, document: str) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text(lines(*({"text": f"{document}{i}"} for i in range(50))), encoding="utf-8")
    assert prepare(path, folder=tmp_path / "all").documents == 50
    with pytest.raises(CorpusError, match=r"0 documents of 32 or more non-blank characters.*50 short"):
        prepare(path, folder=tmp_path / "none", min_characters=32)


def test_one_bad_byte_loses_its_line_and_not_its_file(tmp_path: Path) -> None:
    rows = [text_of(i, 40) for i in range(400)]
    content = [row.encode() for row in rows]
    content[300] = content[300][:10] + b"\xff" + content[300][10:]
    for ends in (b"\n", b"\r\n"):
        path = tmp_path / "book.txt"
        path.write_bytes(b"".join(row[:-1] + ends for row in content))
        made = prepare(path, folder=tmp_path / f"data{len(ends)}")
        offset = sum(len(row) - 1 + len(ends) for row in content[:300]) + 10
        assert made.excluded["not UTF-8"].first == (f"{path}, line 301, byte {offset}",)
        assert made.excluded["not UTF-8"].bytes == len(content[300]) - 1 + len(ends)
        assert sorted("".join(texts(made)).splitlines()) == sorted(row[:-1] for i, row in enumerate(rows) if i != 300)


def test_one_bad_byte_in_a_text_of_one_line_loses_a_few_kilobytes(tmp_path: Path) -> None:
    content = "".join(f"{i} größer " for i in range(40_000)).encode()
    path = tmp_path / "line.txt"
    path.write_bytes(content[:250_000] + b"\xc3\xff" + content[250_000:])
    made = prepare(path, folder=tmp_path / "data")
    assert len(content) - 6000 < made.bytes < len(content)


def test_one_bad_byte_loses_its_record(tmp_path: Path, filler: Path) -> None:
    rows = filler.read_bytes().split(b"\n")
    rows[3] = rows[3].replace(b"a", b"\xe9", 1)
    filler.write_bytes(b"\n".join(rows))
    made = prepare(filler, folder=tmp_path / "data")
    assert (made.documents, counts(made)) == (19, {"not UTF-8": 1})
    assert f"{filler}, line 4, byte" in made.excluded["not UTF-8"].first[0]


def test_a_nul_byte_is_not_called_wrong_utf8(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"".join(text_of(i, 60).encode() for i in range(300)) + b"\0" * 100)
    assert counts(prepare(path, folder=tmp_path / "data")) == {"NUL byte": 1}


def test_an_archive_of_texts_is_not_read_as_text(tmp_path: Path, filler: Path) -> None:
    with tarfile.open(tmp_path / "a.txt.gz", "w:gz") as archive:
        archive.add(filler)
    with pytest.raises(CorpusError, match=r"it is a tar archive\. Unpack it"):
        prepare(tmp_path / "a.txt.gz", folder=tmp_path / "data")


@pytest.mark.parametrize(
    "content",
    [b"%PDF-1.7 text follows", b"PK\x03\x04 text", gzip.compress(b"text " * 100, mtime=0), random.Random(0).randbytes(5000)],
    ids=["pdf", "zip", "gzip", "noise"],
)
def test_a_binary_file_says_what_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=r"is not text that can be trained on: (it is a PDF|it is a ZIP|it is compressed by gzip|[0-9]+ % of its first)"):
        prepare(tmp_path / "a.txt", folder=tmp_path / "data")


# Encodings


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "UTF8", "utf-16", "utf-16-le", "shift_jis", "gb18030"])
def test_text_is_read_in_the_encoding_that_the_study_names(tmp_path: Path, encoding: str) -> None:
    sentence = "日本語の文章 " if encoding in {"shift_jis", "gb18030"} else "größer als früher, œuvre " if encoding == "cp1252" else "größer als früher "
    content = "\n".join(f"{sentence}{i}" for i in range(20_000)) + "\n"
    (tmp_path / "a.txt").write_bytes(content.encode(encoding))
    made = prepare(tmp_path / "a.txt", folder=tmp_path / "data", encoding=encoding)
    assert sorted("".join(texts(made)).splitlines()) == sorted(content.splitlines())
    assert made.excluded == {}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_utf16_and_marked_files_are_recognised(tmp_path: Path, encoding: str, suffix: str) -> None:
    content = lines(*({"text": f"{i} größer"} for i in range(300))) if suffix == ".jsonl" else "".join(f"{i} größer als früher\r\n" for i in range(9000))
    (tmp_path / f"a{suffix}").write_bytes(content.encode(encoding))
    made = prepare(tmp_path / f"a{suffix}", folder=tmp_path / "data")
    assert made.bytes == len(content.replace("\r", "").encode()) if suffix == ".txt" else made.documents == 300
    assert all("größer" in text for text in texts(made))


def test_bytes_that_an_encoding_lacks_lose_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"".join(text_of(i, 60).encode("ascii", "ignore") for i in range(200)) + b"gr\x81n\n")
    made = prepare(tmp_path / "a.txt", folder=tmp_path / "data", encoding="cp1252")
    assert made.excluded["not cp1252"].first == (f"{tmp_path / 'a.txt'}, line 201",)


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "idna", "undefined", "", "utf-8\0"])
def test_what_is_no_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UsageError, match="is not an encoding of text"):
        prepare("python", folder=tmp_path / "data", encoding=encoding)


# Separators, fields and tables


@given(parts=st.lists(st.text("ab\n", min_size=1, max_size=30), min_size=2, max_size=30, unique=True), long=st.integers(0, 2 * PIECE))
def test_documents_between_separators_are_documents(tmp_path_factory: pytest.TempPathFactory, parts: list[str], long: int) -> None:
    folder = tmp_path_factory.mktemp("parts")
    documents = [f"{i}{part}" for i, part in enumerate(parts)] + ["x" * long]
    (folder / "a.txt").write_text("<|endoftext|>".join(documents), encoding="utf-8")
    made = prepare(folder / "a.txt", folder=folder / "data", separator="<|endoftext|>")
    assert {text for text in documents if 0 < len(text) < 8192} <= set(texts(made))
    assert sum(map(len, texts(made))) + sum(entry.bytes for entry in made.excluded.values()) == sum(map(len, documents))


def test_a_separator_that_occurs_often_is_warned_of_without_the_key(tmp_path: Path) -> None:
    stories = [f"{i} " + text_of(i, 60) for i in range(200)]
    (tmp_path / "stories.txt").write_text("<|endoftext|>\n".join(stories), encoding="utf-8")
    plain = prepare(tmp_path / "stories.txt", folder=tmp_path / "plain")
    assert any('set separator = "<|endoftext|>"' in warning for warning in data.warnings(plain))
    made = prepare(tmp_path / "stories.txt", folder=tmp_path / "split", separator="<|endoftext|>")
    assert data.warnings(made) == ()
    assert made.documents == 200
    assert not any("<|" in text for text in texts(made))


def test_the_field_of_the_text_is_a_key(tmp_path: Path) -> None:
    rows = [{"title": f"t{i}", "text": "wrong", "story": f"{i} " + text_of(i, 30)} for i in range(20)]
    (tmp_path / "a.jsonl").write_text(lines(*rows, {"story": None}), encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    made = [prepare(tmp_path / f"a{suffix}", folder=tmp_path / suffix, text_field="story") for suffix in (".jsonl", ".parquet")]
    assert made[0].digest == made[1].digest
    assert counts(made[0]) == {"null": 1}
    for suffix in (".jsonl", ".parquet"):
        with pytest.raises(CorpusError, match="no field body, which text_field names; there are only: title, text, story"):
            prepare(tmp_path / f"a{suffix}", folder=tmp_path / "none", text_field="body")


def test_null_rows_of_parquet_are_excluded_one_by_one(tmp_path: Path) -> None:
    rows = [None if i % 7 == 0 else f"{i} " + text_of(i, 30) for i in range(50)]
    parquet.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", row_group_size=9)
    made = prepare(tmp_path / "a.parquet", folder=tmp_path / "data")
    assert (made.documents, counts(made)) == (42, {"null": 8})
    assert made.excluded["null"].first == tuple(f"{tmp_path / 'a.parquet'}, row {row}" for row in (0, 7, 14))


def test_a_column_that_is_not_text_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="column text is int64, not text"):
        prepare(tmp_path / "a.parquet", folder=tmp_path / "data")


@pytest.mark.parametrize("name", ["it's a.csv", "*.csv", "b.tsv"])
def test_a_table_is_refused_with_a_command_that_can_be_pasted(tmp_path: Path, name: str) -> None:
    rows = [{"id": str(i), "text": f"a, {text_of(i, 20)}"} for i in range(5)]
    for path, delimiter in ((tmp_path / "it's a.csv", ","), (tmp_path / "b.tsv", "\t")):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "text"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    with pytest.raises(CorpusError, match=r"is a table.*JSON lines") as refused:
        prepare(tmp_path / name, folder=tmp_path / "data")
    command = str(refused.value).splitlines()[1]
    subprocess.run(command, shell=True, check=True)
    made = prepare(tmp_path / "*.jsonl", folder=tmp_path / "data")
    assert sorted(texts(made)) == sorted(row["text"] for row in rows)


def test_a_compressed_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"id\ttext\n1\ta\n"))
    with pytest.raises(CorpusError, match=r"is a table.*Decompress it"):
        prepare(tmp_path / "a.tsv.gz", folder=tmp_path / "data")


def test_a_table_among_other_matches_is_excluded_and_named(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for i in range(5):
        (tmp_path / "texts" / f"{i}.md").write_text(text_of(i, 40), encoding="utf-8")
    (tmp_path / "texts" / "a.csv").write_text("id,text\n1,a\n")
    made = prepare(tmp_path / "texts/*", folder=tmp_path / "data")
    assert made.excluded["file that is a table"].first == (f"{tmp_path}/texts/a.csv",)


def test_names_that_cannot_be_printed_do_not_stop_a_message(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"\\ud800": 1}')
    with pytest.raises(CorpusError, match=r"there are only: \\ud800"):
        prepare(tmp_path / "a.jsonl", folder=tmp_path / "data")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    for i in range(3):
        (odd / f"{i}.txt").write_text(text_of(i % 2, 40), encoding="utf-8")
    made = prepare(tmp_path / "caf*/*.txt", folder=tmp_path / "data")
    assert made.excluded["duplicate"].first == (f"{tmp_path}/caf\\xe9/2.txt",)


# Places


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filler: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare("~/filler.jsonl", folder=tmp_path / "one").documents == 20
    (tmp_path / "s.toml").write_text('name = "s"\ncorpus = "~/fil*.jsonl"\nbudgets = ["1e11", "2e11", "4e11"]\ntarget = "1.2e12"\n')
    assert workspace.open(tmp_path / "s.toml", folder=tmp_path / "study").prepare().sources == (f"{tmp_path}/fil*.jsonl",)
    assert filler.exists()


@pytest.mark.parametrize("name", ["[old] texts", "what?", "a*b", "[", "[!x]"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "deep"
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"{i}.txt").write_text(text_of(i, 40), encoding="utf-8")
    assert prepare(folder / "*.txt", folder=tmp_path / "one").documents == 5
    assert prepare(folder.parent / "**/*.txt", folder=tmp_path / "two").documents == 5


def test_two_stars_do_not_follow_links_out_of_their_folder(tmp_path: Path) -> None:
    for place in ("texts/a/b", "texts/.hidden", "outside"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x.txt").write_text(text_of(len(place), 40), encoding="utf-8")
    (tmp_path / "texts" / "y.txt").write_text(text_of(99, 40), encoding="utf-8")
    (tmp_path / "texts" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "texts" / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "texts" / "z.txt").symlink_to(tmp_path / "outside" / "x.txt")
    made = prepare(tmp_path / "texts/**/*.txt", folder=tmp_path / "data")
    assert sorted(texts(made)) == sorted([text_of(9, 40), text_of(99, 40)])
    assert made.excluded["link out of its folder"].first == (f"{tmp_path}/texts/z.txt",)
    assert len({path.name for path in (tmp_path / "texts").glob("*")}) == 5
    with pytest.raises(CorpusError, match="matches only links that lead out"):
        prepare(tmp_path / "texts/**/z.txt", folder=tmp_path / "none")


def test_a_link_that_is_named_is_followed(tmp_path: Path, filler: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(filler)
    assert prepare(tmp_path / "link.jsonl", folder=tmp_path / "one").documents == 20
    assert prepare(tmp_path / "l*.jsonl", folder=tmp_path / "two").documents == 20


# Memory

BOMB = """
import pathlib, sys
from isoflop import data
from isoflop.errors import CorpusError
import pyarrow.parquet
def peak():  # KiB; getrusage's peak is that of the parent process, if that is higher
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak()
try:
    made = data.prepare((sys.argv[1], sys.argv[2]), folder=pathlib.Path(sys.argv[3]), tokenizer="bytes", validation=0.1, seed=0)
    print("built", made.documents)
except CorpusError as error:
    print(error)
print((peak() - before) // 1024)
"""
LINE = b"a" * ((1 << 20) - 1) + b"\n"
RECORD = b'{"text": "' + b"a" * (160 << 20) + b'"}\n'


def bomb(path: Path) -> None:
    match path.name.split(".", 1)[1]:
        case "txt.zst":
            path.write_bytes(zstandard.compress(LINE * 160))
        case "txt.gz":
            path.write_bytes(gzip.compress(LINE * 160, 1))
        case "txt.xz":
            path.write_bytes(lzma.compress(LINE * 160, preset=0))
        case "jsonl.bz2":
            path.write_bytes(bz2.compress(RECORD))
        case "jsonl":
            path.write_bytes(RECORD)
        case "page.parquet":
            parquet.write_table(pa.table({"text": ["a" * (160 << 20)]}), path, compression="zstd")
        case "dictionary.parquet":
            codes = pa.array(np.zeros(50_000, dtype=np.int32))
            parquet.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(codes, pa.array(["a " * 500_000]))}), path, compression="zstd")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.txt.zst", "built"),
        pytest.param("a.txt.gz", "built", marks=pytest.mark.slow),
        pytest.param("a.txt.xz", "built", marks=pytest.mark.slow),
        pytest.param("a.jsonl.bz2", "built 20", marks=pytest.mark.slow),
        ("a.jsonl", "built 20"),
        ("a.page.parquet", "a page of the column text has 160 MB when decompressed"),
        ("a.dictionary.parquet", "built"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")
def test_a_bomb_takes_little_memory(tmp_path: Path, filler: Path, name: str, said: str) -> None:
    """Each holds 160 MB or more, of which a corpus keeps some documents of 64 kB, or none."""
    bomb(tmp_path / name)
    out = subprocess.run([sys.executable, "-c", BOMB, filler, tmp_path / name, tmp_path / "data"], capture_output=True, text=True, check=True)
    *printed, rise = out.stdout.splitlines()
    assert said in printed[0]
    assert int(rise) < 120  # MiB


def test_a_file_that_demands_gigabytes_to_be_decompressed_is_not_called_damaged(tmp_path: Path) -> None:
    long = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=long).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packed.compress(b"text " * 1000) + packed.flush())
    with pytest.raises(CorpusError, match=r"takes more memory to be decompressed.*Decompress it first"):
        prepare(tmp_path / "a.txt.zst", folder=tmp_path / "data")


def test_a_record_that_is_too_long_is_excluded_and_named(tmp_path: Path, filler: Path) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(lines({"text": "fine"}, {"text": "a" * LONGEST}, {"text": "also fine"}))
    made = prepare(filler, long, folder=tmp_path / "data")
    assert made.documents == 22
    assert made.excluded["record of over 16 MB"].first == (f"{long}, line 2",)


# Any bytes

KINDS = (".txt", ".jsonl", ".parquet", ".txt.gz", ".jsonl.zst", ".jsonl.xz", ".txt.bz2", ".csv", ".json")


def packed(content: bytes, suffix: str) -> bytes:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    return pack.get(Path(suffix).suffix, bytes)(content)


@settings(max_examples=150)
@given(
    suffix=st.sampled_from(KINDS),
    content=st.binary(max_size=600),
    pack=st.sampled_from(["packed", ""]),
    lossy=st.sampled_from(["utf-8", "latin-1", "utf-16", "gb18030"]),
)
def test_any_bytes_are_a_corpus_or_an_error_in_words(tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes, pack: str, lossy: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / f"a{suffix}").write_bytes(packed(content, suffix) if pack else content)
    (folder / "b.jsonl").write_text(lines(*({"text": text_of(i, 30)} for i in range(3))), encoding="utf-8")
    for source in (f"{folder}/a*", f"{folder}/a{suffix}"):
        try:
            prepare(source, folder / "b.jsonl", folder=folder / "data", encoding=lossy)
        except CorpusError as error:
            str(error).encode()
        shutil.rmtree(folder / "data", ignore_errors=True)


@settings(max_examples=150)
@given(suffix=st.sampled_from([kind for kind in KINDS if kind != ".csv"]), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))
def test_damaged_files_are_a_corpus_or_an_error_in_words(tmp_path_factory: pytest.TempPathFactory, suffix: str, flips: list[tuple[float, int]]) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    records = [{"text": text_of(i, 30)} for i in range(8)]
    path = folder / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_bytes(packed("".join(record["text"] for record in records).encode() if "txt" in suffix else lines(*records).encode(), suffix))
    content = bytearray(path.read_bytes())
    for at, flip in flips:
        content[min(int(at * len(content)), len(content) - 1)] ^= flip
    path.write_bytes(content)
    (folder / "b.jsonl").write_text(lines(*({"text": text_of(100 + i, 30)} for i in range(3))), encoding="utf-8")
    try:
        made = prepare(path, folder / "b.jsonl", folder=folder / "data")
    except CorpusError as error:
        str(error).encode()
    else:
        assert made.documents >= 3


# A corpus that is built


@pytest.fixture
def own(tmp_path: Path) -> data.Corpus:
    (tmp_path / "texts").mkdir()
    for i in range(20):
        (tmp_path / "texts" / f"{i:02d}.txt").write_text(text_of(i, 60), encoding="utf-8")
    return prepare(tmp_path / "texts/*.txt", folder=tmp_path / "data")


def again(corpus: data.Corpus, source: str = "", **options) -> tuple[data.Corpus, list[str]]:
    notices: list[str] = []
    return prepare(source or corpus.sources[0], folder=corpus.folder, on_notice=notices.append, **options), notices


def test_text_that_has_not_changed_is_not_spoken_of(own: data.Corpus, tmp_path: Path) -> None:
    assert again(own) == (own, [])
    os.utime(tmp_path / "texts" / "03.txt")  # another time, the same content
    assert again(own) == (own, [])
    assert again(own) == (own, [])


@pytest.mark.parametrize("change", ["edit", "edit alike", "add", "remove", "remove all"])
def test_text_that_has_changed_is_noticed_and_the_corpus_is_used_as_it_was_built(own: data.Corpus, tmp_path: Path, change: str) -> None:
    path = tmp_path / "texts" / "03.txt"
    if change == "edit":
        path.write_text("another text")
    elif change == "edit alike":
        content = path.read_bytes()
        path.write_bytes(content[:-2] + b"X\n")
        os.utime(path, ns=(1, 1))
    elif change == "add":
        (tmp_path / "texts" / "new.txt").write_text("new text")
    elif change == "remove":
        path.unlink()
    else:
        shutil.rmtree(tmp_path / "texts")
    for _ in range(2):
        found, notices = again(own)
        assert found == own
        assert len(notices) == 1
        words = {"add": r"1 new \(.*new.txt", "remove": r"1 gone \(.*03.txt", "remove all": "matches no file"}.get(change, r"1 changed \(.*03.txt")
        assert re.search(f"the text has changed since .*{words}", notices[0])
        assert "\n" not in notices[0]


def test_a_study_that_moved_finds_its_corpus_by_the_digests_of_its_files(own: data.Corpus, tmp_path: Path) -> None:
    (tmp_path / "texts").rename(tmp_path / "moved")
    (tmp_path / "moved" / "03.txt").rename(tmp_path / "moved" / "z.txt")
    found, notices = again(own, str(tmp_path / "moved/*.txt"))
    assert (found.digest, found.sources, notices) == (own.digest, (str(tmp_path / "moved/*.txt"),), [])
    (tmp_path / "moved" / "z.txt").write_text("another text")
    with pytest.raises(StoreError, match="holds another corpus, with sources"):
        again(found, str(tmp_path / "moved/**/*.txt"))


def test_keys_that_change_nothing_find_the_corpus_and_keys_that_do_are_refused(own: data.Corpus) -> None:
    assert again(own, text_field="story", separator="<|endoftext|>", encoding="utf8")[0].digest == own.digest
    shortest = min(len("".join(text.split())) for text in texts(own))
    with pytest.raises(StoreError, match=f"min_characters 1 instead of {shortest + 1}"):
        again(own, text_field="story", separator="<|endoftext|>", encoding="utf8", min_characters=shortest + 1)


# Corpora of format 1, which earlier versions built


@pytest.fixture(scope="module")
def golden_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "texts"
    write_texts(folder)
    return folder


@pytest.mark.parametrize("golden", FORMAT_1)
def test_the_rules_of_format_1_give_the_digests_that_they_gave(tmp_path: Path, golden_texts: Path, golden: tuple) -> None:
    sources, tokenizer, validation, seed, digest = golden
    named = tuple(str(golden_texts / source) for source in sources)
    request = Request(sources=named, tokenizer=tokenizer, validation=validation, seed=seed, min_characters=32, format=1)
    _build(tmp_path / "data", request, lambda _what, _fraction: None)
    assert data.load(tmp_path / "data").digest == digest


STUDY = """
name = "old"
corpus = "texts/*.txt"
validation = 0.2
context = 16
budgets = ["5e8", "1e9", "2e9"]
sizes = [8, 12, 16, 20]
seeds = 2
batch_scale = 4
eval_tokens = 512
target = "6e9"
[proof]
oversize = 2.0
"""


@pytest.fixture
def old(tmp_path: Path) -> workspace.Workspace:
    """A study whose corpus was built by the last version that wrote format 1."""
    (tmp_path / "texts").mkdir()
    for i in range(6):
        (tmp_path / "texts" / f"{i}.txt").write_text(text_of(i, 110), encoding="utf-8")
    (tmp_path / "texts" / "short.txt").write_text("too short")
    (tmp_path / "s.toml").write_text(STUDY)
    shutil.copytree(GOLDEN, tmp_path / "study/data")
    meta = tmp_path / "study/data/meta.json"
    meta.write_text(meta.read_text().replace("TEXTS", str(tmp_path)))
    return workspace.open(tmp_path / "s.toml", folder=tmp_path / "study")


def test_a_corpus_of_format_1_is_used_as_it_is_and_gives_the_runs_that_it_gave(old: workspace.Workspace) -> None:
    before = {path.name: path.read_bytes() for path in (old.folder / "data").iterdir()}
    notices: list[str] = []
    found = old.prepare(on_notice=notices.append)
    assert (found.digest, found.documents, found.format) == ("126844c389c8d99f", 6, 1)
    ids = [spec.id for spec in old.design().specs]
    assert (len(ids), ids[0], ids[-1]) == (13, "d735b4fbf2f7492d", "a4c9a2a807383939")
    assert {path.name: path.read_bytes() for path in (old.folder / "data").iterdir()} == before
    assert "1 near-empty" in data.summary(found)
    assert notices == []


def test_text_that_is_newer_than_a_corpus_of_format_1_is_noticed(old: workspace.Workspace, tmp_path: Path) -> None:
    (tmp_path / "texts" / "3.txt").write_text("another text")
    built = (old.folder / "data/meta.json").stat().st_mtime
    os.utime(tmp_path / "texts" / "3.txt", (built + 10, built + 10))
    notices: list[str] = []
    assert old.prepare(on_notice=notices.append).digest == "126844c389c8d99f"
    assert f"1 file of it changed later, the first: {tmp_path}/texts/3.txt. The corpus is used as it was built" in notices[0]


def test_a_study_of_format_1_that_moved_finds_its_corpus(old: workspace.Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("texts", "s.toml", "study"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = workspace.open(tmp_path / "elsewhere/s.toml", folder=tmp_path / "elsewhere/study")
    assert (moved.prepare().digest, moved.corpus.format) == ("126844c389c8d99f", 1)
    assert moved.corpus.sources == (f"{tmp_path}/elsewhere/texts/*.txt",)
    assert old.study.eval_tokens == moved.study.eval_tokens


def test_a_corpus_that_is_deleted_is_built_again_as_its_runs_had_it(old: workspace.Workspace) -> None:
    shutil.rmtree(old.folder / "data")
    request = data.Request(sources=old.study.corpus, tokenizer="bytes", validation=0.2, seed=0)
    made = data.build(request, folder=old.folder / "data", known=("126844c389c8d99f",))
    assert (made.digest, made.format, made.min_characters) == ("126844c389c8d99f", 1, 32)
    assert data.find(request, folder=old.folder / "data") == made
    fresh = data.build(request, folder=old.folder / "fresh")
    assert (fresh.format, fresh.documents) == (2, 7)


@pytest.mark.parametrize("changed", [False, True])
def test_runs_find_their_text_after_its_corpus_is_deleted_or_are_said_to_have_another(old: workspace.Workspace, tmp_path: Path, changed: bool) -> None:  # noqa: FBT001
    with Store(old.folder) as store:
        store.add(old.design().specs, instead_of=workspace.SWEEP)
    shutil.rmtree(old.folder / "data")
    if changed:
        (tmp_path / "texts" / "3.txt").write_text(text_of(99, 110), encoding="utf-8")
    notices: list[str] = []
    again = workspace.open(tmp_path / "s.toml", folder=old.folder).prepare(on_notice=notices.append)
    assert (again.digest == "126844c389c8d99f") != changed
    assert ["none of them counts" in notice for notice in notices] == [True] * changed
