"""Account of the rows: how many runs a fit was made from, and what became of the others."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from isoflop.arch import Convention
from isoflop.runs import Dropped, Runs

_MANY = re.compile(r"([\d,]+) (?:rows|runs)")  # what a reader calls more rows or runs of one reason than it names
_ROWS = re.compile(r"row \d+(?:, line \d+)?|[\d,]+ rows")  # what it calls rows


class Group(NamedTuple):
    """Runs of one reason."""

    reason: str
    runs: int
    example: str  # the id of the first


@dataclass(frozen=True, kw_only=True)
class Account:
    """What was read, and what of it a fit sees."""

    source: str  # the file, folder or study
    kept: int
    dropped: tuple[Dropped, ...]
    doubtful: tuple[Dropped, ...]  # kept all the same
    unit: str  # of the loss
    flops_from: str  # "as given", "as counted", "6ND"
    convention: Convention
    digest: str  # of the runs
    budgets: tuple[float, ...]  # FLOPs; each run's own where the runs are in no profiles
    smallest_flops: float
    largest_flops: float
    curves: bool = False  # runs have many rows each

    @classmethod
    def of(cls, runs: Runs, source: str) -> Self:
        """The account of some runs."""
        return cls(
            source=source,
            kept=len(runs),
            dropped=runs.dropped,
            doubtful=runs.doubtful,
            unit=runs.unit,
            flops_from=runs.flops_from,
            convention=runs.convention,
            digest=runs.digest,
            budgets=tuple(np.unique(runs.budget).tolist()),
            smallest_flops=float(runs.flops.min()),
            largest_flops=float(runs.flops.max()),
            curves=any(curve.loss.size for curve in runs.curves),
        )

    @property
    def read(self) -> int:
        """Runs, kept and dropped; where runs are curves, rows that were dropped are none of them."""
        return self.kept + sum(group.runs for group in groups(entry for entry in self.dropped if not (self.curves and _ROWS.fullmatch(entry.id))))

    @property
    def rows(self) -> int:
        """Rows that were dropped beside the runs, where runs are curves."""
        return sum(group.runs for group in groups(entry for entry in self.dropped if self.curves and _ROWS.fullmatch(entry.id)))


def groups(dropped: Iterable[Dropped]) -> tuple[Group, ...]:
    """Runs by the kind of their reason, which is what it says before a colon; the largest group first."""
    found: dict[str, list[Dropped]] = {}
    for entry in dropped:
        found.setdefault(_kind(entry.reason), []).append(entry)
    made = [Group(kind if len(entries) > 1 else entries[0].reason, sum(map(_count, entries)), entries[0].id) for kind, entries in found.items()]
    return tuple(sorted(made, key=lambda group: -group.runs))


def _kind(reason: str) -> str:
    return reason.partition(":")[0]


def _count(entry: Dropped) -> int:
    many = _MANY.fullmatch(entry.id)
    return int(many[1].replace(",", "")) if many else 1
