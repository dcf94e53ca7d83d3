"""Numbers that a planner is given: positive and finite, or one clear line."""

import math

from isoflop.errors import UsageError

BUDGETS = (1e6, 1e40)  # FLOPs; all human computing to 2030 is well below 1e33
TOKENS = (1.0, 1e22)  # a trillion people reading ten billion each
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
        msg = f"{what} is {value:g}, which cannot be meant: it should be at most {most:g}. {advice}"
        raise UsageError(msg)
    return float(value)


def not_negative(value: float, what: str, *, most: float = math.inf, advice: str = _ADVICE) -> float:
    """The value, which must be a finite number, zero or more, and at most `most`.

    Raises:
        UsageError: It is not.
    """
    return 0.0 if value == 0 else positive(value, what, most=most, advice=advice)


def tokens(value: float, what: str) -> float:
    """The value, which must be a number of tokens that there can be; `what` follows it in words.

    Raises:
        UsageError: It is not.
    """
    low, high = TOKENS
    if not low <= value <= high:
        msg = f"{value:g} {what} cannot be meant: there should be from {low:g} to {high:g}. Check the exponent or the suffix."
        raise UsageError(msg)
    return float(value)


def fraction(value: float, what: str, *, advice: str) -> float:
    """The value, which must be above zero and at most one.

    Raises:
        UsageError: It is not.
    """
    if not 0 < value <= 1:
        msg = f"{what} is {value!r}, but it is a fraction: more than 0 and at most 1. {advice}"
        raise UsageError(msg)
    return float(value)
