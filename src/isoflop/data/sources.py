"""What a study calls its corpus -> files, or a dataset on the hub."""

import glob
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isoflop.data.formats import TABLES, Document, Excluded, Options, record, shown
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
_LEAST = 32  # non-blank characters: files with less only mark a folder as a package


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of text or records."""

    path: Path
    named: bool  # by itself rather than by a glob: then not being text is an error
    whole: bool = False  # one document however long
    least: int = 0  # non-blank characters of a document, at least

    @property
    def size(self) -> int:  # bytes
        return self.path.stat().st_size if self.path.exists() else 0

    def open(self) -> BinaryIO:
        """Open the file.

        Raises:
            CorpusError: The system refuses.
        """
        try:
            return self.path.open("rb")
        except OSError as error:
            raise CorpusError(f"{shown(self.path)} cannot be read: {error.strerror}. Make it readable, or leave it out of the corpus.") from None


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset on the Hugging Face hub, streamed."""

    name: str
    config: str | None = None
    split: str = "train"
    size: int = 0  # not known before it is read

    def documents(self, options: Options) -> Iterator[Document | Excluded]:
        """Yield the texts in the dataset's order.

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
            yield from record(first, f"hf:{self.name}, row {number}", options)
            try:
                first = next(rows, None)
            except Exception as error:  # noqa: BLE001  # as above
                raise self._unreadable(error) from None
            number += 1

    def _unreadable(self, error: Exception) -> CorpusError:
        what = f"dataset {self.name!r}, config {self.config or 'default'!r}, split {self.split!r}, cannot be read from the Hugging Face hub"
        cure = "Check the name and the network (for gated sets, HF_TOKEN too), or download its files and name them instead"
        return CorpusError(f"{what}: {type(error).__name__}: {error}. {cure}.")


Origin = File | HubDataset


@dataclass(frozen=True, kw_only=True)
class Located:
    """Everything that the sources name, each file once, and what globs match but must not read."""

    origins: tuple[Origin, ...]
    excluded: tuple[Excluded, ...]


def locate(sources: tuple[str, ...]) -> Located:
    """Find everything that the sources name.

    Raises:
        CorpusError: A file that is not there, a glob without matches, a folder, or no source text beside this Python.
    """
    found: dict[Path | HubDataset, Origin] = {}
    excluded: list[Excluded] = []
    for source in sources:
        for item in _expand(source):
            if isinstance(item, Excluded):
                excluded.append(item)
            else:
                found.setdefault(item.path.absolute() if isinstance(item, File) else item, item)
    if not sources:
        raise CorpusError('no corpus is named. Name files or globs, or "python" for the standard library\'s source.')
    return Located(origins=tuple(found.values()), excluded=tuple(excluded))


def _expand(source: str) -> Iterable[Origin | Excluded]:
    if source == "python":
        return _standard_library()
    if source.startswith("hf:"):
        return (_hub(source),)
    path = _home(source)
    if path.is_dir():
        raise CorpusError(f"{source} is a folder. Say which of its files are text, for example {source.rstrip('/')}/**/*.txt.")
    if path.exists():
        return (File(path=path, named=True),)
    return _matches(source, path)


def _home(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise CorpusError(f"{source}: there is no such user, so its home folder is not known. Write the whole path.") from None


def _matches(source: str, pattern: Path) -> Iterable[File | Excluded]:
    base, parts = _split(pattern)
    files = sorted({path for path in _glob(base, parts) if path.is_file()})
    outside = [path for path in files if "**" in parts and not path.resolve().is_relative_to(base.resolve())]
    if not files:
        raise CorpusError(f"{source} matches no file. Check the path; relative ones are taken from the study file's folder.")
    if len(outside) == len(files):
        raise CorpusError(f"{source} matches only links that lead out of {shown(base)}, such as {shown(files[0])}. Name the files that they lead to.")
    table = "".join(Path(source).suffixes[-1:]).lower() in TABLES  # then its matches are meant, and are refused rather than excluded
    kept = (File(path=path, named=table) for path in files if path not in outside)
    return (*kept, *(Excluded("link out of its folder", path.stat().st_size, shown(path)) for path in outside))


def _split(pattern: Path) -> tuple[Path, tuple[str, ...]]:
    """Split a glob into the folder that is there under that very name, whatever characters it has, and the rest."""
    parts = pattern.parts
    base, at = (Path(parts[0]), 1) if pattern.is_absolute() else (Path(), 0)
    while at < len(parts) - 1 and (base / parts[at]).is_dir():
        base, at = base / parts[at], at + 1
    return base, parts[at:]


def _glob(base: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Yield the matches of a glob below a folder; `**` stands for any folders, but follows no links."""
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _glob(base, rest or ("*",))
        for folder in _folders(base):
            yield from _glob(folder, parts)
        return
    for name in glob.glob(head, root_dir=base):  # noqa: PTH207  # Path.glob matches hidden files too
        if not rest or (base / name).is_dir():
            yield from _glob(base / name, rest)


def _folders(base: Path) -> list[Path]:
    try:
        with os.scandir(base) as entries:
            return sorted(base / entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."))
    except OSError as error:
        raise CorpusError(f"{shown(base)} cannot be read: {error.strerror}. Make it readable, or name the files otherwise.") from None


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
        files += [File(path=Path(folder, name), named=False, whole=True, least=_LEAST) for name in sorted(names) if name.endswith(".py") and _everywhere(name)]
    if not files:
        raise CorpusError(f"this Python keeps no source text of its standard library in {root}. Name files of your own as the corpus.")
    return tuple(files)


def _everywhere(name: str) -> bool:
    return name not in _NOT_EVERYWHERE and not name.startswith(_OF_ONE_MACHINE)
