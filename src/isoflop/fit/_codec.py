"""Frozen values as what JSON has, and back to the last bit, by the types of their fields.

Numbers that are not finite are "nan", "inf" and "-inf". A law is its form and its constants; many of one form are columns of constants.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import numpy as np

from isoflop import _registry
from isoflop.errors import UsageError
from isoflop.fit.result import Fit
from isoflop.laws import Cost, Law

Any = typing.Any
Known = Sequence[Fit]  # fits that stand elsewhere: one of them is written as its place there
_ODD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def plain(value: object, known: Known = ()) -> object:
    """A value as JSON has it."""
    match value:
        case None | bool() | str() | int() | float():
            return repr(float(value)) if isinstance(value, float) and not math.isfinite(value) else value
        case np.ndarray() | np.generic():
            return plain(value.tolist(), known)
        case Fit():
            return next((i for i, fit in enumerate(known) if fit is value), fields(value))
        case tuple() if value and all(_is_law(v) and type(v) is type(value[0]) for v in value):
            rows = [_constants(law) for law in value]
            return {"form": _form(value[0]), "constants": {name: [row[name] for row in rows] for name in rows[0]}}
        case list() | tuple() if not hasattr(value, "_asdict"):
            return [plain(v, known) for v in value]
        case _:
            return fields(value, known)


def fields(value: object, known: Known = ()) -> dict[str, object]:
    """A law, another dataclass, or a named tuple, by name."""
    if _is_law(value):
        return {"form": _form(value), "constants": _constants(value)}
    names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else list(value._fields)  # type: ignore[attr-defined]
    return {name: plain(getattr(value, name), known) for name in names}


def _is_law(value: object) -> bool:
    return dataclasses.is_dataclass(value) and hasattr(value, "optimum")


def _form(law: object) -> str:
    return type(law).__module__.rpartition(".")[2]


def _constants(law: Any) -> dict[str, object]:
    """By name; those of the cost as "cost.scale"."""
    own = {f.name: plain(getattr(law, f.name)) for f in dataclasses.fields(law) if f.name != "cost"}
    return own | {f"cost.{name}": value for name, value in (fields(law.cost).items() if hasattr(law, "cost") else ())}


def read(kind: Any, value: object, where: str, known: Known = ()) -> Any:
    """A value of a type, from what `plain` made of it.

    Args:
        kind: Its type, as annotated.
        value: From JSON.
        where: What to call it in an error.
        known: As of `plain`.

    Raises:
        UsageError: It is not of that type.
    """
    if kind in _SCALARS:
        return _SCALARS[kind](value, where)
    origin = typing.get_origin(kind)
    if origin in _GENERIC:
        return _GENERIC[origin](typing.get_args(kind), value, where, known)
    if kind is Fit and type(value) is int and 0 <= value < len(known):
        return known[value]
    return _record(kind, value, where, known)


def _record(kind: Any, value: object, where: str, known: Known) -> Any:
    """A dataclass or a named tuple."""
    hints = typing.get_type_hints(kind)
    given = mapping(value, hints, where, optional=_defaults(kind))
    return kind(**{name: read(hints[name], v, f"{where}.{name}", known) for name, v in given.items()})


def _defaults(kind: Any) -> Container[str]:
    if hasattr(kind, "_field_defaults"):
        return frozenset(kind._field_defaults)  # how a named tuple says it
    return {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING}


def mapping(value: object, names: Iterable[str], where: str, *, optional: Container[str] = ()) -> Mapping[str, object]:
    """An object of these keys.

    Raises:
        UsageError: It is none, or has others.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {_short(value)}, but it must be an object")
    names = tuple(names)
    missing, unknown = [n for n in names if n not in value and n not in optional], [str(key) for key in value if key not in names]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise UsageError(f"{where} has {', '.join(unknown[:3])}, which this isoflop does not know")
    return value


