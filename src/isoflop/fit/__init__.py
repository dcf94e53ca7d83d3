"""Fits: runs -> law, by the three approaches of Hoffmann et al. 2022, Sec. 3."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, get_args

from isoflop import _registry
from isoflop.errors import FitError
from isoflop.fit import _bootstrap, envelope, isoflop, parametric
from isoflop.fit.result import Approach, Fit, Frontier, Profile, Status
from isoflop.runs import Runs

__all__ = ["APPROACHES", "Approach", "Fit", "Fits", "Frontier", "LeftOut", "Profile", "Status", "envelope", "fit", "fit_all", "isoflop", "parametric"]

APPROACHES: tuple[Approach, ...] = get_args(Approach)  # 1, 2 and 3 in the paper's order


class LeftOut(NamedTuple):
    """An approach that could not be made, and why."""

    approach: Approach
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Those approaches that could be made, in the paper's order, and those that could not; iterates over the former."""

    fits: tuple[Fit, ...]
    left_out: tuple[LeftOut, ...]

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)


def fit(runs: Runs, *, approach: Approach, resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fit:
    """Fit by one approach: "envelope" (1), "isoflop" (2) or "parametric" (3).

    Raises:
        UnknownNameError: No such approach.
        FitError: The runs do not determine it; the message says what is missing.
    """
    _registry.check(approach, APPROACHES, noun="approach")
    match approach:
        case "envelope":
            return envelope.fit(runs, resamples=resamples, seed=seed)
        case "isoflop":
            return isoflop.fit(runs, resamples=resamples, seed=seed)
        case "parametric":
            return parametric.fit(runs, resamples=resamples, seed=seed)


def fit_all(runs: Runs, *, resamples: int = _bootstrap.RESAMPLES, seed: int = 0) -> Fits:
    """Fit by every approach that the runs determine. Runs of a proof do not belong among them: they are to be predicted.

    Raises:
        FitError: None could be made; the message says why for each.
    """
    fits: list[Fit] = []
    left_out: list[LeftOut] = []
    for approach in APPROACHES:
        try:
            fits.append(fit(runs, approach=approach, resamples=resamples, seed=seed))
        except FitError as error:
            left_out.append(LeftOut(approach, str(error)))
    if not fits:
        raise FitError("no approach can be made of these runs. " + " ".join(f"{name}: {reason}" for name, reason in left_out))
    return Fits(fits=tuple(fits), left_out=tuple(left_out))
