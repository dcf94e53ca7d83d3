"""Sizes x run lengths over a 16x range, each with a cosine of its own length (Hoffmann et al. 2022, Sec. 3.1)."""

import math
from collections.abc import Sequence

from isoflop.arch import Shape
from isoflop.design import Cell, Expected, around, repeats
from isoflop.runs import RunSpec
from isoflop.study import Study

RANGE = 16.0  # longest over shortest run of a size, Hoffmann et al. 2022, Sec. 3.1


def cells(study: Study, *, vocab: int, expected: Expected, trained: Sequence[RunSpec] = ()) -> tuple[Cell, ...]:
    """Return each size at run lengths around the one it is expected to be optimal for, and at the middle further seeds that show the noise."""
    shapes = _shapes(study, expected, vocab)
    runs = []
    for shape in shapes:
        best = _budget_of(shape, expected, study)
        for i in range(study.horizons):
            budget = best * math.pow(RANGE, i / (study.horizons - 1) - 0.5)
            runs.append(Cell(shape=shape, budget=float(f"{budget:.6g}"), group="horizons", seed=study.seed))
    return (*runs, *repeats(study, runs, runs[len(runs) // 2], trained))


def _shapes(study: Study, expected: Expected, vocab: int) -> tuple[Shape, ...]:
    if not isinstance(study.sizes, int):
        return tuple(study.kind(vocab).at(d) for d in sorted(study.sizes))
    low, high = expected(study.budgets[0]), expected(study.budgets[-1])
    return around(study.kind(vocab), math.sqrt(low * high), count=study.sizes, spread=max(high / low, 1.5))


def _budget_of(shape: Shape, expected: Expected, study: Study) -> float:
    """The budget, within the study's, whose expected optimum is nearest to the shape."""
    steps = 200  # finer than any grid of budgets
    low, high = study.budgets[0], study.budgets[-1]
    budgets = (low * math.pow(high / low, i / steps) for i in range(steps + 1))
    return min(budgets, key=lambda budget: abs(math.log(expected(budget) / shape.params.total)))
