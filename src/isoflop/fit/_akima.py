"""Akima curves through the valleys of Approach 2 (Porian et al. 2024): log loss interpolated in log params, through every point.

Source: Akima 1970, J. ACM 17, 589, with SciPy's handling of equal slopes; the route is Porian et al. 2024 (arXiv 2406.19146), Sec. 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._profile import WANTED_POINTS
from isoflop.fit._valley import FEWEST_POINTS, Floor, Valley, still_falls, too_few, window_about

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLAT = 1e-9  # of the largest change of slope: below it slopes count as equal, as in SciPy


class Pieces(NamedTuple):
    """Cubics between knots: value + slope s + bend s**2 + twist s**3, s from the knot on the left."""

    knots: Floats  # (knots,)
    value: Floats  # (rows, knots - 1)
    slope: Floats
    bend: Floats
    twist: Floats

    def at(self, x: Floats) -> Floats:
        """(rows, len(x)); the outermost pieces go on beyond the ends."""
        left = np.clip(np.searchsorted(self.knots, x, side="right") - 1, 0, self.knots.size - 2)
        s = x - self.knots[left]
        return np.asarray(self.value[:, left] + s * (self.slope[:, left] + s * (self.bend[:, left] + s * self.twist[:, left])))

    def minimum(self) -> tuple[Floats, Floats]:
        """(rows,) where between the knots each row is least, and its value there."""
        width = np.diff(self.knots)
        root = np.sqrt(np.maximum(self.bend**2 - 3 * self.twist * self.slope, 0.0))
        # the root of the derivative at which it rises, in whichever form does not cancel
        over, under = np.where(self.bend > 0, -self.slope, root - self.bend), np.where(self.bend > 0, self.bend + root, 3 * self.twist)
        s = np.where(under > 0, over / np.where(under > 0, under, 1.0), 0.0)
        s = np.where((s > 0) & (s < width), s, 0.0)
        inside = self.value + s * (self.slope + s * (self.bend + s * self.twist))
        knots = np.broadcast_to(self.knots, (len(inside), self.knots.size))
        every = np.concatenate([inside, self.value, self.at(self.knots[-1:])], axis=1)
        where = np.concatenate([self.knots[:-1] + s, knots], axis=1)
        best = np.argmin(every, axis=1)[:, None]
        return np.take_along_axis(where, best, axis=1)[:, 0], np.take_along_axis(every, best, axis=1)[:, 0]


def pieces(x: Floats, y: Floats) -> Pieces:
    """Akima's interpolant of y (rows, points) at rising x (points,), three points or more."""
    width = np.diff(x)
    m = np.diff(y, axis=1) / width
    before, after = 2 * m[:, :1] - m[:, 1:2], 2 * m[:, -1:] - m[:, -2:-1]
    m = np.concatenate([2 * before - m[:, :1], before, m, after, 2 * after - m[:, -1:]], axis=1)
    change = np.abs(np.diff(m, axis=1))
    later, earlier = change[:, 2:], change[:, :-2]
    both = later + earlier
    bent = both > FLAT * both.max(axis=1, keepdims=True)
    weighed = (later * m[:, 1:-2] + earlier * m[:, 2:-1]) / np.where(bent, both, 1.0)
    slope = np.where(bent, weighed, 0.5 * (m[:, 3:] + m[:, :-3]))
    chord = m[:, 2:-2]
    bend = (3 * chord - 2 * slope[:, :-1] - slope[:, 1:]) / width
    twist = (slope[:, :-1] + slope[:, 1:] - 2 * chord) / width**2
    return Pieces(x, y[:, :-1], slope[:, :-1], bend, twist)


class Akimas(NamedTuple):
    """An Akima curve a valley, of log loss."""

    valleys: tuple[Valley, ...]
    used: tuple[Mask, ...]
    notes: tuple[str, ...]
    spent: float

    def at(self, i: int, x: Floats) -> Floats:
        valley, used = self.valleys[i], self.used[i]
        return np.asarray(np.exp(pieces(valley.x[used], np.log(valley.loss[used])[None]).at(x)[0]))

    def leverage(self, i: int) -> Floats:
        return np.ones(int(self.used[i].sum()))

    def pull(self, i: int) -> None:
        """A little noise moves the minimum from one piece to the next."""

    def floor(self, which: Sequence[int], losses: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floor:
        """As of every method; weights matter only where they are zero, for the curve goes through every point."""
        given = [None] * len(which) if weights is None else weights
        each = [self._floor(i, y, w) for i, y, w in zip(which, losses, given, strict=True)]
        return Floor(np.stack([x for x, _ in each], axis=1), np.stack([y for _, y in each], axis=1))

    def _floor(self, i: int, losses: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
        x, y = self.valleys[i].x[self.used[i]], np.log(losses)
        if weights is None or (weights > 0).all():
            where, low = pieces(x, y).minimum()
            return where, np.exp(low)
        found = np.full((2, len(y)), np.nan)
        masks, rows = np.unique(weights > 0, axis=0, return_inverse=True)
        for k, mask in enumerate(masks):
            if mask.sum() >= FEWEST_POINTS:
                alike = np.flatnonzero(rows.reshape(-1) == k)
                found[:, alike] = pieces(x[mask], y[alike][:, mask]).minimum()
        return found[0], np.exp(found[1])


def through_all(valleys: tuple[Valley, ...], window: float) -> Akimas:
    """An Akima curve through each valley, in a window about its best point."""
    used = tuple(np.zeros(v.x.size, dtype=bool) if too_few(v) else window_about(v.x, float(v.x[np.argmin(v.loss)]), window, WANTED_POINTS) for v in valleys)
    notes = tuple(_why_not(v, u) for v, u in zip(valleys, used, strict=True))
    return Akimas(valleys, used, notes, float(sum(u.sum() for u in used)))


def _why_not(valley: Valley, used: Mask) -> str:
    if too_few(valley):
        return too_few(valley)
    x = valley.x[used]
    where = pieces(x, np.log(valley.loss[used])[None]).minimum()[0][0]
    return "" if x[0] < where < x[-1] else still_falls(down=where <= x[0])
