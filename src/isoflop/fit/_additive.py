"""Additive curves through the valleys of Approach 2: at each budget c + A / N**alpha + B / D**beta, the two exponents shared by all budgets.

A parabola is symmetric about its minimum and a valley is not where alpha differs from beta; its bias grows with the window and with the distance of the
grid's middle from the minimum (Czech et al. 2026, arXiv 2603.22339). This curve has the valley's own form. c, A and B are linear and are projected out
(variable projection: Golub and Pereyra 1973; the derivative is Kaufman's 1975), so that two numbers are searched for, many resamples at once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import FitError
from isoflop.fit import _profile
from isoflop.fit._profile import WANTED_POINTS, Parabola
from isoflop.fit._valley import BELOW_ZERO, FEWEST_POINTS, Floor, Valley, seeds_used, still_falls, too_few, window_about

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WINDOW = math.log(10.0)  # either side of the minimum
EXPONENTS = (0.05, 1.5)  # assumption: public fits have 0.08 to 0.8; beyond, the valley is a parabola or a wall
STARTS = np.geomspace(0.07, 1.1, 7)  # of each exponent
SMALL = 1e-4  # step of a difference in log exponents
TRIED = 4  # of the starts, those that fit best
WIDEST = 300.0  # in logs; a valley of 130 decades
STEPS = 60  # at most; six to fifteen are usual
STILL = 1e-13  # relative change of the squares below which a row has settled
OUTLIER = 4.0  # robust deviations; assumption: beyond, a loss pulls no harder than at it
REWEIGHTINGS = 5
LEAST_PRICE = 0.1  # at which tokens fall with params; 1 where C = 6ND (assumption: real counts have 0.8 to 1)
SPARE = 1.0  # points in all beyond the constants, so that the exponents mean something


class Table(NamedTuple):
    """All valleys side by side, padded with points of no weight."""

    u: Floats  # (valleys, points) log params from the middle of the valley
    v: Floats  # (valleys, points) log tokens likewise
    scale: Floats  # (valleys,) losses are divided by it, so that noise is alike
    there: Mask  # (valleys, points)

    def padded(self, columns: Sequence[Floats], fill: float = 0.0) -> Floats:
        """(rows, valleys, points) from one (rows, points used) a valley."""
        rows = max(len(c) for c in columns)
        out = np.full((rows, *self.there.shape), fill)
        for i, column in enumerate(columns):
            out[:, i, self.there[i]] = column
        return out


class Solved(NamedTuple):
    """Fits of many rows."""

    theta: Floats  # (rows, 2) log alpha, log beta
    linear: Floats  # (rows, valleys, 3) of 1, exp(-alpha u), exp(-beta v)
    left: Floats  # (rows, valleys, points) weighted residuals
    squares: Floats  # (rows,)
    slopes: Floats  # (rows, valleys, points, 2) of the residuals in theta


class Additive(NamedTuple):
    """An additive curve a valley."""

    valleys: tuple[Valley, ...]
    used: tuple[Mask, ...]
    notes: tuple[str, ...]
    spent: float
    inside: tuple[int, ...]  # valleys in the table
    table: Table
    weights: Floats  # (valleys, points) of the fit: seeds, less those of outliers
    solved: Solved  # one row

    @property
    def exponents(self) -> tuple[float, float]:
        """Alpha and beta."""
        alpha, beta = np.exp(self.solved.theta[0])
        return float(alpha), float(beta)

    def at(self, i: int, x: Floats) -> Floats:
        if i not in self.inside:
            return np.full(x.shape, np.nan)
        k, valley = self.inside.index(i), self.valleys[i]
        middle_x, middle_t = _middle(valley, self.used[i])
        u = x - middle_x
        v = np.interp(x, valley.x, valley.t) - middle_t
        return np.asarray(_basis(self.solved.theta[0], u, v) @ self.solved.linear[0, k] * self.table.scale[k])

    def leverage(self, i: int) -> Floats:
        k = self.inside.index(i)
        there = self.table.there[k]
        root = np.sqrt(self.weights[k, there])
        q = np.linalg.qr(_basis(self.solved.theta[0], self.table.u[k, there], self.table.v[k, there]) * root[:, None])[0]
        slopes = self.solved.slopes[0]
        both = slopes.reshape(-1, 2)
        taken = np.einsum("pi,ij,pj->p", slopes[k, there], np.linalg.pinv(both.T @ both), slopes[k, there])
        return np.asarray(np.minimum((q**2).sum(axis=1) + taken, 1.0))

    def pull(self, i: int) -> Floats:
        k = self.inside.index(i)
        there = self.table.there[k]
        root = np.sqrt(self.weights[k, there])
        basis = _basis(self.solved.theta[0], self.table.u[k, there], self.table.v[k, there])
        solve = np.linalg.pinv(basis * root[:, None]) * root
        _, A, B = self.solved.linear[0, k]
        alpha, beta = self.exponents
        held = (solve[1] / A - solve[2] / B) / (alpha + beta * self.valleys[i].price)  # with the exponents as they are
        slopes = self.solved.slopes[0].reshape(-1, 2)
        exponents = -np.linalg.pinv(slopes.T @ slopes) @ self.solved.slopes[0, k, there].T * root
        return np.asarray((held + self._swing(k) @ exponents) / self.table.scale[k])

    def _swing(self, k: int) -> Floats:
        """(2,) by how much log alpha and log beta move a minimum when the linear constants follow."""
        theta = self.solved.theta + SMALL * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        tried = _project(self.table, _repeated(_observed(self), 4), _repeated(self.weights, 4), theta)
        x = _floor(self, tried, self.weights[None]).x[:, k]
        return np.asarray((x[::2] - x[1::2]) / (2 * SMALL))

    def floor(self, which: Sequence[int], losses: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floor:
        """As of every method. Valleys not asked for keep the losses that they had: they say as much of the exponents as before."""
        asked = [self.inside.index(i) for i in which]
        rows = max(len(loss) for loss in losses)
        y = np.broadcast_to(_observed(self), (rows, *self.table.there.shape)).copy()
        w = np.broadcast_to(self.weights, y.shape).copy()
        for k, i, loss in zip(asked, which, losses, strict=True):
            y[:, k, self.table.there[k]] = loss / self.table.scale[k]
            if weights is not None:
                w[:, k, self.table.there[k]] = weights[list(which).index(i)]
        start = np.broadcast_to(self.solved.theta, (rows, 2))
        where, low = _floor(self, _settle(self.table, y, w, start), w)
        return Floor(where[:, asked], low[:, asked])


def through_all(valleys: tuple[Valley, ...], window: float) -> Additive:
    """Additive curves through all valleys of three points or more, in a window about each one's minimum."""
    about = _profile.through_all(valleys, _profile.WINDOW)
    used = tuple(_window(v, p, window) for v, p in zip(valleys, about.parabolas, strict=True))
    inside = tuple(i for i, u in enumerate(used) if u.any())
    points, spent = sum(int(used[i].sum()) for i in inside), 3 * len(inside) + 2
    if inside and points < spent + SPARE:
        msg = (
            f"{points} sizes at {len(inside)} budgets do not determine the {spent} constants of additive valleys (three a budget and two exponents). "
            'Add sizes, or take method="parabola", which needs three a budget.'
        )
        raise FitError(msg)
    table = _table(valleys, used, inside)
    fitted = Additive(valleys, used, (), float(spent), inside, table, np.empty(0), _nothing())
    if not inside:
        return fitted._replace(notes=tuple(_unfit(v) for v in valleys))
    weights, solved = _robust(table, _observed(fitted), table.padded(seeds_used(fitted, inside))[0])
    fitted = fitted._replace(weights=weights, solved=solved)
    return fitted._replace(notes=_notes(fitted))


