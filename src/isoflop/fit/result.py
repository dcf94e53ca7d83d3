"""Fit: a law, how it was come by, and how sure it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.arch import Convention
from isoflop.errors import FitError
from isoflop.fit._overflow import unwarned
from isoflop.laws import Law
from isoflop.runs import NATS, Dropped

Floats = NDArray[np.float64]
Approach = Literal["envelope", "isoflop", "parametric"]
MOST_ERRORS = 10_000  # residuals that a prediction interval draws from; assumption: more tell no more of its ends


@dataclass(frozen=True, kw_only=True)
class Status:
    """Whether a fit may be trusted, as a sentence with advice."""

    ok: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One IsoFLOP profile: the runs of a budget and the curve through them (Hoffmann et al. 2022, Sec. 3.2)."""

    flops: float  # budget
    params: Floats  # (points,) seeds of one size averaged
    tokens: Floats  # (points,)
    loss: Floats  # (points,)
    used: NDArray[np.bool_]  # (points,) inside the window of the curve
    coefficients: Floats  # (3,) of a parabola, highest power first, of loss in log params; NaN for other curves
    params_opt: float
    tokens_opt: float
    loss_opt: float
    interior: bool  # the curve has a minimum between its points
    note: str = ""  # why it was not used
    curve_params: Floats = field(default_factory=lambda: np.empty(0))  # rising, over the points used; empty where no curve was fitted
    curve_loss: Floats = field(default_factory=lambda: np.empty(0))


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
    constants: int = 0  # fitted to the residuals, which are the smaller for them
    lost: int = 0  # resamples that were drawn and do not count: they determined no law, or most did not
    intervals_by: str = "runs drawn with replacement within budgets"

    @property
    def form(self) -> str:
        """The law's name in the menu of laws: "chinchilla", "powerlaw"."""
        return type(self.law).__module__.rpartition(".")[2]

    @unwarned
    def interval(self, quantity: Callable[[Law], float], *, level: float = 0.8) -> tuple[float, float]:
        """Percentile interval over the resamples, of any quantity of the law; 0.8 is the paper's 10th to 90th percentile (Table 2).

        NaN where there are no resamples, or too few of them determined a law that has such a quantity.

        Raises:
            FitError: Too few resamples were asked for at this level: `fewest` says how many it takes.

        Example:
            >>> fit.interval(lambda law: law.a)  # doctest: +SKIP
            (0.47, 0.53)
        """
        self._check(level)
        values = np.array([_or_nan(quantity, law) for law in self.resamples], dtype=float)
        values = values[np.isfinite(values)]
        if values.size < fewest(level):
            return (float("nan"), float("nan"))
        # Weibull's definition: between the j-th and the j-th last of n lie n + 1 - 2j parts of n + 1 of what is to come, however small n is
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="weibull")
        return (float(low), float(high))

    @unwarned
    def prediction_interval(self, flops: float, *, level: float = 0.8) -> tuple[float, float]:
        """Interval for the loss of one new run at the optimum of a budget: resamples, each with a residual of its own drawn from the fit's.

        NaN as of `interval`, and where there are no residuals.

        Raises:
            FitError: As of `interval`.
        """
        self._check(level)
        losses = np.array([_or_nan(lambda law: float(law.optimum(flops).loss), law) for law in self.resamples], dtype=float)
        residuals = self.residuals[np.isfinite(self.residuals)]
        grown = math.sqrt(residuals.size / max(1, residuals.size - self.constants))
        losses = losses[np.isfinite(losses)]
        if losses.size < fewest(level) or residuals.size == 0:
            return (float("nan"), float("nan"))
        if residuals.size > MOST_ERRORS:  # their quantiles say as much, and memory does not grow with the runs
            residuals = np.quantile(residuals, (np.arange(MOST_ERRORS) + 0.5) / MOST_ERRORS)
        errors = (residuals - np.median(residuals)) * grown
        spread = (losses[:, None] * np.exp(errors)[None, :]).ravel()  # an error of hundreds of e-folds makes an infinite end of the interval
        tail = ((1 - level) / 2 * (losses.size + 1) - 0.5) / losses.size  # as of `interval`: there are only as many laws, however often each is spread
        low, high = np.quantile(spread, [tail, 1 - tail])
        return (float(low), float(high))

    def _check(self, level: float) -> None:
        """Refuse what was asked for; of draws that were lost on the way, nobody gave the number."""
        asked = len(self.resamples) + self.lost
        if self.resamples and asked < fewest(level):
            raise FitError(f"{too_few(asked, level)} Fit with resamples={fewest(level)} or more, or ask for a lower level.")


def fewest(level: float) -> int:
    """Resamples that an interval takes.

    Of n draws and one more to come, each is as likely as any other to be the least, so between the least and the greatest lies what is to come with
    probability (n - 1) / (n + 1). Where that is less than the level, no two of the draws are its ends: 9 are needed for 0.8, 19 for 0.9, 39 for 0.95.
    """
    return math.ceil((1 + level) / (1 - level) - 1e-9)  # a whole number may come out a rounding error above itself


def too_few(resamples: int, level: float) -> str:
    """Why they make no interval, in words."""
    return (
        f"{resamples} resamples make no {100 * level:g} % interval: even their least and greatest hold only {_held(resamples):.0f} %, "
        f"and it takes {fewest(level)}."
    )


def thinned(left: int, lost: int) -> tuple[str, ...]:
    """A warning where draws that determined no law take away a level of whole percents that the others would have made."""
    asked = left + lost
    if not lost or (left and math.floor(_held(left) + 1e-9) == math.floor(_held(asked) + 1e-9)):  # as of `fewest`
        return ()
    if not left:
        return (f"most of {asked} resamples determined no law, so there are no intervals. Add sizes.",)
    held = f"between the least and the greatest of the other {left} lie {_held(left):.3g} % of what is to come"
    return (f"{lost} of {asked} resamples determined no law; {held}, so there is no interval of a higher level. Fit with more resamples, or add sizes.",)


def _held(resamples: int) -> float:
    """Percent of what is to come that lie between the least and the greatest draw."""
    return 100 * (resamples - 1) / (resamples + 1)


def _or_nan(quantity: Callable[[Law], float], law: Law) -> float:
    """NaN where a resample's law has no such quantity: some forms have no optimum at some budgets."""
    try:
        return quantity(law)
    except FitError:
        return math.nan
