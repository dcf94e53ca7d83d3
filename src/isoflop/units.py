"""Quantities as people write them: "70M", "1.4T", "5.76e23", "3h".

Nothing else in isoflop knows a suffix.
"""

import math
import re

from isoflop.errors import UnitError

_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "q": 1e15}
_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]?)\s*")


def read(text: str | float) -> float:
    """Read a positive count such as "70M", "1.4T", "5.76e23" or 3e11.

    Raises:
        UnitError: Not a positive finite number with one of the suffixes k, M, B, G, T, Q.
    """
    value = float(text) if isinstance(text, int | float) and not isinstance(text, bool) else _parse(str(text))
    if not math.isfinite(value) or value <= 0:
        msg = f"{text!r} is not a positive finite quantity. Write it like 70M, 1.4T or 5.76e23."
        raise UnitError(msg)
    return value


def _parse(text: str) -> float:
    match = _NUMBER.fullmatch(text)
    scale = _SCALE.get(match[2].lower()) if match else None
    if match is None or scale is None:
        msg = f"{text!r} is not a quantity. Write a number with an optional suffix k, M, B, T or an exponent, like 70M, 1.4T or 5.76e23."
        raise UnitError(msg)
    return float(match[1].replace("_", "").replace(",", "")) * scale


def count(value: float) -> str:
    """Print params or tokens with three significant digits: 70.0M, 1.40T."""
    for suffix in ("", "k", "M", "B", "T"):
        if abs(value) < 999.5 or suffix == "T":  # 999.5 and more would print as 1000
            break
        value /= 1e3
    digits = 0 if not suffix else max(0, 2 - int(math.log10(max(abs(value), 1.0))))
    return f"{value:.{digits}f}{suffix}"


def flops(value: float) -> str:
    """Print FLOPs with three significant digits: 5.76e+23 as 5.76e23."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Print seconds as 42 s, 12 min, 3.4 h or 5.1 days."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} days"