def _nothing() -> Solved:
    return Solved(np.empty((1, 2)), np.empty((1, 0, 3)), np.empty((1, 0, 0)), np.empty(1), np.empty((1, 0, 0, 2)))


def _unfit(valley: Valley) -> str:
    """Why no additive curve goes through the valley; empty if one does."""
    return too_few(valley) or ("" if valley.price > LEAST_PRICE else "tokens do not fall as params rise, so its runs are not of one budget")


def _window(valley: Valley, about: Parabola | None, window: float) -> Mask:
    if _unfit(valley):
        return np.zeros(valley.x.size, dtype=bool)
    centre = about.vertex if about is not None and about.interior else float(valley.x[np.argmin(valley.loss)])
    return window_about(valley.x, centre, window, WANTED_POINTS)


def _middle(valley: Valley, used: Mask) -> tuple[float, float]:
    return float(valley.x[used].mean()), float(valley.t[used].mean())


def _table(valleys: tuple[Valley, ...], used: tuple[Mask, ...], inside: tuple[int, ...]) -> Table:
    width = max((int(used[i].sum()) for i in inside), default=0)
    u, v, there = (np.zeros((len(inside), width), dtype=kind) for kind in (float, float, bool))
    for k, i in enumerate(inside):
        x, t = valleys[i].x[used[i]], valleys[i].t[used[i]]
        u[k, : x.size], v[k, : x.size], there[k, : x.size] = x - x.mean(), t - t.mean(), True
    return Table(u, v, np.array([valleys[i].loss[used[i]].min() for i in inside]), there)


