"""Power laws of the frontier alone: what Approaches 1 and 2 of Hoffmann et al. 2022 find."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import FitError
from isoflop.laws import Allocation, Floats


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """N_opt = n0 (C/c0)**a, D_opt = d0 (C/c0)**b, and the loss there E + k (C/c0)**-g.

    a and b are fitted apart, as in the paper, so params and tokens pay for the budget only as nearly as the fits agree.

    Source: Hoffmann et al. 2022, Sec. 3.1 and 3.2. The loss along the frontier is not in the paper; its form is that of Eq. 2 at the optimum.
    """

    c0: float  # FLOPs in the middle of the data, where n0, d0 and k are least uncertain
    n0: float
    d0: float
    a: float
    b: float
    E: float = float("nan")  # nats per token; 0 for a plain power law, NaN where nothing is known of loss
    k: float = float("nan")
    g: float = float("nan")

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Never known: the law describes optima and no other model.

        Raises:
            FitError: Always; NaN would hide in a sum, and the loss at the optimum of some budget would be taken for the loss of this model.
        """
        shape = np.broadcast_shapes(np.shape(params), np.shape(tokens))
        msg = (
            f"a power law of the frontier does not say the loss of a model of any other params and tokens (asked for shape {shape}). "
            "Use optimum(flops).loss, or the law of the parametric approach."
        )
        raise FitError(msg)

    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params, tokens and loss of the frontier; broadcasts."""
        C = np.asarray(flops, dtype=float)
        x = C / self.c0
        return Allocation(
            flops=C,
            params=np.asarray(self.n0 * x**self.a),
            tokens=np.asarray(self.d0 * x**self.b),
            loss=np.asarray(self.E + self.k * x**-self.g),
        )


def published() -> PowerLaw:
    """Approach 2 as printed: a 0.49, b 0.51 (Table 2), through 63B params and 1.4T tokens at Gopher's 5.76e23 FLOPs (Figure 3)."""
    return PowerLaw(c0=5.76e23, n0=63e9, d0=1.4e12, a=0.49, b=0.51)
