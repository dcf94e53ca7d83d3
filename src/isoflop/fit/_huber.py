"""The objective of Approach 3 with its derivatives: the additive law on centred logs, under any estimator."""

import functools
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._estimators import Estimator
from isoflop.fit._solver import Bounds, Chart, Derivatives, Objective
from isoflop.laws import Cost
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Runs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EXPONENTS = (0.02, 4.0)  # assumption: 0.2 to 0.8 in every public sweep; at the bounds a term is a constant, or gone
SMALLEST_TERM = 12.0  # a term under exp(-12) of the least loss cannot be told from none (assumption)
LEAST_GROWTH = 0.1  # of a term or slope in one step (assumption: a tenth is where its square no longer holds)
LARGEST_LOG = 300.0  # a term beyond exp(300) is no nearer to any loss; its square still fits in a double
# (5, 5) which of the fifteen entries on and above the diagonal, row by row, stands where
SYMMETRIC = np.array([[0, 1, 2, 3, 4], [1, 5, 6, 7, 8], [2, 6, 9, 10, 11], [3, 7, 10, 12, 13], [4, 8, 11, 13, 14]])


@dataclass(frozen=True, kw_only=True)
class Points:
    """Runs as the objective sees them; every column of shape (runs,)."""

    x: Floats  # log params, less its mean
    y: Floats  # log tokens, less its mean
    log_loss: Floats
    log_params: float  # the mean taken off
    log_tokens: float
    unique: Floats | None = None  # log of the unique tokens, less `log_tokens`

    @classmethod
    def of(cls, runs: Runs, order: NDArray[np.intp]) -> Self:
        x, y = np.log(runs.params[order]), np.log(runs.tokens[order])
        middle, unique = float(y.mean()), runs.unique_tokens
        return cls(
            x=x - x.mean(),
            y=y - y.mean(),
            log_loss=np.log(runs.loss[order]),
            log_params=float(x.mean()),
            log_tokens=middle,
            unique=None if unique is None else np.log(unique[order]) - middle,
        )

    def part(self, which: slice | NDArray[np.intp]) -> Self:
        """Some of the runs, about the same centre."""
        unique = None if self.unique is None else self.unique[which]
        return replace(self, x=self.x[which], y=self.y[which], log_loss=self.log_loss[which], unique=unique)

    @property
    def bounds(self) -> Bounds:
        """Of log E, log of the params term and of the tokens term at the centre, alpha, beta."""
        low, high = float(self.log_loss.min()) - SMALLEST_TERM, float(self.log_loss.max())
        steep, flat = EXPONENTS[1], EXPONENTS[0]
        return Bounds(np.array([low, low, low, flat, flat]), np.array([high, high, high, steep, steep]))

    @functools.cached_property
    def powers(self) -> tuple[Floats, Floats, Floats]:
        """(runs, 3) powers of x from 0, the same of y, and (runs, 4) 1, x, y and xy."""
        x, y, one = self.x, self.y, np.ones_like(self.x)
        return np.stack([one, x, x * x], axis=1), np.stack([one, y, y * y], axis=1), np.stack([one, x, y, x * y], axis=1)

    def law(self, theta: Floats, cost: Cost) -> Chinchilla:
        e, a, b, alpha, beta = (float(v) for v in theta)
        A, B = np.exp(a + alpha * self.log_params), np.exp(b + beta * self.log_tokens)
        return Chinchilla(E=float(np.exp(e)), A=float(A), B=float(B), alpha=alpha, beta=beta, cost=cost)

    def objective(self, weights: Floats, delta: float) -> Objective:
        """Sum over runs of weight x Huber's loss of log fitted less log observed loss, over delta so that its optimum is of order one.

        Args:
            weights: (rows, runs) how often each run counts, or (1, runs) the same for every row.
            delta: Of Huber's loss.
        """
        estimator = Estimator(delta=delta)

        def at(theta: Floats, rows: NDArray[np.intp]) -> Derivatives:
            return additive(self, theta, estimator, weights if len(weights) == 1 else weights[rows], self.log_loss)

        return at


