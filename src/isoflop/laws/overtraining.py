"""The law of Gadre et al. 2024: the additive law with tied exponents, written in compute and tokens per param."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import UsageError
from isoflop.laws import Allocation, Cost, Floats, _checks


@dataclass(frozen=True, kw_only=True)
class Overtraining:
    """L(C, M) = E + (over * M**eta + under * M**-eta) * C**-eta with M = D / N, in nats per token.

    With C = scale N D this is E + over scale**-eta / N**(2 eta) + under scale**-eta / D**(2 eta): at every M the loss falls with the same exponent, and the
    best M is one number at every budget.

    Raises:
        UsageError: A constant that is not finite and positive (E: negative), or a cost that is not proportional to N.

    Source: Gadre et al. 2024 (arXiv 2403.08540); over and under are its a and b.
    """

    E: float
    over: float  # what tokens in excess of params cost
    under: float  # what params in excess of tokens cost
    eta: float
    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared

    def __post_init__(self) -> None:
        _checks.constants(self, from_zero=("E",), positive=("over", "under", "eta"))
        if self.cost.power != 1:
            msg = f"an Overtraining law has a cost of power {self.cost.power!r}, but its exponents are tied only where a token costs in proportion to params."
            raise UsageError(f"{msg} Take a power of 1, or a Chinchilla law.")

    @property
    def a(self) -> float:
        """Exponent of N_opt ~ C**a."""
        return 0.5

    @property
    def b(self) -> float:
        """Exponent of D_opt ~ C**b."""
        return 0.5

    @property
    def tokens_per_param(self) -> float:
        """The best M, the same at every budget."""
        return float((self.under / self.over) ** (0.5 / self.eta))

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts; either may be infinite."""
        N, D = _checks.extent(params, "params"), _checks.extent(tokens, "tokens")
        at_one = self.cost.scale**-self.eta
        with np.errstate(over="ignore", divide="ignore"):
            return np.asarray(self.E + at_one * (self.over / N ** (2 * self.eta) + self.under / D ** (2 * self.eta)))

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens of least loss: both bracketed terms are equal there; broadcasts.

        Raises:
            UsageError: A budget that is not finite and positive.
        """
        C = _checks.amount(flops, "a budget in FLOPs")
        # in logs: M reaches 1e300 for a small eta
        log_M = (np.log(self.under) - np.log(self.over)) / (2 * self.eta)
        N = np.exp((np.log(C) - np.log(self.cost.scale) - log_M) / 2)
        D = self.cost.tokens(N, C)
        return Allocation(flops=C, params=N, tokens=D, loss=self.loss(N, D))
