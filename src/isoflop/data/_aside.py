"""A folder that is whole or not there: built under another name and a lock, then renamed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isoflop.store import files

_LOCK = "lock"


def is_there(folder: Path) -> bool:
    """Return whether anything is in the folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def building(folder: Path) -> Iterator[Path | None]:
    """Give an empty folder to build in, which becomes `folder` at the end of the block; None if another process has built it in the meantime.

    The system releases the lock when its process ends, so what a killed process left is found unlocked, and removed. An exception leaves nothing behind.

    Raises:
        OSError: The system refuses.
    """
    aside = folder.with_name(f".{folder.name}.building")
    lock = _locked(aside)
    try:
        try:
            _empty(aside)
            if is_there(folder):
                _remove(aside)
                yield None
                return
            yield aside
        except BaseException:
            _remove(aside)
            raise
        files.sync(aside)
        aside.replace(folder)
        files.sync(folder.parent)
        (folder / _LOCK).unlink()
    finally:
        os.close(lock)


def _locked(aside: Path) -> int:
    """Make the folder and wait until its lock is ours."""
    while True:
        aside.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(aside / _LOCK, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # renamed since
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_ino == (aside / _LOCK).stat().st_ino:
                return handle
        except FileNotFoundError:  # it was built while we waited
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _empty(aside: Path) -> None:
    for left in aside.iterdir():
        if left.name != _LOCK:
            left.unlink()


def _remove(aside: Path) -> None:
    """Remove the folder, its lock last: once that is gone another process may enter, and what it makes must stay."""
    with suppress(OSError):
        _empty(aside)
        (aside / _LOCK).unlink()
        aside.rmdir()
