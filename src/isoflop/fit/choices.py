"""What may be chosen of the three approaches, each with its own default."""

from dataclasses import dataclass
from typing import cast, get_args

from isoflop import _registry
from isoflop.errors import UsageError
from isoflop.fit import envelope, isoflop, parametric
from isoflop.fit._draws import Intervals
from isoflop.fit.result import Approach, Fit
from isoflop.runs import Runs

RULE, METHOD, LAW, ESTIMATOR = "finished", "parabola", "chinchilla", "huber"  # of Approaches 1, 2, 3 and 3 where none is said
OWNERS: dict[str, Approach] = {"law": "parametric", "estimator": "parametric", "delta": "parametric", "method": "isoflop", "rule": "envelope"}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How each approach is made; None is that approach's default.

    Attributes:
        law: Form of Approach 3: a name of `parametric.LAWS`.
        estimator: Of Approach 3: a name of `parametric.ESTIMATORS`.
        delta: Of Huber's loss, on log loss.
        method: Of Approach 2: a name of `isoflop.METHODS`.
        rule: Of Approach 1: a name of `envelope.RULES`.
        intervals: "runs" (drawn with replacement) or "noise" (put back on what was fitted), of Approaches 2 and 3; Approach 1 draws runs always.

    Raises:
        UnknownNameError: No such intervals; other names are looked up by their approach.
    """

    law: str | None = None
    estimator: str | None = None
    delta: float | None = None
    method: str | None = None
    rule: str | None = None
    intervals: str | None = None

    def __post_init__(self) -> None:
        if self.intervals is not None:
            _registry.check(self.intervals, get_args(Intervals), noun="kind of intervals")

    def refuse_foreign(self, approach: Approach) -> None:
        """Raise UsageError for a choice that the approach does not have."""
        for name, owner in OWNERS.items():
            if owner != approach and getattr(self, name) is not None:
                msg = f"{name} {getattr(self, name)!r} is a choice of the {owner} approach, and the {approach} approach has none. Leave it out."
                raise UsageError(msg)
        if approach == "envelope" and self.intervals == "noise":
            raise UsageError("intervals by 'noise' are not for the envelope approach, whose best sizes leap with it. Say 'runs', or leave it out.")

    def make(self, runs: Runs, approach: Approach, *, resamples: int, seed: int, influence: bool = True) -> Fit:
        """The fit of one approach, where choices of the others say nothing; `influence` as in `parametric.fit`."""
        match approach:
            case "envelope":
                return envelope.fit(runs, rule=self.rule or RULE, resamples=resamples, seed=seed)
            case "isoflop":
                return isoflop.fit(runs, method=self.method or METHOD, intervals=self.intervals or "noise", resamples=resamples, seed=seed)
            case "parametric":
                delta = parametric.DELTA if self.delta is None else self.delta
                law, estimator, how = self.law or LAW, self.estimator or ESTIMATOR, cast("Intervals | None", self.intervals)
                return parametric.fit(runs, law=law, estimator=estimator, delta=delta, intervals=how, resamples=resamples, seed=seed, influence=influence)
