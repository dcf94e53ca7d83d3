"""A table -> rows as columns of numbers; what cannot be a point of a run is counted and left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.arch import Convention, Shape
from isoflop.errors import FitError, IsoflopError
from isoflop.readers import Lined, _values
from isoflop.readers._columns import SHAPE, Plan, counted_by
from isoflop.readers._tally import Tally
from isoflop.readers._where import Filter
from isoflop.runs import Floats

_NUMERIC = ("params", "tokens", "loss", "flops", "budget", "seed", "step", "lr", "unique_tokens", "batch_tokens", "vocab")
_MAY_LACK = frozenset({"flops", "budget", "seed", "step", "lr", "unique_tokens", "vocab", "batch_tokens"})
_NAMED = 20  # texts named where a number should be; more are one reason without the text
_ENDED_BADLY = frozenset({"diverged", "failed", "crashed", "killed", "canceled", "cancelled", "error", "preempted", "preempting", "nan"})
NOT_ENDED = frozenset({"running", "pending", "interrupted", "queued", "scheduled", "paused", "stopped", "cut short"})
Tell = Callable[[str, float], None]


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
    values: Mapping[str, Floats]  # by role; NaN where not given
    convention: Convention
    counting: str  # how the file says that it counts, in words that isoflop does not know; else empty

    def take(self, index: NDArray[Any]) -> "Rows":
        """The rows at some indices, or where a mask is true."""
        return replace(
            self,
            number=self.number[index],
            run=None if self.run is None else self.run[index],
            bad=self.bad[index],
            counted=self.counted[index],
            final=None if self.final is None else self.final[index],
            values={role: values[index] for role, values in self.values.items()},
        )


@dataclass
class _State:
    """What lasts over batches."""

    plan: Plan
    tally: Tally
    total: int = 0  # rows so far
    names: dict[str, int] = field(default_factory=dict)
    bad_names: dict[str, int] = field(default_factory=lambda: {"": 0})
    countings: set[str] = field(default_factory=set)
    shapes: dict[tuple[Any, ...], tuple[float, float]] = field(default_factory=dict)
    strange: dict[str, set[str]] = field(default_factory=dict)


def collect(source: Any, plan: Plan, chosen: Filter | None, *, tell: Tell) -> Rows:
    """Rows of a table that can be points of runs.

    Raises:
        FitError: Malformed, empty, or ways of counting parameters mixed.
    """
    wanted = tuple(dict.fromkeys([*plan.columns, *(chosen.columns if chosen else ())]))
    state = _State(plan, Tally(lambda numbers: source.lines(numbers, of=state.total) if isinstance(source, Lined) else {}))
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


def _choose(batch: Mapping[str, Any], number: NDArray[np.int64], chosen: Filter, tally: Tally) -> tuple[Mapping[str, Any], NDArray[np.int64]]:
    import pyarrow as pa

    mask = chosen.mask(batch, number.size)
    tally.rows(f"not chosen by --where {chosen.text!r}", number[~mask])
    return {name: column.filter(pa.array(mask)) for name, column in batch.items()}, number[mask]


def _part(batch: Mapping[str, Any], number: NDArray[np.int64], state: _State) -> dict[str, Any]:
    """One batch's points as columns."""
    plan, n = state.plan, number.size
    keep = np.ones(n, dtype=bool)

    def drop(reason: str, which: NDArray[np.bool_]) -> None:
        state.tally.rows(reason, number[which & keep])
        np.logical_and(keep, ~which, out=keep)

    values: dict[str, Floats] = {}
    lacking: dict[str, NDArray[np.bool_]] = {}
    for role in _NUMERIC:
        if role not in plan.sources:
            continue
        origin = plan.sources[role]
        if origin.column is None:
            values[role] = np.full(n, origin.factor)
            continue
        cells, kinds = _values.numbers(batch[origin.column])
        values[role] = cells * origin.factor if origin.factor != 1 else cells
        lacking[role] = kinds == _values.MISSING
        for reason, which in _strange(state, origin.column, batch[origin.column], kinds):
            drop(reason, which)
    _counted(batch, values, state, n)
    _refuse_switching(batch, lacking, state)
    if "tokens" not in values:
        values["tokens"] = values["step"] * values["batch_tokens"]
    _drop_impossible(values, lacking, drop, plan)
    _note_counting(batch, keep, state)
    part: dict[str, Any] = {"number": number, **{f"value {role}": cells for role, cells in values.items()}, **_labels(batch, state, n)}
    return {name: np.asarray(column)[keep] for name, column in part.items()}


def _strange(state: _State, name: str, column: Any, kinds: NDArray[np.int8]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Cells with text where a number should be, by text while they are few."""
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
    curves = "run_id" in plan.sources
    for role, cells in values.items():
        name = plan.called(role)
        absent = lacking.get(role, np.full(cells.size, role in {"flops", "flops per token"}))  # NaN is then the mark of what the file does not give
        if role in {"params", "tokens", "loss"}:
            drop(f"no {name}", absent)
        if role in {"seed", "step", "lr", "vocab"}:
            continue
        if role != "loss" or not curves:  # the last loss of a curve says whether the run diverged
            drop(f"{name} is NaN", np.isnan(cells) & ~absent)
            drop(f"{name} is infinite", np.isinf(cells))
        drop(f"{name} is zero or negative", cells <= 0)
    with np.errstate(all="ignore"):
        product = 6 * values["params"] * values["tokens"]
    drop("6ND is no finite number of FLOPs", ~(np.isfinite(product) & (product > 0)))


def _counted(batch: Mapping[str, Any], values: dict[str, Floats], state: _State, n: int) -> None:
    """FLOPs and params from the shape, where the file does not give them."""
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
    """Params and training FLOPs per token; NaN of a shape that isoflop does not know."""
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
            f"Choose rows with --where '{column} > 0', or map a column that every row has with --map params=NAME."
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
    """Texts and truths as numbers, which are small."""
    columns = {role: origin.column for role, origin in state.plan.sources.items() if origin.column is not None}
    labels: dict[str, NDArray[Any]] = {"bad": np.zeros(n, dtype=np.int64)}
    for role, label, names in (("run_id", "run", state.names), ("status", "bad", state.bad_names)):
        if role in columns:
            labels[label] = _codes(batch[columns[role]], names, only_bad=role == "status")
    if "diverged" in columns:
        said, _ = _values.truths(batch[columns["diverged"]])
        labels["bad"] = np.where(said, state.bad_names.setdefault("diverged", len(state.bad_names)), labels["bad"])
    if "final" in columns:
        labels["final"] = _values.truths(batch[columns["final"]])[0]
    return labels


def _codes(column: Any, names: dict[str, int], *, only_bad: bool) -> NDArray[np.int64]:
    coded = _values.texts(column).dictionary_encode()
    texts = coded.dictionary.to_pylist()
    if only_bad:
        texts = [text if text.casefold() in _ENDED_BADLY | NOT_ENDED else "" for text in texts]
    table = np.array([names.setdefault(text, len(names)) for text in texts], dtype=np.int64)
    where = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    none = 0 if only_bad else names.setdefault("", len(names)) if (where < 0).any() else 0
    return np.where(where >= 0, table[where], none) if table.size else np.full(where.size, none, dtype=np.int64)


def _joined(parts: list[dict[str, Any]], state: _State) -> Rows:
    names = parts[0] if parts else {}
    columns: dict[str, Any] = {}
    for name in list(names):
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
        values=values,
        convention=state.plan.convention,
        counting="",
    )