def _observed(fitted: Additive) -> Floats:
    """(valleys, points) losses over the scale of their valley."""
    columns = [fitted.valleys[i].loss[fitted.used[i]][None] for i in fitted.inside]
    return np.asarray(fitted.table.padded(columns)[0] / fitted.table.scale[:, None])


def _exp(x: Floats) -> Floats:
    """Finite however wide a valley is."""
    return np.asarray(np.exp(np.clip(x, -WIDEST, WIDEST)))


def _basis(theta: Floats, u: Floats, v: Floats) -> Floats:
    """(..., 3) one, exp(-alpha u), exp(-beta v)."""
    alpha, beta = np.exp(theta[..., 0]), np.exp(theta[..., 1])
    return np.stack([np.ones_like(u), _exp(-alpha * u), _exp(-beta * v)], axis=-1)


def _project(table: Table, y: Floats, weights: Floats, theta: Floats) -> Solved:
    """Least squares in the linear constants, for each row of theta, y and weights."""
    rates = np.exp(theta)[:, :, None, None]
    falls = np.stack([_exp(-rates[:, 0] * table.u), _exp(-rates[:, 1] * table.v)], axis=-1)
    root = np.sqrt(weights)[..., None]
    design = np.concatenate([np.ones_like(falls[..., :1]), falls], axis=-1) * root
    q, r = np.linalg.qr(design)
    target = y[..., None] * root
    inner = np.swapaxes(q, -1, -2) @ target
    linear = np.asarray(np.linalg.solve(r + np.eye(3) * 1e-15, inner)[..., 0], dtype=np.float64)
    left = target - q @ inner
    logs = np.stack([-rates[:, 0] * table.u, -rates[:, 1] * table.v], axis=-1)
    turned = logs * falls * root * linear[..., None, 1:]
    slopes = -(turned - q @ (np.swapaxes(q, -1, -2) @ turned))
    return Solved(theta, linear, left[..., 0], (left**2).sum(axis=(1, 2, 3)), slopes)


def _settle(table: Table, y: Floats, weights: Floats, theta: Floats) -> Solved:
    """Levenberg's steps from theta (rows, 2) until no row improves."""
    here = _project(table, y, weights, np.array(theta))
    damping, live = np.full(len(theta), 1e-3), np.arange(len(theta))
    parts = [np.array(part) for part in here]
    size = (weights * y**2).sum(axis=(1, 2))
    low, high = np.log(EXPONENTS)
    for _ in range(STEPS):
        J = parts[4][live].reshape(len(live), -1, 2)
        left = parts[2][live].reshape(len(live), -1, 1)
        normal, pull = np.swapaxes(J, 1, 2) @ J, (np.swapaxes(J, 1, 2) @ left)[..., 0]
        step = _step(normal, pull, damping[live], parts[0][live], (low, high))
        tried = _project(table, y[live], weights[live], np.clip(parts[0][live] + step, low, high))
        better = tried.squares < parts[3][live]
        gain = parts[3][live] - tried.squares
        for part, new in zip(parts, tried, strict=True):
            part[live[better]] = new[better]
        damping[live] = np.where(better, damping[live] * 0.2, damping[live] * 8.0)
        going = np.where(better, gain > STILL * parts[3][live], damping[live] < 1e6) & (parts[3][live] > 1e-29 * size[live])
        live = live[going]
        if not live.size:
            break
    return Solved(*parts)


