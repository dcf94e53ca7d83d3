"""The run store: what each run of a study is and whose it is; nothing else opens its database.

runs.sqlite               the table of runs (WAL, synchronous FULL)
specs.json                the same runs as a list, from which a lost table is rebuilt
study.lock                held by the one driver
runs/ID/record.json       what came of a run, with a digest of itself, of
runs/ID/curve.parquet     its training curve, and of
runs/ID/weights.safetensors  the weights it ended with
runs/ID/attempt-N/        an attempt under way: spec.json, checkpoints, and in the end its record and curve
runs/ID/damaged-N/        files that were not what was written, set aside
runs/ID/former-N/         the record of a run that was to be tried again
trunks/ID/                checkpoints that several runs have in common; when they are finished, the last one
"""

import platform
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np

from isoflop.runs import Clock, Curve, Group, RunRecord, RunSpec
from isoflop.store import _database, _recovery, _snapshot, _table, _trunks, files
from isoflop.store._database import owner
from isoflop.store._table import FINISHED, Claim, Row, State

__all__ = ["FINISHED", "TRIES", "Claim", "Row", "State", "Store", "files", "owner"]

TRIES = 3  # assumption: what kills a run three times is the run


class Store:
    """The runs of one study, in a folder on a local disk. A context manager.

    Args:
        folder: The study's.
        read_only: Work on a copy in memory, so that nothing is written into the folder, which may be one that cannot be written.

    Attributes:
        folder: The study's.
        notes: Sentences on what was found damaged so far, and what was done.

    Raises:
        StoreError: The folder cannot be used, in words.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder if read_only else files.make_folder(folder)
        self.notes: tuple[str, ...] = ()
        self._filled = 0  # runs that a new table was filled with
        with _database.worded(self.folder):
            if read_only:
                self._db, note = _snapshot.connect(folder, self._fill, self._agrees)
                if self._filled and not note:
                    note = f"{folder / _database.NAME} is not there, or empty. The runs were read from the files beside it; the next training rebuilds it."
                self.notes += (note,) if note else ()
                return
            try:
                self._db = self._connect()
            except sqlite3.Error as error:
                if not _database.is_damage(error):
                    raise
                self._db = self._replace(error)
            if self._filled and not self.notes:
                self.notes += (f"{_database.NAME} was not there, or empty. The table of runs was rebuilt from the files beside it.",)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def lock(self) -> Iterator[tuple[str, ...]]:
        """Be the one driver of the study; gives sentences on what was mended.

        Runs that a dead driver left running are pending again; what they had finished is accepted; every finished record is
        verified, and a damaged one is set aside and its run pending again.

        Raises:
            StoreError: Another driver lives; the message says which.
        """
        with _database.driver_lock(self.folder):
            self._check_links()
            self._settle()
            files.clear_parts(self.folder, below=("runs", "trunks", "report"))
            yield self.notes

    def add(self, specs: Iterable[RunSpec], *, instead_of: Collection[Group] = ()) -> None:
        """Make runs known, in this order; those that are known stay as they are.

        Args:
            specs: Of the present design.
            instead_of: Groups of which all other runs are from now on of an older design: listed, but not among the records.
        """
        with self._transaction() as db:
            _table.retire(db, instead_of)
            for spec in specs:
                _table.insert(db, spec, current=True)
                _table.append(db, spec.id)
            _recovery.write_list(self.folder, (_recovery.Listed(row.spec, row.current) for row in _table.rows(db)))

    def claim(self, owner: str, *, lease: float, ids: Collection[str] | None = None) -> Claim | None:
        """The largest run that is free and need not wait for another to bring it on its way, now leased; None if there is none.

        Args:
            owner: Whose it is, for people.
            lease: Seconds until others may claim it, unless renewed.
            ids: Claim only among these.
        """
        now = time.time()
        with self._transaction() as db:
            for row in _table.free(db, now=now, ids=ids):
                siblings = _table.siblings(db, row.trunk) if row.trunk else ()
                same = self._same_weights(db, row.spec)
                # a recovered run's last attempt had finished it, and died before it could say so
                if (same or _trunks.ready(row, siblings, self.folder, now=now)) and not self._recovered(db, row):
                    claim = self._attempt(row, siblings, same)
                    _table.lease(db, claim, owner=owner, until=now + lease)
                    return claim
            return None

    def renew(self, claim: Claim, *, lease: float) -> bool:
        """Extend a lease to some seconds from now; False if the run is no longer the claim's."""
        with self._transaction() as db:
            return _table.extend(db, claim, until=time.time() + lease)

    def finish(self, claim: Claim) -> RunRecord | None:
        """Accept what an attempt wrote: its record and curve become the run's. None, and no change, if the run is no longer the claim's.

        Raises:
            StoreError: The attempt's record or curve is not there or damaged, or there is no space; the run stays the claim's.
        """
        run = self._run(claim.spec.id)
        with self._transaction() as db:
            if not _table.holds(db, claim):
                return None
            record = _recovery.verified(claim.folder, claim.spec)
            _recovery.promote(claim.folder, run)
            _table.accept(db, record)
        self._clear(claim.spec)
        return record

    def release(self, claim: Claim, *, reason: str) -> bool:
        """Give a run back, unfinished through no fault of its own: interrupted, its checkpoints kept. False if it was no longer the claim's."""
        with self._transaction() as db:
            return _table.give_back(db, claim, reason=reason, failed=False)

    def release_all(self, *, reason: str) -> None:
        """Give back every run that is being trained: interrupted, its checkpoints kept. For the driver, when it stops."""
        with self._transaction() as db:
            for row in _table.rows(db):
                if row.status == "running":
                    _table.reopen(db, row.id, reason=reason, status="interrupted")

    def fail(self, claim: Claim, *, reason: str, final: bool = False) -> RunRecord | None:
        """Say that an attempt died of its run: the run is pending again, or, the third time, recorded as failed.

        Args:
            claim: Of the attempt.
            reason: What it died of, for people.
            final: It would die of that every time: recorded as failed at once.

        Returns:
            The run's record if that was the third time, or if the attempt died only after it had written a sound one; else None.
        """
        run = self._run(claim.spec.id)
        with self._transaction() as db:
            if not _table.give_back(db, claim, reason=reason, failed=True):
                return None
            record = _recovery.finished(run, claim.spec)
            if record is None:
                if not final and _table.failures(db, claim.spec.id) < TRIES:
                    return None
                record = _failed(claim, reason if final else f"{TRIES} attempts failed; the last: {reason}")
                record = files.write_record(run, record, Curve(tokens=np.empty(0), loss=np.empty(0)))
            _table.accept(db, record)
        self._clear(claim.spec)
        return record

    def retry(self, ids: Collection[str]) -> int:
        """Make failed and diverged runs pending again, their records set aside; how many. For a driver."""
        with self._transaction() as db:
            chosen = [row for row in _table.rows(db) if row.id in ids and row.status in ("failed", "diverged")]
            for row in chosen:
                aside = _recovery.set_aside(self._run(row.id), "former")
                _table.reopen(db, row.id, reason=f"to be tried again; its record was {row.status} and is in {aside.name}")
                _table.forgive(db, row.id)
            return len(chosen)

    def rows(self) -> tuple[Row, ...]:
        """Return every run of the folder, those of the present design and of older ones, in order."""
        with _database.worded(self.folder):
            return tuple(_table.rows(self._db))

    def records(self, ids: Iterable[str] | None = None, *, sound_only: bool = False) -> tuple[RunRecord, ...]:
        """Return the records of finished runs, in order.

        Args:
            ids: Of these runs, whichever design trained them, in this order; of the present design if not given.
            sound_only: Pass over those of which the record or the curve is damaged: `lock` names and repairs them.

        Raises:
            StoreError: Some record is damaged; the message says which. Not with `sound_only`.
        """
        finished = [row for row in self.rows() if row.status in FINISHED and (row.current or ids is not None)]
        if ids is not None:
            by_id = {row.id: row for row in finished}
            finished = [by_id[id_] for id_ in dict.fromkeys(ids) if id_ in by_id]
        if sound_only:
            return tuple(record for row in finished if (record := self._sound(row)) is not None)
        return tuple(files.read_record(self._run(row.id)) for row in finished)

    def reached(self, specs: Iterable[RunSpec]) -> dict[str, int]:
        """Return the steps that each kept trunk of some runs has behind it, by its name."""
        return _trunks.reached(self.folder, (spec.trunk for spec in specs))

    def only_evaluated(self, specs: Iterable[RunSpec]) -> frozenset[str]:
        """Return the ids of those runs whose weights are kept by a finished run that is measured otherwise: they need no training."""
        with _database.worded(self.folder):
            return frozenset(spec.id for spec in specs if self._same_weights(self._db, spec))

    def curve(self, id: str) -> Curve:  # noqa: A002  # it is called id everywhere
        """The training curve of a finished run.

        Raises:
            StoreError: No such run, or its curve is damaged.
        """
        folder = self._run(id)
        return files.read_curve(folder, files.read_record(folder).curve_sha256)

    def _sound(self, row: Row) -> RunRecord | None:
        try:
            return _recovery.verified(self._run(row.id), row.spec)
        except files.DamageError:
            return None

    def _settle(self) -> None:
        with self._transaction() as db:
            for row in _table.rows(db):
                if self._recovered(db, row):
                    _recovery.clear(self._run(row.id))
                elif row.status in FINISHED:
                    _table.reopen(db, row.id, reason="its record was damaged or gone")
                elif row.status == "running":
                    _table.reopen(db, row.id, reason=f"its driver ({row.owner}) died", status="interrupted")
            _trunks.clear(_table.rows(db), self.folder)
            self._settle_list(db)

    def _settle_list(self, db: sqlite3.Connection) -> None:
        """Write the list anew where it is damaged."""
        rows = tuple(_table.rows(db))
        try:
            _recovery.listed(self.folder)
        except files.DamageError:
            if rows:
                self.notes += (f"{_recovery.LIST} was damaged or gone; it was written anew from {_database.NAME}.",)
                _recovery.write_list(self.folder, (_recovery.Listed(row.spec, row.current) for row in rows))

    def _recovered(self, db: sqlite3.Connection, row: Row) -> bool:
        """Whether the files hold a sound record of the run, which is then accepted; a damaged one is set aside, and said so."""
        run = self._run(row.id)
        try:
            record = _recovery.finished(run, row.spec)
        except files.DamageError as error:
            aside = _recovery.set_aside(run, "damaged")
            self.notes += (f"{error} Set aside in {aside}.",)
            return False
        if record is not None:
            _table.accept(db, record)
        elif row.status in FINISHED:
            self.notes += (f"The record of run {row.id} is gone from {run}; that run is trained again.",)
        return record is not None

    def _fill(self, db: sqlite3.Connection) -> None:
        known = _recovery.read_list(self.folder)
        self._filled = len(known)
        for listed in known:
            _table.insert(db, listed.spec, current=listed.current)
            _table.append(db, listed.spec.id)
            try:
                _table.accept(db, _recovery.verified(self._run(listed.spec.id), listed.spec))
            except files.DamageError:
                continue  # not finished, or damaged: `lock` says so

    def _connect(self) -> sqlite3.Connection:
        db = _database.connect(self.folder, self._fill)
        try:
            self._compare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _compare(self, db: sqlite3.Connection) -> None:
        """Compare the table with the list beside it, which has a digest: a flipped bit may take a run out of the design.

        Raises:
            sqlite3.DatabaseError: They are not of the same runs.
        """
        if self._agrees(db):
            return
        with _database.transaction(db):  # another process may be adding runs: its list is written before its transaction ends
            if not self._agrees(db):
                raise sqlite3.DatabaseError(f"it does not hold the runs of {_recovery.LIST}")

    def _agrees(self, db: sqlite3.Connection) -> bool:
        try:
            listed = _recovery.listed(self.folder)
        except files.DamageError:
            return True  # there is nothing to compare with; `lock` writes it anew
        return [(row.spec.id, row.current) for row in listed] == [(row.id, row.current) for row in _table.rows(db)]

    def _check_links(self) -> None:
        """Refuse links where the study is to be written."""
        for name in ("runs", "trunks", "logs"):
            files.refuse_link(self.folder / name)
            for place in (self.folder / name).glob("*"):
                files.refuse_link(place)
                for inner in place.glob("*") if name == "runs" else ():
                    files.refuse_link(inner)

    def _replace(self, error: sqlite3.Error) -> sqlite3.Connection:
        with _database.driver_lock(self.folder):  # a driver that lives would go on writing into the file that is moved
            try:
                return self._connect()  # another process may have repaired it meanwhile
            except sqlite3.Error as again:
                if not _database.is_damage(again):
                    raise
            aside = _database.set_aside(self.folder)
            self.notes += (f"{_database.NAME} was damaged ({error}). It is kept as {aside.name}; the table of runs was rebuilt from the files beside it.",)
            return _database.connect(self.folder, self._fill)

    def _clear(self, spec: RunSpec) -> None:
        """Remove what a finished run needs no more."""
        _recovery.clear(self._run(spec.id))
        if spec.trunk:
            _trunks.clear(self.rows(), self.folder)

    def _same_weights(self, db: sqlite3.Connection, spec: RunSpec) -> Path | None:
        """The folder of a finished run that kept the weights with which this one would end; None if there is none."""
        found = (self._run(id_) for id_ in _table.with_same_weights(db, spec))
        return next((run for run in found if (run / files.WEIGHTS).is_file() and (run / files.RECORD).is_file()), None)

    def _attempt(self, row: Row, siblings: Collection[Row], same_weights: Path | None) -> Claim:
        run = self._run(row.id)
        earlier = _recovery.attempts(run)
        attempt = 1 + max([row.attempt, *map(_recovery.number, earlier)])  # a rebuilt table does not know them all
        folder = run / f"attempt-{attempt}"
        files.write_spec(folder, row.spec)
        trunk = _trunks.folder(self.folder, row.trunk) if _trunks.kept(siblings) else None
        marks = _trunks.marks(siblings)
        return Claim(spec=row.spec, attempt=attempt, folder=folder, earlier=earlier, trunk=trunk, marks=marks, same_weights=same_weights)

    def _run(self, id: str) -> Path:  # noqa: A002  # as above
        return self.folder / "runs" / id

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _database.worded(self.folder), _database.transaction(self._db) as db:
            yield db


def _failed(claim: Claim, reason: str) -> RunRecord:
    clock = Clock(
        seconds=0,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        attempt=claim.attempt,
        device="",
        versions={"isoflop": version("isoflop"), "python": platform.python_version()},
    )
    return RunRecord(
        id=claim.spec.id,
        spec=claim.spec,
        status="failed",
        reason=reason,
        loss=None,
        bits_per_byte=None,
        params=claim.spec.shape.params,
        tokens=0,
        flops=0.0,
        epochs=0.0,
        clock=clock,
    )
