"""Power laws of the frontier alone: what Approaches 1 and 2 of Hoffmann et al. 2022 find."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.errors import FitError, UsageError
from isoflop.laws import Allocation, Floats, _checks


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """N_opt = n0 (C/c0)**a, D_opt = d0 (C/c0)**b, and the loss there E + k (C/c0)**-g.

    a and b are fitted apart, as in the paper, so params and tokens pay for the budget only as nearly as the fits agree.
    With curvature, log N_opt is quadratic in log C: the exponent of params is a + curvature ln(C/c0), that of tokens b - curvature ln(C/c0), so that both
    together still grow as fast as the budget. Where one of them would reach zero (`valid_flops`) the bend ends and the exponents stay as they are there.

    Raises:
        UsageError: A c0, n0 or d0 that is not positive, an infinite constant, or a curvature without positive exponents.

    Source: Hoffmann et al. 2022, Sec. 3.1 and 3.2; the bend of the frontier is in App. E. The loss along the frontier is not in the paper; its form is that
    of Eq. 2 at the optimum.
    """

    c0: float  # FLOPs in the middle of the data, where n0, d0 and k are least uncertain
    n0: float
    d0: float
    a: float  # at c0
    b: float  # at c0
    E: float = float("nan")  # nats per token; 0 for a plain power law, NaN where nothing is known of loss
    k: float = float("nan")
    g: float = float("nan")
    curvature: float = 0.0  # by how much the exponent of params rises for each e-fold of compute; negative where it falls, as in App. E

    def __post_init__(self) -> None:
        _checks.constants(self, positive=("c0", "n0", "d0"))
        for name in ("a", "b", "E", "k", "g", "curvature"):
            value = getattr(self, name)
            if math.isinf(value) or (name == "curvature" and math.isnan(value)):
                msg = f"{name} of a PowerLaw is {value!r}, but it must be finite (or NaN where a, b or the loss is not known). Check the constants."
                raise UsageError(msg)
        if self.curvature and not (self.a > 0 and self.b > 0):
            msg = f"a PowerLaw of curvature {self.curvature!r} has a = {self.a!r} and b = {self.b!r}, but a frontier that bends must grow at c0 in both."
            raise UsageError(msg)

    @property
    def valid_flops(self) -> tuple[float, float]:
        """Smallest and largest budget between which the optimum of both params and tokens grows with compute; (0, inf) without curvature."""
        low, high = (float(np.exp(np.clip(end, -600, 600))) for end in self._valid_logs)
        return (self.c0 * low, self.c0 * high) if self.curvature else (0.0, math.inf)

    @property
    def _valid_logs(self) -> tuple[float, float]:
        """The same in ln(C/c0)."""
        if not self.curvature:
            return -math.inf, math.inf
        ends = sorted((-self.a / self.curvature, self.b / self.curvature))
        return ends[0], ends[1]

    @_checks.to_its_limits
    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:  # noqa: ARG002 - as every law is asked
        """Never known: the law describes optima and no other model.

        Raises:
            FitError: Always; NaN would hide in a sum, and the loss at the optimum of some budget would be taken for the loss of this model.
        """
        msg = (
            "a power law of the frontier does not say the loss of a model of any other params and tokens. Use optimum(flops).loss, or a law that does, "
            "such as hoffmann3 or that of the parametric approach."
        )
        raise FitError(msg)

    @_checks.to_its_limits
    def optimum(self, flops: ArrayLike) -> Allocation:
        """Params, tokens and loss of the frontier; broadcasts.

        Raises:
            UsageError: A budget that is not finite and positive.
        """
        C = _checks.amount(flops, "a budget in FLOPs")
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, or infinite times nothing, at budgets that only a search for another looks at
            x = C / self.c0
            u = np.log(x)
            v = np.clip(u, *self._valid_logs)
            bend = np.exp(self.curvature * v * (u - v / 2))  # curvature u**2 / 2 inside, its tangent beyond
            params, tokens, loss = self.n0 * x**self.a * bend, self.d0 * x**self.b / bend, self.E + self.k * x**-self.g
        return Allocation(flops=C, params=np.asarray(params), tokens=np.asarray(tokens), loss=np.asarray(loss))
