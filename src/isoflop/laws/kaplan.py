"""The joint law of Kaplan et al. 2020, Eq. 1.5: finite params and finite tokens share one power."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.laws import Allocation, Cost, Floats, _checks


@dataclass(frozen=True, kw_only=True)
class Kaplan:
    """L(N, D) = ((Nc / N)**(alpha_N / alpha_D) + Dc / D)**alpha_D, in nats per token; no irreducible loss.

    It is a law of models trained until they stop improving on D tokens. Its optimum at a budget of one pass is not the paper's advice (N ~ C**0.73), which
    is of models stopped long before.

    Raises:
        UsageError: A constant that is not finite and positive.

    Source: Kaplan et al. 2020, Eq. 1.5; N without embeddings.
    """

    Nc: float
    Dc: float
    alpha_N: float
    alpha_D: float
    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared

    def __post_init__(self) -> None:
        _checks.constants(self, positive=("Nc", "Dc", "alpha_N", "alpha_D"))

    @property
    def a(self) -> float:
        """Exponent of N_opt ~ C**a; alpha_D / (alpha_N + alpha_D) where C = 6ND."""
        return self.alpha_D / (self.alpha_N + self.cost.power * self.alpha_D)

    @property
    def b(self) -> float:
        """Exponent of D_opt ~ C**b; 1 - a where C = 6ND."""
        return self.alpha_N / (self.alpha_N + self.cost.power * self.alpha_D)

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts; either may be infinite. Without end of params (Dc / D)**alpha_D is left."""
        N, D = _checks.extent(params, "params"), _checks.extent(tokens, "tokens")
        x = self.alpha_N / self.alpha_D
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # of no params or tokens; NaN stays NaN
            # in logs: (Nc / N)**x overflows for x over 30, though its power alpha_D does not
            bracket = np.logaddexp(x * (math.log(self.Nc) - np.log(N)), math.log(self.Dc) - np.log(D))
            return np.asarray(np.exp(self.alpha_D * bracket))

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens of least loss where C = scale * N**p * D; broadcasts.

        The derivative of the bracket along the budget is zero where x (Nc / N)**x = p Dc / D, x = alpha_N / alpha_D.

        Raises:
            UsageError: A budget that is not finite and positive.
        """
        C, p, x = _checks.amount(flops, "a budget in FLOPs"), self.cost.power, self.alpha_N / self.alpha_D
        log_G = math.log(x) + x * math.log(self.Nc) - math.log(p) - math.log(self.Dc) - math.log(self.cost.scale)
        N = np.exp((log_G + np.log(C)) / (p + x))
        D = self.cost.tokens(N, C)
        return Allocation(flops=C, params=N, tokens=D, loss=self.loss(N, D))
