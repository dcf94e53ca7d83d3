"""The runs of one budget as a valley of loss over log params, and what is read off its floor by a method of Approach 2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _checks
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST_POINTS = 3  # a parabola, or an interpolant with a minimum between its ends
ALIKE = 1e-9  # in log params: sizes closer than this are one, for they differ by rounding alone
BELOW_ZERO = "the minimum of its curve is not above zero: losses scatter by more than they are"
NO_NOISE = 1e-9  # of the loss; below it losses differ by rounding
CURVE = 121  # points that a curve is drawn through


@dataclass(frozen=True, kw_only=True)
class Valley:
    """One budget, sizes rising; seeds of one size averaged."""

    flops: float
    params: Floats  # (points,)
    x: Floats  # (points,) log params
    t: Floats  # (points,) log tokens
    loss: Floats  # (points,)
    seeds: Floats  # (points,) how often each counts: as there are seeds, or once where seeds do not differ
    runs: NDArray[np.intp]  # (runs of the budget,) which of all runs
    point: NDArray[np.intp]  # (runs of the budget,) the point that each is of

    @property
    def price(self) -> float:
        """How log tokens fall with log params at the budget: 1 where C = 6ND."""
        u = self.x - self.x.mean()
        return -float(u @ self.t) / float(u @ u)


class Floor(NamedTuple):
    """Minima of all valleys, one set a row."""

    x: Floats  # (rows, valleys) log params
    loss: Floats  # (rows, valleys)

    def rows(self, index: Mask) -> "Floor":
        return Floor(self.x[index], self.loss[index])


class Method(Protocol):
    """A curve through each valley; fitted once, and again to other losses at the same points."""

    @property
    def valleys(self) -> tuple[Valley, ...]: ...

    @property
    def used(self) -> tuple[Mask, ...]:
        """Of each valley, (points,)."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Why a valley has no minimum inside; empty where it has."""

    @property
    def spent(self) -> float:
        """Degrees of freedom of all curves together."""

    def at(self, i: int, x: Floats) -> Floats:
        """Loss of the curve of a valley at log params."""

    def leverage(self, i: int) -> Floats:
        """(points used,) how much of each loss its curve takes over."""

    def pull(self, i: int) -> Floats | None:
        """(points used,) by how much a loss moves the minimum of its valley in log params; None if not smoothly."""

    def floor(self, which: Sequence[int], losses: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floor:
        """Minima of the curves of some valleys, fitted to other losses (rows, points used), kept between the points; NaN where a row has too few.

        Args:
            which: Valleys.
            losses: Of each, (rows, points used) or (1, points used).
            weights: Of each, (rows, points used): how many runs are behind each loss; those of the fit by default.
        """


def valleys(runs: Runs, *, noise: float = math.nan, limit: int | None = None) -> tuple[Valley, ...]:
    """Budgets rising, the first so many; nothing depends on the order of the runs.

    Seeds count where there is noise between them, for without noise they say no more together than one of them alone.
    """
    noisy = noise > NO_NOISE * float(runs.loss.mean())
    order = _checks.canonical(runs)  # by budget first
    starts = np.flatnonzero(np.append(True, np.diff(runs.budget[order]) > 0))
    return tuple(_valley(runs, members, noisy=noisy) for members in np.split(order, starts[1:])[:limit])


def profiled(runs: Runs) -> int:
    """How many budgets have runs enough for a profile."""
    return int((np.unique(runs.budget, return_counts=True)[1] >= FEWEST_POINTS).sum())


def _valley(runs: Runs, members: NDArray[np.intp], *, noisy: bool) -> Valley:
    x = np.log(runs.params[members])  # rising: members are in canonical order
    new = np.append(True, np.diff(x) > ALIKE)
    point = np.cumsum(new) - 1
    seeds = np.bincount(point).astype(float)
    t = np.bincount(point, weights=np.log(runs.tokens[members])) / seeds
    loss = np.bincount(point, weights=runs.loss[members]) / seeds
    budget = float(runs.budget[members[0]])
    seeds = seeds if noisy else np.ones_like(seeds)
    return Valley(flops=budget, params=runs.params[members[new]], x=x[new], t=t, loss=loss, seeds=seeds, runs=members, point=point)


def too_few(valley: Valley) -> str:
    """Why no method can read the valley; empty if one might."""
    return f"{valley.x.size} of the {FEWEST_POINTS} sizes that a parabola needs" if valley.x.size < FEWEST_POINTS else ""


def still_falls(*, down: bool) -> str:
    return f"no minimum inside: loss still falls towards the {'smallest' if down else 'largest'} size"


def log_tokens(valley: Valley, x: Floats) -> Floats:
    """Log tokens that the budget buys at log params: all but a straight line, as it buys in inverse proportion to a power of params."""
    return np.asarray(np.interp(x, valley.x, valley.t))


def drawn(method: Method, i: int) -> tuple[Floats, Floats]:
    """Params and loss of the curve over the points it was fitted to; empty where there is none."""
    valley = method.valleys[i]
    if not method.used[i].any():
        return np.empty(0), np.empty(0)
    x = valley.x[method.used[i]]
    grid = np.linspace(x[0], x[-1], CURVE)
    return np.exp(grid), method.at(i, grid)


def seeds_used(method: Method, which: Sequence[int]) -> list[Floats]:
    return [method.valleys[i].seeds[method.used[i]][None] for i in which]


def window_about(x: Floats, centre: float, window: float, wanted: int) -> Mask:
    """Points within the window of the centre, or the nearest so many if those are fewer."""
    distance = np.abs(x - centre)
    nearest = np.partition(distance, min(wanted, x.size) - 1)[min(wanted, x.size) - 1]
    return np.asarray(distance <= (math.inf if math.isinf(window) else max(window, nearest)))
