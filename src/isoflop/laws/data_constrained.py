"""The law of Muennighoff et al. 2023: repeated tokens, and params in excess of the tokens, are worth less and less."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import UsageError
from isoflop.laws import Allocation, Cost, Floats, _checks, _solve


@dataclass(frozen=True, kw_only=True)
class DataConstrained:
    """L = E + A / N'**alpha + B / D'**beta with the params and tokens that those of a model are worth, in nats per token.

    Of D tokens, U_D = min(D, unique_tokens) are new and the rest repeats them R = D / U_D - 1 times: D' = U_D + U_D R_D (1 - exp(-R / R_D)).
    Of N params, U_N = min(N, those that are optimal for U_D tokens) count in full and the rest is excess, R = N / U_N - 1:
    N' = U_N + U_N R_N (1 - exp(-R / R_N)). So even without a limit on tokens a model above its optimal size is worth less than by the additive law; one
    at or below it is worth the same, and the frontier is the same until the tokens repeat.

    Raises:
        UsageError: A constant that is not finite and positive (E: negative; unique_tokens: may be infinite).

    Source: Muennighoff et al. 2023 (arXiv 2305.16264), Eq. 5 and 6, and the authors' code (github.com/huggingface/datablations, README).
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_N: float  # R_N* of the paper: how many times U_N the excess params are worth at most
    R_D: float  # R_D* of the paper: how many times U_D the repeated tokens are worth at most
    unique_tokens: float  # tokens there are; infinite where there is no limit
    cost: Cost = Cost()  # noqa: RUF009 - frozen, so one may be shared

    def __post_init__(self) -> None:
        _checks.constants(self, from_zero=("E",), positive=("A", "B", "alpha", "beta", "R_N", "R_D"))
        if not self.unique_tokens > 0:
            msg = f"unique_tokens of a DataConstrained law is {self.unique_tokens!r}, but it must be more than zero (infinite where there is no limit)."
            raise UsageError(msg)

    @property
    def a(self) -> float:
        """Exponent of N_opt ~ C**a; NaN where tokens are limited, as it changes once they repeat."""
        return self.beta / (self.alpha + self.cost.power * self.beta) if math.isinf(self.unique_tokens) else math.nan

    @property
    def b(self) -> float:
        """Exponent of D_opt ~ C**b; NaN where tokens are limited."""
        return self.alpha / (self.alpha + self.cost.power * self.beta) if math.isinf(self.unique_tokens) else math.nan

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts; either may be infinite."""
        N, D = _checks.extent(params, "params"), _checks.extent(tokens, "tokens")
        with np.errstate(over="ignore", divide="ignore"):
            unique = np.minimum(D, self.unique_tokens)
            worth_N = _worth(N, np.minimum(N, np.exp(self._log_params_for(np.log(unique)))), self.R_N)
            return np.asarray(self.E + self.A / worth_N**self.alpha + self.B / _worth(D, unique, self.R_D) ** self.beta)

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens of least loss where C = scale * N**p * D; broadcasts.

        In closed form until the tokens repeat; then where an e-fold of params and the tokens that it costs lower the loss equally.

        Raises:
            UsageError: A budget that is not finite and positive.
        """
        C, p = _checks.amount(flops, "a budget in FLOPs"), self.cost.power
        log_ND = np.log(C) - math.log(self.cost.scale)  # of N**p D
        log_N = (self._log_ratio + self.beta * log_ND) / (self.alpha + p * self.beta)
        if math.isfinite(self.unique_tokens):
            log_U = math.log(self.unique_tokens)
            repeats = log_ND - p * log_N > log_U
            # between the params that are optimal for the unique tokens and those that the budget leaves if none is repeated
            low, high = np.full(C.shape, self._log_params_for(log_U)), (log_ND - log_U) / p
            high = np.where(repeats, high, low)
            log_N = np.where(repeats, _solve.root(lambda x: self._gain(x, log_ND), low, high), log_N)
        N = np.exp(log_N)
        D = self.cost.tokens(N, C)
        return Allocation(flops=C, params=N, tokens=D, loss=self.loss(N, D))

    @property
    def _log_ratio(self) -> float:
        return math.log(self.alpha) + math.log(self.A) - math.log(self.cost.power * self.beta) - math.log(self.B)

    def _log_params_for(self, log_tokens: ArrayLike) -> Floats:
        """Log of the params whose optimum is so many tokens, none repeated."""
        return np.asarray((self._log_ratio + self.beta * np.asarray(log_tokens)) / self.alpha)

    def _gain(self, log_N: Floats, log_ND: Floats) -> Floats:
        """Log of what more params gain over what fewer tokens lose, all unique tokens used and params in excess of them; falls with params.

        The loss itself is flat to the last bit where both are worth nothing any more, but this is not.
        """
        log_D = log_ND - self.cost.power * log_N
        log_UD = math.log(self.unique_tokens)
        log_UN = float(self._log_params_for(log_UD))
        params = math.log(self.alpha) + math.log(self.A) + _log_gain(log_N, log_UN, self.R_N, self.alpha)
        tokens = math.log(self.cost.power) + math.log(self.beta) + math.log(self.B) + _log_gain(log_D, log_UD, self.R_D, self.beta)
        return params - tokens


def _worth(amount: Floats, unique: Floats, decay: float) -> Floats:
    """Unique and excess: unique (1 + decay (1 - exp(-(amount / unique - 1) / decay)))."""
    both_inf_or_zero = amount == unique
    excess = np.where(both_inf_or_zero, 0.0, amount / np.where(both_inf_or_zero, 1.0, unique) - 1)
    return np.asarray(unique * (1 - decay * np.expm1(-excess / decay)))


def _log_gain(log_amount: Floats, log_unique: float, decay: float, exponent: float) -> Floats:
    """Log of -d(worth**-exponent) / d(log amount) / exponent."""
    excess = np.expm1(log_amount - log_unique)
    log_worth = log_unique + np.log1p(-decay * np.expm1(-excess / decay))
    return np.asarray(log_amount - excess / decay - (exponent + 1) * log_worth)
