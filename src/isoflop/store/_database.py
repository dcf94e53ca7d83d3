"""The SQLite database of a study: opened, checked, locked, and its refusals put into words. Nothing else in isoflop speaks SQL but the store."""

import fcntl
import math
import os
import re
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from isoflop.errors import StoreError, UnknownNameError
from isoflop.runs import RunSpec
from isoflop.store import files

NAME = "runs.sqlite"
LOCK = "study.lock"
VERSION = 2  # of the table below
LONGEST = 400  # bytes of what a driver writes into its lock; a host's name has 64 at most
SIGNED = re.compile(rb"(pid \d+ on [^\n]*\n?)?\x00*(pid \d+ on [^\n]*\n?)?")  # cut short where a disk was full, or by a crash
BUSY = 30.0  # seconds; assumption: nobody holds a transaction for more than the few fsyncs of one finished run
OUTSIDE = frozenset(  # errors that are not the file's
    {sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY}
    | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}
)
MOST = 1 << 31  # attempts, failures, runs; a number beyond it is damage
LATEST = 1e11  # seconds since 1970: the year 5138
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
    _check_header(folder)
    db = sqlite3.connect(folder / NAME, timeout=BUSY, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        _check_pages(db)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            with transaction(db):
                _make(db, fill)
        _check_schema(db)
        _check_rows(db)
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


def _check_header(folder: Path) -> None:
    """Refuse a link, and a header of which SQLite would say only that the file is read-only."""
    for suffix in ("", "-wal", "-shm"):
        files.refuse_link(folder / f"{NAME}{suffix}")
    try:
        with (folder / NAME).open("rb") as file:
            header = file.read(100)
    except OSError:
        return  # not there, or SQLite says why
    if len(header) == 100 and not {header[18], header[19]} <= {1, 2}:  # sqlite.org/fileformat.html: 1 a journal, 2 a log
        raise sqlite3.DatabaseError(f"its header names the format {header[18]}, {header[19]}")


def _check_pages(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()  # the quick one does not compare the index with the table
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _check_schema(db: sqlite3.Connection) -> None:
    # to SQLite a table with a column of another name is sound
    found = db.execute("SELECT type, name, tbl_name, trim(sql, char(10)) FROM sqlite_master ORDER BY type DESC").fetchall()
    if found != [("table", "runs", "runs", TABLE.strip()), ("index", "sqlite_autoindex_runs_1", "runs", None)]:
        raise sqlite3.DatabaseError("its table is not the one that was made")


def _check_rows(db: sqlite3.Connection) -> None:
    # SQLite checks its pages, not what is written on them; an id is the digest of its spec, and other values follow from that
    query = "SELECT id, spec, flops, trunk, attempt, failures, lease_until, position, current, owner, reason FROM runs"
    for name, text, flops, trunk, *state in db.execute(query):
        try:
            spec = RunSpec.model_validate_json(text)
            sound = (spec.id, spec.flops, spec.trunk) == (name, flops, trunk) and _possible(*state)
        except (ValueError, TypeError, ArithmeticError, UnknownNameError):
            sound = False
        if not sound:
            raise sqlite3.DatabaseError(f"the row of run {name} is not what was written")


def _possible(attempt: int, failures: int, lease_until: float, position: int | None, current: int, *_text: str) -> bool:
    """Return whether values that nothing else proves are such as isoflop writes."""
    counts = (attempt, failures, position or 0)
    return all(0 <= count < MOST for count in counts) and current in {0, 1} and math.isfinite(lease_until) and abs(lease_until) < LATEST


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
    """Raise what SQLite and the system refuse as a StoreError."""
    try:
        yield
    except OSError as error:
        raise files.in_words(error, Path(error.filename or folder)) from error
    except sqlite3.Error as error:
        raise StoreError(_sentence(error, folder / NAME)) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error of SQLite means that the file is not sound, rather than that it cannot be reached or written."""
    # the other way round one would have to know every way in which a flipped bit can show
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in OUTSIDE


def _sentence(error: sqlite3.Error, path: Path) -> str:
    text = str(error)
    if is_damage(error):
        return f"{path} is damaged ({text}). Run the same command again: isoflop rebuilds it from the records beside it, and no finished run is lost."
    cause, cure = _cause(error, text, path)
    return f"{cause}. No finished run is lost. {cure}, then run the same command again."


def _cause(error: sqlite3.Error, text: str, path: Path) -> tuple[str, str]:
    """Return what SQLite refused, and what to do."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOMEM:
        return f"there is too little memory to open {path}", "Free memory, or raise the limit (ulimit -v)"
    if "full" in text or "disk I/O" in text:
        return f"{path} could not be written ({text}): no space left, or a limit on the size of files", "Make room"
    if "unable to open" in text and files.no_handles():
        return f"{path} could not be opened: this process has too many files open", "Raise the limit (ulimit -n)"
    if "readonly" in text or "unable to open" in text:
        return f"{path} may not be written ({text})", "Take a folder you may write to, on a local disk, or copy the study into one"
    if "locked" in text:
        return f"{path} has been held by another process for {BUSY:.0f} s", "Stop that process"
    return f"{path} could not be used ({text}): SQLite's log does not work on network file systems", "Take a folder on a local disk"


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
    path = folder / LOCK
    handle = _open_lock(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = os.read(handle, LONGEST)
            holder = held.decode(errors="replace").strip("\0\n") if SIGNED.fullmatch(held) and held else "just started"
            raise StoreError(f"another isoflop ({holder}) is working on the study in {folder}. Wait for it, or stop it, then start again.") from None
        _sign(handle, path)
        yield
    finally:
        os.close(handle)


def _open_lock(path: Path) -> int:
    files.refuse_link(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise files.in_words(error, path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StoreError(f"{path} is not a file, so it cannot say who works on the study. Remove it, then start again.")
    return handle


def _sign(handle: int, path: Path) -> None:
    """Write who holds the lock, in place of whoever held it before. Whatever else is in that file is somebody's, and stays: the lock does without."""
    if not SIGNED.fullmatch(os.read(handle, LONGEST + 1)):
        return
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{owner()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode(), 0)
    except OSError as error:
        raise files.in_words(error, path) from error


def owner() -> str:
    """This process, for people."""
    return f"pid {os.getpid()} on {socket.gethostname()}"
