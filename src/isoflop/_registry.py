"""Finds a menu's entry by the name the user types: one file or folder, one choice."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, ModuleType

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


def check(name: str, known: Iterable[str], *, noun: str, aliases: Mapping[str, str] = MappingProxyType({}), lister: str = "") -> None:
    """Raise UnknownNameError unless the name is known.

    Args:
        name: As typed.
        known: The names there are.
        noun: What they are names of.
        aliases: Other words for some of the names, written in small letters and digits only.
        lister: The command that lists them all, for a list that is too long for a message.
    """
    known = tuple(known)
    if name in known:
        return
    near = nearest(name, known, aliases=aliases)
    guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    every = f" `{lister}` lists all." if lister else f" Known: {', '.join(known)}."
    written = repr(name if len(name) <= LONGEST else f"{name[:LONGEST]} ...")
    msg = f"there is no {noun} {written}.{guess}{every}"
    raise UnknownNameError(msg)


def nearest(name: str, known: Sequence[str], *, aliases: Mapping[str, str] = MappingProxyType({}), most: int = 3) -> tuple[str, ...]:
    """Return the known names that were probably meant: the same but for case and signs, another word for it, those it begins, or the most similar one."""
    typed = _plain(name)
    if not typed:
        return ()
    same = [entry for entry in known if _plain(entry) == typed]
    if same or typed in aliases:
        return tuple(same) or (aliases[typed],)
    begun = sorted((entry for entry in known if _plain(entry).startswith(typed)), key=lambda entry: not entry.lower().startswith(f"{name.lower()}-"))
    return tuple(begun[:most] or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
