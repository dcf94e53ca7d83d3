"""Finished results, ready to be drawn: `Findings` are what every figure asks for; `Fitted` has them of any runs, `Results` of a whole study."""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from numpy.typing import ArrayLike

from isoflop import validate
from isoflop.data.corpus import Corpus
from isoflop.fit import Approach, Fit, Fits, Forecast, Holdout
from isoflop.laws import Cost, Floats
from isoflop.plan import Plan
from isoflop.runs import RunRecord, Runs
from isoflop.study import Study
from isoflop.validate import Validation

LEVEL = 0.8  # of every interval and band: from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2


@runtime_checkable
class LossLaw(Protocol):
    """A law of the loss of any model, with what a model costs: enough to draw loss against size at a budget."""

    @property
    def cost(self) -> Cost: ...

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token; broadcasts."""


class Findings(Protocol):
    """Everything that a figure is drawn from."""

    @property
    def runs(self) -> Runs: ...

    @property
    def fits(self) -> tuple[Fit, ...]: ...

    @property
    def left_out_fits(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def plans(self) -> tuple[Plan, ...]: ...

    @property
    def target(self) -> float | None: ...

    @property
    def holdout(self) -> Holdout | None: ...

    @property
    def forecast(self) -> Forecast | None: ...


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Any runs and the laws fitted to them."""

    runs: Runs
    fits: tuple[Fit, ...]
    left_out_fits: tuple[tuple[str, str], ...] = ()  # approach, why it could not be fitted
    plans: tuple[Plan, ...] = ()
    target: float | None = None  # FLOPs that a model is planned for
    holdout: Holdout | None = None  # None: nothing was held out
    forecast: Forecast | None = None

    @classmethod
    def of(cls, fits: Fits, runs: Runs, *, target: float | None = None) -> Self:
        """Return the fits of `fit_all` with their runs."""
        return cls(runs=runs, fits=fits.fits, left_out_fits=fits.left_out, target=target, holdout=fits.holdout, forecast=fits.forecast)


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study and what came of it. Figures and tables take one and compute nothing that is not in it."""

    study: Study
    corpus: Corpus
    records: tuple[RunRecord, ...]  # of every run, whatever its status and group
    runs: Runs  # that the fits were made from: the sweep's, none of the proof's
    fits: tuple[Fit, ...]
    left_out_fits: tuple[tuple[str, str], ...]  # approach, why it could not be fitted
    plans: tuple[Plan, ...]
    validation: Validation | None  # None: not proved
    command: str  # that made all this
    refused: tuple[str, ...] = ()  # why there is no answer for the target; then there are no plans
    proof_note: str = ""  # why no proof can be made or judged; empty if it is only not made yet
    holdout: Holdout | None = None  # None: nothing was held out
    forecast: Forecast | None = None
    overlong: Fit | None = None  # Approach 2 over the same grid on one schedule for all lengths; None: not trained

    @property
    def target(self) -> float:
        """FLOPs that the study plans for."""
        return self.study.target

    def fit(self, approach: Approach) -> Fit | None:
        return fit_of(self, approach)

    def plan(self, approach: Approach) -> Plan | None:
        return plan_of(self, approach)

    @property
    def headline(self) -> Plan | None:
        """The plan to act on: the one that was proved, else the one that a proof would take."""
        if self.validation:
            return self.validation.plan
        return validate.chosen(self.plans) if self.plans else None

    @property
    def noise(self) -> float:
        """Standard deviation of the loss between seeds, nats per token; NaN if no seed was repeated."""
        return self.fits[0].noise if self.fits else float("nan")

    @property
    def noise_freedom(self) -> int:
        """Degrees of freedom behind the noise; 0 if no seed was repeated."""
        return self.fits[0].noise_freedom if self.fits else 0


def fit_of(found: Findings, approach: Approach) -> Fit | None:
    """The first fit by an approach."""
    return next((fit for fit in found.fits if fit.approach == approach), None)


def plan_of(found: Findings, approach: Approach) -> Plan | None:
    """The plan by an approach."""
    return next((plan for plan in found.plans if plan.approach == approach), None)


def missing(found: Findings, approach: Approach) -> str:
    """Why there is no fit by an approach, as a sentence's end."""
    return dict(found.left_out_fits).get(approach, "it was not asked for.")


def proof_of(found: Findings) -> Validation | None:
    """The proof, which only a study can have."""
    return found.validation if isinstance(found, Results) else None
