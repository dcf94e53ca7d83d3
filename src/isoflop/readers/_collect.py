"""A table -> rows as columns of numbers; what cannot be a point of a run is counted and excluded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.arch import Convention, Shape
from isoflop.errors import FitError, IsoflopError
from isoflop.readers import Lined, _values
from isoflop.readers._columns import SHAPE, Plan, counted_by, option
from isoflop.readers._tally import Tally
from isoflop.readers._where import Filter
from isoflop.runs import Floats

_NUMERIC = (
    "params", "tokens", "loss", "flops", "budget", "seed", "step", "lr", "unique_tokens", "batch_tokens", "batch", "vocab", "context", "total_params",
    "tokens_per_param", "n_layers", "d_model",
)  # fmt: skip
_POSITIVE = ("params", "tokens", "loss", "flops", "budget", "unique_tokens", "batch_tokens", "flops per token")
_MAY_BE_TEXT = frozenset({"budget", "seed", "n_layers", "d_model", "context", "batch"})  # a text there, such as "extra", is no reason to exclude a run
_NAMED = 20  # texts named where a number should be; more are one reason without the text
FINISHED = frozenset({"ok", "finished", "completed", "complete", "done", "success", "succeeded", "successful", "passed"})
NOT_ENDED = frozenset({"running", "pending", "interrupted", "queued", "scheduled", "paused", "stopped", "cut short", "incomplete", "started"})
OWN = {  # reasons by role of a column of truths; later ones count before earlier ones
    "ended": "it has not ended, by the file's own column",
    "failed": "failed, by the file's own column",
    "diverged": "diverged, by the file's own column",
}
LEVELS = 64  # distinct texts of a column without a role; with more it says nothing of groups of runs (assumption)
_SPARE = 300  # columns without a role that are looked at
Tell = Callable[[str, float], None]


class Factor(NamedTuple):
    """A column without a role that has few distinct texts."""

    codes: NDArray[np.int64]  # (points,) index into labels
    labels: tuple[str, ...]  # "" where a cell is empty


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Points of runs as columns, each of shape (points,)."""

    total: int  # rows of the source
    tally: Tally
    number: NDArray[np.int64]  # of the row, from 1
    run: NDArray[np.int64] | None  # index into names
    names: tuple[str, ...]
    bad: NDArray[np.int64]  # index into bad_names, 0 for a run that ended well
    bad_names: tuple[str, ...]
    counted: NDArray[np.bool_]  # FLOPs counted from the shape
    final: NDArray[np.bool_] | None
    group: NDArray[np.int64] | None  # index into group_names
    group_names: tuple[str, ...]
    values: Mapping[str, Floats]  # by role; NaN where not given; other candidates of a role as "tokens~1"
    extras: Mapping[str, Factor]  # by column
    convention: Convention
    counting: str  # how the file says that it counts, in words that isoflop does not know; else empty

    def take(self, index: NDArray[Any]) -> "Rows":
        """Return the rows at some indices, or where a mask is true."""
        return replace(
            self,
            number=self.number[index],
            run=None if self.run is None else self.run[index],
            bad=self.bad[index],
            counted=self.counted[index],
            final=None if self.final is None else self.final[index],
            group=None if self.group is None else self.group[index],
            extras={name: factor._replace(codes=factor.codes[index]) for name, factor in self.extras.items()},
            values={role: values[index] for role, values in self.values.items()},
        )


@dataclass
class _State:
    """Counts and names that last over batches."""

    plan: Plan
    tally: Tally
    total: int = 0  # rows so far
    names: dict[str, int] = field(default_factory=dict)
    bad_names: dict[str, int] = field(default_factory=lambda: {"": 0})
    group_names: dict[str, int] = field(default_factory=dict)
    extras: dict[str, dict[str, int]] = field(default_factory=dict)
    countings: set[str] = field(default_factory=set)
    shapes: dict[tuple[Any, ...], tuple[float, float]] = field(default_factory=dict)
    strange: dict[str, set[str]] = field(default_factory=dict)


