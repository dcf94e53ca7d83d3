"""A recipe into a study file: one line is put in or exchanged, and all else, comments included, stays as it was."""

import re
import tomllib
from pathlib import Path

from isoflop import study as studies
from isoflop.errors import StudyError
from isoflop.store import files
from isoflop.study import Study, Tuned

SIGN = "# isoflop tune, "  # how the comment begins, by which a later one finds it
_RECIPE = re.compile(r"""^([ \t]*["']?recipe["']?[ \t]*=[ \t]*)("[^"]*"|'[^']*'|\{[^{}]*\})(.*)$""", re.DOTALL)  # what is behind the value may be a comment
_TABLE = re.compile(r"^[ \t]*\[")


def line(recipe: Tuned) -> str:
    """The recipe as a study file has it."""
    return f"recipe = {recipe.toml}"


def into(path: Path, study: Study, recipe: Tuned, *, comment: str) -> None:
    """Write a recipe into the file of a study, whole or not at all.

    Raises:
        StudyError: The file is no longer the study that was tuned, or has the recipe where no line can be exchanged; nothing is written.
        StoreError: The file cannot be written.
    """
    path = path.resolve()  # a link stays one
    if studies.load(path) != study:
        raise StudyError(f"{path} was changed while its learning rate was tuned, so nothing is written into it. If it still fits, add: {line(recipe)}")
    before = path.read_bytes().decode()
    after = edited(before, recipe, comment=comment)
    if _values(after) != tomllib.loads(before) | {"recipe": recipe.model_dump()}:
        raise StudyError(f"{path} has its recipe where no line can be exchanged, so nothing is written into it. Set it by hand: {line(recipe)}")
    files.write(path, after.encode())


def edited(text: str, recipe: Tuned, *, comment: str) -> str:
    """The text of a study with another recipe: in the line of the former, or else after the last line before the first table."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    top = next((i for i, found in enumerate(lines) if _TABLE.match(found) and not _within_array(lines[:i])), len(lines))
    at = next((i for i in range(top) if _RECIPE.match(lines[i])), None)
    if at is None:
        first = last = _after_last(lines[:top])
        new = line(recipe) + end
    else:
        first, last = at - (at > 0 and lines[at - 1].startswith(SIGN)), at + 1
        new = _RECIPE.sub(lambda found: found[1] + recipe.toml + found[3], lines[at])
    if first and not lines[first - 1].endswith("\n"):
        lines[first - 1] += end
    return "".join([*lines[:first], f"{SIGN}{comment}{end}", new, *lines[last:]])


def _after_last(lines: list[str]) -> int:
    """Behind the last line that says something, so that the blank lines and comments of a table stay with it."""
    return max((i + 1 for i, found in enumerate(lines) if found.strip() and not found.lstrip().startswith("#")), default=0)


def _within_array(lines: list[str]) -> bool:
    """Whether the lines break off inside a value of several lines, so that a bracket begins no table."""
    return _values("".join(lines)) is None


def _values(text: str) -> dict[str, object] | None:
    """None where the text is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
