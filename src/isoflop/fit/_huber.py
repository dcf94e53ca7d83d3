"""The objective of Approach 3 with its derivatives: Huber's loss of log L, on centred logs."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._solver import Bounds, Derivatives, Objective
from isoflop.laws import Cost
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Runs

Floats = NDArray[np.float64]

EXPONENTS = (0.02, 4.0)  # assumption: 0.2 to 0.8 in every public sweep; at the bounds a term is a constant, or gone
SMALLEST_TERM = 12.0  # a term under exp(-12) of the least loss cannot be told from none (assumption)


@dataclass(frozen=True, kw_only=True)
class Points:
    """Runs as the objective sees them; every column of shape (runs,)."""

    x: Floats  # log params, less its mean
    y: Floats  # log tokens, less its mean
    log_loss: Floats
    log_params: float  # the mean taken off
    log_tokens: float

    @classmethod
    def of(cls, runs: Runs, order: NDArray[np.intp]) -> Self:
        x, y = np.log(runs.params[order]), np.log(runs.tokens[order])
        return cls(x=x - x.mean(), y=y - y.mean(), log_loss=np.log(runs.loss[order]), log_params=float(x.mean()), log_tokens=float(y.mean()))

    @property
    def bounds(self) -> Bounds:
        """Of log E, log of the params term and of the tokens term at the centre, alpha, beta."""
        low, high = float(self.log_loss.min()) - SMALLEST_TERM, float(self.log_loss.max())
        steep, flat = EXPONENTS[1], EXPONENTS[0]
        return Bounds(np.array([low, low, low, flat, flat]), np.array([high, high, high, steep, steep]))

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

        def at(theta: Floats, rows: NDArray[np.intp]) -> Derivatives:
            w = weights if len(weights) == 1 else weights[rows]
            return self._derivatives(theta, w / delta, delta)

        return at

    def _derivatives(self, theta: Floats, weights: Floats, delta: float) -> Derivatives:
        e, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
        logs = np.stack(np.broadcast_arrays(e, a - alpha * self.x, b - beta * self.y))  # (3, rows, runs)
        top = logs.max(axis=0)
        terms = np.exp(logs - top)
        total = terms.sum(axis=0)
        share_E, share_A, share_B = terms / total
        residual = top + np.log(total) - self.log_loss
        size = np.abs(residual)
        value = (weights * np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))).sum(axis=1)
        slope = weights * np.clip(residual, -delta, delta)
        bend = weights * (size <= delta)
        # d log L: each unknown of a term by that term's share of the loss
        J = np.stack([share_E, share_A, share_B, -self.x * share_A, -self.y * share_B], axis=-1)  # (rows, runs, 5)
        gradient = np.einsum("rn,rni->ri", slope, J)
        # d2 log L = sum over terms of share x (d term)(d term)' - J J'
        hessian = np.swapaxes(J * (bend - slope)[:, :, None], 1, 2) @ J
        hessian[:, 0, 0] += (slope * share_E).sum(axis=1)
        for level, exponent, share, u in ((1, 3, slope * share_A, self.x), (2, 4, slope * share_B, self.y)):
            hessian[:, level, level] += share.sum(axis=1)
            hessian[:, exponent, exponent] += share @ u**2
            cross = share @ u
            hessian[:, level, exponent] -= cross
            hessian[:, exponent, level] -= cross
        return Derivatives(value, gradient, hessian)
