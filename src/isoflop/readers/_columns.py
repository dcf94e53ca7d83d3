"""Columns of a file -> what each is read as: by its name in any spelling, by what the user says, or derived from others."""

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import _registry, units
from isoflop.arch import Convention
from isoflop.errors import QuestionError, Reading, UnitError, UnknownNameError, UsageError
from isoflop.readers import _expression, _names
from isoflop.readers._expression import Expression, NotArithmeticError
from isoflop.readers._names import Match, plain
from isoflop.runs import NATS, Floats

ROLES = _names.ROLES
SHAPE = ("arch", "d_model", "n_layers", "n_heads", "ffw_size", "vocab", "context")
NONE = "none"  # maps a role to nothing
COMPARED = ("params", "tokens", "flops", "budget")  # roles of which every candidate is read, so that one that contradicts is noticed
UNITS = {
    NATS: ("nats per token", "nats", "nats/token", "nat"),
    "bits per byte": ("bits per byte", "bpb", "bits/byte"),
    "bits per token": ("bits per token", "bits/token", "bpt"),
    "bits per character": ("bits per character", "bpc", "bits/char", "bits per char", "bits/character"),
    "perplexity": ("perplexity", "ppl"),
}
_RIVALS = 3  # other candidates of a role that are read
_TEXT = frozenset({"run_id", "status", "counting", "arch", "group"})
_SHARES = ("accum", "worldsize", "ngpu", "numgpu", "devices", "nnodes", "numnodes", "replicas", "dpsize", "dataparallel", "microbatch")  # a batch is one part


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the values of a role come from."""

    expression: Expression | None  # None for a constant
    factor: float = 1.0  # of the unit in the column's name, or the constant itself
    unit: str = ""  # that unit

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.expression is None else self.expression.columns

    @property
    def column(self) -> str | None:
        """The column, where it is one by itself."""
        return self.columns[0] if self.expression is not None and self.expression.text == self.columns[0] else None

    def numbers(self, batch: Mapping[str, Any], rows: int) -> tuple[Floats, NDArray[np.int8]]:
        """Return the numbers of a batch, and what each cell is."""
        if self.expression is None:
            return np.full(rows, self.factor), np.zeros(rows, dtype=np.int8)
        found, kinds = self.expression.numbers(batch, rows)
        with np.errstate(over="ignore"):  # an infinite number of tokens is excluded by name
            return (found * self.factor if self.factor != 1 else found), kinds

    def __str__(self) -> str:
        if self.expression is None:
            return f"{self.factor:g}"
        return self.expression.text if self.factor == 1 else f"{self.expression.text} times {self.factor:g}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is read from where."""

    sources: Mapping[str, Source]
    derived: Mapping[str, str]  # role -> formula over other roles: "tokens" -> "flops / (6 params)"
    rivals: Mapping[str, tuple[Source, ...]]  # other candidates of a role, the best first
    other_params: str | None  # a second column of parameters, counted the other way
    convention: Convention
    convention_given: bool
    unit: str
    chosen: frozenset[str]  # roles that the user mapped
    spare: tuple[str, ...]  # columns without a role

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that have a role, or could have one."""
        sources = [*self.sources.values(), *(rival for rivals in self.rivals.values() for rival in rivals)]
        named = [column for source in sources for column in source.columns]
        return tuple(dict.fromkeys([*named, *([self.other_params] if self.other_params else [])]))

    def called(self, role: str) -> str:
        """Return a role with the column that it was read from, where that has another name."""
        column = self.sources[role].column if role in self.sources else None
        return role if column is None or plain(column) == plain(role) else f"{role} (column {column!r})"

    @property
    def shaped(self) -> bool:
        """Whether the shapes of the models are known, so that FLOPs can be counted."""
        return all(role in self.sources for role in SHAPE)


@dataclass
class _Draft:
    """A plan that is being made."""

    columns: tuple[str, ...]
    told: Mapping[str, str]
    sources: dict[str, Source] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)
    rivals: dict[str, tuple[Source, ...]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


def resolve(columns: tuple[str, ...], told: Mapping[str, str], *, convention: Convention | None, unit: str | None = None) -> Plan:
    """Return what each role is read from.

    Args:
        columns: Of the file.
        told: Roles that the user maps: a column, arithmetic over columns, a constant, or "none".
        convention: How parameters are to be counted; None for what the column's name says.
        unit: Of the loss, one of UNITS in any of its spellings; None for what the column's name says.

    Raises:
        UsageError: A column that is needed is missing, or the unit is unknown.
        UnknownNameError: A role or column that is not there.
    """
    for role in told:
        _registry.check(role, ROLES, noun="value to map")
    draft = _Draft(columns, told)
    for role, text in told.items():
        if text != NONE or find(text, columns) is not None:
            draft.sources[role] = _told(role, text, columns)
    draft.taken = {source.column for source in draft.sources.values() if source.column is not None}
    for role in ROLES:
        if role not in told:
            _find_role(draft, role)
    other = _choose_params(draft, convention)
    _derive(draft)
    _refuse_missing(draft)
    name = draft.sources["params"].column if "params" in draft.sources else None
    counted: Convention = "nonembedding" if "12" in draft.derived.get("params", "") else _convention(name, draft.sources.get("params"), convention)
    known = set(draft.taken).union(*(source.columns for source in draft.sources.values()), *(r.columns for rivals in draft.rivals.values() for r in rivals))
    sorts = {
        draft.sources[role].column for role in ("arch", "group", "run_id") if role in draft.sources and role not in told
    }  # they may tell sorts of runs apart
    return Plan(
        sources=draft.sources,
        derived=draft.derived,
        rivals=draft.rivals,
        other_params=other,
        convention=counted,
        convention_given=convention is not None,
        unit=_unit(draft.sources["loss"], unit),
        chosen=frozenset(told),
        spare=tuple(c for c in columns if (c not in known or c in sorts) and c != other),
    )


def nearest(name: str, columns: Iterable[str]) -> str:
    """Return a guess in words at the column that was meant, and the columns there are."""
    columns = tuple(columns)
    by_plain = {plain(c): c for c in columns}
    near = difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0.5)
    guess = f" Did you mean {by_plain[near[0]]!r}?" if near else ""
    shown = ", ".join(columns[:40]) + (f" and {len(columns) - 40} more" if len(columns) > 40 else "")
    return f"{guess} Columns: {shown}."


def find(name: str, columns: tuple[str, ...]) -> str | None:
    """Return the column of a name: exactly, else in any spelling if that is one column."""
    if name in columns:
        return name
    alike = [c for c in columns if plain(c) == plain(name)]
    return alike[0] if len(alike) == 1 and plain(name) else None


def option(role: str, text: str) -> str:
    """Return the option that maps a role, as a shell takes it."""
    return f"--map {shell(f'{role}={text}')}"


def shell(text: str) -> str:
    """Return a text as a shell takes it, in double quotes where it has single ones and that is safe."""
    quoted = shlex.quote(text)
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else quoted


def written(column: str) -> str:
    """Return a column as arithmetic and filters take it: between backticks where it is no plain name."""
    return column if re.fullmatch(r"[A-Za-z_]\w*", column, re.ASCII) else f"`{column}`"


def _find_role(draft: _Draft, role: str) -> None:
    found = _names.matches(role, tuple(c for c in draft.columns if c not in draft.taken))
    if role == "loss":
        found = _held_out(found, draft)
    if not found:
        return
    draft.sources[role] = _source(found[0])
    draft.taken.add(found[0].column)
    if role in COMPARED or role == "loss":
        rivals = [match for match in found[1:] if role != "params" or plain(match.column) != "size"]  # often a rounded label
        draft.rivals[role] = tuple(_source(match) for match in rivals[:_RIVALS])


def _held_out(found: list[Match], draft: _Draft) -> list[Match]:
    """Return the columns that can be the loss, the best first: one on held-out text counts before others, by any name.

    Raises:
        QuestionError: There are several, and no name says which one counts.
    """
    listed = {match.column for match in found}
    held = _names.validation(tuple(c for c in draft.columns if c not in draft.taken and c not in listed))
    if not held or (found and set(_names.words(found[0].column)) & _names.VALIDATION):
        return [*found, *held]
    of_loss = [match for match in held if "loss" in _names.words(match.column)] or held
    if len(of_loss) > 1:
        shown = [*of_loss[:_RIVALS], *found[:1]]
        raise QuestionError(
            f"{len(of_loss)} columns are losses on held-out text ({', '.join(match.column for match in of_loss[:_RIVALS])}), and a law is fitted to one.",
            tuple(Reading(f"the loss is {match.column}", option("loss", match.column)) for match in shown),
        )
    return [*of_loss, *found, *(match for match in held if match not in of_loss)]


def _source(match: Match) -> Source:
    return Source(expression=_expression.column(match.column), factor=match.factor, unit=match.unit)


def _choose_params(draft: _Draft, convention: Convention | None) -> str | None:
    """Settle which column is params: the active ones of a mixture of experts, or those without embeddings.

    Returns:
        The column that counts the other way, if there is one.
    """
    active = draft.sources.get("active_params")
    if "params" in draft.told:
        return None
    found = [match for match in _names.nonembedding(draft.columns) if match.column not in draft.taken]
    if active is not None and (convention != "nonembedding" or counted_by(str(active)) == "nonembedding"):
        if "params" in draft.sources:
            draft.sources["total_params"] = draft.sources["params"]
        draft.sources["params"] = active
        draft.rivals.pop("params", None)
        return None
    if not found:
        return None
    if "params" in draft.sources and plain(str(draft.sources["params"])) == "size":  # often a rounded label
        del draft.sources["params"]
    if "params" not in draft.sources or convention == "nonembedding":
        other = draft.sources["params"].column if "params" in draft.sources else None
        draft.sources["params"] = _source(found[0])
        draft.rivals["params"] = tuple(_source(match) for match in found[1 : 1 + _RIVALS])
        return other
    return found[0].column


def _derive(draft: _Draft) -> None:
    """Fill in what the file does not give and other columns determine."""
    sources, none = draft.sources, {role for role, text in draft.told.items() if text == NONE}
    if "flops" not in sources and "budget" in sources and "flops" not in none and ("tokens" not in sources) != ("params" not in sources):
        sources["flops"] = sources["budget"]
    if "tokens" not in sources:
        if {"step", "batch_tokens"} <= set(sources):
            draft.derived["tokens"] = "step * batch_tokens"
        elif (product := _product(draft)) is not None and not _shares(draft):
            sources["tokens"] = Source(expression=product)
        elif {"params", "tokens_per_param"} <= set(sources):
            draft.derived["tokens"] = "params * tokens_per_param"
        elif {"flops", "params"} <= set(sources):
            draft.derived["tokens"] = "flops / (6 params)"
    if "params" not in sources and not all(role in sources for role in SHAPE):
        if {"flops", "tokens"} <= set(sources) and "tokens" not in draft.derived:
            draft.derived["params"] = "flops / (6 tokens)"
        elif {"n_layers", "d_model"} <= set(sources):
            draft.derived["params"] = "12 n_layers d_model^2"  # Kaplan et al. 2020, Table 1: attention and feed-forward of 4 d_model, no embeddings


def _product(draft: _Draft) -> Expression | None:
    """Return steps x batch x context as an expression, if each is a column."""
    parts = [draft.sources[role].column for role in ("step", "batch", "context") if role in draft.sources]
    if len(parts) < 3 or None in parts:
        return None
    return _expression.parse(" * ".join(written(str(part)) for part in parts), lambda name: find(name, draft.columns))


def _shares(draft: _Draft) -> list[str]:
    """Return the columns that say that a batch is only a part of what a step takes: accumulation, devices."""
    batch = draft.sources["batch"].column if "batch" in draft.sources else None
    if batch is not None and plain(batch).startswith(("global", "gb")):
        return []
    return [column for column in draft.columns if any(sign in plain(column) for sign in _SHARES)]


def _told(role: str, text: str, columns: tuple[str, ...]) -> Source:
    computed = text not in columns and re.search(r"^\s*[-+(]|\s[-+*/]\s", text) is not None  # "-loss" is no spelling of "loss"
    found = None if computed else find(text, columns)
    if found is not None:
        return Source(expression=_expression.column(found))
    if role not in _TEXT:
        try:
            return Source(expression=None, factor=units.read(text))
        except UnitError:
            pass
        try:
            return Source(expression=_expression.parse(_suffixes(text), lambda name: find(name, columns)))
        except NotArithmeticError as error:
            raise UsageError(f"--map {role}={text}: {error}. Write columns and numbers with + - * /, such as 'tokens=steps * batch_size * 2048'.") from None
        except UnknownNameError as error:
            raise UnknownNameError(f"--map {role}={text}: {str(error)!r} names no column.{nearest(str(error), columns)}{_backticks(columns)}") from None
    raise UnknownNameError(f"{role}={text} names no column.{nearest(text, columns)}")


def _backticks(columns: tuple[str, ...]) -> str:
    odd = next((c for c in columns if written(c) != c), None)
    return "" if odd is None else f" A name with other signs than letters stands between backticks, such as {written(odd)}."


def _suffixes(text: str) -> str:
    """Return arithmetic in which a number may have a suffix, such as "D_billion * 1B"."""
    return re.sub(r"(?<![\w`.])(\d[\d_.]*(?:[eE][+-]?\d+)?[kKmMbBgGtT])(?![\w`])", lambda match: repr(units.read(match[1])), text)


def _refuse_missing(draft: _Draft) -> None:
    sources = draft.sources
    shaped = all(role in sources for role in SHAPE)
    enough = {
        "params": "params" in sources or "params" in draft.derived or shaped,
        "tokens": "tokens" in sources or "tokens" in draft.derived,
        "loss": "loss" in sources,
    }
    missing = [role for role, there in enough.items() if not there]
    if not missing:
        return
    used = {column for source in sources.values() for column in source.columns}
    free = [c for c in draft.columns if c not in used]
    near = {role: _likely(role, free) for role in missing}
    ways = " ".join(option(role, near[role] or "COLUMN") for role in missing)
    more = f" Tokens can be a product: {option('tokens', _tokens_hint(draft))}." if "tokens" in missing and "step" in sources else ""
    raise UsageError(
        f"no column is known as {' or '.join(missing)}. Columns: {', '.join(draft.columns[:40])}. Say which it is, as in {ways}; "
        f"arithmetic works too: --map 'params=size_M * 1e6'.{more}"
    )


def _tokens_hint(draft: _Draft) -> str:
    """Return the product that tokens are, as far as the columns show it."""
    known = {role: draft.sources[role].column for role in ("step", "batch", "context") if role in draft.sources}
    parts = [written(str(known.get("step") or "step")), *(written(c) for c in _shares(draft)[:3])]
    if "batch" in known or "context" in known:
        parts += [written(str(known.get("batch") or "BATCH")), written(str(known.get("context") or "CONTEXT"))]
    else:
        parts.append("TOKENS_PER_STEP")
    return " * ".join(parts)


def _likely(role: str, columns: list[str]) -> str | None:
    """Return the column that most looks like a role; never one that only shares a word such as "size" with it."""
    columns = [c for c in columns if not re.search(r"(^|[\W_])per([\W_]|$)", c, re.IGNORECASE)]  # a rate, not an amount
    inside = [c for c in columns if plain(role) in plain(c) or (role == "params" and re.fullmatch(r"(model)?size\w{0,3}", plain(c)))]
    by_plain = {plain(c): c for c in columns}
    near = [by_plain[m] for name in ROLES[role] if len(name) > 3 for m in difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0.75)]
    return next(iter([*inside, *near]), None)


def _convention(column: str | None, source: Source | None, convention: Convention | None) -> Convention:
    named = counted_by(column or "") or counted_by(source.unit if source else "")
    if convention and named and named != convention:
        raise UsageError(
            f"column {column!r} counts {named} parameters by its name, but {convention} is asked for; mixing them moves the exponents. "
            f"Map another column with --map params=NAME, or leave the convention out."
        )
    return convention or named or "total"


def counted_by(text: str) -> Convention | None:
    """Return the convention that a name speaks of, if it speaks of one."""
    if _names.counts_nonembedding(text):
        return "nonembedding"
    if "withhead" in plain(text):
        return "with_head"
    return "total" if "total" in plain(text) else None


def _unit(loss: Source, unit: str | None) -> str:
    if unit is not None:
        found = next((name for name, spellings in UNITS.items() if unit.strip().casefold() in spellings), None)
        if found is None:
            raise UsageError(f"--unit {unit}: no such unit of loss. Units: {', '.join(UNITS)}.")
        return found
    name, said = plain(" ".join(loss.columns)), loss.unit.casefold()
    for sign, found in (
        ("bpb", "bits per byte"),
        ("bitsperbyte", "bits per byte"),
        ("bitspertoken", "bits per token"),
        ("bpc", "bits per character"),
        ("bitsperchar", "bits per character"),
        ("perplexity", "perplexity"),
        ("ppl", "perplexity"),
    ):
        if sign in name:
            return found
    return next((found for found, spellings in UNITS.items() if said in spellings), NATS)