def _step(normal: Floats, pull: Floats, damping: Floats, theta: Floats, ends: tuple[float, float]) -> Floats:
    """(rows, 2) damped; an exponent at a bound that it is pushed against stays."""
    held = ((theta <= ends[0]) & (pull > 0)) | ((theta >= ends[1]) & (pull < 0))
    free = ~held
    matrix = normal * (free[:, :, None] & free[:, None, :])
    own = np.einsum("rii->ri", normal)
    diagonal = np.where(free, damping[:, None] * (own + 1e-3 * own.max(axis=1, keepdims=True)) + 1e-300, 1.0)
    return -np.asarray(np.linalg.solve(matrix + np.eye(2) * diagonal[:, None, :], np.where(free, pull, 0.0)[..., None]))[..., 0]


def _robust(table: Table, y: Floats, seeds: Floats) -> tuple[Floats, Solved]:
    """The fit from the best of many starts, with losses far off weighted down (Huber's weights), and the weights."""
    starts = np.log(np.stack(np.meshgrid(STARTS, STARTS), axis=-1).reshape(-1, 2))
    weights = seeds
    first = _project(table, _repeated(y, len(starts)), _repeated(weights, len(starts)), starts)
    theta = first.theta[np.argsort(first.squares)[:TRIED]]
    ends = _settle(table, _repeated(y, len(theta)), _repeated(weights, len(theta)), theta)
    best = Solved(*(part[[int(np.argmin(ends.squares))]] for part in ends))
    free = float((seeds > 0).sum()) - 3 * len(seeds) - 2
    for _ in range(REWEIGHTINGS):
        off = np.abs(best.left[0]) * np.sqrt(seeds / np.where(weights > 0, weights, 1.0))
        spread = 1.4826 * float(np.median(off[seeds > 0])) * np.sqrt((seeds > 0).sum() / free)  # 1.4826: the deviation of a normal
        changed = seeds * np.minimum(1.0, OUTLIER * spread / np.where(off > 0, off, np.inf)) if spread > 1e-9 else seeds
        if np.allclose(changed, weights):
            break
        weights = changed
        best = _settle(table, y[None], weights[None], best.theta)
    return weights, best


def _repeated(part: Floats, rows: int) -> Floats:
    return np.broadcast_to(part, (rows, *part.shape))


def _floor(fitted: Additive, solved: Solved, weights: Floats) -> Floor:
    """Minima along the line that the budget draws in log params and log tokens, between the points with weight."""
    alpha, beta = (np.exp(solved.theta[:, k])[:, None] for k in (0, 1))
    price = np.array([fitted.valleys[i].price for i in fitted.inside])
    middles = np.array([_middle(fitted.valleys[i], fitted.used[i]) for i in fitted.inside])
    A, B = solved.linear[..., 1], solved.linear[..., 2]
    both = (A > 0) & (B > 0)
    u = np.log(np.where(both, alpha * A / np.where(both, beta * price * B, 1.0), 1.0)) / (alpha + beta * price)
    there = (weights > 0) & fitted.table.there
    enough = there.sum(axis=2) >= FEWEST_POINTS
    there = np.where(enough[..., None], there, fitted.table.there)  # a row that does not count has ends too
    low = np.where(there, fitted.table.u, np.inf).min(axis=2)
    high = np.where(there, fitted.table.u, -np.inf).max(axis=2)
    u = np.where(both, np.clip(u, low, high), np.where(B > 0, low, high))
    value = solved.linear[..., 0] + A * _exp(-alpha * u) + B * _exp(beta * price * u)
    return Floor(np.where(enough, u + middles[:, 0], np.nan), np.where(enough, value * fitted.table.scale, np.nan))


def _notes(fitted: Additive) -> tuple[str, ...]:
    floor = _floor(fitted, fitted.solved, fitted.weights[None])
    notes = [_unfit(v) for v in fitted.valleys]
    for k, i in enumerate(fitted.inside):
        x = fitted.valleys[i].x[fitted.used[i]]
        notes[i] = "" if floor.loss[0, k] > 0 else BELOW_ZERO
        if not x[0] < floor.x[0, k] < x[-1]:
            notes[i] = still_falls(down=bool(floor.x[0, k] <= x[0]))
    return tuple(notes)
