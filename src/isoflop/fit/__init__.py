"""Fits: runs -> law, by the three approaches of Hoffmann et al. 2022, Sec. 3; and what to expect of a budget, as sure as holding budgets out showed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np

from isoflop import _registry, units
from isoflop.errors import FitError
from isoflop.fit import _bootstrap, _checks, _forms, _outliers, _reasons, envelope, isoflop, parametric
from isoflop.fit._overflow import unwarned
from isoflop.fit.choices import Choices
from isoflop.fit.forecast import Blend, Forecast, Member, Prediction, combine, has_optimum, of_loss, of_size, weigh
from isoflop.fit.holdout import FARTHEST, Holdout, Trial, hold_out
from isoflop.fit.refusals import Refusal, Trained
from isoflop.fit.result import Approach, Fit, Frontier, Profile, Status
from isoflop.runs import Dropped, Runs

__all__ = [
    "APPROACHES",
    "Approach",
    "Blend",
    "Choices",
    "Fit",
    "Fits",
    "Forecast",
    "Frontier",
    "Holdout",
    "LeftOut",
    "Member",
    "Prediction",
    "Profile",
    "Refusal",
    "Status",
    "Trained",
    "Trial",
    "envelope",
    "fit",
    "fit_all",
    "isoflop",
    "parametric",
    "set_aside",
]

APPROACHES: tuple[Approach, ...] = get_args(Approach)  # 1, 2 and 3 in the paper's order
USUAL = Choices()
RIVALS = ("chinchilla", "kaplan", "farseer")  # forms of law whose hold-out errors are compared; data_constrained joins where text was repeated
WANTED_PER_CONSTANT = 6  # runs below a cut for a rival's every constant; assumption: with fewer a form bends to the noise, and Farseer's nine take seconds
RIVAL_RESAMPLES = 100  # of a rival that joins the forecast: Farseer takes 30 ms for each
HELD_OUT_RESAMPLES = 40  # of each fit of a hold-out; its quartiles are good to a sixth


class LeftOut(NamedTuple):
    """An approach that could not be made, and why."""

    approach: Approach
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Those approaches that could be made, in the paper's order, and those that could not; iterates over the former."""

    fits: tuple[Fit, ...]
    left_out: tuple[LeftOut, ...]
    holdout: Holdout | None = None  # None where it was not made
    forecast: Forecast | None = None
    disagreement: tuple[str, ...] = ()  # where the approaches disagree, and why; a sentence each
    trained: Trained | None = None  # ranges of the runs, which an answer is checked against; None in files of older versions

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)


@unwarned
def fit(
    runs: Runs,
    *,
    approach: Approach,
    choices: Choices = USUAL,
    resamples: int = _bootstrap.RESAMPLES,
    seed: int = 0,
    keep_all: bool = False,
) -> Fit:
    """Fit by one approach: "envelope" (1), "isoflop" (2) or "parametric" (3).

    Args:
        runs: Any.
        approach: Which.
        choices: Of law, estimator, method, rule and kind of intervals.
        resamples: Behind the intervals; 0 for none.
        seed: Of their draw.
        keep_all: Fit the runs that are far off, too, instead of setting them aside.

    Raises:
        UnknownNameError: No such approach, law, estimator, method or rule.
        UsageError: A choice that this approach does not have.
        FitError: The runs do not determine it; the message says what is missing.
    """
    _registry.check(approach, APPROACHES, noun="approach")
    choices.refuse_foreign(approach)
    sound, aside = set_aside(runs, keep_all=keep_all)
    _refuse_one_line(approach, sound)
    return _told(choices.make(sound, approach, resamples=resamples, seed=seed), runs, aside)


@unwarned
def fit_all(
    runs: Runs,
    *,
    choices: Choices = USUAL,
    resamples: int = _bootstrap.RESAMPLES,
    seed: int = 0,
    keep_all: bool = False,
    on_progress: Callable[[str, float], None] | None = None,
) -> Fits:
    """Fit by every approach that the runs determine, hold budgets out, and forecast. Runs of a proof do not belong among them: they are to be predicted.

    Args as in `fit`; `on_progress` is told what is done, and the share of it.

    Raises:
        UnknownNameError: No such law, estimator, method or rule.
        FitError: None could be made; the message says why for each.
    """
    tell = on_progress or (lambda _what, _share: None)
    sound, aside = set_aside(runs, keep_all=keep_all)
    fits: list[Fit] = []
    left_out: list[LeftOut] = []
    for i, approach in enumerate(APPROACHES):
        tell("fitting", i / len(APPROACHES))
        try:
            _refuse_one_line(approach, sound)
            fits.append(_told(choices.make(sound, approach, resamples=resamples, seed=seed), runs, aside))
        except FitError as error:
            left_out.append(LeftOut(approach, str(error)))
    if not fits:
        raise FitError("no approach can be made of these runs. " + " ".join(f"{name}: {reason}" for name, reason in left_out))
    held, expected = _expected(sound, fits, choices, resamples=resamples, seed=seed, tell=tell)
    return Fits(
        fits=tuple(fits), left_out=tuple(left_out), holdout=held, forecast=expected, trained=Trained.of(sound),
        disagreement=_reasons.disagreement(sound, fits) if len(fits) > 1 else (),
    )  # fmt: skip


