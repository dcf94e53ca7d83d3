"""The law of Li et al. 2025, "Farseer": how fast the loss falls with tokens depends on the params."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import FitError, UsageError
from isoflop.laws import Allocation, Cost, Floats, _checks, _solve

_POINTS = 257  # sizes looked at between 1 param and 1 token: every 0.2 in log N at 1e23 FLOPs; the minimum and the maximum after it are several apart
_STEEPEST = 300.0  # log of the most that the power of tokens is taken for: at two tokens its term is nothing long before, and more would overflow


@dataclass(frozen=True, kw_only=True)
class Farseer:
    """L(N, D) = exp(a3 N**gamma + b3) + exp(a2 N**beta + b2) * D**-exp(a1 N**alpha + b1), in nats per token.

    Each of the three stretched exponentials falls with params. As the power of D falls too, a much larger model may learn less from the same tokens; and at
    sizes without end the formula leaves exp(b2), or exp(b2) + exp(b3), whatever the tokens, which neither bounds nor describes any model. So the optimum is
    the first minimum from small models on: beyond the maximum that follows the formula means nothing. a and b are NaN, as they change along the frontier:
    `exponents` says them.

    Raises:
        UsageError: A constant that is not finite, or a1 alpha, a2 beta or a3 gamma that is not negative.

    Source: Li et al. 2025, "Predictable Scale: Part II, Farseer" (arXiv 2506.10972).
    """

    a1: float
    b1: float
    alpha: float
    a2: float
    b2: float
    beta: float
    a3: float
    b3: float
    gamma: float
    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared

    def __post_init__(self) -> None:
        for name in ("a1", "b1", "alpha", "a2", "b2", "beta", "a3", "b3", "gamma"):
            if not math.isfinite(getattr(self, name)):
                msg = f"{name} of a Farseer law is {getattr(self, name)!r}, but it must be finite; else no loss can be computed. Check the constants."
                raise UsageError(msg)
        for factor, power in (("a1", "alpha"), ("a2", "beta"), ("a3", "gamma")):
            product = getattr(self, factor) * getattr(self, power)
            if not product < 0:
                msg = f"{factor} * {power} of a Farseer law is {product!r}, but it must be less than zero: each of its exponentials falls with params."
                raise UsageError(f"{msg} Check the signs of {factor} and {power}.")

    @property
    def a(self) -> float:
        """NaN: it changes along the frontier."""
        return math.nan

    @property
    def b(self) -> float:
        """NaN: it changes along the frontier."""
        return math.nan

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts; either may be infinite (where both are, the tokens first)."""
        N, D = _checks.extent(params, "params"), _checks.extent(tokens, "tokens")
        with np.errstate(over="ignore", divide="ignore"):
            log_N, log_D = np.log(N), np.log(D)
            log_first, log_second = self._log_terms(log_N, np.where(np.isposinf(D), 0.0, log_D))
            return np.asarray(np.exp(log_first) + np.where(np.isposinf(D), 0.0, np.exp(log_second)))

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens of the first minimum of the loss where C = scale * N**p * D, from small models on; broadcasts.

        Raises:
            UsageError: A budget that is not finite and positive.
            FitError: No minimum between one param and one token.
        """
        C = _checks.amount(flops, "a budget in FLOPs")
        log_ND = np.log(C) - math.log(self.cost.scale)
        ends = np.zeros(C.shape), np.maximum(log_ND / self.cost.power, 0.0)
        log_N, found = _solve.first_fall(lambda x: self._gain(x, log_ND), ends, _POINTS)
        if not found.all():
            msg = f"this Farseer law has no optimum at {C[~found].flat[0]:.3g} FLOPs: between 1 param and 1 token its loss has no minimum."
            raise FitError(f"{msg} Its constants do not describe such a budget; take another law.")
        N = np.exp(log_N)
        D = self.cost.tokens(N, C)
        return Allocation(flops=C, params=N, tokens=D, loss=self.loss(N, D))

    def _log_terms(self, log_N: Floats, log_D: Floats) -> tuple[Floats, Floats]:
        first = self.a3 * np.exp(self.gamma * log_N) + self.b3
        second = self.a2 * np.exp(self.beta * log_N) + self.b2 - self._power(log_N) * log_D
        return first, second

    def _power(self, log_N: Floats) -> Floats:
        """The exponent of D at a size."""
        return np.asarray(np.exp(np.minimum(self.a1 * np.exp(self.alpha * log_N) + self.b1, _STEEPEST)))

    def _gain(self, log_N: Floats, log_ND: Floats) -> Floats:
        """One less the ratio of what fewer tokens lose to what more params gain, both for an e-fold of params at a budget; zero at an optimum.

        From the derivatives rather than from the loss, which is flat to half its digits around its minimum.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            log_D = log_ND - self.cost.power * log_N
            log_first, log_second = self._log_terms(log_N, log_D)
            power = self._power(log_N)
            # d(log second) / d(log N) along the budget
            slope = self.a2 * self.beta * np.exp(self.beta * log_N) - power * (self.a1 * self.alpha * np.exp(self.alpha * log_N) * log_D - self.cost.power)
            fall = log_first + math.log(-self.a3 * self.gamma) + self.gamma * log_N
            log_ratio = np.nan_to_num(log_second + np.log(np.abs(slope) + 1e-300) - fall, nan=-np.inf)  # both terms gone: no minimum is there
            ratio = np.exp(np.clip(log_ratio, -700.0, 700.0))
            return np.asarray(1 - np.sign(slope) * ratio)
