"""A copy of the table of runs in memory, for readers that write nothing into the study's folder."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isoflop.errors import StoreError
from isoflop.store import _database, files

PARTS = (_database.NAME, f"{_database.NAME}-wal")  # the log holds what is not in the file yet
TRIES, PAUSE = 40, 0.05  # assumption: within two seconds a driver leaves both files alone for the milliseconds that a copy takes


Fill = Callable[[sqlite3.Connection], None]
Agrees = Callable[[sqlite3.Connection], bool]


def connect(folder: Path, fill: Fill, agrees: Agrees) -> tuple[sqlite3.Connection, str]:
    """Open a copy of a folder's database in memory. SQLite itself cannot read one without writing beside it.

    Args:
        folder: The study's, which may be read-only, or in use by a driver.
        fill: Fills a new table from the files of the study, where there is no sound database.
        agrees: Tells whether a table has the runs of the list beside it.

    Returns:
        The copy, and a sentence if the database is damaged.

    Raises:
        StoreError: The files cannot be read, or change all the time.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="isoflop-") as name:
            return _read(folder, Path(name), fill, agrees)
    except OSError as error:
        raise StoreError(f"the table of runs in {folder} cannot be read ({error}). It takes read permission there, and room for temporary files.") from error


def _read(folder: Path, aside: Path, fill: Fill, agrees: Agrees) -> tuple[sqlite3.Connection, str]:
    note = ""
    try:
        db = _opened(folder, aside, fill, agrees)
    except sqlite3.Error as error:
        if not _database.is_damage(error):
            raise
        note = f"{folder / _database.NAME} is damaged ({error}). The runs were read from the files beside it; the next training rebuilds it."
        for part in PARTS:
            files.remove(aside / part)
        db = _database.connect(aside, fill)
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = DELETE")  # a database in memory has no log
        db.backup(memory)
    finally:
        db.close()
    return memory, note


def _opened(folder: Path, aside: Path, fill: Fill, agrees: Agrees) -> sqlite3.Connection:
    """Open a copy that agrees with the list of runs.

    Raises:
        sqlite3.DatabaseError: It is damaged, or none agrees.
    """
    for _ in range(TRIES):
        _copy(folder, aside)
        db = _database.connect(aside, fill)
        if agrees(db):
            return db
        db.close()
        time.sleep(PAUSE)  # a driver writes the list a moment before it adds the runs of it
    raise sqlite3.DatabaseError("it does not hold the runs of the list beside it")


def _copy(folder: Path, aside: Path) -> None:
    """Copy the database and its log as they are at one moment."""
    for _ in range(TRIES):
        before = _stamps(folder)
        try:
            for part, stamp in zip(PARTS, before, strict=True):
                files.remove(aside / part)
                if stamp is not None:
                    shutil.copyfile(folder / part, aside / part)
        except FileNotFoundError:  # a driver closed the database, which removes its log
            continue
        if _stamps(folder) == before:
            return
        time.sleep(PAUSE)
    raise StoreError(f"the table of runs in {folder} changes faster than it can be copied. Try again.")


def _stamps(folder: Path) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for part in PARTS:
        try:
            status = (folder / part).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
