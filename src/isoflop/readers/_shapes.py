"""Shapes of JSON documents -> rows: lists of runs, pandas' orientations, columns, runs by name, curves inside runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isoflop.errors import FitError
from isoflop.readers._columns import ROLES

MOST_CELLS = 1 << 25  # of one block or one curve; a block of 8 MB has fewer
DEEPEST = 4  # wrappers around runs; assumption: nobody writes more
_CURVE = frozenset({"history", "loghistory", "log", "logs", "curve", "points", "steps", "metrics", "evals", "evaluations", "trajectory"})
_ID = "run_id"
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout"})  # of one run's data, no runs


def rows(found: Any) -> list[dict[str, Any]]:
    """Return the rows of a document that is one list or one object.

    Raises:
        FitError: The document has no names for its columns, or no rows.
    """
    return _of_list(found) if isinstance(found, list) else _of_object(found, DEEPEST)


def spread(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the points of a run that holds its curve as lists, or as a list of objects; else the run itself."""
    lists = {name: value for name, value in row.items() if isinstance(value, list) and value}
    curves = [name for name, value in lists.items() if all(isinstance(point, dict) for point in value)]
    if len(curves) == 1:
        name = curves[0]
        fixed = {key: value for key, value in row.items() if key != name}
        _check_size(len(lists[name]), len(fixed))
        yield from ({**fixed, **point} for point in lists[name])
        return
    columns = {name: value for name, value in lists.items() if not any(isinstance(cell, list | dict) for cell in value)}
    lengths = {len(columns[name]) for name in columns if is_role(name)}
    if len(lengths) == 1 and sum(map(is_role, columns)) > 1:
        length = lengths.pop()
        columns = {name: value for name, value in columns.items() if len(value) == length}
        fixed = {key: value for key, value in row.items() if key not in columns}
        _check_size(length, len(fixed) + len(columns))
        yield from ({**fixed, **dict(zip(columns, cells, strict=True))} for cells in zip(*columns.values(), strict=True))
        return
    yield dict(row)


def _check_size(points: int, columns: int) -> None:
    if points * columns > MOST_CELLS:
        raise FitError(f"a run with a curve of {points:,} points and {columns:,} other values is too large. Write its points as rows.")


def is_role(name: str) -> bool:
    """Return whether a column is known by its usual names, with or without a path before it."""
    return plain(name) in _KNOWN or plain(re.split(r"[./:]", name)[-1]) in _KNOWN


def plain(name: str) -> str:
    """Return a name without case and separators."""
    return re.sub(r"[\W_]", "", name.casefold())


_MAIN = frozenset(plain(name) for role in ("params", "tokens", "loss") for name in ROLES[role])
_KNOWN = frozenset(plain(name) for names in ROLES.values() for name in names)


def _of_list(found: Sequence[Any]) -> list[dict[str, Any]]:
    if found and all(isinstance(row, list) for row in found):
        names, *cells = found
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise FitError("the list holds rows without names of columns (pandas writes so with orient='values'). Write it with orient='records'.")
        return [_row(names, row, place) for place, row in enumerate(cells, start=2)]
    for place, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise FitError(f"entry {place} of the list: {str(row)[:40]!r} is no object. Give a list of objects, one for each run.")
    return [point for row in found for point in spread(row)]


def _row(names: Sequence[Any], cells: Any, place: int) -> dict[str, Any]:
    if not isinstance(cells, list) or len(cells) != len(names):
        raise FitError(f"entry {place} of the list has not the {len(names)} values that the columns have names for. Write the file again.")
    return dict(zip((".".join(map(str, name)) if isinstance(name, list) else str(name) for name in names), cells, strict=True))


def _of_object(found: dict[str, Any], depth: int) -> list[dict[str, Any]]:
    values = list(found.values())
    data = found.get("data")
    if isinstance(data, list) and (isinstance(found.get("columns"), list) or isinstance(found.get("schema"), dict)):
        return _of_pandas(found, data)
    if values and all(isinstance(value, dict) for value in values) and (set.intersection(*map(set, values)) if len(found) > 1 else not _holds_rows(values[0])):
        return _of_columns(found) if _outside(found) else _by_name(found)
    if len(found) > 1 and all(isinstance(value, list) and value and all(isinstance(row, dict) for row in value) for value in values):
        return _by_name(found)
    one_run = sum(plain(name) in _MAIN for name, value in found.items() if not isinstance(value, dict | list)) > 1  # whatever it holds beside
    inner = [name for name, value in found.items() if _holds_rows(value)]
    if one_run or not depth or len(inner) != 1 or plain(inner[0]) in _MAIN:
        return list(spread(found))
    return _inside(found, inner[0], depth)


def _of_pandas(found: Mapping[str, Any], data: list[Any]) -> list[dict[str, Any]]:
    """Return the rows of the orientations "split" and "table"."""
    columns = found.get("columns")
    if not isinstance(columns, list):
        return _of_list(data)
    return _with_index([_row(columns, cells, place) for place, cells in enumerate(data, start=1)], found.get("index"))


def _inside(found: dict[str, Any], name: str, depth: int) -> list[dict[str, Any]]:
    """Return the rows of the only value that holds some; what stands beside a curve is of its run, what stands beside runs is of none."""
    if isinstance(found[name], list) and plain(name) in _CURVE:
        return list(spread(found))
    return _of_list(found[name]) if isinstance(found[name], list) else _of_object(found[name], depth - 1)


def _holds_rows(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and (all(isinstance(row, dict) for row in value) or all(isinstance(row, list) for row in value))
    many = isinstance(value, dict) and value and all(isinstance(row, dict | list) and row for row in value.values())
    wrapped = isinstance(value, dict) and not any(plain(name) in _MAIN for name in value) and any(map(_holds_rows, value.values()))
    return bool(many) or wrapped


def _outside(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the outer names are columns (pandas, orient="columns"), not runs."""
    inner = {name for value in found.values() for name in value}
    outside, inside = sum(map(is_role, found)), sum(map(is_role, inner))
    if outside != inside:
        return outside > inside
    return all(name.isdigit() for name in inner)


def _of_columns(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    index = dict.fromkeys(key for column in found.values() for key in column)
    return _with_index([{name: column.get(key) for name, column in found.items()} for key in index], list(index))


def _by_name(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    if {plain(name) for name in found} <= _PARTS and len(found) > 1:
        names = ", ".join(found)
        raise FitError(f"losses of {names} stand apart, and fitting them together would mix them. Write the one that counts into a file of its own.")
    made: list[dict[str, Any]] = []
    numbered = all(name.isdigit() for name in found) and all(isinstance(value, dict) for value in found.values())
    for name, value in found.items():
        points = value if isinstance(value, list) else list(spread(value))
        made += points if numbered and len(points) == 1 else [{_ID: name, **point} for point in points]
    return made


def _with_index(made: list[dict[str, Any]], index: Any) -> list[dict[str, Any]]:
    """Name rows by an index of pandas that is no mere count of them."""
    if not isinstance(index, list) or len(index) != len(made) or not all(isinstance(key, str) and not key.isdigit() for key in index):
        return made
    return [{_ID: key, **row} for key, row in zip(index, made, strict=True)]
