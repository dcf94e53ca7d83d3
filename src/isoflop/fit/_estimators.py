"""Estimators: what is summed over runs and made least, by name, with the derivatives that Newton's method needs."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Name = Literal["huber", "lad", "lse", "mse"]

ESTIMATORS: tuple[Name, ...] = get_args(Name)
DELTA = 1e-3  # of Huber's loss, on log loss: Hoffmann et al. 2022, Sec. 3.3
NEARLY_ABSOLUTE = 1e-6  # delta of "lad"; assumption: absolute values to all digits that losses are printed with, and smooth enough for Newton
SQUARES = 1e-3  # divides sums of squares, so that at the noise of usual sweeps (0.3 %) an optimum is of order one (assumption)
COLD = (100.0, 30.0, 10.0, 3.0, 1.0)  # multiples of delta to go through; assumption: least squares first finds the valley
WARM = (10.0, 3.0, 1.0)  # the same from the optimum of all runs; 27 cold starts found nothing better on 180 resamples of published and simulated runs
FINER = tuple(10.0**k for k in (3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0))  # from Huber's delta down to "lad"


class Rho(NamedTuple):
    """Of each row of fitted losses: the sum, and its first and second derivative in each fitted log loss."""

    value: Floats  # (rows,)
    slope: Floats  # (rows, runs)
    bend: Floats  # (rows, runs)


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """A sum over runs of a loss of residuals, divided by a constant so that it is of order one at an optimum.

    Attributes:
        name: "huber" or "lad" of log loss, "mse": least squares of log loss, "lse": least squares of the loss itself.
        delta: Where Huber's loss turns from quadratic to linear.
        typical: Loss that residuals of "lse" are measured in, so that units of the loss change nothing.
    """

    name: Name = "huber"
    delta: float = DELTA
    typical: float = 1.0

    @classmethod
    def of(cls, name: str, *, delta: float, log_loss: Floats) -> Self:
        """An estimator by its name."""
        return cls(
            name=next(each for each in ESTIMATORS if each == name),
            delta=NEARLY_ABSOLUTE if name == "lad" else delta,
            typical=float(np.exp(np.median(log_loss))),
        )

    @property
    def words(self) -> str:
        return {
            "huber": f"least sum of Huber's loss of log L, delta {self.delta:g}, unweighted",
            "lad": "least sum of absolute residuals of log L, unweighted",
            "lse": "least sum of squares of L, unweighted",
            "mse": "least sum of squares of log L, unweighted",
        }[self.name]

    @property
    def unit(self) -> float:
        """What the value at an optimum is to be multiplied with, to be the sum that `words` says."""
        square = self.typical * self.typical  # infinite where it overflows, where ** would raise
        return {"huber": self.delta, "lad": 1.0, "lse": 2 * SQUARES * square, "mse": 2 * SQUARES}[self.name]

    def stages(self, *, warm: bool) -> tuple["Estimator", ...]:
        """Softer estimators to go through on the way to this one, this one last."""
        match self.name:
            case "huber":
                return tuple(replace(self, delta=self.delta * multiple) for multiple in (WARM if warm else COLD))
            case "lad":
                before = replace(self, name="huber", delta=DELTA).stages(warm=warm)
                return (*before, *(replace(self, delta=self.delta * multiple) for multiple in FINER))
            case _:
                return (self,)

    def at(self, fitted: Floats, log_loss: Floats, weights: Floats) -> Rho:
        """Value and derivatives.

        Args:
            fitted: (rows, runs) log of the fitted loss.
            log_loss: (runs,) or (rows, runs) log of the observed loss.
            weights: (rows, runs) or (1, runs) how often each run counts.
        """
        residual = fitted - log_loss
        if self.name == "lse":
            return self._squares(fitted, log_loss, weights)
        if self.name == "mse":
            slope = weights * residual / SQUARES
            return Rho(0.5 * np.einsum("rn,rn->r", slope, residual), slope, np.broadcast_to(weights / SQUARES, residual.shape))
        clipped = np.clip(residual, -self.delta, self.delta)
        bend = weights * (clipped == residual)
        bend /= self.delta
        slope = weights * clipped
        slope /= self.delta
        clipped *= 0.5
        residual -= clipped
        return Rho(np.einsum("rn,rn->r", slope, residual), slope, bend)

    def _squares(self, fitted: Floats, log_loss: Floats, weights: Floats) -> Rho:
        loss = np.exp(np.minimum(fitted, 300.0)) / self.typical
        excess = loss - np.exp(log_loss) / self.typical
        slope = weights * excess * loss / SQUARES
        return Rho(0.5 * np.einsum("rn,rn->r", weights * excess, excess) / SQUARES, slope, slope + weights * loss**2 / SQUARES)
