"""What the files of a study say by themselves, when the database is lost or a record is damaged."""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from isoflop.errors import UnknownNameError
from isoflop.runs import RunRecord, RunSpec
from isoflop.store import files

LIST = "specs.json"


class Listed(NamedTuple):
    """A run that the files know of."""

    spec: RunSpec
    current: bool  # of the present design


def write_list(folder: Path, listed: Iterable[Listed]) -> None:
    """Write beside the database what is to be trained and in which order."""
    rows = [{"current": row.current, "spec": row.spec.model_dump(mode="json")} for row in listed]
    data = files.sign({"runs": rows})
    path = folder / LIST
    if not path.is_file() or files.read(path) != data:
        files.write(path, data)


def read_list(folder: Path) -> list[Listed]:
    """Return all runs that the files of a study know of, those of the list first, in its order."""
    try:
        found = {row.spec.id: row for row in listed(folder)}
    except files.DamageError:
        found = {}  # the folders of the runs say the rest, and the design is added again when a driver starts
    for run in sorted(folder.glob("runs/*")):
        if run.name not in found:
            spec = _spec(run)
            if spec is not None:
                found[spec.id] = Listed(spec, current=False)
    return list(found.values())


def listed(folder: Path) -> tuple[Listed, ...]:
    """Return the runs of the list, in its order.

    Raises:
        DamageError: There is none, or it is not what was written.
    """
    try:
        rows = files.signed(folder / LIST, unsigned=True)["runs"]
        assert isinstance(rows, list)
        return tuple(Listed(RunSpec.model_validate(row["spec"]), current=bool(row["current"])) for row in rows)
    except (ValueError, KeyError, TypeError, AssertionError, ArithmeticError, UnknownNameError) as error:
        raise files.damaged(folder / LIST, f"not a list of runs ({type(error).__name__})") from None


def _spec(run: Path) -> RunSpec | None:
    for folder in (run, *attempts(run)):
        with contextlib.suppress(files.DamageError):
            return files.read_record(folder).spec
        with contextlib.suppress(files.DamageError):
            return files.read_spec(folder)
    return None


def attempts(run: Path) -> tuple[Path, ...]:
    """Folders of the attempts at one run, the newest first."""
    return tuple(sorted((p for p in run.glob("attempt-*") if number(p)), key=number, reverse=True))


def number(attempt: Path) -> int:
    """The number in an attempt's name, or 0 if that is no attempt."""
    digits = attempt.name.removeprefix("attempt-")
    return int(digits) if digits.isdecimal() else 0


def verified(folder: Path, spec: RunSpec) -> RunRecord:
    """The record in a folder, if it and its curve are what was written and it is that run's.

    Raises:
        StoreError: Otherwise.
    """
    record = files.read_record(folder)
    if record.spec != spec:
        raise files.damaged(folder / files.RECORD, f"it is of run {record.id}, not of {spec.id}")
    files.check_curve(folder, record.curve_sha256)
    return record


def promote(attempt: Path, run: Path) -> None:
    """Make an attempt's record and curve those of the run. They are copied, so that an attempt stays whole until its record is in place."""
    if (attempt / files.WEIGHTS).exists():
        files.link(attempt / files.WEIGHTS, run / files.WEIGHTS)  # they may be large
    for name in (files.CURVE, files.RECORD):
        files.write(run / name, files.read(attempt / name))


def finished(run: Path, spec: RunSpec) -> RunRecord | None:
    """The run's record, taken from an attempt that was finished but not yet accepted if need be; None if there is none.

    Raises:
        StoreError: The run's own record or curve is damaged.
    """
    if (run / files.RECORD).exists() or ((run / files.CURVE).exists() and not attempts(run)):
        return verified(run, spec)
    for attempt in attempts(run):
        try:
            record = verified(attempt, spec)
        except files.DamageError:
            continue  # not finished, or not well: it is trained again from its checkpoints
        promote(attempt, run)
        return record
    return None


def set_aside(run: Path, why: str) -> Path:
    """Move a run's record and curve out of the way, keeping them; the folder they are now in."""
    n = 1
    while (run / f"{why}-{n}").exists():
        n += 1
    aside = files.make_folder(run / f"{why}-{n}")
    for name in (files.RECORD, files.CURVE, files.WEIGHTS):
        if (run / name).exists():
            (run / name).replace(aside / name)
    files.sync(run)
    return aside


def clear(run: Path) -> None:
    """Remove the attempts of a finished run. What a zombie still holds open is removed when the next driver starts."""
    for attempt in attempts(run):
        shutil.rmtree(attempt, ignore_errors=True)
