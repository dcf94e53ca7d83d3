"""Which learning rates to try at one size: an octave apart until the best lies between two others, then half an octave on either side of it.

Rates are counted in half octaves from the recipe's own: 2 is twice it. What was tried maps them to final losses, infinite where a run diverged.
"""

import math
from collections.abc import Mapping

OCTAVE = 2  # half octaves
LIMIT = 4 * OCTAVE  # a sixteenth to sixteen times the recipe's rate
FIRST = (-OCTAVE, 0, OCTAVE)
USUAL = 5  # runs at a size whose best rate is near the recipe's

Tried = Mapping[int, float]


def wanted(tried: Tried) -> tuple[int, ...]:
    """The rates to try next, in half octaves; none if the search is over."""
    if not tried:
        return FIRST
    middle = best(tried)
    outer = () if all(side in tried for side in (middle - 1, middle + 1)) else (middle - OCTAVE, middle + OCTAVE)
    beyond = tuple(k for k in outer if k not in tried and abs(k) <= LIMIT)
    if beyond or not math.isfinite(tried[middle]):
        return beyond
    return tuple(k for k in (middle - 1, middle + 1) if k not in tried and abs(k) < LIMIT)


def best(tried: Tried) -> int:
    """The rate of the least loss; where all diverged, the lowest, since lower ones may not."""
    return min(tried, key=lambda k: (tried[k], k))


def at_edge(tried: Tried) -> bool:
    """Whether the best rate has none tried on one of its sides, or all diverged."""
    middle = best(tried)
    return middle in {min(tried), max(tried)} or not math.isfinite(tried[middle])
