"""The head-to-head of Hoffmann et al. 2022, Sec. 4, at equal compute: the predicted optimum (their Chinchilla) against one four times larger (Gopher)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from isoflop import design, units
from isoflop.arch import Shape
from isoflop.design import Text
from isoflop.errors import ValidationError
from isoflop.fit import _student
from isoflop.fit.result import Fit
from isoflop.plan import Plan
from isoflop.plan.allocation import By
from isoflop.published.kaplan import through
from isoflop.runs import RunRecord, RunSpec
from isoflop.study import Study

Interval = tuple[float, float]
LEVEL = 0.8  # of every interval, and of the noise
OPTIMUM, OVERSIZED, KAPLAN = "chinchilla", "gopher", "kaplan"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model of the proof."""

    label: str  # "chinchilla" the predicted optimum, "gopher" the oversized baseline, "kaplan" the size of Kaplan's exponent
    record: RunRecord
    predicted: float  # nats per token, by Approach 3 at these params and tokens; NaN if there is no parametric fit


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The models of a proof, measured against the forecast that was claimed."""

    flops: float
    reach: float  # the budget over the largest budget fitted
    plan: Plan  # the plan that chose the optimum
    contenders: tuple[Contender, ...]  # by rising loss; a diverged one last
    predicted: float  # loss of the optimum, nats per token
    predicted_by: By
    interval: Interval  # 10th to 90th percentile, for one new run
    observed: float
    same_as: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # a rival without a run of its own -> who has its shape
    spread: float = math.nan  # width of the middle 80 % of the sweep's losses, nats per token; NaN if not known
    chance: float = math.nan  # what two runs that differ in their seed alone differ by at most, in four of five cases; NaN if no seed was repeated
    claimed: bool = True  # the forecast was on record before the proof was trained

    @property
    def error(self) -> float:
        """Observed over predicted loss, less one."""
        return self.observed / self.predicted - 1

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.interval[0] <= self.observed <= self.interval[1]

    @property
    def informative(self) -> bool:
        """Whether the interval says something: it is narrower than the middle of the sweep's losses, which anyone would have guessed."""
        width = self.interval[1] - self.interval[0]
        return math.isfinite(width) and not width >= self.spread

    @property
    def winner(self) -> str:
        """The model with the lowest loss."""
        return self.contenders[0].label

    def lead(self, rival: Contender) -> float:
        """Return how much lower the loss of the optimum is than a rival's, in nats per token; negative where the rival is better, NaN without a loss."""
        return math.nan if rival.record.loss is None else rival.record.loss - self.observed

    def beyond_noise(self, lead: float) -> bool:
        """Return whether a difference is larger than the noise; where the noise is not known, every difference counts."""
        return abs(lead) > 0 and not abs(lead) <= self.chance

    @property
    def beaten(self) -> bool:
        """Whether a rival is better than the optimum by more than the noise."""
        return any(self.lead(rival) < 0 and self.beyond_noise(self.lead(rival)) for rival in self.contenders)

    @property
    def holds(self) -> bool:
        """Whether the claim holds: the measured loss lies in an interval that says something, and no model is better than the predicted optimum."""
        return self.informative and self.inside and self.won

    @property
    def won(self) -> bool:
        """Whether the predicted optimum won."""
        return self.winner == OPTIMUM


