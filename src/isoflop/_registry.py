"""Finds a menu's entry by the name the user types: one file or folder, one choice."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from isoflop.errors import UnknownNameError

LONGEST = 60  # characters of a name in a message


def names(menu: str) -> tuple[str, ...]:
    """Names of the public modules in a menu package such as "isoflop.laws"."""
    return _public(tuple(importlib.import_module(menu).__path__))


@functools.cache
def _public(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_")))


def load(menu: str, name: str, *, noun: str) -> ModuleType:
    """Import the entry of a menu.

    Raises:
        UnknownNameError: No such entry; the message lists the menu and the nearest name.
    """
    check(name, names(menu), noun=noun)
    return importlib.import_module(f"{menu}.{name}")


def check(name: str, known: Iterable[str], *, noun: str) -> None:
    """Raise UnknownNameError unless the name is known."""
    known = tuple(known)
    if name not in known:
        near = [entry for entry in known if name and entry.startswith(name)] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        written = repr(name if len(name) <= LONGEST else f"{name[:LONGEST]} ...")
        msg = f"there is no {noun} {written}.{guess} Known: {', '.join(known)}."
        raise UnknownNameError(msg)
