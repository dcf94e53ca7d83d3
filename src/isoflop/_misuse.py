"""Words on the command line that the parser refuses, said as one line with the nearest right ones."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isoflop import units
from isoflop.errors import UnitError

VERBS = {  # other words for a verb
    **dict.fromkeys(("new", "create", "initialize", "start", "quickstart"), "init"),
    **dict.fromkeys(("all", "go", "sweep", "execute"), "run"),
    **dict.fromkeys(("predict", "optimal", "recommend", "scale", "budget", "forecast"), "plan"),
    **dict.fromkeys(("models", "versus", "rank"), "compare"),
    **dict.fromkeys(("law", "papers", "published"), "laws"),
    **dict.fromkeys(("plot", "figure", "figures", "html"), "report"),
    **dict.fromkeys(("list", "ls", "status", "show-runs", "results"), "runs"),
    **dict.fromkeys(("cost", "flops", "memory", "params"), "arch"),
    **dict.fromkeys(("schema", "keys"), "study schema"),
    **dict.fromkeys(("show", "explain", "config"), "study show"),
    **dict.fromkeys(("prove", "proof", "check"), "validate"),
    **dict.fromkeys(("sizes", "grid", "dry-run"), "design"),
    **dict.fromkeys(("lr", "tune-lr", "lr-find"), "tune"),
    "help": "--help",
    "version": "--version",
}
_BINARY = 1024
_VALUE = re.compile(r"Invalid value for '?(?P<name>[^':]+)'?.*?: (?P<why>.*)", re.DOTALL)
_COMMAND = re.compile(r"No such command '?(?P<word>[^'.]*.*?)'?\.(?: Did you mean (?P<near>.*)\?)?$", re.DOTALL)
_OPTION = re.compile(r"No such option:? '?(?P<word>-[^\s'(.]+)'?\.?(?: \(Possible options: (?P<some>.*)\)| Did you mean (?P<near>.*)\?)?", re.DOTALL)
_WHYS = (  # what versions of typer and click say, and what we say
    (re.compile(r"valid integer"), "is not a whole number"),
    (re.compile(r"valid (?:number|float)"), "is not a number"),
    (re.compile(r"(?:greater than or equal to|x>=) ?(\S+)"), "is too small: it must be at least {}"),
    (re.compile(r"(?:less than or equal to|x<=) ?(\S+)"), "is too large: it must be at most {}"),
)
_OTHERS = (
    (re.compile(r"^Missing argument '?\{?(\w+)\}?'?"), "{path} needs {name}"),
    (re.compile(r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)"), "{path} does not know what to do with {name}"),
    (re.compile(r"^Option '?(--?[\w-]+)'? requires an argument"), "{name} needs a value"),
    (re.compile(r"^Option '?(--?[\w-]+)'? does not take a value"), "{name} takes no value"),
)


def sentence(error: Any, words: Sequence[str]) -> str:
    """Return what is wrong and what to write instead.

    Args:
        error: A usage error of the parser.
        words: What was typed after the program's name.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # a command that was given nothing prints its help
        return str(error.format_message())
    return f"isoflop: {_line(error, words)}"


def _line(error: Any, words: Sequence[str]) -> str:
    context = getattr(error, "ctx", None)
    program = context.find_root().info_name if context is not None else "isoflop"
    path = context.command_path if context is not None else program
    said = error.format_message().strip()
    for pattern, say in ((_COMMAND, _command), (_OPTION, _option), (_VALUE, _value)):
        if found := pattern.search(said):
            return f"{say(found, program, path, words)} See {path} -h."
    epilog = getattr(getattr(context, "command", None), "epilog", None)
    for pattern, ours in _OTHERS:
        if found := pattern.search(said):
            said = ours.format(path=path, name=found[1].upper() if "Missing" in found[0] else found[1])
    return f"{said.rstrip('.')}. {epilog + '. ' if epilog else ''}See {path} -h."


def _command(found: re.Match[str], program: str, path: str, words: Sequence[str]) -> str:
    word = found["word"]
    rest = " ".join(words[words.index(word) + 1 :]) if word in words else ""
    if verb := VERBS.get(word.lower()):
        meant = f"{program} {rest} {verb}".replace("  ", " ") if verb.startswith("-") else f"{program} {verb} {rest}".rstrip()
    elif word.endswith(".toml") or (Path(word) / "study.toml").is_file():
        meant = f"{program} study show {word}" if path.endswith(" study") else f"{program} run {word}"
    elif word.endswith((".csv", ".jsonl", ".parquet", ".tsv")):
        meant = f"{program} fit {word}"
    elif _is_quantity(word):
        meant = f"{program} plan {word}"
    else:
        near = (found["near"] or "").replace("'", "")
        return f"there is no command {word!r}." + (f" Did you mean {near.replace(', ', ' or ')}?" if near else "")
    return f"there is no command {word!r}. Did you mean `{meant}`?"


def _option(found: re.Match[str], _program: str, path: str, _words: Sequence[str]) -> str:
    near = (found["some"] or found["near"] or "").replace("'", "")
    return f"{path} has no option {found['word']}." + (f" Did you mean {near.replace(', ', ' or ')}?" if near else "")


def _value(found: re.Match[str], _program: str, _path: str, words: Sequence[str]) -> str:
    name = found["name"].split(" / ")[0]
    value = _typed(name, words)
    for pattern, why in _WHYS:
        if bound := pattern.search(found["why"]):
            said = why.format(*bound.groups()).rstrip(".")
            return f"{name} {value} {said}.{_rewritten(value) if 'number' in why else ''}".replace("  ", " ")
    return f"{name} {value}: {found['why'].rstrip('.')}."


def _typed(name: str, words: Sequence[str]) -> str:
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _rewritten(value: str) -> str:
    """Return a number that the option takes, for one with a suffix or a percent sign."""
    with contextlib.suppress(UnitError):
        if value.strip().endswith("%"):
            return f" Did you mean {units.read(value.strip()[:-1]) / 100:g}?"
        number = units.read(value)
        if number == int(number) and value.strip()[-1:] in {"k", "K"}:  # a context of 8k is 8192 to many
            return f" Write it out: {number:.0f}, or {number / 1000 * _BINARY:.0f}."
        if number == int(number):
            return f" Did you mean {number:.0f}?"
    return ""


def _is_quantity(word: str) -> bool:
    try:
        units.read_flops(word)
    except UnitError:
        return False
    return True
