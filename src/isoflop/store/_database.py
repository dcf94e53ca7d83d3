"""The SQLite database of a study: opened, checked, locked, and its refusals put into words. Nothing else in isoflop speaks SQL but the store."""

import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from isoflop.errors import StoreError
from isoflop.runs import RunSpec
from isoflop.store import files

NAME = "runs.sqlite"
VERSION = 2  # of the table below
BUSY = 30.0  # seconds; assumption: nobody holds a transaction for more than the few fsyncs of one finished run
OUTSIDE = frozenset(  # errors that are not the file's
    {sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY}
    | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}
)
TABLE = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'interrupted', 'running', 'ok', 'diverged', 'failed')),
    flops REAL NOT NULL,
    trunk TEXT NOT NULL DEFAULT '',       -- runs of one trunk begin alike
    attempt INTEGER NOT NULL DEFAULT 0,   -- the latest that was started; fences the earlier ones
    failures INTEGER NOT NULL DEFAULT 0,  -- attempts that died of the run itself
    owner TEXT NOT NULL DEFAULT '',
    lease_until REAL NOT NULL DEFAULT 0,  -- seconds since 1970
    reason TEXT NOT NULL DEFAULT '',
    position INTEGER,                     -- in the design
    current INTEGER NOT NULL DEFAULT 1    -- 0: of an older design in the same folder
) STRICT
"""


def connect(folder: Path, fill: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """Open the database of a study folder; a new or lost one is made and filled in the same transaction.

    Raises:
        StoreError: It cannot be opened or made.
        sqlite3.DatabaseError: What is there is damaged.
    """
    db = sqlite3.connect(folder / NAME, timeout=BUSY, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        _check_pages(db)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            with transaction(db):
                _make(db, fill)
        _check_specs(db)
    except UnicodeDecodeError as error:  # SQLite quotes the damaged text in its complaint, which Python then cannot read
        db.close()
        raise sqlite3.DatabaseError(f"its text is damaged: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def _make(db: sqlite3.Connection, fill: Callable[[sqlite3.Connection], None]) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()  # again: another process may have been first
    if version == VERSION:
        return
    if version != 0:
        raise sqlite3.DatabaseError(f"it is of version {version}, not {VERSION}")  # rebuilt from the files, so that there is nothing to migrate
    db.execute(TABLE)
    fill(db)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _check_pages(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _check_specs(db: sqlite3.Connection) -> None:
    # SQLite checks its pages, not what is written on them; an id is the digest of its spec
    for name, text, *_ in db.execute("SELECT id, spec, owner, reason FROM runs"):
        try:
            sound = RunSpec.model_validate_json(text).id == name
        except ValueError:
            sound = False
        if not sound:
            raise sqlite3.DatabaseError(f"the spec of run {name} is not what was written")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing, one writer at a time."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def worded(folder: Path) -> Iterator[None]:
    """What SQLite refuses, as a StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_sentence(error, folder / NAME)) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite means that the file is not sound, rather than that it cannot be reached or written."""
    # the other way round one would have to know every way in which a flipped bit can show
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in OUTSIDE


def _sentence(error: sqlite3.Error, path: Path) -> str:
    text = str(error)
    if is_damage(error):
        return f"{path} is damaged ({text}). Start again: it is set aside and rebuilt from the records beside it; no finished run is lost."
    if "full" in text or "disk I/O" in text:
        return (
            f"{path} could not be written ({text}): no space left, or a limit on the size of files. "
            "Nothing that was finished is lost. Make room, then start again to go on."
        )
    if "readonly" in text or "unable to open" in text:
        return (
            f"{path} may not be written ({text}), and a study is not even read without that. "
            "Take a folder you may write to, on a local disk, or copy the study into one, then start again."
        )
    if "locked" in text:
        return f"{path} has been held by another process for {BUSY:.0f} s. Stop that process, then start again to go on."
    return f"{path} could not be used ({text}). A study folder must be on a local disk: SQLite's log does not work on network file systems."


def set_aside(folder: Path) -> Path:
    """Move a damaged database and its log out of the way, keeping them; the name it now has."""
    n = 1
    while (folder / f"{NAME}.broken-{n}").exists():
        n += 1
    for suffix in ("", "-wal", "-shm"):  # a log left behind would be replayed into the new database
        part = folder / f"{NAME}{suffix}"
        if part.exists():
            part.replace(folder / f"{NAME}.broken-{n}{suffix}")
    files.sync(folder)
    return folder / f"{NAME}.broken-{n}"


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Be the one driver of a study. The kernel gives the lock back when its holder dies, however it dies.

    Raises:
        StoreError: Another driver lives; the message says which.
    """
    path = folder / "study.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise files.in_words(error, path) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "just started"
            raise StoreError(f"another isoflop ({holder}) is working on the study in {folder}. Wait for it, or stop it, then start again.") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{owner()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode())
        yield
    finally:
        os.close(handle)


def owner() -> str:
    """This process, for people."""
    return f"pid {os.getpid()} on {socket.gethostname()}"
