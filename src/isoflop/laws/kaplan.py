"""Kaplan et al. 2020: nearly all of a larger budget into params. What Hoffmann et al. 2022 showed to be wrong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import FitError
from isoflop.laws import Allocation, Floats

A_EXPONENT = 0.73  # Kaplan et al. 2020, as quoted in Hoffmann et al. 2022, Table 2
B_EXPONENT = 0.27  # the same


@dataclass(frozen=True, kw_only=True)
class Kaplan:
    """N_opt ~ C**0.73 and D_opt ~ C**0.27 through one optimum. Nothing is said of loss."""

    c0: float  # FLOPs of the optimum
    n0: float
    d0: float

    @property
    def a(self) -> float:
        return A_EXPONENT

    @property
    def b(self) -> float:
        return B_EXPONENT

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Never known.

        Raises:
            FitError: Always.
        """
        shape = np.broadcast_shapes(np.shape(params), np.shape(tokens))
        raise FitError(f"Kaplan's exponents alone do not say the loss of any model (asked for shape {shape}). Use the law of the parametric approach.")

    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params and tokens that Kaplan's exponents pick, and NaN for the loss; broadcasts."""
        C = np.asarray(flops, dtype=float)
        x = C / self.c0
        return Allocation(flops=C, params=np.asarray(self.n0 * x**A_EXPONENT), tokens=np.asarray(self.d0 * x**B_EXPONENT), loss=np.full(C.shape, np.nan))


def anchored(flops: float, params: float, tokens: float) -> Kaplan:
    """Kaplan's exponents through a given optimum: what they would pick at another budget."""
    return Kaplan(c0=flops, n0=params, d0=tokens)


def published() -> Kaplan:
    """Through GPT-3: 175B params on 300B tokens, 3.15e23 FLOPs by 6ND (Brown et al. 2020, Table 2.1), sized in the light of these exponents."""
    return anchored(6 * 175e9 * 300e9, 175e9, 300e9)
