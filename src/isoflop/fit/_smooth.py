"""Forms of law beyond the additive one: derivatives of log L, by complex steps where no formula is quicker, and Gauss-Newton's curvature."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isoflop.fit._estimators import Estimator
from isoflop.fit._huber import EXPONENTS, LARGEST_LOG, SMALLEST_TERM, Points
from isoflop.fit._solver import STRAIGHT, Bounds, Chart, Derivatives
from isoflop.laws import Cost
from isoflop.laws.data_constrained import DataConstrained
from isoflop.laws.farseer import Farseer
from isoflop.laws.kaplan import Kaplan

Floats = NDArray[np.float64]
Numbers = NDArray[np.complex128]
LogLoss = Callable[[Points, Numbers], Numbers]  # (unknowns, rows, 1) to (rows, runs)

STEP = 1e-30  # imaginary: df/dx = Im f(x + ih) / h without cancellation (Squire and Trapp 1998, SIAM Review 40(1))
DECAY = (0.05, 500.0)  # R_N and R_D; assumption: Muennighoff et al. 2023 find 5.3 and 15.4. At the upper end a repeat is worth a new token
TOUCHING = 0.1  # share of their curvature; all of it would be slow near the optimum (assumption)
FLATTEST = 0.01  # alpha_N and alpha_D; assumption: Kaplan et al. 2020 find 0.076 and 0.095
BEND = 0.6  # of Farseer's powers; assumption: published ones are within 0.32
ALMOST_STRAIGHT = 1e-6  # a power of Farseer nearer to 0 than this is moved there, since its factor is one over it
SLOPES = (1e-6, 3.0)  # of Farseer's exponents per e-fold of params at the centre (assumption)
STEEPEST = 5.0  # log of the most that Farseer's power of tokens is taken for: exp(-148 log D) is nothing, and more would overflow
FARTHEST = 50.0  # of an exponent, for the same reason
SHORT = 0.01  # exponents below which five terms of their series are exact to rounding, and differences over them are not


def _derivatives(of: LogLoss, points: Points, theta: Floats, *, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
    at = theta.T[:, :, None].astype(complex)
    fitted = of(points, at).real
    J = np.empty((*fitted.shape, theta.shape[1]))
    for k in range(theta.shape[1]):
        moved = at.copy()
        moved[k] += 1j * STEP
        J[:, :, k] = of(points, moved).imag / STEP
    return _gauss_newton(fitted, J, estimator=estimator, weights=weights, log_loss=log_loss)


def _gauss_newton(fitted: Floats, J: Floats, *, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
    """Of the sum over runs, from (rows, runs) fitted log losses and (rows, runs, unknowns) their derivatives."""
    value, slope, bend = estimator.at(fitted, log_loss, weights)
    gradient = (slope[:, None, :] @ J)[:, 0, :]
    # beyond delta Huber's loss does not bend, and squares that touch it there (slope over residual) keep far starts from having no curvature at all
    off = np.abs(fitted - log_loss)
    bend = np.maximum(bend, 0.0) + TOUCHING * np.abs(slope) / np.maximum(off, 1e-12) * (off > estimator.delta)
    return Derivatives(value, gradient, np.swapaxes(J * bend[:, :, None], 1, 2) @ J)


def _log_sum(*logs: Numbers) -> Numbers:
    top = logs[0].real
    for each in logs[1:]:
        top = np.maximum(top, each.real)
    total = sum(np.exp(each - top) for each in logs)
    return np.asarray(top + np.log(total))


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Of Kaplan et al. 2020, Eq. 1.5; log L = s log(exp(u / s) + exp(v / s)) with s = alpha_D."""

    names: tuple[str, ...] = ("the params term", "the tokens term", "alpha_N", "alpha_D")
    chart: Chart = STRAIGHT

    def bounds(self, points: Points) -> Bounds:
        low, high = float(points.log_loss.min()) - SMALLEST_TERM, float(points.log_loss.max())
        return Bounds(np.array([low, low, FLATTEST, FLATTEST]), np.array([high, high, EXPONENTS[1], EXPONENTS[1]]))

    def fitted(self, points: Points, theta: Floats) -> Floats:
        return self._log_loss(points, theta.T[:, :, None].astype(complex)).real

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        return _derivatives(self._log_loss, points, theta, estimator=estimator, weights=weights, log_loss=log_loss)

    def law(self, points: Points, theta: Floats, cost: Cost) -> Kaplan:
        a, b, alpha_N, alpha_D = (float(v) for v in theta)
        logs = np.array([a / alpha_N + points.log_params, b / alpha_D + points.log_tokens])
        Nc, Dc = np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG))  # beyond it an exponent is at its bound, and the status says so
        return Kaplan(Nc=float(Nc), Dc=float(Dc), alpha_N=alpha_N, alpha_D=alpha_D, cost=cost)

    def priced(self, cost: Cost) -> Self:  # noqa: ARG002 - it does not depend on it
        return self

    def widen(self, additive: Floats) -> Floats:
        level = np.log(np.exp(additive[:, :3]).sum(axis=1))
        rows = [[at + term, at + term, power, power] for at in level[:1] for term in (-0.1, -1.0) for power in (0.03, 0.1, 0.3)]
        return np.array(rows)

    @staticmethod
    def _log_loss(points: Points, at: Numbers) -> Numbers:
        a, b, alpha_N, alpha_D = at
        return np.asarray(alpha_D * _log_sum((a - alpha_N * points.x) / alpha_D, (b - alpha_D * points.y) / alpha_D))


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Of Muennighoff et al. 2023, Eq. 5 and 6: the additive law of what params and tokens are worth."""

    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared
    names: tuple[str, ...] = ("E", "the params term", "the tokens term", "alpha", "beta", "R_N", "R_D")
    chart: Chart = STRAIGHT

    def bounds(self, points: Points) -> Bounds:
        lower, upper = points.bounds
        return Bounds(np.append(lower, np.log([DECAY[0]] * 2)), np.append(upper, np.log([DECAY[1]] * 2)))

    def fitted(self, points: Points, theta: Floats) -> Floats:
        return self._log_loss(points, theta.T[:, :, None].astype(complex)).real

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        return _derivatives(self._log_loss, points, theta, estimator=estimator, weights=weights, log_loss=log_loss)

    def law(self, points: Points, theta: Floats, cost: Cost) -> DataConstrained:
        assert points.unique is not None
        plain = points.law(theta[:5], cost)
        R_N, R_D = (float(np.exp(v)) for v in theta[5:])
        most = float(np.exp(points.unique.max() + points.log_tokens))
        return DataConstrained(E=plain.E, A=plain.A, B=plain.B, alpha=plain.alpha, beta=plain.beta, R_N=R_N, R_D=R_D, unique_tokens=most, cost=cost)

    def priced(self, cost: Cost) -> Self:
        return replace(self, cost=cost)

    def widen(self, additive: Floats) -> Floats:
        decays = np.log([(5.0, 15.0), (1.0, 5.0), (50.0, 50.0)])
        return np.vstack([np.append(row, pair) for row in additive for pair in decays])

    def _log_loss(self, points: Points, at: Numbers) -> Numbers:
        assert points.unique is not None
        e, a, b, alpha, beta, log_R_N, log_R_D = at
        unique = np.minimum(points.unique, points.y)
        # log of the params whose optimum is the unique tokens, about the centre: alpha A / N**alpha = p beta B / D**beta
        best = (np.log(alpha) - np.log(self.cost.power * beta) + a - b + beta * unique) / alpha
        below = best.real >= points.x
        counted = np.asarray(np.where(below, points.x, best), dtype=complex)
        return _log_sum(e, a - alpha * _worth(points.x, counted, log_R_N), b - beta * _worth(points.y, unique, log_R_D))


def _worth(log_amount: Floats, log_unique: Numbers | Floats, log_decay: Numbers) -> Numbers:
    """Log of the unique and what the excess is worth."""
    decay = np.exp(log_decay)
    excess = np.expm1(np.minimum(np.real(log_amount - log_unique), 50.0) + 1j * np.imag(log_amount - log_unique))
    return np.asarray(log_unique + np.log1p(-decay * np.expm1(-excess / decay)))


@dataclass(frozen=True, kw_only=True)
class Stretched:
    """Of Li et al. 2025 ("Farseer"): log L = log(exp(h3) + exp(h2 - exp(h1) log D)).

    Each h is level - slope (N**power - 1) / power with N in units of its mean, so that a power of zero is a plain power law and the sign of the slope,
    not of the power, is what must be positive. The level of h2 is that of the whole second term at the centre.
    """

    names: tuple[str, ...] = ("b1", "a1", "alpha", "b2", "a2", "beta", "b3", "a3", "gamma")
    chart: Chart = STRAIGHT

    def bounds(self, points: Points) -> Bounds:
        low, high = float(points.log_loss.min()) - SMALLEST_TERM, float(points.log_loss.max())
        flat, steep = np.log(SLOPES)
        lower = np.array([np.log(EXPONENTS[0]), flat, -BEND, low, flat, -BEND, low, flat, -BEND])
        return Bounds(lower, np.array([np.log(EXPONENTS[1]), steep, BEND, high, steep, BEND, high, steep, BEND]))

    def fitted(self, points: Points, theta: Floats) -> Floats:
        return self._with_slopes(points, theta)[0]

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        fitted, J = self._with_slopes(points, theta)
        return _gauss_newton(fitted, J, estimator=estimator, weights=weights, log_loss=log_loss)

    def law(self, points: Points, theta: Floats, cost: Cost) -> Farseer:
        terms = []
        for level, log_slope, bend in theta.reshape(3, 3):
            power = float(bend) if abs(bend) > ALMOST_STRAIGHT else ALMOST_STRAIGHT
            factor = float(np.exp(log_slope)) / power
            terms.append((-factor * float(np.exp(-power * points.log_params)), float(level) + factor, power))
        (a1, b1, alpha), (a2, b2, beta), (a3, b3, gamma) = terms
        return Farseer(a1=a1, b1=b1, alpha=alpha, a2=a2, b2=b2 + float(np.exp(theta[0])) * points.log_tokens, beta=beta, a3=a3, b3=b3, gamma=gamma, cost=cost)

    def priced(self, cost: Cost) -> Self:  # noqa: ARG002 - it does not depend on it
        return self

    def widen(self, additive: Floats) -> Floats:
        rows = []
        for e, a, b, alpha, beta in additive:
            level = np.logaddexp(e, a)
            slope = np.log(alpha * np.exp(a - level))
            rows += [
                [np.log(beta), np.log(0.05), p, b, np.log(0.3), q, level, slope, r] for p, q, r in ((0.1, -0.1, 0.1), (0.05, 0.05, -0.3), (-0.1, 0.1, -0.1))
            ]
        return np.array(rows)

    @staticmethod
    def _with_slopes(points: Points, theta: Floats) -> tuple[Floats, Floats]:
        """(rows, runs) log of the loss, and (rows, runs, 9) its derivatives."""
        at = theta.T[:, :, None]
        (h1, J1), (h2, J2), (h3, J3) = (_stretched(at[3 * k : 3 * k + 3], points.x) for k in range(3))
        lost = np.exp(np.minimum(h1, STEEPEST)) * (points.y + points.log_tokens)
        back = np.exp(at[0]) * points.log_tokens  # so that the level of h2 is that at the centre
        second = h2 + back - lost
        log_loss = np.logaddexp(h3, second)
        share = np.exp(second - log_loss)
        J = np.concatenate([-(share * lost)[:, :, None] * J1, share[:, :, None] * J2, np.exp(h3 - log_loss)[:, :, None] * J3], axis=2)
        J[:, :, 0] += share * back
        return log_loss, J


def _stretched(at: Floats, x: Floats) -> tuple[Floats, Floats]:
    """(rows, runs) level - slope (exp(power x) - 1) / power from (3, rows, 1) level, log slope and power, and (rows, runs, 3) its derivatives."""
    level, log_slope, power = at
    u = power * x
    near = np.abs(u) < SHORT
    over = np.where(near, 1.0, power)
    grown = np.expm1(np.minimum(u, FARTHEST))
    curve = np.where(near, x * (1 + u * (1 / 2 + u * (1 / 6 + u * (1 / 24 + u / 120)))), grown / over)
    turn = np.where(near, x * x * (1 / 2 + u * (1 / 3 + u * (1 / 8 + u * (1 / 30 + u / 144)))), (x * grown + x - curve) / over)
    slope = -np.exp(log_slope)
    return level + slope * curve, np.stack([np.ones_like(u), slope * curve, slope * turn], axis=2)