def collect(source: Any, plan: Plan, chosen: Filter | None, *, tell: Tell) -> Rows:
    """Return the rows of a table that can be points of runs.

    Raises:
        FitError: Malformed, empty, or ways of counting parameters mixed.
    """
    extras = _few_levels(source, plan.spare[:_SPARE])
    wanted = tuple(dict.fromkeys([*plan.columns, *(chosen.columns if chosen else ()), *extras]))
    state = _State(
        plan, Tally(lambda numbers: source.lines(numbers, of=state.total) if isinstance(source, Lined) else {}), extras={name: {} for name in extras}
    )
    parts: list[dict[str, Any]] = []
    for batch, fraction in source.batches(wanted):
        rows = len(next(iter(batch.values())))
        every = np.arange(state.total + 1, state.total + rows + 1, dtype=np.int64)
        state.total += rows
        kept, number = (batch, every) if chosen is None else _choose(batch, every, chosen, state.tally)
        if number.size:
            parts.append(_part(kept, number, state))
        tell("reading", fraction)
    if not state.total:
        raise FitError("there is a header but no row. Give a row for each run.")
    _refuse_mixed(state.countings, plan)
    said = next(iter(state.countings), "")
    known = plan.convention_given or counted_by(said)
    return replace(
        _joined(parts, state),
        convention=plan.convention if plan.convention_given else counted_by(said) or plan.convention,
        counting="" if known else said,
    )


