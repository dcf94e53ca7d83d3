"""Quantities as people write them: "70M", "1.4T", "5.76e23", "3h", "$2M".

Nothing else in isoflop knows a suffix.
"""

import math
import os
import re

from isoflop.errors import UnitError

LONGEST = 60  # characters of a value in a message
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "q": 1e15, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SUPERSCRIPTS = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
    **dict.fromkeys(("y", "year", "years"), 365 * 86400.0),
}
_PLAIN = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d[\d_]*|(?=\.\d))(?:\.\d*)?(?:[eE][+-]?\d+)?"  # a comma only between thousands: 1,4 is 1.4 to half the world
_NUMBER = re.compile(rf"\s*({_PLAIN})\s*([a-zA-Z]*)\s*", re.ASCII)
_TIMES = "[xX*\u00b7\u00d7]"
_HIGH = "[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]{1,3}"  # an exponent in superscripts
_TEN = rf"10\s*(?:(?:\^|\*\*)\s*([+-]?\d{{1,3}})|({_HIGH}))"  # 10^23
_POWER = re.compile(rf"\s*(?:({_PLAIN})\s*{_TIMES}\s*)?{_TEN}\s*", re.ASCII)  # 5.76x10^23
_WITH_WORD = re.compile(rf"\s*({_PLAIN}(?:\s*[kKmMbBgGtTqQ](?![a-zA-Z]))?)\s*[a-zA-Z/_-]+\s*", re.ASCII)  # a unit that the quantity has anyway
_COMPUTE = re.compile(r"(.*?)(?:(?<![a-zA-Z])flops?|(pf(?:lops?)?(?:/s)?[- ]?days?))\s*", re.ASCII | re.IGNORECASE)
PF_DAY = 1e15 * 86400.0  # FLOPs
_FIGURE = r"\+?((\d{1,3}(,\d{3})+|\d[\d_]*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_ANY_CASE = {word: "".join(f"[{letter}{letter.upper()}]" for letter in word) for word in ("thousand", "million", "billion", "trillion", "flop", "pf", "day")}
_WORDS = "|".join(_ANY_CASE[word] for word in ("thousand", "million", "billion", "trillion"))
_PF_DAYS = rf"{_ANY_CASE['pf']}([lL][oO][pP][sS]?)?(/[sS])?[- ]?{_ANY_CASE['day']}[sS]?"
PATTERN = (  # what `read_flops` takes, for JSON schemas, without the look-aheads that some editors do not know
    rf"^\s*(({_FIGURE}\s*{_TIMES}\s*)?{_TEN.replace('(?:', '(')}|{_FIGURE}\s*([kKmMbBgGtTqQ]|{_WORDS})?)\s*({_ANY_CASE['flop']}[sS]?|{_PF_DAYS})?\s*$"
)
_MONEY = re.compile(r"^\s*\$|\s*(?:usd|dollars?|\$)\s*$", re.IGNORECASE)
_DURATION = re.compile(rf"\s*({_PLAIN})\s*([a-zA-Z]+)\s*", re.ASCII)


def read(text: str | float) -> float:
    """Read a positive count such as "70M", "1.4T", "5.76e23" or 3e11.

    Raises:
        UnitError: Not a positive finite number with one of the suffixes k, M, B, G, T, Q.
    """
    try:
        value = float(text) if isinstance(text, int | float) and not isinstance(text, bool) else _parse(str(text))
    except OverflowError:
        raise UnitError("a whole number of hundreds of digits is not a quantity. Write it like 5.76e23.") from None
    if not math.isfinite(value) or value <= 0:
        msg = f"{_brief(text)} is not a positive finite quantity. Write it like 70M, 1.4T or 5.76e23."
        raise UnitError(msg)
    return value


def _brief(value: object) -> str:
    """Return a value as it was typed, or its beginning."""
    text = str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text)} characters)"


def _parse(text: str) -> float:
    if power := _POWER.fullmatch(text):
        mantissa, _, exponent = (power[1] or "1").lower().replace("_", "").replace(",", "").partition("e")
        return float(f"{mantissa}e{int(exponent or 0) + int((power[2] or power[3]).translate(_SUPERSCRIPTS))}")
    match = _NUMBER.fullmatch(text)
    scale = _SCALE.get(match[2].lower()) if match else None
    if match is None or scale is None:
        raise UnitError(f"{_brief(text)} is not a quantity.{_hint(text)}")
    return float(match[1].replace("_", "").replace(",", "")) * scale


