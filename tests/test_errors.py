"""An error says what is wrong."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.errors import IsoflopError, MemoryShortError, MissingExtraError, install_command, not_importable


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"), MissingExtraError, "not installed"),
        (ImportError("libarrow.so.1800: failed to map segment from shared object"), MemoryShortError, "too little memory"),
        (ImportError("libarrow.so.1800: cannot map zero-fill pages: Cannot allocate memory"), MemoryShortError, "too little memory"),
        (ImportError("libarrow.so.1800: undefined symbol: x"), IsoflopError, "installed but cannot be loaded.*undefined symbol"),
    ],
)
def test_a_package_that_cannot_be_imported_is_missing_or_short_of_memory_or_broken(error, kind, words):
    found = not_importable(error, "pyarrow", extra="train", needed_for="Reading a.parquet")
    assert type(found) is kind
    with pytest.raises(kind, match=words):
        raise found


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space works on Linux")
def test_too_little_memory_for_a_library_is_not_called_missing(tmp_path):
    """The limit leaves room for a part of Arrow's library only."""
    script = (
        "import resource, pathlib, sys, isoflop.data\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20),) * 2)\n"
        "isoflop.data.prepare((sys.argv[1],), folder=pathlib.Path(sys.argv[2]), tokenizer='bytes', validation=0.1, seed=0)\n"
    )
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    out = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.parquet", tmp_path / "data"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "MemoryShortError: Reading" in out.stderr
    assert "not installed" not in out.stderr


def test_what_is_missing_is_installed_by_a_command_that_works_from_any_install(monkeypatch):
    """By the packages' names and for the interpreter that runs: isoflop itself may be in no index, and its environment not active."""
    words = shlex.split(install_command("altair", extra="report"))
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert [re.split("[>=]", word)[0] for word in words[4:]] == ["altair", "jinja2", "vl-convert-python"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert shlex.split(install_command("altair", extra="report"))[:5] == ["uv", "pip", "install", "--python", sys.executable]


@pytest.mark.parametrize("extra", ["train", "report", "hub", "wandb", "tensorboard", "mlflow"])
def test_every_extra_that_an_error_names_is_one_of_the_package(extra):
    assert not [word for word in shlex.split(install_command("x", extra=extra)) if "isoflop" in word]
    assert "x" not in shlex.split(install_command("x", extra=extra))


def test_no_message_or_page_asks_an_index_for_isoflop():
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *root.glob("docs/*.md"), *root.glob("src/**/*.py")]
    assert [page.name for page in pages if re.search(r"install ['\"]?isoflop", page.read_text(encoding="utf-8"))] == []
