"""Numbers that a planner is given: positive and finite, or one clear line."""

import math

from isoflop.errors import UsageError

_ADVICE = "Check the sign and the exponent."


def positive(value: float, what: str, *, most: float = math.inf, advice: str = _ADVICE) -> float:
    """The value, which must be a finite number above zero and at most `most`.

    Raises:
        UsageError: It is not.
    """
    if not math.isfinite(value) or value <= 0:
        msg = f"{what} is {value!r}, but must be finite and more than zero: nothing can be planned with it. {advice}"
        raise UsageError(msg)
    if value > most:
        msg = f"{what} is {value:g}, which cannot be meant: {most:g} is more than there will ever be. {advice}"
        raise UsageError(msg)
    return float(value)


def not_negative(value: float, what: str, *, most: float = math.inf, advice: str = _ADVICE) -> float:
    """The value, which must be a finite number, zero or more, and at most `most`.

    Raises:
        UsageError: It is not.
    """
    return 0.0 if value == 0 else positive(value, what, most=most, advice=advice)


def fraction(value: float, what: str, *, advice: str) -> float:
    """The value, which must be above zero and at most one.

    Raises:
        UsageError: It is not.
    """
    if not 0 < value <= 1:
        msg = f"{what} is {value!r}, but it is a fraction: more than 0 and at most 1. {advice}"
        raise UsageError(msg)
    return float(value)
