"""Names beside points, put where they cover neither each other nor another point; a name for which there is no room is left to the tooltip."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from isoflop.report.figures._axes import Domain, Place

_WIDE, _HIGH = 0.56, 1.05  # of the type's size: a character's mean width in the semibold of _look.FONT, a line's height
_GAP = 8.0  # pixels from the middle of a mark to its name
_MARK, _STAR = 5.0, 7.0  # pixels from the middle of a point, and of a star, to its edge
_ROUNDS = 6  # in which a name for which there was no room is served first; what is not found by then is seldom found
_OVER = 8.0  # pixels that a name may stand over the right edge, where the margin is
_NEAR = 16.0  # pixels: from farther off a name does not seem to belong to its mark
_ACROSS = (5.0, -5.0, 12.0, -12.0, 24.0, -24.0, 40.0, -40.0)  # pixels that a name with a line to it may stand off
_DOWN = (-14.0, 14.0, -22.0, 22.0, -32.0, 32.0, -44.0, 44.0, -58.0, 58.0, -74.0, 74.0)
_ALONG = (0.35, 0.5, 0.65, 0.8)  # of such a line: where nothing else may be


class Named(NamedTuple):
    """A point with its name, in the units of the axes."""

    x: float
    y: float
    text: str


class Spot(NamedTuple):
    """A place in pixels from the lower left corner of the plot."""

    x: float
    y: float


class Plot(NamedTuple):
    """Logarithmic axes and the pixels they take."""

    x: Domain
    y: Domain
    width: float
    height: float

    def spot(self, point: Named) -> Spot:
        return Spot(_share(point.x, self.x) * self.width, _share(point.y, self.y) * self.height)


class Box(NamedTuple):
    """A rectangle in pixels from the lower left corner of the plot."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        return self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top


def places(points: Sequence[Named], *, marks: Sequence[Named], plots: Sequence[Plot], size: float) -> list[Place | None]:
    """Where each name stands; None where there is no room.

    Args:
        points: With their names.
        marks: Stars, which have no names and are not to be covered.
        plots: That all of them stand in: the same one at every size at which the names should stand apart.
        size: Of the type in pixels.
    """
    taken = [[*(_around(plot.spot(p), _MARK) for p in points), *(_around(plot.spot(star), _STAR) for star in marks)] for plot in plots]
    order, best = list(range(len(points))), dict[int, Place]()
    for _ in range(_ROUNDS):
        found = _served(order, points, taken, plots, size)
        best = max(best, found, key=len)
        if len(best) == len(points):
            break
        order.sort(key=found.__contains__)  # stable: those without a place come first
    return [best.get(i) for i in range(len(points))]


def _served(order: Iterable[int], points: Sequence[Named], marks: Sequence[Sequence[Box]], plots: Sequence[Plot], size: float) -> dict[int, Place]:
    """Places by number of the point, for those that have one when the first in order is first served."""
    taken = [list(boxes) for boxes in marks]
    found: dict[int, Place] = {}
    for i in order:
        place = next((c for c in _candidates(size) if _free(i, points[i], c, taken, plots)), None)
        if place is not None:
            found[i] = place
            for boxes, plot in zip(taken, plots, strict=True):
                boxes.extend(_covered(plot.spot(points[i]), points[i].text, place))
    return found


def distant(place: Place) -> bool:
    """Whether a name stands so far from its point that a line should lead to it."""
    return math.hypot(place.dx, place.dy) > _NEAR


def _candidates(size: float) -> Iterable[Place]:
    """Beside the point, over, under, at the corners; then the nearest farther away."""
    up = _GAP + size / 2
    yield from (Place(_GAP, 0, "left", size), Place(-_GAP, 0, "right", size), Place(0, -up, "center", size), Place(0, up, "center", size))
    corners = [(0.6 * _GAP * right, 0.8 * up * down) for down in (-1, 1) for right in (1, -1)]
    farther = [(dx, dy) for dx, dy in itertools.product(_ACROSS, _DOWN) if math.hypot(dx, dy) > _NEAR]
    for dx, dy in (*corners, *sorted(farther, key=lambda offset: math.hypot(*offset))):
        yield Place(dx, dy, "left" if dx > 0 else "right", size)


def _covered(spot: Spot, text: str, place: Place) -> list[Box]:
    """What a name at a place covers: its own box, and bits of the line that leads to it."""
    wide, high = _WIDE * place.size * len(text), _HIGH * place.size
    middle, level = spot.x + place.dx, spot.y - place.dy  # dy grows downwards
    left = middle - {"left": 0.0, "center": 0.5, "right": 1.0}[place.align] * wide
    line = [Spot(spot.x + place.dx * along, spot.y - place.dy * along) for along in _ALONG] if distant(place) else []
    return [Box(left, level - high / 2, left + wide, level + high / 2), *(_around(bit, 1.0) for bit in line)]


def _free(i: int, point: Named, place: Place, taken: Sequence[Sequence[Box]], plots: Sequence[Plot]) -> bool:
    for boxes, plot in zip(taken, plots, strict=True):
        for box in _covered(plot.spot(point), point.text, place):
            inside = box.left >= 0 and box.right <= plot.width + _OVER and box.bottom >= 0 and box.top <= plot.height
            if not inside or any(box.meets(other) for k, other in enumerate(boxes) if k != i):  # the point's own mark is in no one's way
                return False
    return True


def _around(spot: Spot, radius: float) -> Box:
    return Box(spot.x - radius, spot.y - radius, spot.x + radius, spot.y + radius)


def _share(value: float, limits: Domain) -> float:
    return math.log(value / limits[0]) / math.log(limits[1] / limits[0])
