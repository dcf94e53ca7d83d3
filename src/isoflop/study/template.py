"""The study that `isoflop init` writes: the quickstart's grid with a comment for every key that a newcomer changes first."""

import glob
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from isoflop import units
from isoflop.study import SCHEMA_TITLE, _toml

SCHEMA_FILE = "study.schema.json"
ENDINGS = (".txt", ".txt.gz", ".txt.zst")  # tables of runs end in .csv, .jsonl and .parquet too
LEAST_BYTES = 100_000  # assumption: fewer are notes, not a corpus
MOST_LOOKED_AT = 5000  # entries of a folder
_TEMPLATE = """\
#:schema ./{schema}
# A study: what to find out, on which text, with which models.
# Do all of it:  isoflop run {file}     (about ten minutes on two CPU cores; it may be stopped and started again)
# Every key:     isoflop study show

name = {name}  # runs and report go to studies/{plain}

# The text: files and globs, as seen from this file, or "hf:NAME" for a dataset on the Hugging Face hub.
# "python" is the source of Python's own standard library.
corpus = {corpus}
{found}tokenizer = "bytes"  # or "bpe-4096", trained on the text

# The models.
arch = "llama"  # or "gopher", that of Hoffmann et al. 2022
context = 128   # tokens a sequence

# The sweep: at each budget, models of so many sizes. A small model sees more tokens than a large one, for the same FLOPs.
budgets = ["1e11", "2e11", "4e11", "8e11", "1.6e12"]  # training FLOPs
sizes = 7
design = "isoflop"  # or "cooldown": the same grid for fewer FLOPs

# The run to plan, and to prove: at least three times the largest budget.
target = "4.8e12"
"""


class Found(NamedTuple):
    """Text files in a folder, by the glob that names them."""

    glob: str
    files: int
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.files} file{'s' if self.files > 1 else ''}, {units.size(self.size)}"


def text(name: str, corpus: Sequence[str] = (), found: Sequence[Found] = ()) -> str:
    """Return a commented study that runs as it is.

    Args:
        name: Of the study and its file.
        corpus: Files and globs; Python's standard library if none are given.
        found: Text in the folder, offered in a comment.
    """
    offers = "" if corpus else "".join(f"# corpus = {_toml.value([entry.glob])}  # found here: {entry}\n" for entry in found)
    return _TEMPLATE.format(
        schema=SCHEMA_FILE, file=f"{name}.toml", name=_toml.value(name), plain=name, corpus=_toml.value(tuple(corpus) or ("python",)), found=offers
    )


def find_text(folder: Path) -> tuple[Found, ...]:
    """Return the text files of a folder and of the folders in it, the most text first."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    inner = [entry for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith(".") and entry.name != "studies"]
    for place, prefix in [(folder, ""), *((entry, f"{entry.name}/") for entry in inner)]:
        for file in _entries(place):
            ending = next((e for e in reversed(ENDINGS) if file.name.endswith(e)), None)
            if ending is not None and file.is_file():
                count[pattern := f"{prefix}*{ending}"] += 1
                size[pattern] += file.stat().st_size
    found = [Found(glob=name, files=count[name], size=size[name]) for name in count if size[name] >= LEAST_BYTES and name.isprintable()]
    return tuple(sorted(found, key=lambda entry: -entry.size))


def is_missing(entry: str, folder: Path) -> bool:
    """Return whether an entry of a corpus names no file of a folder."""
    if entry == "python" or entry.startswith("hf:"):
        return False
    return not glob.glob(str(Path(entry).expanduser()), root_dir=folder, recursive=True)  # noqa: PTH207  # an absolute path as well


def is_ours(path: Path) -> bool:
    """Return whether the schema file may be written: it is not there, or an earlier version of isoflop wrote it."""
    try:
        return bool(json.loads(path.read_bytes()).get("title") == SCHEMA_TITLE)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(itertools.islice(folder.iterdir(), MOST_LOOKED_AT))
    except OSError:
        return []
