"""Which run is best at each compute, and whether that says what size is best there."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _curves
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLOP_VALUES = 1500  # log-spaced: Hoffmann et al. 2022, Sec. 3.1
LAST = 0.15  # of its schedule that a run must be in to count; where the paper's optima lie. Before, the learning rate is still high and no run has its loss
NODES = 4  # run lengths of one size that its loss is interpolated through, a cubic in logs: a straight line is 0.2 % high, as much as a wrong size costs
ALIKE = 0.2  # in log FLOPs: runs of one size closer than this are averaged, for a polynomial through them would swing
FEWEST_SIZES = 3  # that compete, so that one of them can be best without being the smallest or the largest


class Won(NamedTuple):
    """What is best at each compute."""

    run: NDArray[np.intp]  # (rows, values); -1 where no optimum can be read
    loss: Floats  # (rows, values)
    cut: Mask  # (rows, values) several sizes compete, and the smallest or largest of them is best


class Race(NamedTuple):
    """All curves over one grid of FLOPs; runs in order of size, then of length."""

    grid: Floats  # (values,)
    loss: Floats  # (runs, values) along the curve; inf where a run is not there
    finishing: Floats  # (runs, values) the same in the last part of the schedule only
    params: Floats  # (runs,)
    ends: Floats  # (runs,) FLOPs
    final: Floats  # (runs,) loss there
    lengths: tuple[NDArray[np.intp], ...]  # runs of each size that has several lengths
    only_finished: bool = True  # or every point of every curve

    @classmethod
    def over(cls, runs: Runs) -> Self:
        grid = np.geomspace((1 - LAST) * runs.flops.min(), runs.flops.max(), FLOP_VALUES)
        loss = _curves.at(runs, grid)
        late = grid[None, :] >= (1 - LAST) * runs.flops[:, None]
        return cls(grid, loss, np.where(late, loss, np.inf), runs.params, runs.flops, runs.loss, _lengths(runs))

    @classmethod
    def over_all(cls, runs: Runs) -> Self:
        """The same where every point of every curve counts: from where enough sizes have begun."""
        begun = np.array([float(_curves.along(runs, i)[0][0]) for i in range(len(runs))]) * runs.flops / runs.tokens
        first = [begun[runs.params == size].min() for size in np.unique(runs.params)]
        grid = np.geomspace(np.sort(first)[FEWEST_SIZES - 1], runs.flops.max(), FLOP_VALUES)
        loss = _curves.at(runs, grid)
        return cls(grid, loss, loss, runs.params, runs.flops, runs.loss, (), only_finished=False)

    def lowest_by(self, weights: Floats) -> Won:
        """The lowest curve among the runs with weight, whichever it is: the paper's rule. Cut off where it is of the smallest or largest size there."""
        rows = [self._lowest(row > 0) for row in weights]
        return Won(*(np.stack(column) for column in zip(*rows, strict=True)))

    def _lowest(self, present: Mask) -> tuple[NDArray[np.intp], Floats, Mask]:
        rivals = np.where(present[:, None], self.loss, np.inf)
        there = np.isfinite(rivals)
        best, size = np.argmin(rivals, axis=0), self.params[:, None]
        enough = self._sizes(there) >= FEWEST_SIZES
        smallest, largest = np.where(there, size, np.inf).min(axis=0), np.where(there, size, -np.inf).max(axis=0)
        outermost = (self.params[best] == smallest) | (self.params[best] == largest)
        return np.where(enough, best, -1), rivals.min(axis=0), outermost & enough

    def won_by(self, weights: Floats) -> Won:
        """The best among the runs with weight, for each row of weights."""
        rows = [self._winner(row > 0) for row in weights]
        return Won(*(np.stack(column) for column in zip(*rows, strict=True)))

    def _winner(self, present: Mask) -> tuple[NDArray[np.intp], Floats, Mask]:
        absent = ~present[:, None]
        finishing = np.where(absent, np.inf, self.finishing)
        several = self._sizes(np.isfinite(finishing)) >= FEWEST_SIZES
        rivals = np.where(several, finishing, np.minimum(finishing, self._between_ends(present)))
        best = np.argmin(rivals, axis=0)
        there = np.isfinite(rivals)
        size = self.params[:, None]
        smallest, largest = np.where(there, size, np.inf).min(axis=0), np.where(there, size, -np.inf).max(axis=0)
        inside = (smallest < self.params[best]) & (self.params[best] < largest)
        # a run far from its end that is best already would be better still had it ended here, by an amount that nobody knows
        lowest = rivals.min(axis=0)
        unbeaten = lowest <= np.where(absent, np.inf, self.loss).min(axis=0)
        return np.where(inside & unbeaten, best, -1), lowest, ~inside & unbeaten & (self._sizes(there) >= FEWEST_SIZES)

    def _sizes(self, there: Mask) -> NDArray[np.intp]:
        """(values,) how many sizes have a run where the mask (runs, values) is true; seeds and lengths of one size are one."""
        _, first = np.unique(self.params, return_index=True)
        return np.asarray(np.logical_or.reduceat(there, first, axis=0).sum(axis=0))

    def _between_ends(self, present: Mask) -> Floats:
        """(runs, values) loss of a run that ended there, in the row of the next shorter run of the size; inf outside the lengths of a size."""
        table = np.full_like(self.loss, np.inf)
        for size in self.lengths:
            runs = size[present[size]]
            if not runs.size:
                continue
            first = _groups(self.ends[runs])
            alike = np.diff(np.append(first, runs.size))
            ends = np.add.reduceat(np.log(self.ends[runs]), first) / alike
            final = np.add.reduceat(np.log(self.final[runs]), first) / alike
            marks = np.searchsorted(np.log(self.grid), ends)
            for gap in range(ends.size - 1):
                near = slice(max(0, min(gap - 1, ends.size - NODES)), max(NODES, gap - 1 + NODES))
                between = slice(marks[gap], marks[gap + 1])
                table[runs[first[gap]], between] = np.exp(_through(ends[near], final[near], np.log(self.grid[between])))
        return table


def _groups(ends: Floats) -> NDArray[np.intp]:
    """Where in rising ends each group of nearly equal ones begins."""
    return np.concatenate([[0], np.flatnonzero(np.diff(np.log(ends)) > ALIKE) + 1])


def _lengths(runs: Runs) -> tuple[NDArray[np.intp], ...]:
    sizes = (np.flatnonzero(runs.params == size) for size in np.unique(runs.params))
    return tuple(size for size in sizes if _groups(runs.flops[size]).size > 1)


def _through(x: Floats, y: Floats, at: Floats) -> Floats:
    """The polynomial through the points (Lagrange)."""
    basis = [np.prod([(at - x[j]) / (x[i] - x[j]) for j in range(x.size) if j != i], axis=0) for i in range(x.size)]
    return np.asarray(y @ np.stack(basis))
