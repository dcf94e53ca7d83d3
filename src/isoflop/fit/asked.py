"""Options of `isoflop fit`, read; an invalid one is refused here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np

from isoflop import _registry, units
from isoflop.arch import Convention
from isoflop.errors import FitError, UsageError
from isoflop.fit import APPROACHES, USUAL, Approach, Choices, Fit, Fits, Profile, _bootstrap, fit, fit_all, isoflop, parametric, set_aside
from isoflop.fit import limits as limiting
from isoflop.fit.choices import ESTIMATOR, LAW
from isoflop.fit.forecast import combine
from isoflop.fit.holdout import hold_out
from isoflop.fit.limits import Limits
from isoflop.fit.refusals import Trained
from isoflop.fit.result import fewest, too_few
from isoflop.runs import Runs

ALL = "all"
LEVEL = 0.8  # from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2
MOST_RESAMPLES = 100_000  # assumption: their laws take a gigabyte
HELD_OUT_RESAMPLES = 40  # of each fit of a hold-out; its quartiles are good to a sixth
ROUND = (1.0, 2.0, 3.0, 5.0)  # leading digits of a budget that nobody said
AHEAD = 10.0  # times the largest run: where a budget that nobody said lies, a decade as planners go beyond their sweeps


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words of `isoflop fit`, as typed; None is what was not said."""

    approach: str = ALL
    choices: Choices = USUAL  # of the approaches
    columns: tuple[str, ...] = ()
    where: str | None = None
    name: str | None = None  # what names of files hold
    decimal: str | None = None
    kind: str | None = None
    count: str | None = None
    tolerance: float | None = None
    every_point: bool = False
    every_run: bool = False
    pool: tuple[str, ...] = ()
    unit: str | None = None
    at: str | None = None
    resamples: int = _bootstrap.RESAMPLES
    seed: int = 0
    level: float = LEVEL
    profile: bool = False  # likelihood, of Approach 3
    keep_all: bool = False
    extrapolate: bool = False  # accept a budget more than 50 times outside the runs

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UsageError(f"--level {self.level:g} is no share of the resamples between the ends of an interval. Give one between 0 and 1, such as 0.8.")
        delta = self.choices.delta
        if delta is not None and not (math.isfinite(delta) and delta > 0):
            raise UsageError(f"--delta {delta:g} is where Huber's loss turns from squares to lines, so it must be finite and positive, such as 0.001.")
        if not 0 <= self.resamples <= MOST_RESAMPLES:
            raise UsageError(f"--resamples {self.resamples} cannot be drawn: give a number from 0 (no intervals) to {MOST_RESAMPLES}.")
        level = max(self.level, LEVEL)  # at which a plan will ask for them
        if 0 < self.resamples < fewest(level):
            raise UsageError(f"--resamples: {too_few(self.resamples, level)} Give so many or more, or 0 for no intervals.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed {self.seed} cannot begin a draw: give a number from 0 to {2**63 - 1}.")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise UsageError(f"--budget-tolerance {self.tolerance:g} is how far FLOPs of one budget may lie apart. Give a share from 0 to 1, such as 0.1.")
        if self.count is not None:
            _registry.check(self.count, get_args(Convention), noun="way to count parameters")
        if self.profile:
            self._check_profile()

    def _check_profile(self) -> None:
        if self.one not in {None, "parametric"}:
            raise UsageError(f"--profile is of Approach 3, which --approach {self.approach} leaves out. Give --approach parametric, or leave --profile out.")
        law = self.choices.law
        if law not in {None, LAW}:
            raise UsageError(f"--profile is of the additive law ({LAW}), and --law {law} is another. Leave one of them out: resamples go with every law.")

    @property
    def of_files(self) -> tuple[str, ...]:
        """Options said that are about reading files."""
        said = {
            "--map": self.columns, "--where": self.where, "--name": self.name, "--decimal": self.decimal, "--from": self.kind,
            "--count": self.count, "--budget-tolerance": self.tolerance,
            "--every-point": self.every_point, "--every-run": self.every_run, "--pool": self.pool, "--unit": self.unit,
        }  # fmt: skip
        return tuple(name for name, value in said.items() if value not in {None, (), False})

    @property
    def convention(self) -> Convention | None:
        """The counting of parameters; None where no option says it."""
        return cast("Convention | None", self.count)

    @property
    def one(self) -> Approach | None:
        """The approach, if it is not to be all.

        Raises:
            UnknownNameError: No such approach.
        """
        by_number = {str(number): name for number, name in enumerate(APPROACHES, start=1)}
        name = by_number.get(self.approach, self.approach.lower())
        if name == ALL:
            return None
        _registry.check(name, (ALL, *APPROACHES), noun="approach")
        return cast("Approach", name)

    @property
    def mapping(self) -> Mapping[str, str]:
        """Columns by what they are taken for.

        Raises:
            UsageError: Not NAME=COLUMN, or one name twice.
        """
        pairs: dict[str, str] = {}
        for entry in (part for words in self.columns for part in words.split(",")):
            name, equals, column = (word.strip() for word in entry.partition("="))
            if not (name and equals and column):
                raise UsageError(f"--map {entry!r} does not say which column is what. Write it as NAME=COLUMN, such as params=non_emb_params.")
            if pairs.get(name, column) != column:
                raise UsageError(f"--map says {name} twice: {pairs[name]} and {column}. Give one.")
            pairs[name] = column
        return pairs


