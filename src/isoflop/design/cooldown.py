"""The grid of the isoflop design from one trunk a size: the peak rate is held, and a branch cooled down at each budget (Haegele et al. 2024).

A size is trained to its longest horizon once; every shorter run shares its steps but for the cooldown. That takes sizes that stay the same from budget to
budget, and one batch and one learning rate for all lengths of a size.
"""

import math

from isoflop.arch import Shape
from isoflop.design import Cell, Expected, around
from isoflop.study import Study

ROOM = 1.05  # around the spread, so that a size at its very edge is not lost to rounding


def cells(study: Study, *, vocab: int, expected: Expected) -> tuple[Cell, ...]:
    """The grid, and at its middle further seeds that show the noise."""
    ladder = _ladder(study, expected, vocab)
    grid = {budget: _near(ladder, expected(budget), study) for budget in study.budgets}
    horizons = {shape: tuple(budget for budget in study.budgets if shape in grid[budget]) for shape in ladder}
    runs = [Cell(shape=shape, budget=budget, group="isoflop", seed=study.seed, horizons=horizons[shape]) for budget in study.budgets for shape in grid[budget]]
    middle = study.budgets[len(study.budgets) // 2]
    shape = grid[middle][len(grid[middle]) // 2]
    repeats = [Cell(shape=shape, budget=middle, group="noise", seed=study.seed + i, horizons=horizons[shape]) for i in range(1, study.seeds)]
    return (*runs, *repeats)


def _ladder(study: Study, expected: Expected, vocab: int) -> list[Shape]:
    """Sizes as far apart as those of one budget, from the smallest of the lowest budget to the largest of the highest."""
    kind = study.kind(vocab)
    if not isinstance(study.sizes, int):
        return [kind.at(d_model) for d_model in sorted(study.sizes)]
    low, high = expected(study.budgets[0]), expected(study.budgets[-1])
    step = study.spread ** (1 / (study.sizes - 1))
    spread = study.spread * high / low
    return list(around(kind, math.sqrt(low * high), count=1 + round(math.log(spread) / math.log(step)), spread=spread))


def _near(ladder: list[Shape], params: float, study: Study) -> list[Shape]:
    """The sizes within half the spread of an expected optimum, and at least three, which a parabola takes."""
    if not isinstance(study.sizes, int):
        return ladder
    away = {shape: abs(math.log(shape.params.total / params)) for shape in ladder}
    within = sum(far <= math.log(study.spread) / 2 + math.log(ROOM) for far in away.values())
    return sorted(sorted(ladder, key=lambda shape: away[shape])[: max(3, within)], key=lambda shape: shape.params.total)
