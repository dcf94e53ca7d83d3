"""Fixtures shared by all tests."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

settings.register_profile("default", deadline=None)  # a busy machine is no fault of the code
settings.register_profile("slow", deadline=None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run begun in the background ignores Ctrl-C, and so would what it starts
STUDY = """
name = "tiny"
corpus = "text.txt"
validation = 0.2
context = 16
budgets = ["5e8", "1e9", "2e9"]
sizes = [8, 12, 16, 20]
seeds = 2
batch_scale = 4
eval_tokens = 4096
target = "6e9"
[proof]
oversize = 2.0
"""


# Minutes each: begun first, so that none is left alone at the end. The first waits for the whole study, and the second for nothing.
LONG = ("test_workspace", "test_launchers", "test_cli", "test_docs")


def pytest_configure(config: pytest.Config) -> None:
    """Tell tests that are marked fuzz, by Hypothesis's profile, that many examples are wanted in `make slow`."""
    settings.load_profile("slow" if _slow(config) else "default")


def _slow(config: pytest.Config) -> bool:
    return config.getoption("markexpr") == "slow"


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _slow(config):
        for item in items:
            if item.get_closest_marker("fuzz"):
                item.add_marker("slow")
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def _write_study(folder: Path) -> Path:
    """Write a study whose text has structure between words, which larger models learn better: its best sizes are determined, so that it has an answer."""
    draw = random.Random(0)
    followers = [[draw.randrange(60) for _ in range(4)] for _ in range(60)]
    spelling = ["".join(draw.choice("abcdefghijklmnoprstuw") for _ in range(draw.randrange(2, 7))) for _ in range(60)]
    word, words = 0, []
    for _ in range(60_000):
        word = followers[word][min(3, int(draw.expovariate(1.0)))] if draw.random() < 0.9 else draw.randrange(60)
        words.append(spelling[word])
    (folder / "text.txt").write_text("\n\n".join(" ".join(words[i : i + 40]) for i in range(0, len(words), 40)), encoding="utf-8")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    return folder / "study.toml"


def start(study: Path, folder: Path) -> subprocess.Popen:
    """The whole study as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "isoflop.cli", "run", str(study), "--folder", str(folder), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=study.parent,
    )


def records(folder: Path) -> dict[str, dict]:
    """Every record of a study without what depends on the clock; nor its own checksum, which covers that."""
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/record.json")}
    return {name: {key: value for key, value in record.items() if key not in {"clock", "sha256"}} for name, record in found.items()}


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    return _write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def shared_study(tmp_path_factory, worker_id) -> tuple[Path, str]:
    """The folder of the study above, run to its end once for all test processes, and what the command printed; to be read alone."""
    root = tmp_path_factory.getbasetemp()
    root = (root if worker_id == "master" else root.parent) / "whole"
    root.mkdir(exist_ok=True)
    folder, printed = root / "undisturbed", root / "printed.txt"
    with FileLock(root / "lock"):
        if not printed.exists():
            process = start(_write_study(root), folder)
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            printed.write_text(out, encoding="utf-8")
    return folder, printed.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def undisturbed(study, shared_study) -> Path:
    """A copy of that folder, beside this process's own study."""
    return shutil.copytree(shared_study[0], study.parent / "undisturbed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small text as bytes; a module with texts of its own has its own."""
    from isoflop import data  # and torch, which most tests do without

    folder = tmp_path_factory.mktemp("corpus")
    text = "\n".join(f"line {i}: the quick brown fox jumps over {i * i} lazy dogs and {i % 7} hens" for i in range(4000))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the reference data (../shared) is not beside this checkout")
    return folder
