"""The lower convex hull of all training curves in log loss over log FLOPs: which points of which runs lie on it.

Source: McLeish et al. 2025 (Gemstones, arXiv 2502.06857), whose form of Approach 1 it is.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _curves
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


class Hull(NamedTuple):
    """Points that may lie on the hull, in order of FLOPs: those on the hull of their own run, for the hull of all is that of the hulls of each."""

    run: Indices  # (points,)
    flops: Floats  # (points,)
    tokens: Floats  # (points,)
    loss: Floats  # (points,)

    @classmethod
    def over(cls, runs: Runs) -> Self:
        parts = [_own(runs, i) for i in range(len(runs))]
        run, flops, tokens, loss = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((run, loss, _logs(flops)))
        return cls(run[order], flops[order], tokens[order], loss[order])

    def won_by(self, weights: Floats) -> Mask:
        """(rows, points) on the hull of the runs with weight, for each row of weights."""
        won = np.zeros((len(weights), self.run.size), dtype=bool)
        x, y = _logs(self.flops), np.log(self.loss)
        for row, present in zip(won, weights[:, self.run] > 0, strict=True):
            there = np.flatnonzero(present)
            row[there[lower(x[there], y[there])]] = True
        return won


def lower(x: Floats, y: Floats) -> Indices:
    """Vertices of the lower convex hull of points in order of x, then y, from the first to the lowest (Andrew's monotone chain)."""
    chain: list[int] = []
    for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if chain and a == x[chain[-1]]:
            continue  # straight above another
        while len(chain) > 1 and not _turns_up(x, y, chain, a, b):
            chain.pop()
        chain.append(i)
    vertices = np.array(chain, dtype=np.intp)
    return vertices[: int(np.argmin(y[vertices])) + 1]


def _logs(flops: Floats) -> Floats:
    """Log FLOPs to nine digits: of points that rounding alone puts apart, the lowest is on the hull and not the leftmost."""
    return np.asarray(np.round(np.log(flops), 9))


def _turns_up(x: Floats, y: Floats, chain: list[int], a: float, b: float) -> bool:
    first, last = chain[-2], chain[-1]
    return bool((y[last] - y[first]) * (a - x[first]) < (b - y[first]) * (x[last] - x[first]))


def _own(runs: Runs, i: int) -> tuple[Indices, Floats, Floats, Floats]:
    tokens, loss = _curves.along(runs, i)
    flops = tokens * (runs.flops[i] / runs.tokens[i])  # FLOPs a token do not change along a run
    on = lower(_logs(flops), np.log(loss))
    return np.full(on.size, i, dtype=np.intp), flops[on], tokens[on], loss[on]
