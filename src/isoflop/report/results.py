"""Results: everything that a page is drawn from, finished."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from isoflop import validate
from isoflop.data.corpus import Corpus
from isoflop.fit.result import Approach, Fit
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
    proof_note: str = ""  # why no proof can be made or judged; empty if it is only not made yet

    def fit(self, approach: Approach) -> Fit | None:
        return next((fit for fit in self.fits if fit.approach == approach), None)

    def plan(self, approach: Approach) -> Plan | None:
        return next((plan for plan in self.plans if plan.approach == approach), None)

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
