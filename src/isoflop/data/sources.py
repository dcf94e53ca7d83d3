"""What a study calls its corpus -> files, or a dataset on the hub."""

import glob
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isoflop.data.formats import text_of
from isoflop.errors import CorpusError, not_importable

# Left out of "python" so that installs of one Python version agree: tests, tools and bundled wheels that Debian packages separately or not at all,
# modules that some versions lack, what is written for one machine, and what is generated: tables of characters, the manual as one string.
_NOT_EVERYWHERE = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    | {"idlelib", "turtledemo", "tkinter", "lib2to3", "distutils", "ensurepip", "lib-dynload"}
    | {"turtle.py", "sitecustomize.py", "usercustomize.py", "_distutils_system_mod.py"}
    | {"encodings", "pydoc_data"}
)
_OF_ONE_MACHINE = ("config-", "_sysconfigdata")


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of text or records."""

    path: Path
    named: bool  # by itself rather than by a glob: then not being text is an error
    whole: bool = False  # one document however long

    @property
    def size(self) -> int:  # bytes
        return self.path.stat().st_size if self.path.exists() else 0

    def open(self) -> BinaryIO:
        """The file, to read from.

        Raises:
            CorpusError: The system refuses.
        """
        try:
            return self.path.open("rb")
        except OSError as error:
            raise CorpusError(f"{self.path} cannot be read: {error.strerror}. Mend that, or leave it out of the corpus.") from None


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset on the Hugging Face hub, streamed."""

    name: str
    config: str | None = None
    split: str = "train"
    size: int = 0  # not known before it is read

    def documents(self) -> Iterator[str]:
        """The texts, in the dataset's order.

        Raises:
            MissingExtraError: `datasets` is not installed.
            CorpusError: The hub cannot be reached, or has no such dataset, or it has no text.
        """
        try:
            import datasets
        except ImportError as error:
            raise not_importable(error, "datasets", extra="hub", needed_for=f"Reading hf:{self.name}") from None
        try:
            rows = iter(datasets.load_dataset(self.name, self.config, split=self.split, streaming=True))
            first = next(rows, None)
        except Exception as error:  # noqa: BLE001  # the hub's client raises whatever the layers under it raise
            raise self._unreadable(error) from None
        number = 0
        while first is not None:
            yield text_of(first, f"hf:{self.name}, row {number}")
            try:
                first = next(rows, None)
            except Exception as error:  # noqa: BLE001  # as above
                raise self._unreadable(error) from None
            number += 1

    def _unreadable(self, error: Exception) -> CorpusError:
        what = f"dataset {self.name!r}, config {self.config or 'default'!r}, split {self.split!r}, cannot be read from the Hugging Face hub"
        cure = "Check the name and the network (for gated sets, HF_TOKEN too), or download its files and name them instead"
        return CorpusError(f"{what}: {type(error).__name__}: {error}. {cure}.")


def locate(sources: tuple[str, ...]) -> tuple[File | HubDataset, ...]:
    """Everything that the sources name, each file once.

    Raises:
        CorpusError: A file that is not there, a glob without matches, a folder, or no source text beside this Python.
    """
    found: dict[Path | HubDataset, File | HubDataset] = {}
    for source in sources:
        for item in _expand(source):
            found.setdefault(item.path.absolute() if isinstance(item, File) else item, item)
    if not found:
        raise CorpusError('no corpus is named. Name files or globs, or "python" for the standard library\'s source.')
    return tuple(found.values())


def _expand(source: str) -> tuple[File | HubDataset, ...]:
    if source == "python":
        return _standard_library()
    if source.startswith("hf:"):
        return (_hub(source),)
    path = Path(source)
    if path.is_dir():
        raise CorpusError(f"{source} is a folder. Say which of its files are text, for example {source.rstrip('/')}/**/*.txt.")
    if path.exists():
        return (File(path=path, named=True),)
    matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207  # Path.glob takes no absolute patterns
    files = tuple(File(path=match, named=False) for match in matches if match.is_file())
    if not files:
        raise CorpusError(f"{source} matches no file. Check the path; relative ones are taken from the study file's folder.")
    return files


def _hub(source: str) -> HubDataset:
    parts = source.removeprefix("hf:").split(":")
    if len(parts) not in {1, 3} or not parts[0]:
        raise CorpusError(f"{source!r} does not name a dataset. Write hf:NAME, or hf:NAME:CONFIG:SPLIT (CONFIG may be empty).")
    return HubDataset(name=parts[0]) if len(parts) == 1 else HubDataset(name=parts[0], config=parts[1] or None, split=parts[2] or "train")


def _standard_library() -> tuple[File, ...]:
    root = sysconfig.get_path("stdlib")
    files = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if _everywhere(name))
        files += [File(path=Path(folder, name), named=False, whole=True) for name in sorted(names) if name.endswith(".py") and _everywhere(name)]
    if not files:
        raise CorpusError(f"this Python keeps no source text of its standard library in {root}. Name files of your own as the corpus.")
    return tuple(files)


def _everywhere(name: str) -> bool:
    return name not in _NOT_EVERYWHERE and not name.startswith(_OF_ONE_MACHINE)