def set_aside(runs: Runs, *, keep_all: bool = False) -> tuple[Runs, tuple[Dropped, ...]]:
    """The runs to fit, and by name those that went wrong, unless all are to be kept."""
    if keep_all:
        return runs, ()
    found = _outliers.find(runs)
    if found.keep.all():
        return runs, found.set_aside
    return runs.take(np.flatnonzero(found.keep)), found.set_aside


def _refuse_one_line(approach: Approach, runs: Runs) -> None:
    """Refuse a law of params and tokens where the runs cannot tell the two apart."""
    if approach == "parametric" and (why := _checks.one_line(runs)):
        raise FitError(why)


def _told(found: Fit, runs: Runs, aside: tuple[Dropped, ...]) -> Fit:
    """The fit with what was set aside before it, and the digest of all runs."""
    return replace(
        found, set_aside=aside, runs_digest=runs.digest, warnings=(*_checks.set_aside(aside, len(runs)), *_checks.learning_rates(runs), *found.warnings)
    )


def _expected(runs: Runs, fits: list[Fit], choices: Choices, *, resamples: int, seed: int, tell: Callable[[str, float], None]) -> tuple[Holdout, Forecast]:
    """The trials of all candidates, and the combination of their fits that they speak for."""
    whole = {_name(found): found for found in fits}
    candidates = {name: _candidate(choices, found.approach, HELD_OUT_RESAMPLES, seed) for name, found in whole.items()}
    forms = () if _checks.one_line(runs) else (*RIVALS, *(("data_constrained",) if _repeated(runs) else ()))
    for form in forms:
        candidates.setdefault(f"parametric {form}", _rival(replace(choices, law=form), form, seed))
    profiles = next((found.profiles for found in fits if found.profiles), ())
    noise = _run_noise(fits)
    held = hold_out(runs, candidates, profiles=profiles, noise=noise, on_progress=lambda share: tell("holding budgets out", share))
    far = FARTHEST * float(runs.flops.max())
    while missing := next((name for name in _wanted(held) if name not in whole or not has_optimum(whole[name].law, far)), None):
        if missing in whole:
            held = held.without(missing, f"it has no optimum at {units.flops(far)} FLOPs, so it cannot say what to expect there")
            continue
        tell("fitting", 1.0)
        rival, few = replace(choices, law=missing.split()[1]), min(resamples, RIVAL_RESAMPLES)
        whole[missing] = rival.make(runs, "parametric", resamples=few, seed=seed, influence=False)
    return held, combine(whole, held, noise=noise)


def _wanted(held: Holdout) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*weigh(held, of_loss), *weigh(held, of_size))))


def _candidate(choices: Choices, approach: Approach, resamples: int, seed: int) -> Callable[[Runs], Fit]:
    return lambda below: choices.make(below, approach, resamples=resamples, seed=seed, influence=False)


def _rival(choices: Choices, form: str, seed: int) -> Callable[[Runs], Fit]:
    def made(below: Runs) -> Fit:
        constants = len(_forms.form(form).names)
        if len(below) < WANTED_PER_CONSTANT * constants:
            msg = f"below a cut there are {len(below)} runs, and {WANTED_PER_CONSTANT * constants} are wanted for its {constants} constants."
            raise FitError(msg)
        return choices.make(below, "parametric", resamples=HELD_OUT_RESAMPLES, seed=seed, influence=False)

    return made


def _name(found: Fit) -> str:
    return f"parametric {found.form}" if found.approach == "parametric" else found.approach


def _repeated(runs: Runs) -> bool:
    return runs.unique_tokens is not None and bool((runs.tokens > runs.unique_tokens).any())


def _run_noise(fits: list[Fit]) -> float:
    """Standard deviation of the log loss of one run about the fits: the least of theirs, for a law that does not fit leaves more.

    Approach 1 fits few runs, those that chance made best, and may go through them exactly; it is asked only where it is alone.
    """
    fits = [found for found in fits if found.approach != "envelope"] or fits
    spreads = [1.4826 * float(np.median(np.abs(found.residuals[np.isfinite(found.residuals)]))) for found in fits if np.isfinite(found.residuals).any()]
    return min(spreads, default=0.0)
