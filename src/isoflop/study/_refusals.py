"""Sentences for what is wrong with a study: the key, its value, what it must be, and how to write it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from isoflop.study import _toml

Tables = Mapping[str, type[BaseModel]]  # "" is the study itself

# What people write for a key, from the options of common trainers; the nearest spelling would lead elsewhere or nowhere.
SYNONYMS = {
    **dict.fromkeys(("data", "dataset", "datasets", "text", "texts", "file", "files", "path", "train_data"), "corpus"),
    **dict.fromkeys(("val", "val_split", "validation_split", "val_fraction", "holdout", "held_out"), "validation"),
    **dict.fromkeys(("vocab", "vocab_size", "tokeniser"), "tokenizer"),
    **dict.fromkeys(("architecture", "model", "family", "model_type"), "arch"),
    **dict.fromkeys(("seq_len", "seq_length", "sequence_length", "context_length", "block_size", "max_length"), "context"),
    **dict.fromkeys(("flops", "compute", "budget_flops", "flop_budgets"), "budgets"),
    **dict.fromkeys(("lr", "learning_rate", "max_lr"), "lr_scale"),
    **dict.fromkeys(("batch", "batch_size"), "batch_scale"),
    **dict.fromkeys(("dtype", "mixed_precision", "bf16", "amp"), "precision"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("n_sizes", "widths", "d_model", "models", "model_sizes"), "sizes"),
    **dict.fromkeys(("n_kv_heads", "num_key_value_heads"), "kv_heads"),
    **dict.fromkeys(("tie_embeddings", "tie_word_embeddings", "weight_tying"), "tied"),
    **dict.fromkeys(("target_flops", "goal", "final_budget"), "target"),
    "title": "name",
}
TAGS = ("name", "table")  # of a recipe
PATTERNS = {
    "name": 'letters, digits, "_", "." and "-", at most 64, and begin with a letter or a digit',
    "tokenizer": '"bytes", or "bpe-" and the size of its vocabulary',
}
_TABLE_ADVICE = "In TOML, a key below [{table}] belongs to that table. Put {key} above the line [{table}]."
_RANGES = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false, without quotes",
    "string": "text in quotes",
    "tuple": "a list in brackets",
    "finite": "a finite number",
    "model": "a table of keys",
}


def sentences(source: str, values: Mapping[str, object], error: ValidationError, tables: Tables) -> str:
    """Return a line for every key that is invalid."""
    by_key: dict[tuple[int | str, ...], list[tuple[tuple[int | str, ...], Any]]] = {}
    for entry in error.errors():
        path = _path(entry["loc"], tables)
        found = by_key.setdefault(path[:2] if path and path[0] in tables else path[:1], [])
        if found and len(path) > len(found[0][0]):  # of a choice of types, the one that fits the most of the value
            found.clear()
        if not found or len(path) == len(found[0][0]):
            found.append((path, entry))
    return "\n".join(_sentence(source, values, found[0][0], [entry for _, entry in found], tables) for found in by_key.values())


def _path(loc: tuple[int | str, ...], tables: Tables) -> tuple[int | str, ...]:
    """Return the keys and places of a location, without the types and tags that pydantic puts between them."""
    if not loc:
        return ()
    first, *rest = loc
    return (first, *(part for part in rest if isinstance(part, int) or (first in tables and part not in TAGS)))


def _sentence(source: str, values: Mapping[str, object], path: tuple[int | str, ...], entries: Sequence[Any], tables: Tables) -> str:
    kind, said = entries[0]["type"], entries[0]["msg"].removeprefix("Value error, ").rstrip(".")
    if not path:
        return f"{source}: {said}."
    key = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        return f"{source}: unknown key {key!r}.{_known(path, tables)}"
    if kind == "missing":
        return f"{source}: {key!r} is missing. Add a line such as: {_example(path, tables)}. `isoflop study show` explains every key."
    if kind == "value_error":
        return f"{source}: {key}: {said}."
    must = " or ".join(dict.fromkeys(_must(entry) for entry in entries))
    return f"{source}: {key} = {_brief(_value(values, path))} is invalid: it must be {must}.{_rewrite(values, path, tables)}"


def _known(path: tuple[int | str, ...], tables: Tables) -> str:
    key = str(path[-1])
    table = str(path[0]) if len(path) > 1 else ""
    fields = tables[table].model_fields
    if table and key in tables[""].model_fields:
        return " " + _TABLE_ADVICE.format(table=table, key=key)
    if not table:
        for name, other in tables.items():
            if name and key in other.model_fields:
                return f" It belongs in the table [{name}]."
    near = [SYNONYMS[key.lower()]] if SYNONYMS.get(key.lower()) in fields else difflib.get_close_matches(key.lower(), fields, n=1)
    if near:
        return f" Did you mean {near[0]!r}?" + ("" if near[0] in key.lower() else f" It is: {fields[near[0]].description}.")
    return f" Known keys: {', '.join(fields)}."


def _must(entry: Mapping[str, Any]) -> str:
    kind, ctx, key = str(entry["type"]), entry.get("ctx", {}), str(entry["loc"][-1])
    if kind in _RANGES:
        words, name = _RANGES[kind]
        return f"{words} {ctx[name]:g}"
    if kind == "literal_error":
        return str(ctx["expected"]).replace("'", '"')
    if kind == "too_short":
        return f"a list with at least {ctx['min_length']} entry"
    if kind == "string_pattern_mismatch" and key in PATTERNS:
        return PATTERNS[key]
    return next((words for start, words in _KINDS.items() if kind.startswith(start)), str(entry["msg"]).lower())


def _rewrite(values: Mapping[str, object], path: tuple[int | str, ...], tables: Tables) -> str:
    """Return how to write it: the value itself where it can be repaired, else an example."""
    value, field = _value(values, path), _field(path, tables)
    if len(path) == 1 and isinstance(value, str) and _takes_list(field):
        parts = [part.strip() for part in value.strip("[]() ").split(",") if part.strip()]
        return f" Write: {path[0]} = {_brief([int(part) if part.isdecimal() and len(part) < 19 else part for part in parts])}"
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f" Write, for example: {_example(path, tables)}{meaning}"


def _takes_list(field: Any) -> bool:
    return field is not None and "tuple" in str(field.annotation)


def _example(path: tuple[int | str, ...], tables: Tables) -> str:
    field = _field(path, tables)
    name = next(part for part in reversed(path) if isinstance(part, str))
    if field is None:
        return name
    return f"{name} = {_toml.value(field.examples[0] if field.examples else field.default)}"


def _field(path: tuple[int | str, ...], tables: Tables) -> Any:
    if len(path) > 1 and path[0] in tables and isinstance(path[1], str):
        return tables[str(path[0])].model_fields.get(path[1])
    return tables[""].model_fields.get(str(path[0]))


def _value(values: Mapping[str, object], path: Iterable[int | str]) -> object:
    found: Any = values
    for part in path:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            break
    return found


def _brief(value: object, most: int = 60) -> str:
    text = _toml.value(value)
    return text if len(text) <= most else text[:most] + " ..."
