"""Names of columns -> what they hold: by their usual names in any spelling, or as told."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isoflop import _registry, units
from isoflop.arch import Convention
from isoflop.errors import UnitError, UnknownNameError, UsageError

# Usual names by role, best first; case and separators do not matter. Names between two bars are equally good: two of them in one file are ambiguous.
_NAMES = {
    "params": "params | n_params num_params parameters num_parameters n_parameters total_params params_total model_size model_params param_count | n",
    "tokens": "tokens | n_tokens num_tokens train_tokens training_tokens tokens_seen n_tokens_seen total_tokens tokens_trained | d",
    "loss": "loss val_loss eval_loss validation_loss final_loss test_loss final_val_loss loss_val loss_eval final_eval_loss nll cross_entropy bpb val_bpb "
    "eval_bpb final_bpb loss_bpb bits_per_byte val_bits_per_byte bits_per_token | train_loss training_loss loss_train final_train_loss | l",
    "flops": "flops | total_flops train_flops training_flops num_flops n_flops flops_6nd flop compute | flop_count | c",
    "budget": "budget flop_budget flops_budget compute_budget target_flops isoflop_budget",
    "run_id": "run_id | run run_name run_uuid id | name",
    "step": "step | steps global_step iteration iter train_step trainer_global_step",
    "seed": "seed | random_seed",
    "lr": "lr | learning_rate",
    "unique_tokens": "unique_tokens | unique_train_tokens n_unique_tokens num_unique_tokens",
    "batch_tokens": "batch_tokens tokens_per_step tokens_per_batch batch_size_tokens batch_size_in_tokens",
    "status": "status | state run_status",
    "diverged": "diverged is_diverged",
    "final": "final is_final end_of_run is_last",
    "vocab": "vocab | vocab_size n_vocab",
    "counting": "convention counting params_convention param_convention param_count",
    "arch": "arch | architecture",
    "d_model": "d_model | hidden_size",
    "n_layers": "n_layers | n_layer num_layers num_hidden_layers",
    "n_heads": "n_heads | n_head num_heads num_attention_heads",
    "kv_size": "kv_size | head_dim",
    "ffw_size": "ffw_size | d_ff ffn_size intermediate_size",
    "context": "context | context_length seq_len sequence_length",
}
_NONEMBEDDING = "params_nonemb nonemb_params params_non_embedding non_embedding_params non_emb_params params_no_embed no_embed_params n_params_nonemb"
ROLES: Mapping[str, tuple[str, ...]] = {
    role: tuple(name for name in names.split() if name != "|") + (tuple(_NONEMBEDDING.split()) if role == "params" else ()) for role, names in _NAMES.items()
}
SHAPE = ("arch", "d_model", "n_layers", "n_heads", "ffw_size", "vocab", "context")
_TEXT = frozenset({"run_id", "status", "counting", "arch"})
_PRODUCT = re.compile(r"(?P<name>.+?)\s*\*\s*(?P<factor>[\d.,_eE+\-kKmMbBgGtT]+)\s*")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the values of a role come from."""

    column: str | None  # None for a constant
    factor: float = 1.0  # times the column, or the constant itself

    def __str__(self) -> str:
        return repr(self.column) if self.column is not None else f"{self.factor:g}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is read from where."""

    sources: Mapping[str, Source]
    other_params: str | None  # a second column of parameters, counted the other way
    convention: Convention
    convention_given: bool
    unit: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are needed."""
        named = [s.column for s in self.sources.values() if s.column is not None]
        return tuple(dict.fromkeys([*named, *([self.other_params] if self.other_params else [])]))

    def called(self, role: str) -> str:
        """A role with the column that it was read from, where that has another name."""
        column = self.sources[role].column if role in self.sources else None
        return role if column is None or _plain(column) == _plain(role) else f"{role} (column {column!r})"

    @property
    def shaped(self) -> bool:
        """Whether the shapes of the models are known, so that FLOPs can be counted."""
        return all(role in self.sources for role in SHAPE)


def resolve(columns: tuple[str, ...], told: Mapping[str, str], *, convention: Convention | None) -> Plan:
    """What each role is read from.

    Raises:
        UsageError: A column that is needed is missing, or two could be meant.
        UnknownNameError: A role or column that is not there.
    """
    for role in told:
        _registry.check(role, ROLES, noun="value to map")
    sources = {role: _told(role, text, columns) for role, text in told.items()}
    taken = {source.column for source in sources.values() if source.factor == 1}  # a step times a constant is still the step
    nonembedding = [c for c in columns if _plain(c) in _NONEMBEDDING_PLAIN and c not in taken]
    for role in ROLES:
        if role not in sources:
            found = _usual(role, tuple(c for c in columns if c not in taken))
            if found is not None:
                sources[role] = Source(column=found)
                taken.add(found)
    other = None
    if "params" not in told and nonembedding and ("params" not in sources or convention == "nonembedding"):
        if len(nonembedding) > 1:
            raise _ambiguous("params", nonembedding)
        other = sources["params"].column if "params" in sources else None
        sources["params"] = Source(column=nonembedding[0])
    elif "params" not in told and nonembedding:
        other = nonembedding[0]
    _refuse_missing(sources, columns)
    name = sources["params"].column if "params" in sources else None
    counted = _convention(name, convention)
    return Plan(sources=sources, other_params=other, convention=counted, convention_given=convention is not None, unit=_unit(sources["loss"].column or ""))


def nearest(name: str, columns: Iterable[str]) -> str:
    """A guess in words at the column that was meant, and the columns there are."""
    columns = tuple(columns)
    by_plain = {_plain(c): c for c in columns}
    near = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=0.5)
    guess = f" Did you mean {by_plain[near[0]]!r}?" if near else ""
    shown = ", ".join(columns[:40]) + (f" and {len(columns) - 40} more" if len(columns) > 40 else "")
    return f"{guess} Columns: {shown}."


def find(name: str, columns: tuple[str, ...]) -> str | None:
    """The column of a name: exactly, else in any spelling if that is one column."""
    if name in columns:
        return name
    alike = [c for c in columns if _plain(c) == _plain(name)]
    return alike[0] if len(alike) == 1 and _plain(name) else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


_NONEMBEDDING_PLAIN = frozenset(_plain(name) for name in _NONEMBEDDING.split())


def _told(role: str, text: str, columns: tuple[str, ...]) -> Source:
    found = find(text, columns)
    if found is not None:
        return Source(column=found)
    product = _PRODUCT.fullmatch(text)
    if product and (found := find(product["name"], columns)) is not None and role not in _TEXT:
        return Source(column=found, factor=units.read(product["factor"]))
    if role not in _TEXT:
        try:
            return Source(column=None, factor=units.read(text))
        except UnitError:
            pass
    raise UnknownNameError(f"{role}={text} names no column.{nearest(product['name'] if product else text, columns)}")


def _usual(role: str, columns: tuple[str, ...]) -> str | None:
    for name_of in (_plain, _last_part):
        by_plain: dict[str, list[str]] = {}
        for column in columns:
            by_plain.setdefault(name_of(column), []).append(column)
        for tier in _NAMES[role].split("|"):
            found = [column for name in tier.split() for column in by_plain.get(_plain(name), ())]
            if len(found) > 1:
                raise _ambiguous(role, found)
            if found:
                return found[0]
    return None


def _last_part(column: str) -> str:
    """Of a name with a path before it, as "summary.loss" or "config/n_params"; names of one letter have none."""
    parts = re.split(r"[./:]", column)
    last = _plain(parts[-1])
    return last if len(parts) > 1 and len(last) > 1 else ""


def _ambiguous(role: str, found: list[str]) -> UsageError:
    return UsageError(f"{len(found)} columns could be the {role}: {', '.join(found)}. Say which with --map {role}={found[0]}.")


def _refuse_missing(sources: Mapping[str, Source], columns: tuple[str, ...]) -> None:
    shaped = all(role in sources for role in SHAPE)
    enough = {
        "params": "params" in sources or shaped,
        "tokens": "tokens" in sources or ("step" in sources and "batch_tokens" in sources),
        "loss": "loss" in sources,
    }
    missing = [role for role, there in enough.items() if not there]
    if not missing:
        return
    free = [c for c in columns if c not in {s.column for s in sources.values()}]
    near = {role: _likely(role, free) for role in missing}
    ways = " ".join(f"--map {role}={near[role] or 'NAME'}" for role in missing)
    more = " Tokens can also be a step times a constant: --map 'tokens=step*524288'." if "tokens" in missing and "step" in sources else ""
    raise UsageError(
        f"no column is known as {' or '.join(missing)}. Columns: {', '.join(columns[:40])}. Say which it is, as in {ways}; "
        f"a column times a number is --map 'params=size_M*1e6'.{more}"
    )


def _likely(role: str, columns: list[str]) -> str | None:
    inside = [c for c in columns if _plain(role) in _plain(c) or (role == "params" and "size" in _plain(c))]
    by_plain = {_plain(c): c for c in columns}
    near = [by_plain[m] for name in ROLES[role] for m in difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=0.7)]
    return next(iter([*inside, *near]), None)


def _convention(column: str | None, convention: Convention | None) -> Convention:
    plain = _plain(column or "")
    named = counted_by(plain)
    if convention and named and named != convention:
        raise UsageError(
            f"column {column!r} counts {named} parameters by its name, but {convention} is asked for; mixing them moves the exponents. "
            f"Map another column with --map params=NAME, or leave the convention out."
        )
    return convention or named or "total"


def counted_by(text: str) -> Convention | None:
    """The convention that a name speaks of, if it speaks of one."""
    plain = _plain(text)
    if any(sign in plain for sign in ("nonemb", "noemb", "withoutemb", "transformeronly", "exclemb")):
        return "nonembedding"
    if "withhead" in plain:
        return "with_head"
    return "total" if "total" in plain else None


def _unit(column: str) -> str:
    plain = _plain(column)
    if "bpb" in plain or "bitsperbyte" in plain:
        return "bits per byte"
    return "bits per token" if "bitspertoken" in plain else "nats per token"
