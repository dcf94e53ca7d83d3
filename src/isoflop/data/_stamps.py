"""The files that a corpus was built from, so that a change of the text is noticed: names, sizes and times, and digests where those differ."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from isoflop.data._decode import shown
from isoflop.data.sources import File, Origin, locate
from isoflop.errors import CorpusError
from isoflop.store import files

if TYPE_CHECKING:
    from io import BufferedReader

FILE = "sources.json"


class Stamp(NamedTuple):
    """A file as it was."""

    size: int  # bytes
    modified: int  # nanoseconds since 1970
    sha256: str = ""


Stamps = Mapping[str, Stamp]  # by path


def take(origin: File) -> Stamp:
    """Return the size and time of a file.

    Raises:
        CorpusError: The file is not there any more.
    """
    try:
        found = origin.path.stat()
    except OSError as error:
        raise CorpusError(f"{shown(origin.path)} cannot be read: {error.strerror}. Make it readable, or leave it out of the corpus.") from None
    return Stamp(found.st_size, found.st_mtime_ns)


def digested(origin: File, before: Stamp) -> Stamp:
    """Return the stamp of a file with its digest.

    Raises:
        CorpusError: The file has changed since.
    """
    with origin.open() as raw:
        digest = hashlib.file_digest(cast("BufferedReader", raw), "sha256").hexdigest()
    if take(origin) != before:
        raise CorpusError(f"{shown(origin.path)} changed while it was read. Run the same command again when nothing writes to it.")
    return before._replace(sha256=digest)


def write(folder: Path, stamps: Stamps) -> None:
    """Keep the stamps of a corpus beside it."""
    content = json.dumps({"files": {name: list(stamp) for name, stamp in stamps.items()}}, indent=0)
    files.write(folder / FILE, content.encode())


def read(folder: Path) -> Stamps | None:
    """Return the stamps of a corpus; None if it has none, or none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))["files"]
        return {str(name): Stamp(int(size), int(modified), str(sha256)) for name, (size, modified, sha256) in kept.items()}
    return None


class Comparison(NamedTuple):
    """The files of now beside those of then."""

    changed: tuple[str, ...]  # paths whose content differs
    new: tuple[str, ...]
    gone: tuple[str, ...]
    stamps: Stamps  # of now; with their digests if nothing differs

    @property
    def same(self) -> bool:
        """Whether the content is the same, by whatever names."""
        return not (self.changed or self.new or self.gone)

    def __str__(self) -> str:
        parts = ((self.changed, "changed"), (self.new, "new"), (self.gone, "gone"))
        return ", ".join(f"{len(paths)} {what} ({_first(paths)})" for paths, what in parts if paths)


def compare(then: Stamps, origins: Iterable[Origin]) -> Comparison:
    """Compare files with their stamps; only those whose size and time do not settle it are read."""
    now = {shown(origin.path): origin for origin in origins if isinstance(origin, File)}
    stamps: dict[str, Stamp] = {}
    changed: list[str] = []
    sizes = Counter(stamp.size for name, stamp in then.items() if name not in now)
    for name, origin in now.items():
        stamps[name], known = take(origin), then.get(name)
        if known and known[:2] == stamps[name][:2]:
            stamps[name] = known
        elif stamps[name].size == known.size if known else sizes[stamps[name].size]:
            stamps[name] = digested(origin, stamps[name])
        if known and known.sha256 != stamps[name].sha256:
            changed.append(name)
    gone = {name: stamp for name, stamp in then.items() if name not in now}
    new = [name for name in now if name not in then]
    left = Counter(_content(name, stamp) for name, stamp in gone.items())
    unknown = [name for name in new if not _take_one(left, _content(name, stamps[name]))]
    lost = [name for name, stamp in gone.items() if _take_one(left, _content(name, stamp))]
    return Comparison(changed=tuple(changed), new=tuple(unknown), gone=tuple(lost), stamps=stamps)


def complete(stamps: Stamps, sources: tuple[str, ...]) -> Stamps:
    """Return the stamps with the digests of all files, reading those that have none."""
    origins = {shown(origin.path): origin for origin in locate(sources).origins if isinstance(origin, File)}
    return {name: stamp if stamp.sha256 else digested(origins[name], stamp) for name, stamp in stamps.items()}


def newer(folder: Path, origins: Iterable[Origin]) -> tuple[str, ...]:
    """Return the files that were modified after a corpus without stamps was built."""
    built = (folder / "meta.json").stat().st_mtime_ns
    return tuple(shown(origin.path) for origin in origins if isinstance(origin, File) and take(origin).modified > built)


def _content(name: str, stamp: Stamp) -> tuple[str, str]:
    """Return what decides how a file is read: its suffixes and its bytes."""
    return "".join(Path(name).suffixes).lower(), stamp.sha256


def _take_one(counts: Counter[tuple[str, str]], key: tuple[str, str]) -> bool:
    if not key[1] or counts[key] <= 0:
        return False
    counts[key] -= 1
    return True


def _first(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
