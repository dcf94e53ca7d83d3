"""Several files of runs -> one table: a file for each run, or tables with the same columns one after the other."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from isoflop.errors import FitError, UsageError
from isoflop.readers import Lined, _file_names, _settings
from isoflop.readers._columns import ROLES
from isoflop.readers._shapes import plain
from isoflop.runs import Dropped

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".dat", ".tab", ".wandb"})  # of files that a folder is read for
PACKED = frozenset({".gz", ".bz2", ".zst", ".lz4"})
FILE, PART = "file", "part"  # a file that is one run; one of several parts of a table

_WILD = re.compile(r"[*?\[]")
_SIZES = ("params", "d_model", "n_layers")  # what one run cannot change
_LISTED = 3
_ROW = re.compile(r"row (\d+)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file, and what is the same in all its rows."""

    file: Path
    table: Any
    rows: int
    one_size: bool  # so that the file can be one run
    fixed: Mapping[str, str] = field(default_factory=dict)  # columns that come from its name

    @property
    def name(self) -> str:
        """The file's name."""
        return self.fixed.get(FILE) or self.fixed[PART]

    @property
    def names(self) -> frozenset[str]:
        """Columns without case and separators."""
        return frozenset(plain(name) for name in self.table.columns)


@dataclass(frozen=True, kw_only=True)
class Several:
    """Files as one table, with the file's name and what it says as columns."""

    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    excluded: tuple[Dropped, ...]  # files that could not be read

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns, a file after the other; empty where a file has no such column."""
        import pyarrow as pa

        for done, part in enumerate(self.parts):
            there = tuple(name for name in wanted if name in part.table.columns)
            counted = there or part.table.columns[:1]  # which tells how many rows there are
            for batch, fraction in part.table.batches(counted):
                rows = len(next(iter(batch.values())))
                added = {name: pa.array([part.fixed.get(name)] * rows, pa.string()) for name in wanted if name not in there}
                yield {name: added[name] if name in added else batch[name] for name in wanted}, (done + fraction) / len(self.parts)

    def place(self, entry: Dropped) -> Dropped:
        """Return an excluded row with the file and line that it stands in; anything else as it is."""
        found = _ROW.fullmatch(entry.id)
        if found is None:
            return entry
        row = int(found[1])
        for part in self.parts:
            if row <= part.rows:
                lines = part.table.lines([row], of=part.rows) if isinstance(part.table, Lined) else {}
                where = part.name + (f", line {lines[row]}" if row in lines else "")
                return Dropped(entry.id, f"{entry.reason}{'; ' if ':' in entry.reason else ': '}{where}")
            row -= part.rows
        return entry


def find(paths: Sequence[Path], is_source: Callable[[Path], bool]) -> tuple[list[Path], Path]:
    """Return the files that some paths, folders and patterns mean, in order, and the folder that all are in.

    Args:
        paths: As a user gave them.
        is_source: Whether a folder is read as a whole, as a tracker's is.

    Raises:
        UsageError: A path or pattern without a file.
        FitError: A folder without a table.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir() and not is_source(path):
            inside = files_of(path)
            if not inside:
                kinds = " ".join(sorted(SUFFIXES))
                raise FitError(f"{path} is a folder with neither event files, an MLflow store, W&B runs nor tables ({kinds}). Name the files.")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            found.update(dict.fromkeys(matches(path)))
    files = list(found)
    return files, Path(os.path.commonpath([file.absolute().parent for file in files]))


def is_pattern(path: Path) -> bool:
    """Return whether a path is no file, but may be a pattern of files."""
    return _WILD.search(str(path)) is not None and not path.exists()


def matches(path: Path) -> list[Path]:
    """Return the files of a pattern such as "runs/*.csv", in order.

    Raises:
        UsageError: There is none.
    """
    found = glob.glob(str(path), recursive=True) if is_pattern(path) else []  # noqa: PTH207  # a pattern may be absolute
    files = [file for file in map(Path, sorted(found)) if file.is_file()]
    if not files:
        what = "no file matches" if is_pattern(path) else "there is no file or folder"
        raise UsageError(f"{what} {str(path)!r}. Give a study folder, or files of runs.")
    return files