def _hint(text: str) -> str:
    how = " Write a number with an optional suffix k, M, B, T or an exponent, like 70M, 1.4T or 5.76e23."
    if "," in text:
        return f"{how} A comma stands between thousands only; the decimal sign is a point."
    worded = _WITH_WORD.fullmatch(text)
    return f" Did you mean {worded[1].strip()}?{how}" if worded else how


def read_flops(text: str | float) -> float:
    """Read training compute such as 5.76e23, "1e23 FLOPs" or "3640 PF-days".

    Raises:
        UnitError: Not a positive finite number, or of another unit.
    """
    match = _COMPUTE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return read(text)
    return read(read(match[1]) * (PF_DAY if match[2] else 1.0))


def read_duration(text: str) -> float:
    """Read a time such as "3h", "30 days" or "90min" in seconds.

    Raises:
        UnitError: Not a positive finite number with one of the units s, min, h, d, w, y. A bare number is refused: of what?
    """
    match = _DURATION.fullmatch(text)
    unit = _SECONDS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        msg = f"{_brief(text)} is not a time. Write a number and its unit (s, min, h, d, w or y), like 3h, 30d or 90min."
        raise UnitError(msg)
    return read(read(match[1]) * unit)


def read_dollars(text: str) -> float:
    """Read an amount such as "$2M", "2.5" or "$1,500".

    Raises:
        UnitError: Not a positive finite amount.
    """
    try:
        return read(_MONEY.sub("", text))
    except UnitError:
        msg = f"{_brief(text)} is not an amount of dollars. Write it like $2M, $1,500 or 2.5e6."
        raise UnitError(msg) from None


def count(value: float) -> str:
    """Print params or tokens with three significant digits: 70.0M, 1.40T; as an exponent where no suffix helps."""
    if 0 < abs(value) < 0.995 or abs(value) >= 1e18:
        return flops(value)
    for suffix in ("", "k", "M", "B", "T"):
        if abs(value) < 999.5 or suffix == "T":  # 999.5 and more would print as 1000
            break
        value /= 1e3
    digits = 0 if not suffix else max(0, 2 - int(math.log10(max(abs(value), 1.0))))
    return f"{value:.{digits}f}{suffix}"


def dollars(value: float) -> str:
    """Print dollars with three significant digits: $2.10M; cents below a hundred."""
    return f"${value:.2f}" if abs(value) < 99.995 else f"${count(value)}"


def size(value: float) -> str:
    """Print bytes in decimal units with three significant digits: 80.0 GB."""
    return _si(value, "B")


def energy(value: float) -> str:
    """Print kilowatt-hours in the unit a person would take, with three significant digits: 1.29 GWh."""
    return _si(value * 1e3, "Wh")


def mass(value: float) -> str:
    """Print kilograms, or tonnes from a thousand up, with three significant digits: 552 t."""
    if value >= 1e12:
        return f"{flops(value / 1e3)} t"
    return f"{_digits(value)} kg" if value < 999.5 else f"{_digits(value / 1e3)} t"


def _si(value: float, unit: str) -> str:
    if value >= 1e21:
        return f"{flops(value)} {unit}"
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(value) < 999.5 or prefix == "E":
            break
        value /= 1e3
    return f"{_digits(value)} {prefix}{unit}"


def _digits(value: float) -> str:
    """Three significant digits; thousands apart."""
    return f"{value:#.3g}".rstrip(".") if 0 < value < 999.5 else f"{value:,.0f}"


def flops(value: float) -> str:
    """Print FLOPs with three significant digits: 5.76e+23 as 5.76e23."""
    if not math.isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Print seconds as 42 s, 12 min, 3.4 h or 5.1 days."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} days" if seconds < 1e6 * 86400 else f"{flops(seconds / 86400)} days"


def times(value: float) -> str:
    """Print a factor with two or three significant digits: 0.85, 4.2, 192, 12,700."""
    if value >= 1e7 or 0 < value < 1e-3:
        return flops(value)
    return f"{value:.2g}" if value < 9.95 else f"{value:.3g}" if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def shown(path: "os.PathLike[str] | str") -> str:
    """Print a path; bytes of it that are not UTF-8 are escaped, for what is written to a file must be UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
