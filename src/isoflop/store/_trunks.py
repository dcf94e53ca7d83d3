"""Checkpoints that runs which begin alike have in common, and which of those runs may start.

Of the runs of a trunk one carries it, the longest that is free: it leaves a checkpoint wherever another parts from it. The others wait for theirs,
unless the carrier resumes from beyond that place. The last checkpoint stays, so that a study can gain a longer run. It is only a saving: a run whose trunk
is lost or damaged trains from its own start, to the same bits.
"""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from isoflop.store._table import FINISHED, Row


def folder(study: Path, trunk: str) -> Path:
    """Where a trunk's checkpoints are."""
    return study / "trunks" / trunk


def marks(siblings: Iterable[Row]) -> tuple[int, ...]:
    """Steps after which some unfinished run of a trunk goes its own way."""
    return tuple(sorted({row.spec.parting for row in siblings if row.status not in FINISHED}))


def ready(row: Row, siblings: Iterable[Row], study: Path, *, now: float) -> bool:
    """Whether a run may start: it has no trunk, its trunk has come as far as it needs, or nobody carries it that far."""
    if not row.trunk:
        return True
    reached = max(_steps(folder(study, row.trunk)), default=0)
    if row.spec.parting <= reached:
        return True
    carriers = (other for other in siblings if other.status == "running" and other.lease_until >= now and other.id != row.id)
    return not any(other.spec.parting >= row.spec.parting > _passed(study, other.id) for other in carriers)


def kept(siblings: Iterable[Row]) -> bool:
    """Whether the runs of a trunk leave checkpoints: there are several, or a study with more budgets may add some."""
    siblings = tuple(siblings)
    return len(siblings) > 1 or any(row.spec.group == "isoflop" for row in siblings)


def reached(study: Path, trunks: Iterable[str]) -> dict[str, int]:
    """Return the steps that the last checkpoint of each trunk has behind it, of those that have one."""
    return {trunk: step for trunk in set(trunks) - {""} if (step := max(_steps(folder(study, trunk)), default=0))}


def clear(rows: Iterable[Row], study: Path) -> None:
    """Remove what no run needs any more: of a trunk whose runs are finished, all but the last checkpoint."""
    current = [row for row in rows if row.current]
    needed = {row.trunk for row in current if row.status not in FINISHED}
    grows = {row.trunk for row in current if row.spec.group == "isoflop"}
    for trunk in (study / "trunks").glob("*"):
        if trunk.name in needed:
            continue
        steps = sorted(_steps(trunk))
        for path in trunk.glob("*") if trunk.name in grows and steps else (trunk,):
            if path.name != f"step-{max(steps, default=0):09d}":
                shutil.rmtree(path, ignore_errors=True)


def _passed(study: Path, run: str) -> int:
    """Steps that a run has behind it, by its own checkpoints: what it goes on from there, it does not pass again."""
    return max((step for kept in (study / "runs" / run).glob("attempt-*/checkpoint") for step in _steps(kept)), default=0)


def _steps(kept: Path) -> Iterable[int]:
    for manifest in kept.glob("step-*/manifest.json"):  # the last file of a checkpoint to be written
        with contextlib.suppress(ValueError):
            yield int(manifest.parent.name.removeprefix("step-"))
