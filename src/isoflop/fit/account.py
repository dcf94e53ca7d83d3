"""Account of the rows: how many runs a fit was made from, and what became of the others."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from isoflop.arch import Convention
from isoflop.runs import Dropped, Note, Runs

_MANY = re.compile(r"([\d,]+) (?:rows|runs)")  # what a reader calls more rows or runs of one reason than it names
_WHOLE = "not chosen by --where"  # a filter may hold a colon
_ROWS = re.compile(r"row \d+(?:, line \d+)?|[\d,]+ rows")  # what it calls rows


class Group(NamedTuple):
    """Runs of one reason."""

    reason: str
    runs: int
    example: str  # the id of the first

    @property
    def counted(self) -> bool:
        """Whether the first is itself many rows or runs, of which the reason names one."""
        return _MANY.fullmatch(self.example) is not None


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
    notes: tuple[Note, ...] = ()  # which column was read as what, and what was decided
    experts: tuple[float, float] | None = None  # of mixtures of experts: total params are exp(first) times active params to the power of the second

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
            notes=runs.notes,
            experts=_experts(runs),
        )

    def total_params(self, params: float) -> float | None:
        """Return all parameters of a mixture of experts with so many active ones, by the models of the runs; None of other models."""
        return None if self.experts is None else math.exp(self.experts[0]) * params ** self.experts[1]

    @property
    def read(self) -> int:
        """Runs, kept and dropped; where runs are curves, rows that were dropped are none of them."""
        return self.kept + sum(group.runs for group in groups(entry for entry in self.dropped if not (self.curves and _ROWS.fullmatch(entry.id))))

    @property
    def rows(self) -> int:
        """Rows that were dropped beside the runs, where runs are curves."""
        return sum(group.runs for group in groups(entry for entry in self.dropped if self.curves and _ROWS.fullmatch(entry.id)))


def _experts(runs: Runs) -> tuple[float, float] | None:
    """Return a line through the logs of total params over those of active params."""
    if runs.total_params is None or not np.isfinite(runs.total_params).all():
        return None
    x, y = np.log(runs.params), np.log(runs.total_params)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float((x - x.mean()) @ y) / spread if spread > 0 else 1.0
    return float(y.mean() - slope * x.mean()), slope


def groups(dropped: Iterable[Dropped]) -> tuple[Group, ...]:
    """Runs by the kind of their reason, which is what it says before a colon; the largest group first."""
    found: dict[str, list[Dropped]] = {}
    for entry in dropped:
        found.setdefault(_kind(entry.reason), []).append(entry)
    made = [Group(kind if len(entries) > 1 else entries[0].reason, sum(map(_count, entries)), entries[0].id) for kind, entries in found.items()]
    return tuple(sorted(made, key=lambda group: -group.runs))


def _kind(reason: str) -> str:
    return reason if reason.startswith(_WHOLE) else reason.partition(":")[0]


def _count(entry: Dropped) -> int:
    many = _MANY.fullmatch(entry.id)
    return int(many[1].replace(",", "")) if many else 1