def files_of(folder: Path) -> list[Path]:
    """Return the tables under a folder, in order; hidden files are none."""
    inside = (file for file in folder.rglob("*") if not any(part.startswith(".") for part in file.relative_to(folder).parts))
    return sorted(file for file in inside if _suffix(file) in SUFFIXES and file.is_file())


def _suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in PACKED else "".join(suffixes[-1:])


def combine(
    files: Sequence[Path], root: Path, open_file: Callable[[Path], Any], *, pattern: str | None, told: Mapping[str, str]
) -> tuple[Several, dict[str, str]]:
    """Open files as one table, and say which of its columns are what.

    Args:
        files: The files, at least one.
        root: The folder that all are in.
        open_file: What opens one.
        pattern: What file names hold, as "N{params}_D{tokens}"; None to look for it.
        told: Columns by role, as a user gave them.

    Raises:
        FitError: No file can be read, or none has what the others have.
        UsageError: A pattern that some names do not have.
    """
    parts, excluded = _parts(files, root, open_file, told)
    names = _file_names.short([part.file for part in parts], root)
    settings = _settings.beside([part.file for part in parts])
    inside = tuple(dict.fromkeys([*(name for part in parts for name in part.table.columns), *(name for one in settings for name in one)]))
    from_names = _file_names.read(names, pattern) if pattern is not None else _file_names.guess(names, inside)
    mapping = _file_names.mapping(from_names, inside, told=told, asked=pattern is not None)
    called = FILE if all(part.one_size for part in parts) else PART  # `file` is a run id, by its name
    fixed = [{**kept, called: name, **said} for name, said, kept in zip(names, from_names, settings, strict=True)]
    columns = tuple(dict.fromkeys([*inside, *(name for said in fixed for name in said)]))
    parts = [replace(part, fixed=said) for part, said in zip(parts, fixed, strict=True)]
    return Several(parts=tuple(parts), columns=columns, excluded=tuple(excluded)), mapping


def _parts(files: Sequence[Path], root: Path, open_file: Callable[[Path], Any], told: Mapping[str, str]) -> tuple[list[Part], list[Dropped]]:
    """Read every file once; those that are malformed, or unlike the others, are excluded by name with the reason."""
    parts: list[Part] = []
    excluded: list[Dropped] = []
    for file in files:
        try:
            parts.append(_checked(file, open_file(file), told))
        except FitError as error:
            excluded.append(Dropped(_file_names.shown(file, root), str(error).removeprefix(str(file)).lstrip(", :")))
    most = _most_shared(parts)
    excluded += [
        Dropped(_file_names.shown(part.file, root), f"other columns than the other files: {', '.join(part.table.columns[:6])[:200]}")
        for part in parts
        if not most & part.names
    ]
    parts = [part for part in parts if most & part.names]
    if not parts:
        listed = "; ".join(f"{entry.id}: {entry.reason}" for entry in excluded[:_LISTED])
        raise FitError(f"none of {len(files)} files under {root} can be read. {listed}")
    return parts, excluded


def _checked(file: Path, table: Any, told: Mapping[str, str]) -> Part:
    """Read a whole file, so that what is malformed in it stops no other file.

    Raises:
        FitError: Malformed, or without a row.
    """
    known = {plain(name) for role in _SIZES for name in ROLES[role]} | {plain(told[role]) for role in _SIZES if role in told}
    sizes: dict[str, set[Any]] = {column: set() for column in table.columns if plain(column) in known}
    rows = 0
    for batch, _ in table.batches(table.columns) if table.columns else ():
        rows += len(next(iter(batch.values())))
        for column, seen in sizes.items():
            if len(seen) < 2:
                seen.update(value for value in batch[column].unique().to_pylist() if value not in {None, ""})
    if not rows:
        raise FitError(f"{file} has a header but no row. Give a row for each run.")
    return Part(file=file, table=table, rows=rows, one_size=all(len(seen) < 2 for seen in sizes.values()))


def _most_shared(parts: Sequence[Part]) -> frozenset[str]:
    """Return the columns that most files have."""
    counts: dict[frozenset[str], int] = {}
    for part in parts:
        counts[part.names] = counts.get(part.names, 0) + 1
    return max(counts, key=lambda names: counts[names], default=frozenset())
