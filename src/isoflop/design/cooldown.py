"""The grid of the isoflop design from one trunk a size: the peak rate is held, and a branch cooled down at each budget (Haegele et al. 2024).

A size is trained to its longest horizon once; every shorter run shares its steps but for the cooldown. That takes sizes that stay the same from budget to
budget, and one batch and one learning rate for all lengths of a size.
"""

import math
from collections.abc import Iterator, Sequence

from isoflop import arch
from isoflop.arch import Kind, Shape
from isoflop.design import Cell, Expected, around, repeats
from isoflop.runs import RunSpec
from isoflop.study import Study

ROOM = 1.05  # around the spread, so that a size at its very edge is not lost to rounding


def cells(study: Study, *, vocab: int, expected: Expected, trained: Sequence[RunSpec] = ()) -> tuple[Cell, ...]:
    """Return the grid, and at its middle further seeds that show the noise. A budget that is trained keeps its sizes."""
    before = _sizes(trained)
    ladder = _ladder(study, expected, vocab, before)
    grid = {budget: before.get(budget) or _near(ladder, expected(budget), study) for budget in study.budgets}
    horizons = {shape: tuple(budget for budget in study.budgets if shape in grid[budget]) for shape in ladder}
    runs = [Cell(shape=shape, budget=budget, group="isoflop", seed=study.seed, horizons=horizons[shape]) for budget in study.budgets for shape in grid[budget]]
    middle = study.budgets[len(study.budgets) // 2]
    shape = grid[middle][len(grid[middle]) // 2]
    point = Cell(shape=shape, budget=middle, group="isoflop", seed=study.seed, horizons=horizons[shape])
    return (*runs, *repeats(study, runs, point, trained))


def _sizes(trained: Sequence[RunSpec]) -> dict[float, list[Shape]]:
    """Return the sizes that are trained at each budget, smallest first."""
    found: dict[float, list[Shape]] = {}
    for spec in sorted(trained, key=lambda spec: spec.shape.params.total):
        if spec.group == "isoflop":
            found.setdefault(spec.budget, []).append(spec.shape)
    return found


def _ladder(study: Study, expected: Expected, vocab: int, before: dict[float, list[Shape]]) -> list[Shape]:
    """Return sizes as far apart as those of one budget, from the smallest of the lowest budget to the largest of the highest.

    Sizes that are trained stay; others are added beyond them.
    """
    kind = study.kind(vocab)
    if not isinstance(study.sizes, int):
        return [kind.at(d_model) for d_model in sorted(study.sizes)]
    low, high = expected(study.budgets[0]), expected(study.budgets[-1])
    step = study.spread ** (1 / (study.sizes - 1))
    spread = study.spread * high / low
    if before:
        sizes = sorted({shape for shapes in before.values() for shape in shapes}, key=lambda shape: shape.params.total)
        edges = (low / math.sqrt(study.spread), high * math.sqrt(study.spread))
        return [*reversed([*_beyond(kind, sizes[0], 1 / step, edges[0])]), *sizes, *_beyond(kind, sizes[-1], step, edges[1])]
    return list(around(kind, math.sqrt(low * high), count=1 + round(math.log(spread) / math.log(step)), spread=spread))


def _beyond(kind: Kind, last: Shape, step: float, edge: float) -> Iterator[Shape]:
    """Yield sizes a step apart from the last one on, up or down, as far as the edge in params."""
    sign = math.copysign(1.0, step - 1)
    while sign * math.log(edge / last.params.total) > sign * math.log(step) / 2:
        found = _next(kind, last, last.params.total * step)
        if found is None:
            return
        yield found
        last = found


def _next(kind: Kind, last: Shape, params: float) -> Shape | None:
    """Return the size nearest to a number of params, beyond the last one; None if there is none, as below the smallest width."""
    known = []
    for d_model in arch.widths():
        known.append(kind.at(d_model))
        if known[-1].params.total >= max(params, last.params.total):
            break
    beyond = [shape for shape in known if (shape.params.total - last.params.total) * (params - last.params.total) > 0]
    return min(beyond, key=lambda shape: abs(math.log(shape.params.total / params)), default=None)


def _near(ladder: list[Shape], params: float, study: Study) -> list[Shape]:
    """The sizes within half the spread of an expected optimum, and at least three, which a parabola takes."""
    if not isinstance(study.sizes, int):
        return ladder
    away = {shape: abs(math.log(shape.params.total / params)) for shape in ladder}
    within = sum(far <= math.log(study.spread) / 2 + math.log(ROOM) for far in away.values())
    return sorted(sorted(ladder, key=lambda shape: away[shape])[: max(3, within)], key=lambda shape: shape.params.total)
