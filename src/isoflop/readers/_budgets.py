"""Runs -> budgets: which runs were meant to cost the same."""

import numpy as np

from isoflop.runs import Floats

# FLOPs of one budget differ as 6ND, whole batches and digitised points make them: on Hoffmann's Figure 4, 194 of 240 points are then in groups of five
# and more, the nine budgets of the paper the fullest of them; at 0.05 it is 148. From 0.22 on a group could hold two budgets that are 1.5 times apart.
TOLERANCE = 0.1


def group(flops: Floats, *, tolerance: float = TOLERANCE) -> Floats:
    """The budget of each run: the geometric mean of the FLOPs of its group; a run without neighbours is its own.

    Groups are taken from the fullest window of width 2 ln(1 + tolerance) down, so that a straggler between two budgets does not chain them.
    Linking neighbours instead chains 92 of Hoffmann's 240 points, a decade of FLOPs, into one budget.

    Args:
        flops: (runs,), finite and positive.
        tolerance: A group reaches so far about its middle, as a fraction.
    """
    values, back = np.unique(flops, return_inverse=True)
    counts = np.bincount(back)
    budget = np.empty(values.size)
    for low, high in _groups(np.log(values), counts, 2 * np.log1p(tolerance)):
        weights = counts[low:high]
        middle = float(np.sum(weights * np.log(values[low:high] / values[low])) / np.sum(weights))
        budget[low:high] = values[low] * np.exp(middle)
    return budget[back]


def _groups(logs: Floats, counts: np.ndarray, width: float) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    total = np.concatenate([[0], np.cumsum(counts)])
    ends = np.searchsorted(logs, logs + width * (1 + 1e-9), side="right")  # slack for rounding where two runs are just so far apart
    open_ = [(0, logs.size)]
    while open_:
        low, high = open_.pop()
        if low >= high:
            continue
        stops = np.minimum(ends[low:high], high)
        spread = logs[stops - 1] - logs[low:high]
        fullest = total[stops] - total[low:high]
        best = low + int(np.lexsort((spread, -fullest))[0]) if high - low > 1 else low
        stop = int(min(ends[best], high))
        found.append((best, stop))
        open_ += [(low, best), (stop, high)]
    return found
