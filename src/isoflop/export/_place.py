"""Where an export goes: a folder that is whole or not there, and that replaces nothing which somebody may want."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from isoflop.errors import StoreError, UsageError
from isoflop.store import files

MARK = "isoflop.json"


def checked(folder: Path, *, overwrite: bool) -> Path:
    """The folder, absolute and through links, if it may be written.

    Raises:
        UsageError: It holds what is kept.
    """
    try:
        place = folder.resolve()
        if Path.cwd().is_relative_to(place):
            raise UsageError(f"{folder} is the folder that you are in, or above it; it cannot be replaced from inside. Name a new folder in it.")
        if place.exists() and not place.is_dir():
            raise UsageError(f"{folder} is a file, and an export is a folder. Name a new one.")
        there = sorted(place.iterdir()) if place.exists() else []
    except OSError as error:
        raise files.in_words(error, folder) from error
    if there:
        _check_kept(folder, there, overwrite=overwrite)
    return place


def put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make the folder hold these files and no others.

    Killed at any moment, it is there as it was, there as it will be, or (for an instant, where an earlier one is replaced) beside itself as
    `.NAME.former`. What a killed export left is removed by the next.

    Raises:
        StoreError: No space, a place that cannot be written, or another process that exports to it.
    """
    aside = folder.with_name(f".{folder.name}.exporting")
    try:
        with _alone(aside):
            try:
                for name, content in contents.items():
                    files.write(aside / name, content)
                _swap(aside, folder)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)  # a part must not eat the space that is missing
                raise
    except OSError as error:
        raise files.in_words(error, folder) from error


def _check_kept(folder: Path, there: list[Path], *, overwrite: bool) -> None:
    names = [path.name for path in there]
    changed = _changed(there)
    if changed is None and not overwrite:
        raise UsageError(f"{folder} is not empty ({_some(names)}) and no export, so nothing is written there. Name a new folder.")
    if changed and not overwrite:
        raise UsageError(f"{folder} is an export in which {_some(changed)} changed since. Name a new folder, or lose that with --overwrite.")
    if overwrite and ("config.json" not in names or any(path.is_dir() for path in there)):
        raise UsageError(f"{folder} ({_some(names)}) is no folder of one model alone, so not even --overwrite replaces it. Name a new folder.")


def _changed(there: list[Path]) -> list[str] | None:
    """Names of files that are not as an export wrote them, or that it did not write; None if it is no export of ours."""
    folder = there[0].parent
    if folder / MARK not in there:
        return None
    try:
        written = files.read_json(folder / MARK)["files"]
    except (StoreError, KeyError):
        return [MARK]
    if not isinstance(written, dict):
        return [MARK]
    names = (written.keys() | {path.name for path in there}) - {MARK}
    return sorted(name for name in names if _digest(folder / name) != written.get(name))


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _swap(aside: Path, folder: Path) -> None:
    former = folder.with_name(f".{folder.name}.former")
    if folder.exists():
        shutil.rmtree(former, ignore_errors=True)
        folder.rename(former)  # a folder cannot be renamed onto one that is not empty
    try:
        aside.rename(folder)
    except OSError:
        former.rename(folder)
        raise
    files.sync(folder.parent)
    shutil.rmtree(former, ignore_errors=True)


@contextmanager
def _alone(aside: Path) -> Iterator[None]:
    """The folder, empty and locked; the lock dies with its process, so what a killed one left is found unlocked."""
    files.make_folder(aside)
    lock = os.open(aside, os.O_RDONLY)
    try:
        if not _locked(lock, aside):
            raise StoreError(f"another process is writing beside {aside} at this moment. Wait until it has ended, or name another folder.")
        for left in aside.iterdir():
            left.unlink()
        yield
    finally:
        os.close(lock)


def _locked(lock: int, aside: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_ino == aside.stat().st_ino
    except (BlockingIOError, FileNotFoundError):  # it is another's, or was and has become the folder
        return False