def _few_levels(source: Any, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return those columns that have few distinct texts in the first batch."""
    if not columns:
        return ()
    batch, _ = next(iter(source.batches(columns)), ({}, 1.0))
    return tuple(name for name, column in batch.items() if len(_values.texts(column).unique()) <= LEVELS)


def _choose(batch: Mapping[str, Any], number: NDArray[np.int64], chosen: Filter, tally: Tally) -> tuple[Mapping[str, Any], NDArray[np.int64]]:
    import pyarrow as pa

    mask = chosen.mask(batch, number.size)
    tally.rows(f"not chosen by --where {chosen.text!r}", number[~mask])
    return {name: column.filter(pa.array(mask)) for name, column in batch.items()}, number[mask]


def _part(batch: Mapping[str, Any], number: NDArray[np.int64], state: _State) -> dict[str, Any]:
    """Return the points of one batch as columns."""
    plan, n = state.plan, number.size
    keep = np.ones(n, dtype=bool)

    def drop(reason: str, which: NDArray[np.bool_]) -> None:
        state.tally.rows(reason, number[which & keep])
        np.logical_and(keep, ~which, out=keep)

    values, lacking = _numbers(batch, n, state, drop)
    _counted(batch, values, state, n)
    _refuse_switching(batch, lacking, state)
    _derive(values, plan)
    if plan.unit == "perplexity":
        with np.errstate(all="ignore"):
            values["loss"] = np.where(values["loss"] > 1, np.log(values["loss"]), np.where(np.isnan(values["loss"]), np.nan, -1.0))
    _drop_impossible(values, lacking, drop, plan)
    _note_counting(batch, keep, state)
    part: dict[str, Any] = {"number": number, **{f"value {role}": cells for role, cells in values.items()}, **_labels(batch, state, n)}
    part |= {f"extra {name}": codes for name, codes in _extras(batch, state, n).items()}
    return {name: np.asarray(column)[keep] for name, column in part.items()}


def _numbers(
    batch: Mapping[str, Any], n: int, state: _State, drop: Callable[[str, NDArray[np.bool_]], None]
) -> tuple[dict[str, Floats], dict[str, NDArray[np.bool_]]]:
    """Return numbers by role, and which cells are empty."""
    values: dict[str, Floats] = {}
    lacking: dict[str, NDArray[np.bool_]] = {}
    for role in _NUMERIC:
        source = state.plan.sources.get(role)
        if source is None:
            continue
        values[role], kinds = source.numbers(batch, n)
        if source.expression is not None:
            lacking[role] = kinds != _values.GIVEN if role in _MAY_BE_TEXT else kinds == _values.MISSING
        if role not in _MAY_BE_TEXT:
            for column in source.columns:
                for reason, which in _strange(state, column, batch[column], _values.numbers(batch[column])[1]):
                    drop(reason, which)
    for role, rivals in state.plan.rivals.items():
        for place, rival in enumerate(rivals if role != "loss" else (), start=1):
            values[f"{role}~{place}"] = rival.numbers(batch, n)[0]
    return values, lacking


def _derive(values: dict[str, Floats], plan: Plan) -> None:
    """Compute what the file does not give from what it gives."""
    for role, formula in plan.derived.items():
        with np.errstate(all="ignore"):
            match formula:
                case "step * batch_tokens":
                    values[role] = values["step"] * values["batch_tokens"]
                case "params * tokens_per_param":
                    values[role] = values["params"] * values["tokens_per_param"]
                case "flops / (6 params)":
                    values[role] = values["flops"] / (6 * values["params"])
                case "flops / (6 tokens)":
                    values[role] = values["flops"] / (6 * values["tokens"])
                case _:
                    values[role] = 12 * values["n_layers"] * values["d_model"] ** 2


def _extras(batch: Mapping[str, Any], state: _State, n: int) -> dict[str, NDArray[np.int64]]:
    """Return columns without a role as codes; one with too many distinct texts is no longer looked at."""
    found = {}
    for name, labels in list(state.extras.items()):
        found[name] = _codes(batch[name], labels, keep=lambda text: text) if n else np.empty(0, dtype=np.int64)
        if len(labels) > LEVELS:
            del state.extras[name], found[name]
    return found


def _strange(state: _State, name: str, column: Any, kinds: NDArray[np.int8]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return cells with text where a number should be, by text while they are few."""
    which = kinds == _values.TEXT
    if not which.any():
        return []
    at = np.flatnonzero(which)
    seen = state.strange.setdefault(name, set())
    found: list[tuple[str, NDArray[np.bool_]]] = []
    for place, text in zip(at[:_NAMED], _values.texts(column).take(at[:_NAMED]).to_pylist(), strict=True):
        if len(seen) < _NAMED or text in seen:
            seen.add(text)
            one = np.zeros(which.size, dtype=bool)
            one[place] = True
            found.append((f"column {name!r} holds {str(text)[:40]!r} where a number should be", one))
    return [*found, (f"column {name!r} holds text where a number should be", which)]


def _drop_impossible(values: Mapping[str, Floats], lacking: Mapping[str, Any], drop: Callable[[str, Any], None], plan: Plan) -> None:
    for role, cells in values.items():
        if role not in _POSITIVE:
            continue
        name = plan.called(role)
        absent = lacking.get(role, np.full(cells.size, role in {"flops", "flops per token"}))  # NaN is then the mark of what the file does not give
        if role in plan.derived:
            absent = np.isnan(cells)
            drop(f"{role} = {plan.derived[role]} cannot be computed: a cell is empty", absent)
        if role in {"params", "tokens", "loss"}:
            drop(f"no {name}", absent)
        if role != "loss":  # a loss that is no number says that a run diverged: `_grouped`
            drop(f"{name} is NaN", np.isnan(cells) & ~absent)
            drop(f"{name} is infinite", np.isinf(cells))
        below = "is below 1, the least that a perplexity can be" if role == "loss" and plan.unit == "perplexity" else "is zero or negative"
        if role == "budget":
            continue
        drop(f"{name} {below}", cells <= 0)
    with np.errstate(all="ignore"):
        product = 6 * values["params"] * values["tokens"]
    drop("6ND is no finite number of FLOPs", ~(np.isfinite(product) & (product > 0)))


def _counted(batch: Mapping[str, Any], values: dict[str, Floats], state: _State, n: int) -> None:
    """Count FLOPs and params from the shape, where the file does not give them."""
    plan = state.plan
    values.setdefault("flops", np.full(n, np.nan))
    if not plan.shaped:
        return
    columns = [_shape_column(batch, plan, role, n) for role in (*SHAPE, *(["kv_size"] if "kv_size" in plan.sources else []))]
    both = np.array([_shape(state, row) for row in zip(*columns, strict=True)]).reshape(-1, 2)
    values.setdefault("params", both[:, 0])
    values["flops per token"] = both[:, 1]


def _shape_column(batch: Mapping[str, Any], plan: Plan, role: str, n: int) -> list[Any]:
    origin = plan.sources[role]
    if origin.column is None:
        return [origin.factor] * n
    return list(_values.texts(batch[origin.column]).to_pylist() if role == "arch" else _values.numbers(batch[origin.column])[0] * origin.factor)


def _shape(state: _State, row: tuple[Any, ...]) -> tuple[float, float]:
    """Return params and training FLOPs per token; NaN of a shape that isoflop does not know."""
    if row not in state.shapes:
        sizes = dict(zip((*SHAPE, "kv_size"), row, strict=False))
        sizes.setdefault("kv_size", sizes["d_model"] // max(sizes["n_heads"], 1) if sizes["n_heads"] > 0 else 0)
        try:
            shape = Shape(**sizes)
            state.shapes[row] = (float(shape.params.count(state.plan.convention)), float(shape.flops_per_token.training))
        except (IsoflopError, ValueError, OverflowError):
            state.shapes[row] = (np.nan, np.nan)
    return state.shapes[row]


def _refuse_switching(batch: Mapping[str, Any], lacking: Mapping[str, NDArray[np.bool_]], state: _State) -> None:
    other = state.plan.other_params
    if other is None or "params" not in lacking or not lacking["params"].any():
        return
    there = lacking["params"] & (_values.numbers(batch[other])[1] == _values.GIVEN)
    if there.any():
        column = state.plan.sources["params"].column
        raise FitError(
            f"some rows give {column!r}, others only {other!r}: two ways of counting parameters, and mixing them moves the exponents. "
            f"Choose rows with --where '{column} > 0', or map a column that every row has: {option('params', 'COLUMN')}."
        )


def _note_counting(batch: Mapping[str, Any], keep: NDArray[np.bool_], state: _State) -> None:
    origin = state.plan.sources.get("counting")
    if origin is None or origin.column is None or origin == state.plan.sources.get("params"):
        return
    import pyarrow as pa

    said = _values.texts(batch[origin.column]).filter(pa.array(keep))
    if (_values.numbers(batch[origin.column])[1] == _values.TEXT).any():
        state.countings.update(text for text in said.unique().to_pylist() if text is not None)


def _refuse_mixed(countings: set[str], plan: Plan) -> None:
    if len(countings) > 1:
        column, names = plan.sources["counting"].column, sorted(countings)
        raise FitError(
            f"column {column!r} says that parameters are counted in {len(names)} ways ({', '.join(names[:6])}), and mixing them moves the exponents. "
            f"Choose one with --where \"{column} == '{names[0]}'\"."
        )
    named = counted_by(next(iter(countings), ""))
    if plan.convention_given and named not in {None, plan.convention}:
        raise FitError(f"the file counts {named} parameters, but {plan.convention} is asked for. Leave the convention out, or map another column.")


def _labels(batch: Mapping[str, Any], state: _State, n: int) -> dict[str, NDArray[Any]]:
    """Return texts and truths as codes, which are small."""
    columns = {role: origin.column for role, origin in state.plan.sources.items() if origin.column is not None}
    labels: dict[str, NDArray[Any]] = {"bad": np.zeros(n, dtype=np.int64)}
    for role, label, names in (("run_id", "run", state.names), ("status", "bad", state.bad_names), ("group", "group", state.group_names)):
        if role in columns:
            labels[label] = _codes(batch[columns[role]], names, keep=_unfinished if role == "status" else lambda text: text)
    for role, reason in OWN.items():
        if role in columns:
            said, strange = _values.truths(batch[columns[role]])
            if strange is None or role == "diverged":  # else dates, or fractions
                bad = ~said & ~_values.texts(batch[columns[role]]).is_null().to_numpy(zero_copy_only=False) if role == "ended" else said
                labels["bad"] = np.where(bad, state.bad_names.setdefault(reason, len(state.bad_names)), labels["bad"])
    if "final" in columns:
        labels["final"] = _values.truths(batch[columns["final"]])[0]
    return labels


def _unfinished(status: str) -> str:
    """Return a status that does not say that a run has finished; an empty text of one that does."""
    return "" if status.casefold() in FINISHED else status


def _codes(column: Any, names: dict[str, int], *, keep: Callable[[str], str]) -> NDArray[np.int64]:
    coded = _values.texts(column).dictionary_encode()
    texts = [keep(text) for text in coded.dictionary.to_pylist()]
    table = np.array([names.setdefault(text, len(names)) for text in texts], dtype=np.int64)
    where = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    none = names.setdefault("", len(names)) if (where < 0).any() else 0
    return np.where(where >= 0, table[where], none) if table.size else np.full(where.size, none, dtype=np.int64)


def _joined(parts: list[dict[str, Any]], state: _State) -> Rows:
    names = parts[0] if parts else {}
    wanted = [name for name in names if not name.startswith("extra ") or name.removeprefix("extra ") in state.extras]
    columns: dict[str, Any] = {}
    for name in wanted:
        columns[name] = np.concatenate([part.pop(name) for part in parts])  # popped, so that one column at a time is there twice
    empty = np.empty(0, dtype=np.int64)
    columns = columns or {f"value {role}": np.empty(0) for role in ("params", "tokens", "loss", "flops")}
    number = columns.pop("number", empty)
    values = {name.removeprefix("value "): columns[name] for name in columns if name.startswith("value ")}
    per_token = values.pop("flops per token", None)
    counted = np.zeros(number.size, dtype=bool)
    if per_token is not None:
        counted = np.isnan(values["flops"]) & np.isfinite(per_token)
        values["flops"] = np.where(counted, per_token * values["tokens"], values["flops"])
    return Rows(
        total=state.total,
        tally=state.tally,
        number=number,
        run=columns.get("run"),
        names=tuple(state.names),
        bad=columns.get("bad", empty),
        bad_names=tuple(state.bad_names),
        counted=counted,
        final=columns.get("final"),
        group=columns.get("group"),
        group_names=tuple(state.group_names),
        values=values,
        extras={name: Factor(columns[f"extra {name}"], tuple(labels)) for name, labels in state.extras.items() if f"extra {name}" in columns},
        convention=state.plan.convention,
        counting="",
    )
