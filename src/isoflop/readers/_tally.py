"""What is left out or doubted, counted by reason: no row goes in silence."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from isoflop.runs import Dropped

LISTED = 100  # of one reason by name; more are one entry with their number


class Tally:
    """Rows and runs by reason, in order of their first mention.

    Args:
        lines: Lines of the file on which some rows begin, by row; a row that is not in it is called by its number alone.
    """

    def __init__(self, lines: Callable[[Sequence[int]], Mapping[int, int]] = lambda _: {}) -> None:
        self.points = 0  # rows counted, those of whole runs included
        self._lines = lines
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
    def reasons(self) -> set[str]:
        """Every reason so far, those of `--where` apart."""
        return {reason for reason in (*self._rows, *self._runs) if not reason.startswith("not chosen by --where")}

    @property
    def entries(self) -> tuple[Dropped, ...]:
        """One for each row or run; one in all for a reason with over a hundred."""
        sorted_ = {reason: np.sort(np.concatenate(found)) for reason, found in self._rows.items()}
        named = self._named([int(row) for rows in sorted_.values() for row in (rows if rows.size <= LISTED else rows[:1])])
        rows = (entry for reason, found in sorted_.items() for entry in _rows(reason, found, named))
        runs = (entry for reason, found in self._runs.items() for entry in _runs(reason, sorted(found)))
        return (*rows, *runs)

    @property
    def sentence(self) -> str:
        """Counts by reason in words."""
        first = {reason: int(min(f.min() for f in found)) for reason, found in self._rows.items()}
        named = self._named(list(first.values()))
        rows = [_counted(sum(f.size for f in found), "row", reason, named[first[reason]]) for reason, found in self._rows.items()]
        runs = [_counted(len(found), "run", reason, found[0]) for reason, found in self._runs.items()]
        return "; ".join((rows + runs)[:8])

    def _named(self, rows: Sequence[int]) -> Mapping[int, str]:
        """What rows are called, with the line that a person finds them on."""
        lines = self._lines(rows) if rows else {}
        return {row: f"row {row}, line {lines[row]}" if row in lines else f"row {row}" for row in rows}


def _counted(n: int, what: str, reason: str, first: str) -> str:
    return f"{n:,} {what}s: {reason} (the first is {first})" if n > 1 else f"{first}: {reason}"


def _rows(reason: str, rows: NDArray[np.int64], named: Mapping[int, str]) -> Iterable[Dropped]:
    if rows.size > LISTED:
        return [Dropped(f"{rows.size:,} rows", f"{reason} (the first is {named[int(rows[0])]})")]
    return [Dropped(named[int(row)], reason) for row in rows]


def _runs(reason: str, ids: list[str]) -> Iterable[Dropped]:
    if len(ids) > LISTED:
        return [Dropped(f"{len(ids):,} runs", f"{reason} (one is {ids[0]})")]
    return [Dropped(id_, reason) for id_ in ids]