def chosen(plans: Sequence[Plan]) -> Plan:
    """The plan by the forecast, which is of what predicted held-out budgets best.

    Without one, the size that is the middle one of all approaches, so that none that goes astray decides, and the loss by Approach 3 if it was made: a
    handful of optima seldom determine an irreducible loss, and near the optimum loss is flat in size.

    Raises:
        ValidationError: There is no plan.
    """
    if not plans:
        raise ValidationError("no approach could be fitted, so there is no optimum to prove. `isoflop fit` shows why.")
    forecast = next((p for p in plans if p.approach == "forecast"), None)
    if forecast is not None:
        return forecast
    ordered = sorted(plans, key=lambda p: p.params)
    middle = ordered[(len(ordered) - 1) // 2]
    by = next((p for p in plans if p.approach == "parametric"), middle)
    return dataclasses.replace(middle, loss=by.loss, loss_interval=by.loss_interval, loss_by=by.loss_by)


def specs(plans: Sequence[Plan], fits: Sequence[Fit], *, study: Study, text: Text) -> tuple[RunSpec, ...]:
    """The runs of the proof: all at the study's target budget, by the study's recipe.

    Raises:
        ValidationError: No plan, or the oversized model would be the optimum itself.
        DesignError: The budget pays for too few steps.
    """
    plan = chosen(plans)
    shapes = {OPTIMUM: plan.shape, OVERSIZED: _nearest(plan, study.proof.oversize * plan.shape.params.total)}
    if shapes[OVERSIZED] == plan.shape:
        raise ValidationError(f"a model {study.proof.oversize:g} times larger has the same real shape as the optimum. Raise oversize in [proof].")
    if study.proof.kaplan:
        shape = _kaplan(fits, plan)
        if shape not in shapes.values():  # else it is trained already, under another name: `judge` says so
            shapes[KAPLAN] = shape
    return tuple(design.spec(study, text, shape=shape, budget=study.target, group="proof", seed=study.seed, label=label) for label, shape in shapes.items())


def judge(
    plans: Sequence[Plan],
    fits: Sequence[Fit],
    records: Sequence[RunRecord],
    *,
    kaplan: bool = False,
    losses: Sequence[float] | NDArray[np.float64] = (),
    claimed: bool = True,
) -> Validation:
    """Score the claimed forecast and name the winner.

    Args:
        plans: Plans for the target budget, by every approach; or the one that was claimed.
        fits: The same approaches.
        records: Records of the runs that `specs` gave, all finished.
        kaplan: Whether the study asked for Kaplan's size too.
        losses: Losses of the sweep's runs, whose spread an interval is held against.
        claimed: Whether the forecast was on record before these runs were trained.

    Raises:
        ValidationError: The optimum was not trained, or diverged.
    """
    plan = chosen(plans)
    optimum = next((r for r in records if r.spec.label == OPTIMUM), None)
    if optimum is None:
        raise ValidationError(f"the predicted optimum at {units.flops(plan.flops)} FLOPs has not been trained. `isoflop validate` trains it.")
    if optimum.loss is None:
        raise ValidationError(f"the predicted optimum {optimum.status}: {optimum.reason}. Lower lr_scale in the study and start again.")
    return Validation(
        flops=plan.flops,
        reach=plan.reach,
        plan=plan,
        contenders=tuple(sorted((_contender(r, fits) for r in records), key=lambda c: math.inf if c.record.loss is None else c.record.loss)),
        predicted=plan.loss,
        predicted_by=plan.loss_by,
        interval=plan.loss_interval,
        observed=optimum.loss,
        same_as=_same_as(plans, fits, records) if kaplan else {},
        spread=spread(losses),
        chance=chance(fits[0].noise, fits[0].noise_freedom) if fits else math.nan,
        claimed=claimed,
    )


def spread(losses: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the width of the middle 80 % of some losses, which is what an 80 % interval of nothing but them would be; NaN of none."""
    values = np.asarray(losses, dtype=float)
    if not values.size:
        return math.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(high - low)


def chance(noise: float, freedom: int) -> float:
    """Return what two runs that differ in their seed alone differ by at most, in four of five cases; NaN where no seed was repeated.

    By Student's t, for the noise itself was measured with few seeds.

    Args:
        noise: Standard deviation of the loss between seeds, nats per token.
        freedom: Degrees of freedom that it was measured with.
    """
    return _student.quantile(LEVEL, freedom) * math.sqrt(2) * noise if freedom and math.isfinite(noise) else math.nan


def _contender(record: RunRecord, fits: Sequence[Fit]) -> Contender:
    fit = next((f for f in fits if f.approach == "parametric"), None)
    predicted = math.nan if fit is None else float(fit.law.loss(record.params.count(fit.convention), record.tokens))
    return Contender(label=record.spec.label, record=record, predicted=predicted)


def _same_as(plans: Sequence[Plan], fits: Sequence[Fit], records: Sequence[RunRecord]) -> dict[str, str]:
    """Whose run stands for Kaplan's size too; nobody's if it was trained by itself."""
    shape = _kaplan(fits, chosen(plans))
    whose = next((r.spec.label for r in records if r.spec.shape == shape), KAPLAN)
    return {} if whose == KAPLAN else {KAPLAN: whose}


def _nearest(plan: Plan, params: float) -> Shape:
    """The real shape of a size, of the same family as the optimum's."""
    return plan.kind.nearest(params)


def _kaplan(fits: Sequence[Fit], plan: Plan) -> Shape:
    """The shape nearest to the size that Kaplan's exponent reaches at the target from the smallest optimum seen."""
    frontier = next((f for f in fits if f.approach == plan.approach), fits[0]).frontier
    law = through(float(frontier.flops[0]), float(frontier.params[0]), float(frontier.tokens[0]))
    return _nearest(plan, float(law.optimum(plan.flops).params))
