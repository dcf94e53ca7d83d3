"""Fits as JSON and back, to the last bit: what `isoflop fit --out` keeps and `isoflop plan --fit` asks.

A file has the fits twice: in words and figures for other programs, and under "exact" for isoflop, with a digest. Only the latter is read back.
"""

import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass

from isoflop.errors import FitError, UsageError
from isoflop.fit import Fit, Fits, _codec
from isoflop.fit.account import Account

FORMAT, VERSION = "isoflop fits", 1
_REST = tuple(f.name for f in dataclasses.fields(Fits) if f.name != "fits")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Fits with the account of the runs that they were made from."""

    fits: Fits
    account: Account


def dumps(fits: Fits, account: Account, *, said: Mapping[str, object] | None = None) -> str:
    """Fits as the text of a JSON file.

    Args:
        fits: To keep.
        account: Of their runs.
        said: The same in words and figures, for other programs; stands first and is not read back.
    """
    rest = {name: _codec.plain(getattr(fits, name), fits.fits) for name in _REST}
    exact = {"account": _codec.plain(account), "fits": [_codec.plain(fit) for fit in fits], "rest": rest}
    head = {"format": FORMAT, "version": VERSION, **(said or {})}
    return json.dumps(head | {"sha256": _digest(exact), "exact": exact}, allow_nan=False) + "\n"


def loads(text: str, *, name: str = "this file") -> Saved:
    """Return the fits that `dumps` wrote.

    Args:
        text: Of the file.
        name: What to call it in an error.

    Raises:
        UsageError: Anything else; the message says what is wrong, and where.
    """
    try:
        return _saved(_exact(text))
    except RecursionError:
        why = "it is nested too deeply"
    except UsageError as error:
        why = str(error).rstrip(".")
    raise UsageError(f"{name} cannot be read as saved fits: {why}. A plan by it could be wrong. Write it anew: isoflop fit RUNS --out FILE.json")


def _saved(exact: Mapping[str, object]) -> Saved:
    parts = _codec.mapping(exact, ("account", "fits", "rest"), "exact")
    fits = tuple(_codec.read(Fit, entry, f"fits[{i}]") for i, entry in enumerate(_codec.listed(parts["fits"], "fits")))
    if not fits:
        raise UsageError("it holds no fit")
    hints, rest = typing.get_type_hints(Fits), _codec.mapping(parts["rest"], _REST, "rest", optional={"trained"})  # which older versions did not write
    others = {name: _codec.read(hints[name], value, name, fits) for name, value in rest.items()}
    forecast = others["forecast"]
    if forecast is not None and forecast.freedom < 1:
        raise UsageError(f"forecast.freedom is {forecast.freedom}, but an interval needs at least 1 degree of freedom")
    account = _codec.read(Account, parts["account"], "account")
    budgets = {f"fits[{i}].reach_flops": fit.reach_flops for i, fit in enumerate(fits)} | {"account.smallest_flops": account.smallest_flops}
    for where, flops in budgets.items():
        if not 0 < flops < math.inf:
            raise UsageError(f"{where} is {flops!r}, but a run takes a finite number of FLOPs above zero")
    for i, fit in enumerate(fits):
        _check_law(fit, f"fits[{i}].law")
    return Saved(fits=Fits(fits=fits, **others), account=account)


def _check_law(fit: Fit, where: str) -> None:
    """Refuse constants that are numbers each and give none together."""
    try:
        best = fit.law.optimum(fit.reach_flops)
    except FitError:  # no optimum there, which a plan says in its own words
        return
    except ArithmeticError:
        best = None
    if best is None or not (0 < best.params < math.inf and 0 < best.tokens < math.inf) or math.isinf(best.loss):
        raise UsageError(f"{where} gives no number for its own largest run")


def _exact(text: str) -> Mapping[str, object]:
    """The part that is read back, if it is as it was written."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"it is not JSON ({error})") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"it does not say that its format is {FORMAT!r}")
    if found.get("version") != VERSION:
        raise UsageError(f"it is of version {found.get('version')!r}, and this isoflop reads version {VERSION}")
    exact = found.get("exact")
    if not isinstance(exact, dict):
        raise UsageError("it has no part 'exact'")
    if found.get("sha256") != _digest(exact):
        raise UsageError("its digest does not match, so it was changed after it was written")
    return exact


def _digest(exact: Mapping[str, object]) -> str:
    """SHA-256 of the values, however another program has written them: with other spaces, or 1 for 1.0."""
    return hashlib.sha256(json.dumps(_as_floats(exact), sort_keys=True).encode()).hexdigest()


def _as_floats(value: object) -> object:
    match value:
        case int() if not isinstance(value, bool) and abs(value) < 2**53:
            return float(value)
        case dict():
            return {key: _as_floats(v) for key, v in value.items()}
        case list():
            return [_as_floats(v) for v in value]
        case _:
            return value
