"""Laws: loss as a function of params and tokens, one file a form."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training FLOPs of params and tokens: C = scale * N**power * D.

    6ND is Cost(). At small scale logits and attention scores cost as much as the rest, so a fit takes scale and power from its runs.
    """

    scale: float = 6.0
    power: float = 1.0

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Training FLOPs; broadcasts."""
        return np.asarray(self.scale * np.asarray(params, dtype=float) ** self.power * np.asarray(tokens, dtype=float))

    def tokens(self, params: ArrayLike, flops: ArrayLike) -> Floats:
        """Tokens that a budget pays for at a size; broadcasts."""
        return np.asarray(np.asarray(flops, dtype=float) / (self.scale * np.asarray(params, dtype=float) ** self.power))


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a budget is best spent; every field broadcasts with `flops`."""

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats  # nats per token; NaN where the law says nothing of loss


class Law(Protocol):
    """What every law offers. `a` and `b` are the exponents of N_opt ~ C**a and D_opt ~ C**b."""

    @property
    def a(self) -> float: ...

    @property
    def b(self) -> float: ...

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token of a model of so many params after so many tokens; broadcasts."""

    def optimum(self, flops: ArrayLike) -> Allocation:
        """The params and tokens of least loss at a training budget in FLOPs; broadcasts."""
