"""Names of files -> columns: "curve_N8886784_D80000000" says params and tokens."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from isoflop import units
from isoflop.errors import UnitError, UsageError
from isoflop.readers._columns import ROLES
from isoflop.readers._shapes import plain

LEAST = {"params": 1e4, "tokens": 1e5}  # assumption: less is a number of layers or a width, as in n12_d768
SAYS = " in the file name"  # after the name of a column that is read from there

_PACKED = (".gz", ".bz2", ".zst", ".lz4")
_TEXT = frozenset({"run_id", "status", "counting", "arch", "diverged", "final", "ended", "failed"})  # roles that are no numbers
_QUANTITY = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?[kKmMbBgGtT]?(?![\d.]*\d)"
_FIELD = re.compile(r"\{(\w+)\}|(\*)")
_PREFIXED = re.compile(rf"(?:^|[_/\s.,-])(?P<name>[A-Za-z]+)[=_-]?(?P<value>{_QUANTITY})(?=$|[_/\s.,-])")
_ALONE = re.compile(r"(?:^|[_/\s-])(?P<value>\d+(?:\.\d+)?[kKmMbBgGtT])(?=$|[_/\s-])")
_LETTERS = {"params": ("n", "params", "param", "nparams", "size", "modelsize"), "tokens": ("d", "tokens", "tok", "ntokens")}


def short(files: Sequence[Path], root: Path) -> list[str]:
    """Return names for files that tell them apart: without suffix, with the folders below the root where all files are called alike."""
    names = [_stem(file, root) for file in files]
    if len(names) > 1 and len({name.rpartition("/")[2] for name in names}) == 1 and all("/" in name for name in names):
        names = [name.rpartition("/")[0] for name in names]  # runs/a/metrics.csv, runs/b/metrics.csv
    if len(set(names)) < len(names):  # a.csv beside a.jsonl
        names = [shown(file, root) for file in files]
    return names


def shown(file: Path, root: Path) -> str:
    """Return a file's name below a folder as text that can be printed, though the name be no UTF-8."""
    absolute = file.absolute()
    path = absolute.relative_to(root) if absolute.is_relative_to(root) else absolute
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _stem(file: Path, root: Path) -> str:
    name = shown(file, root)
    name = next((name.removesuffix(suffix) for suffix in _PACKED if name.endswith(suffix)), name)
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    return f"{folder}{slash}{stem if dot and stem and suffix.isalpha() else last}"  # not the 4B of N70M_D1.4B


def read(names: Sequence[str], pattern: str) -> list[dict[str, str]]:
    """Return what each name says, by the names of columns.

    Args:
        names: Of files.
        pattern: Text with a column's name in braces for what it is there, as "N{params}_D{tokens}"; * for anything.

    Raises:
        UsageError: A pattern without a column, or one that a name does not have, or has twice.
    """
    compiled = _compiled(pattern)
    found = []
    for name in names:
        every = list({tuple(sorted(match.groupdict().items())): match for match in compiled.finditer(name)}.values())
        if len(every) != 1:
            how = "does not have" if not every else f"has {len(every)} times"
            advice = "Give a pattern that every name has once, such as 'N{params}_D{tokens}'."
            raise UsageError(f"the name {name!r} {how} the pattern --name {pattern!r}. {advice}")
        said = {}
        for column, text in every[0].groupdict().items():
            if column in ROLES and column not in _TEXT:
                try:
                    text = repr(units.read(text))  # noqa: PLW2901  # the same value, as a number
                except UnitError as error:
                    raise UsageError(f"the name {name!r} gives {text!r} as {column}: {error} Give another --name.") from error
            said[column + SAYS] = text
        found.append(said)
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    parts, at, columns = [], 0, list[str]()
    for field in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[at : field.start()]))
        at = field.end()
        column = field[1]
        if column is None:
            parts.append("[^/]*?")
            continue
        if column in columns:
            raise UsageError(f"--name {pattern!r} has {{{column}}} twice. Give each column once; * stands for anything else.")
        columns.append(column)
        if column in ROLES and column not in _TEXT:
            parts.append(rf"(?P<{column}>(?<![\d.]){_QUANTITY})")
        else:
            parts.append(f"(?P<{column}>[^/]+{'' if at == len(pattern) else '?'})")
    rest = pattern[at:]
    if not columns or "{" in rest or "}" in rest:
        raise UsageError(f"--name {pattern!r} names no column. Put a column's name in braces where its value stands, as in 'N{{params}}_D{{tokens}}'.")
    before = r"(?<![A-Za-z])" if pattern[:1].isalpha() else ""
    return re.compile(before + "".join(parts) + re.escape(rest))


def guess(names: Sequence[str], inside: Sequence[str]) -> list[dict[str, str]]:
    """Return params and tokens as all names say them in one plain way; nothing where it is not plain, or where the files say it themselves."""
    nothing: list[dict[str, str]] = [{} for _ in names]
    if not names or any(_has(role, inside) for role in ("params", "d_model", "n_layers")):
        return nothing
    found = [_prefixed(name) for name in names]
    if not all("params" in said for said in found):
        found = [_pair(name) for name in names]
    shared = set.intersection(*(set(said) for said in found))
    if "params" not in shared or any(float(said[role]) < LEAST[role] for said in found for role in shared):
        return nothing
    return [{role + SAYS: said[role] for role in ("params", "tokens") if role in shared} for said in found]


def _prefixed(name: str) -> dict[str, str]:
    """Return the values that stand behind a letter or word for params or tokens; none that two places could give."""
    said: dict[str, set[str]] = {}
    for match in _PREFIXED.finditer(name):
        for role, words in _LETTERS.items():
            if plain(match["name"]) in words:
                said.setdefault(role, set()).add(_number(match["value"]))
    return {role: values.pop() for role, values in said.items() if len(values) == 1 and "" not in values}


def _pair(name: str) -> dict[str, str]:
    """Return params and tokens where a name holds just two quantities with a suffix, the smaller first, as "70M_1.4B"."""
    values = [_number(match["value"]) for match in _ALONE.finditer(name)]
    if len(values) != 2 or "" in values or float(values[0]) > float(values[1]):
        return {}
    return {"params": values[0], "tokens": values[1]}


def _number(text: str) -> str:
    try:
        return repr(units.read(text))
    except UnitError:
        return ""


def _has(role: str, columns: Sequence[str]) -> bool:
    known = {plain(name) for name in ROLES[role]}
    return any(plain(column) in known for column in columns)


def mapping(found: Sequence[Mapping[str, str]], inside: Sequence[str], *, told: Mapping[str, str], asked: bool) -> dict[str, str]:
    """Return which roles are read from names.

    Tokens in a name are the length of a run; where the files have tokens of their own, those are of each point, and count.

    Args:
        found: What each name says.
        inside: Columns of the files.
        told: Columns by role, as a user gave them, which go before.
        asked: A user gave the pattern, so what it names goes before columns of the files.
    """
    said = {name.removesuffix(SAYS) for one in found for name in one}
    roles = {role for role in said & set(ROLES) if role not in told}
    return {role: role + SAYS for role in roles if not _has(role, inside) or (asked and role != "tokens")}
