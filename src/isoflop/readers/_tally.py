"""What is left out or doubted, counted by reason: no row goes in silence."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from isoflop.runs import Dropped

LISTED = 100  # of one reason by name; more are one entry with their number


class Tally:
    """Rows and runs by reason, in order of their first mention."""

    def __init__(self) -> None:
        self.points = 0  # rows counted, those of whole runs included
        self._rows: dict[str, list[NDArray[np.int64]]] = {}
        self._runs: dict[str, list[str]] = {}

    def rows(self, reason: str, rows: NDArray[np.int64]) -> None:
        """Count rows by their numbers."""
        if rows.size:
            self.points += int(rows.size)
            self._rows.setdefault(reason, []).append(rows)

    def runs(self, reason: str, ids: Sequence[str], *, points: int) -> None:
        """Count runs by their ids, and the rows that they had."""
        if ids:
            self.points += points
            self._runs.setdefault(reason, []).extend(ids)

    @property
    def entries(self) -> tuple[Dropped, ...]:
        """One for each row or run; one in all for a reason with over a hundred."""
        rows = (entry for reason, found in self._rows.items() for entry in _rows(reason, np.sort(np.concatenate(found))))
        runs = (entry for reason, found in self._runs.items() for entry in _runs(reason, sorted(found)))
        return (*rows, *runs)

    @property
    def sentence(self) -> str:
        """Counts by reason in words."""
        rows = [(sum(f.size for f in found), "row", reason) for reason, found in self._rows.items()]
        runs = [(len(found), "run", reason) for reason, found in self._runs.items()]
        return "; ".join(f"{n:,} {what}{'s' if n > 1 else ''}: {reason}" for n, what, reason in (rows + runs)[:8])


def _rows(reason: str, rows: NDArray[np.int64]) -> Iterable[Dropped]:
    if rows.size > LISTED:
        return [Dropped(f"{rows.size:,} rows", f"{reason} (the first is row {rows[0]})")]
    return [Dropped(f"row {row}", reason) for row in rows]


def _runs(reason: str, ids: list[str]) -> Iterable[Dropped]:
    if len(ids) > LISTED:
        return [Dropped(f"{len(ids):,} runs", f"{reason} (one is {ids[0]})")]
    return [Dropped(id_, reason) for id_ in ids]
