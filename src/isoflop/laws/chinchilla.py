"""The law of Hoffmann et al. 2022, Eq. 2: an irreducible loss, a term for finite params and a term for finite tokens."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.laws import Allocation, Cost, Floats, _checks


@dataclass(frozen=True, kw_only=True)
class Chinchilla:
    """L(N, D) = E + A / N**alpha + B / D**beta, in nats per token.

    Raises:
        UsageError: A constant that is not finite, an exponent or A or B that is not positive, or a negative E.

    Source: Hoffmann et al. 2022, Sec. 3.3, Eq. 2.
    """

    E: float  # loss of a perfect model of the text
    A: float
    B: float
    alpha: float
    beta: float
    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared

    def __post_init__(self) -> None:
        _checks.constants(self, from_zero=("E",), positive=("A", "B", "alpha", "beta"))

    @property
    def a(self) -> float:
        """Exponent of N_opt ~ C**a; beta / (alpha + beta) where C = 6ND."""
        return self.beta / (self.alpha + self.cost.power * self.beta)

    @property
    def b(self) -> float:
        """Exponent of D_opt ~ C**b; 1 - a where C = 6ND."""
        return self.alpha / (self.alpha + self.cost.power * self.beta)

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts; either may be infinite. Without end of params E + B / D**beta is left, which no model of D tokens beats."""
        N, D = _checks.extent(params, "params"), _checks.extent(tokens, "tokens")
        with np.errstate(over="ignore", divide="ignore"):  # a term of infinite params or tokens is 0, of none infinite
            return np.asarray(self.E + self.A / N**self.alpha + self.B / D**self.beta)

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens of least loss where C = scale * N**p * D; broadcasts.

        Raises:
            UsageError: A budget that is not finite and positive.

        Source: Hoffmann et al. 2022, Eq. 4, with p beta in place of beta where the cost of a token is not proportional to N.
        """
        C, p = _checks.amount(flops, "a budget in FLOPs"), self.cost.power
        # in logs: A and B reach 1e30 for steep exponents, and their ratio is all that counts
        log_G = math.log(self.alpha) + math.log(self.A) - math.log(p * self.beta) - math.log(self.B)
        log_N = (log_G + self.beta * (np.log(C) - math.log(self.cost.scale))) / (self.alpha + p * self.beta)
        N = np.exp(log_N)
        D = self.cost.tokens(N, C)
        return Allocation(flops=C, params=N, tokens=D, loss=self.loss(N, D))