def listed(value: object, where: str) -> list[object]:
    """A list.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, list):
        raise UsageError(f"{where} is {_short(value)}, but it must be a list")
    return value


def _optional(args: tuple[Any, ...], value: object, where: str, known: Known) -> Any:
    (some,) = (arg for arg in args if arg is not types.NoneType)
    return None if value is None else read(some, value, where, known)


def _choice(args: tuple[Any, ...], value: object, where: str, _: Known) -> Any:
    if value not in args:
        raise UsageError(f"{where} is {_short(value)}, but it must be one of {', '.join(args)}")
    return value


def _array(args: tuple[Any, ...], value: object, where: str, _: Known) -> Any:
    dtype = typing.get_args(args[1])[0]
    kind = bool if dtype is np.bool_ else float
    return np.array([read(kind, v, f"{where}[{i}]") for i, v in enumerate(listed(value, where))], dtype=dtype)


def _tuple(args: tuple[Any, ...], value: object, where: str, known: Known) -> tuple[Any, ...]:
    if args[0] is Law and isinstance(value, dict):
        return _laws(value, where)
    entries = listed(value, where)
    kinds = [args[0]] * len(entries) if args[-1] is Ellipsis else args
    if len(kinds) != len(entries):
        raise UsageError(f"{where} has {len(entries)} entries, but it must have {len(kinds)}")
    return tuple(read(kind, v, f"{where}[{i}]", known) for i, (kind, v) in enumerate(zip(kinds, entries, strict=True)))


def _laws(value: object, where: str) -> tuple[Law, ...]:
    """Many laws of one form."""
    given = mapping(value, ("form", "constants"), where)
    columns = given["constants"]
    if not isinstance(columns, dict) or not columns:
        raise UsageError(f"{where}.constants is {_short(columns)}, but it must be an object of lists")
    lists = [listed(column, f"{where}.constants.{name}") for name, column in columns.items()]
    if len({len(column) for column in lists}) != 1:
        raise UsageError(f"{where}.constants has columns of unequal length")
    rows = zip(*lists, strict=True)
    return tuple(_law({"form": given["form"], "constants": dict(zip(columns, row, strict=True))}, f"{where}[{i}]") for i, row in enumerate(rows))


def _law(value: object, where: str) -> Law:
    """One law of the menu."""
    given = mapping(value, ("form", "constants"), where)
    kind = law_type(str(given["form"]))
    names = [f.name for f in dataclasses.fields(kind)]
    own = [name for name in names if name != "cost"]
    paid = [f.name for f in dataclasses.fields(Cost)] if "cost" in names else []
    constants = mapping(given["constants"], [*own, *(f"cost.{name}" for name in paid)], f"{where}.constants")
    numbers = {name: _float(v, f"{where}.constants.{name}") for name, v in constants.items()}
    try:
        cost = {"cost": Cost(**{name: numbers[f"cost.{name}"] for name in paid})} if paid else {}
        return typing.cast("Law", kind(**{name: numbers[name] for name in own}, **cost))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def law_type(form: str) -> Any:
    """The dataclass of a form on the menu of laws.

    Raises:
        UnknownNameError: No such form.
    """
    module = _registry.load("isoflop.laws", form, noun="form of law")
    return next(c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__ and hasattr(c, "optimum"))


def _float(value: object, where: str) -> float:
    if isinstance(value, str) and value in _ODD:
        return _ODD[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where} is {_short(value)}, but it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"{where} is a number too large to be read") from None


def _exactly(kind: type) -> Callable[[object, str], object]:
    def check(value: object, where: str) -> object:
        if type(value) is not kind:
            raise UsageError(f"{where} is {_short(value)}, but it must be of type {kind.__name__}")
        return value

    return check


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 40 else said[:37] + "..."


_SCALARS: Mapping[Any, Callable[[object, str], Any]] = {
    float: _float,
    Law: _law,
    **{kind: _exactly(kind) for kind in (int, bool, str)},
}
_GENERIC: Mapping[Any, Callable[[tuple[Any, ...], object, str, Known], Any]] = {
    typing.Union: _optional,
    types.UnionType: _optional,
    typing.Literal: _choice,
    np.ndarray: _array,
    tuple: _tuple,
}