def fitted(points: Points, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """(rows, runs) log of the additive law's loss, and the shares of its terms for E, params and tokens."""
    e, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
    share_A, share_B, share_E = np.minimum(a - alpha * points.x, LARGEST_LOG), np.minimum(b - beta * points.y, LARGEST_LOG), np.exp(e)
    np.exp(share_A, out=share_A)
    np.exp(share_B, out=share_B)
    total = share_A + share_B
    total += share_E
    share_A /= total
    share_B /= total
    share_E = share_E / total
    return np.log(total, out=total), share_E, share_A, share_B


def additive(points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
    """Value, gradient and Hessian of the sum over runs, in (log E, log params term, log tokens term, alpha, beta).

    With shares s of the terms in the loss, d log L = sum of s x d(log term), and d2 log L = sum of s (d term)(d term)' - (d log L)(d log L)'. The sums over
    runs are moments of x and y, so no matrix of (runs, unknowns) is ever made.
    """
    log_total, share_E, share_A, share_B = fitted(points, theta)
    value, slope, bend = estimator.at(log_total, log_loss, weights)
    by_x, by_y, both = points.powers
    slope_A, slope_B = slope * share_A, slope * share_B
    A, B = slope_A @ by_x, slope_B @ by_y  # (rows, 3) moments
    E = np.einsum("rn,rn->r", slope, share_E)
    gradient = np.stack([E, A[:, 0], B[:, 0], -A[:, 1], -B[:, 1]], axis=1)
    bend = bend - slope
    bend_A, bend_B = bend * share_A, bend * share_B
    AA, BB, AB = (bend_A * share_A) @ by_x, (bend_B * share_B) @ by_y, (bend_A * share_B) @ both
    EA, EB = (bend_A * share_E) @ by_x[:, :2], (bend_B * share_E) @ by_y[:, :2]
    share_E *= share_E
    EE = np.einsum("rn,rn->r", bend, share_E)
    AA += A
    BB += B
    entries = [EE + E, EA[:, 0], EB[:, 0], -EA[:, 1], -EB[:, 1]]
    entries += [AA[:, 0], AB[:, 0], -AA[:, 1], -AB[:, 2], BB[:, 0], -AB[:, 1], -BB[:, 1], AA[:, 2], AB[:, 3], BB[:, 2]]
    hessian = np.stack(entries, axis=1)[:, SYMMETRIC]
    return Derivatives(value, gradient, hessian)


def _pull(theta: Floats, gradient: Floats, hessian: Floats, held: Bools) -> tuple[Floats, Floats, Bools]:
    free = ~held
    first = np.zeros((len(theta), 5, 5))
    first[:, range(5), range(5)] = free
    first[:, 0, 0] *= _whole(theta)
    second = np.zeros_like(first)
    second[:, range(3), range(3)] = -(gradient * free)[:, :3] * first[:, range(3), range(3)] ** 2
    for level, exponent in ((1, 3), (2, 4)):
        alpha = np.where(held[:, exponent], 0.0, theta[:, exponent])
        first[:, exponent, exponent] = alpha
        first[:, exponent, level] = np.where(held[:, level], 0.0, -alpha)
        push = gradient[:, exponent] * alpha
        second[:, level, level] += 2 * push
        second[:, level, exponent] -= push
        second[:, exponent, level] -= push
    return (gradient[:, None, :] @ first)[:, 0, :], first.swapaxes(1, 2) @ hessian @ first + second, held


def _move(theta: Floats, step: Floats, held: Bools) -> Floats:
    relative = step.copy()
    relative[:, 0] *= _whole(theta)
    grown = np.maximum(1 + relative, LEAST_GROWTH)
    moved = theta.copy()
    moved[:, :3] += np.log(grown[:, :3])
    moved[:, 3:] *= np.where(held[:, 3:], 1.0, grown[:, 3:] / grown[:, 1:3])
    return moved


def _whole(theta: Floats) -> Floats:
    """(rows,) the loss at the centre over E: a step of E is measured in the loss, or from nothing it would take many steps to grow."""
    return np.asarray(np.exp(theta[:, :3] - theta[:, :1]).sum(axis=1))


CHART = Chart(_pull, _move)
"""Change of E in units of the loss, relative changes of A, B, alpha A and beta B, all at the centre.

Where a term is nearly a line in logs, E can be had for A and a smaller exponent; in these coordinates that valley is straight.
"""
