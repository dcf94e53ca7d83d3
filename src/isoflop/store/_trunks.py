"""What runs that begin alike have in common: the checkpoints of their trunk, and which of them may start.

Of the runs of a trunk one carries it, the longest that is free: it leaves a checkpoint wherever another parts from it. The others wait for theirs,
unless it goes on from beyond that place. It is only a saving: a run whose trunk is lost or damaged trains from its own start, to the same bits.
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


def clear(rows: Iterable[Row], study: Path) -> None:
    """Remove the trunks that no run needs any more."""
    needed = {row.trunk for row in rows if row.current and row.status not in FINISHED}
    for trunk in (study / "trunks").glob("*"):
        if trunk.name not in needed:
            shutil.rmtree(trunk, ignore_errors=True)


def _passed(study: Path, run: str) -> int:
    """Steps that a run has behind it, by its own checkpoints: what it goes on from there, it does not pass again."""
    return max((step for kept in (study / "runs" / run).glob("attempt-*/checkpoint") for step in _steps(kept)), default=0)


def _steps(kept: Path) -> Iterable[int]:
    for manifest in kept.glob("step-*/manifest.json"):  # the last file of a checkpoint to be written
        with contextlib.suppress(ValueError):
            yield int(manifest.parent.name.removeprefix("step-"))