def fits(runs: Runs, asked: Asked, *, on_progress: Callable[[str, float], None] | None = None) -> Fits:
    """Fit as was asked.

    Raises:
        UsageError: An option that the approach does not have, or a name that is on no menu.
        FitError: The runs determine no law.
    """
    approach = asked.one
    if approach is None:
        return fit_all(runs, choices=asked.choices, resamples=asked.resamples, seed=asked.seed, keep_all=asked.keep_all, on_progress=on_progress)

    return _alone(approach, runs, asked, on_progress=on_progress)


def _alone(approach: Approach, runs: Runs, asked: Asked, *, on_progress: Callable[[str, float], None] | None) -> Fits:
    """One approach by itself, with its own hold-out: what a fit says of its own runs is no measure of what it says beyond them."""
    found = fit(runs, approach=approach, choices=asked.choices, resamples=asked.resamples, seed=asked.seed, keep_all=asked.keep_all)
    residuals = found.residuals[np.isfinite(found.residuals)]
    noise = 1.4826 * float(np.median(np.abs(residuals))) if residuals.size else 0.0  # that of a normal distribution with such a median
    sound = set_aside(runs, keep_all=asked.keep_all)[0]
    tell = None if on_progress is None else lambda share: on_progress("holding budgets out", share)
    name = f"parametric {found.form}" if found.approach == "parametric" else found.approach

    def again(below: Runs) -> Fit:  # runs were set aside once, from all of them, as `fit_all` does
        return asked.choices.make(below, approach, resamples=HELD_OUT_RESAMPLES, seed=asked.seed, influence=False)

    held = hold_out(sound, {name: again}, profiles=found.profiles or _profiles(sound), noise=noise, on_progress=tell)
    return Fits(fits=(found,), left_out=(), holdout=held, forecast=combine({name: found}, held, noise=noise), trained=Trained.of(sound))


def _profiles(runs: Runs) -> tuple[Profile, ...]:
    """IsoFLOP profiles, whose minima a hold-out predicts whatever the approach; none where the runs lie in none."""
    try:
        return isoflop.fit(runs, resamples=0).profiles
    except FitError:
        return ()


def limits(runs: Runs, asked: Asked, found: Fits, flops: float) -> tuple[Limits, ...]:
    """Return how far the runs let Approach 3 go, from the very runs that were fitted; none without --profile.

    Raises:
        UsageError: Approach 3 could not be fitted.
    """
    if not asked.profile:
        return ()
    fitted = next((one for one in found if one.approach == "parametric"), None)
    if fitted is None:
        raise UsageError(f"--profile is of Approach 3, which could not be fitted: {dict(found.left_out)['parametric']} Or leave --profile out.")
    estimator, delta = asked.choices.estimator or ESTIMATOR, parametric.DELTA if asked.choices.delta is None else asked.choices.delta
    sound = set_aside(runs, keep_all=asked.keep_all)[0]
    return limiting.limits(sound, fitted, flops, level=asked.level, estimator=estimator, delta=delta)


def budget(runs: Runs, asked: Asked, *, target: float | None = None) -> float:
    """FLOPs to predict: those said, else the target of a study, else a round number about ten times the largest run.

    Raises:
        UnitError: What was said is no quantity.
    """
    if asked.at is not None:
        return units.read_flops(asked.at)
    return target or _round(AHEAD * float(runs.flops.max()))


def _round(flops: float) -> float:
    """The nearest of 1, 2, 3 and 5 times a power of ten."""
    power = math.floor(math.log10(flops))
    steps = [float(f"{digit * 10:g}e{power + up - 1}") for up in (0, 1) for digit in ROUND]
    return min(steps, key=lambda step: abs(math.log(step / flops)))
