"""The table of runs: the few statements that read and change it, each inside its caller's transaction."""

import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isoflop.runs import Group, RunRecord, RunSpec

State = Literal["pending", "interrupted", "running", "ok", "diverged", "failed"]
FINISHED = ("ok", "diverged", "failed")
_COLUMNS = "id, spec, status, attempt, reason, owner, current, lease_until, trunk"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to train one run, good for its attempt only."""

    spec: RunSpec
    attempt: int
    folder: Path  # where this attempt writes
    earlier: tuple[Path, ...]  # folders of older attempts, the newest first; their checkpoints may be gone on from
    trunk: Path | None = None  # checkpoints that it has in common with other runs
    marks: tuple[int, ...] = ()  # steps after which it must leave one there, for a run that parts
    same_weights: Path | None = None  # folder of a finished run that ended with the very weights of this one, which need only be evaluated


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the store says of one run."""

    id: str
    spec: RunSpec
    status: State
    attempt: int  # the latest that was started
    reason: str  # why it is not ok, or what became of the attempt before
    owner: str
    current: bool  # of the present design
    lease_until: float = 0.0  # seconds since 1970
    trunk: str = ""  # what it has in common with other runs


def rows(db: sqlite3.Connection) -> Iterator[Row]:
    """All runs: those of the present design and of older ones, in the order they were added."""
    return map(_row, db.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY position IS NULL, position, id").fetchall())  # noqa: S608  # our own constant


def free(db: sqlite3.Connection, *, now: float, ids: Collection[str] | None) -> Iterator[Row]:
    """Runs that nobody holds, of some or of all, the largest first."""
    chosen = None if ids is None else json.dumps(sorted(ids))
    found = db.execute(
        f"SELECT {_COLUMNS} FROM runs"  # noqa: S608  # our own constant
        " WHERE (status IN ('pending', 'interrupted') OR (status = 'running' AND lease_until < ?)) AND (? IS NULL OR id IN (SELECT value FROM json_each(?)))"
        " ORDER BY flops DESC, position, id",
        [now, chosen, chosen],
    )
    return map(_row, found.fetchall())


def siblings(db: sqlite3.Connection, trunk: str) -> tuple[Row, ...]:
    """Runs of the present design that begin alike."""
    return tuple(map(_row, db.execute(f"SELECT {_COLUMNS} FROM runs WHERE trunk = ? AND current", [trunk])))  # noqa: S608  # as above


def with_same_weights(db: sqlite3.Connection, spec: RunSpec) -> tuple[str, ...]:
    """Return the ids of finished runs that are trained exactly as a run, but measured or named otherwise."""
    told = "'$.eval_tokens', '$.budget', '$.group', '$.label'"  # what does not reach the weights
    found = db.execute(
        f"SELECT id FROM runs WHERE status = 'ok' AND id <> ? AND json_remove(spec, {told}) = json_remove(?, {told})",  # noqa: S608  # as above
        [spec.id, spec.model_dump_json()],
    )
    return tuple(id_ for (id_,) in found.fetchall())


def insert(db: sqlite3.Connection, spec: RunSpec, *, current: bool) -> None:
    """Make a run known; one that is known stays as it is but for being of the present design."""
    db.execute(
        "INSERT INTO runs (id, spec, flops, trunk, current) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET current = excluded.current",
        [spec.id, spec.model_dump_json(), spec.flops, spec.trunk, current],
    )


def append(db: sqlite3.Connection, id: str) -> None:  # noqa: A002  # it is called id everywhere
    """Give a run the next place in the order, unless it has one."""
    db.execute("UPDATE runs SET position = (SELECT coalesce(max(position), -1) + 1 FROM runs) WHERE id = ? AND position IS NULL", [id])


def retire(db: sqlite3.Connection, groups: Collection[Group]) -> None:
    """All runs of some groups are of an older design."""
    db.execute("UPDATE runs SET current = 0 WHERE json_extract(spec, '$.group') IN (SELECT value FROM json_each(?))", [json.dumps(sorted(groups))])


def lease(db: sqlite3.Connection, claim: Claim, *, owner: str, until: float) -> None:
    """Hand a run to an attempt."""
    db.execute(
        "UPDATE runs SET status = 'running', attempt = ?, owner = ?, lease_until = ? WHERE id = ?",
        [claim.attempt, owner, until, claim.spec.id],
    )


def extend(db: sqlite3.Connection, claim: Claim, *, until: float) -> bool:
    """Extend a lease, if the claim still holds."""
    return _held(db, "UPDATE runs SET lease_until = ?", [until], claim)


def give_back(db: sqlite3.Connection, claim: Claim, *, reason: str, failed: bool) -> bool:
    """Free a claimed run, if the claim still holds: one that failed is pending again, one that was stopped is interrupted."""
    status = "pending" if failed else "interrupted"
    return _held(db, "UPDATE runs SET status = ?, failures = failures + ?, reason = ?", [status, int(failed), reason], claim)


def holds(db: sqlite3.Connection, claim: Claim) -> bool:
    """Whether the run is still the claim's."""
    return _held(db, "UPDATE runs SET attempt = attempt", [], claim)


def failures(db: sqlite3.Connection, id: str) -> int:  # noqa: A002  # as above
    """Attempts that died of the run itself."""
    (n,) = db.execute("SELECT failures FROM runs WHERE id = ?", [id]).fetchone()
    return int(n)


def accept(db: sqlite3.Connection, record: RunRecord) -> None:
    """A run has its record."""
    db.execute("UPDATE runs SET status = ?, reason = ? WHERE id = ?", [record.status, record.reason, record.id])


def reopen(db: sqlite3.Connection, id: str, *, reason: str, status: State = "pending") -> None:  # noqa: A002  # as above
    """A run is to be trained again, or on, whatever it was."""
    db.execute("UPDATE runs SET status = ?, reason = ? WHERE id = ?", [status, reason, id])


def forgive(db: sqlite3.Connection, id: str) -> None:  # noqa: A002  # as above
    """A run's failed attempts count no more."""
    db.execute("UPDATE runs SET failures = 0 WHERE id = ?", [id])


def _held(db: sqlite3.Connection, statement: str, values: list[object], claim: Claim) -> bool:
    # the fence: an attempt that was superseded, or a run that is finished, matches no row
    where = " WHERE id = ? AND status = 'running' AND attempt = ?"
    return db.execute(statement + where, [*values, claim.spec.id, claim.attempt]).rowcount == 1


def _row(values: tuple[str, str, State, int, str, str, int, float, str]) -> Row:
    id_, spec, status, attempt, reason, owner, current, lease_until, trunk = values
    return Row(
        id=id_,
        spec=RunSpec.model_validate_json(spec),
        status=status,
        attempt=attempt,
        reason=reason,
        owner=owner,
        current=bool(current),
        lease_until=lease_until,
        trunk=trunk,
    )
