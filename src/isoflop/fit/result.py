"""Fit: a law, how it was come by, and how sure it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.arch import Convention
from isoflop.laws import Law
from isoflop.runs import NATS, Dropped

Floats = NDArray[np.float64]
Approach = Literal["envelope", "isoflop", "parametric"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Whether a fit may be trusted, as a sentence with advice."""

    ok: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One IsoFLOP profile: the runs of a budget and the parabola through them (Hoffmann et al. 2022, Sec. 3.2)."""

    flops: float  # budget
    params: Floats  # (points,) seeds of one size averaged
    tokens: Floats  # (points,)
    loss: Floats  # (points,)
    used: NDArray[np.bool_]  # (points,) inside the window of the parabola
    coefficients: Floats  # (3,) highest power first, of loss in log params
    params_opt: float
    tokens_opt: float
    loss_opt: float
    interior: bool  # the minimum lies between points, and the parabola opens upwards
    note: str = ""  # why it was not used


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Optima that an approach read off the runs, and that its power laws go through; columns of shape (optima,)."""

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted law with its evidence.

    Attributes:
        resamples: The same law fitted to bootstrap resamples of whole runs, or (isoflop) to minima moved by noise; empty if nothing shows the noise.
        residuals: (runs,) log of observed over fitted loss; NaN for runs that the approach does not fit. Those of parabolas are enlarged for leverage.
        noise: Standard deviation of the loss between seeds, nats per token; NaN if no seed was repeated.
        noise_freedom: Degrees of freedom that it was measured with; 0 if no seed was repeated.
        reach_flops: Largest training FLOPs among the runs.
        dropped: Rows and runs that never reached the fit, each with its reason.
        set_aside: Runs that did, were found to be far off, and do not count.
        intervals_by: How the resamples were made, in words.
    """

    approach: Approach
    law: Law
    estimator: str
    objective: float
    frontier: Frontier
    profiles: tuple[Profile, ...]
    residuals: Floats
    noise: float
    noise_freedom: int = 0
    resamples: tuple[Law, ...]
    status: Status
    warnings: tuple[str, ...]
    reach_flops: float
    convention: Convention
    runs_digest: str
    n_runs: int
    unit: str = NATS  # of the loss
    dropped: tuple[Dropped, ...] = ()
    set_aside: tuple[Dropped, ...] = ()
    intervals_by: str = "runs drawn with replacement within budgets"

    @property
    def form(self) -> str:
        """The law's name in the menu of laws: "chinchilla", "powerlaw"."""
        return type(self.law).__module__.rpartition(".")[2]

    def interval(self, quantity: Callable[[Law], float], *, level: float = 0.8) -> tuple[float, float]:
        """Percentile interval over the resamples, of any quantity of the law; 0.8 is the paper's 10th to 90th percentile (Table 2).

        Example:
            >>> fit.interval(lambda law: law.a)  # doctest: +SKIP
            (0.47, 0.53)
        """
        values = np.array([quantity(law) for law in self.resamples], dtype=float)
        values = values[np.isfinite(values)]
        if values.size == 0:
            return (float("nan"), float("nan"))
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return (float(low), float(high))

    def prediction_interval(self, flops: float, *, level: float = 0.8) -> tuple[float, float]:
        """Interval for the loss of one new run at the optimum of a budget: resamples, each with a residual of its own drawn from the fit's."""
        losses = np.array([law.optimum(flops).loss for law in self.resamples], dtype=float).ravel()
        residuals = self.residuals[np.isfinite(self.residuals)]
        losses = losses[np.isfinite(losses)]
        if losses.size == 0 or residuals.size == 0:
            return (float("nan"), float("nan"))
        spread = (losses[:, None] * np.exp(residuals - np.median(residuals))[None, :]).ravel()
        low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
        return (float(low), float(high))
