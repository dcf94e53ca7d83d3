"""What a law refuses: constants that make no law, and budgets that are none."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isoflop.errors import UsageError

Floats = NDArray[np.float64]
# Far outside its data a law gives zero, infinity or NaN, as its formula says. That is an answer, and whoever prints it decides; NumPy need not warn of it.
to_its_limits = np.errstate(over="ignore", divide="ignore", invalid="ignore")


def constants(law: object, *, positive: Iterable[str] = (), from_zero: Iterable[str] = ()) -> None:
    """Raise UsageError for the first constant of a law that is not finite, or not more than zero (or, from_zero, negative)."""
    for names, floor in ((from_zero, "zero or more"), (positive, "more than zero")):
        for name in names:
            value = getattr(law, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and floor == "more than zero"):
                kind = type(law).__name__
                msg = f"{name} of a {kind} law is {value!r}, but it must be finite and {floor}; else no budget has an optimum. Check the constants."
                raise UsageError(msg)


def amount(values: ArrayLike, what: str) -> Floats:
    """Quantities as floats, in which 6ND cannot overflow as it does in int64.

    Raises:
        UsageError: One of them is not finite and positive.
    """
    found = np.asarray(values, dtype=float)
    bad = found[~(np.isfinite(found) & (found > 0))]
    if bad.size:
        msg = f"{what} of {bad.flat[0]:g} was asked for, but a law answers only for finite amounts above zero. Give it like 5.76e23."
        raise UsageError(msg)
    return found


def extent(values: ArrayLike, what: str) -> Floats:
    """Params or tokens of a model as floats; none and infinitely many are limits of a law, and NaN stays NaN.

    Raises:
        UsageError: A negative one.
    """
    found = np.asarray(values, dtype=float)
    if (found < 0).any():
        raise UsageError(f"a model of {found[found < 0].flat[0]:g} {what} was asked for, but no law says a loss below zero {what}. Give it like 70e9.")
    return found
