"""Budgets x sizes around the expected optimum, each trained for exactly the tokens its budget pays for (Hoffmann et al. 2022, Sec. 3.2)."""

from collections.abc import Sequence

from isoflop.arch import Shape
from isoflop.design import Cell, Expected, around, repeats
from isoflop.runs import RunSpec
from isoflop.study import Study


def cells(study: Study, *, vocab: int, expected: Expected, trained: Sequence[RunSpec] = ()) -> tuple[Cell, ...]:
    """Return the grid, and at its middle further seeds that show the noise."""
    grid = {budget: _shapes(study, expected(budget), vocab) for budget in study.budgets}
    runs = [Cell(shape=shape, budget=budget, group="isoflop", seed=study.seed) for budget, shapes in grid.items() for shape in shapes]
    middle = study.budgets[len(study.budgets) // 2]
    point = Cell(shape=grid[middle][len(grid[middle]) // 2], budget=middle, group="isoflop", seed=study.seed)
    return (*runs, *repeats(study, runs, point, trained))


def _shapes(study: Study, params: float, vocab: int) -> tuple[Shape, ...]:
    if isinstance(study.sizes, int):
        return around(study.kind(vocab), params, count=study.sizes, spread=study.spread)
    return tuple(study.kind(vocab).at(d_model) for d_model in sorted(study.sizes))
