"""Corpora, recipes and families of models in one table: never pooled in silence."""

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import QuestionError, Reading
from isoflop.readers import _cells, equals
from isoflop.readers._collect import Rows
from isoflop.readers._columns import Plan, shell, written
from isoflop.readers._grouped import Grouped
from isoflop.readers._names import plain
from isoflop.runs import Floats, Group, Note

LEVELS = 20  # values of a column that tells sorts of runs apart (assumption)
NUMBERS = 6  # values of an unnamed column of numbers; with more it is a measurement (assumption)
SHOWN = 6  # of them in a question
# Columns that tell what was trained on what. Names without separators; the last part of a path counts.
_NAMED = (
    "dataset data corpus corpora datamix mix mixture domain language lang source tokenizer family modelfamily modeltype arch architecture recipe setup set "
    "study text scheme precision dtype quantization optimizer opt activation context contextlength seqlen sequencelength ctxlen vocab vocabsize config series "
    "suite experiment schedule lrschedule lossname losskind metric evalset split subset task variant method"
)
NAMED = frozenset(_NAMED.split())
# Columns that differ from run to run and say nothing of what a law holds for, and those of a shape, which params tell.
# They count only where runs of one size and length differ by them.
_IGNORED = (
    "width depth dim dmodel modeldim dff ffn ffw hidden embd nembd layer nlayer head nhead size params tokens step unnamed index row seed rank host node gpu "
    "device user date time created started finished commit version"
)
IGNORED = tuple(_IGNORED.split())
SEEDS = frozenset(("seed", "randomseed", "dataseed", "initseed", "rank"))
FEWEST = 8  # runs; with fewer no law is fitted that a question would matter to (assumption)
PAIRED = 3  # sizes and lengths at which two values can be compared (assumption)
LEAST = 0.002  # of the loss: smaller differences do not move an answer (assumption)
DEVIATIONS = 4.0  # of the mean difference, by its own scatter
EXPLAINED = 1.5  # times: how much the scatter about a smooth surface must shrink for an unnamed column to matter (assumption)
EXPLAINED_NAMED = 1.15  # the same for a column whose name says that it matters
NAMED_LEAST = 0.005  # of the loss
_ROLE_FACTORS = ("context", "vocab")


class Split(NamedTuple):
    """A column that tells sorts of runs apart."""

    name: str
    codes: NDArray[np.int64]  # (runs,) index into labels
    labels: tuple[str, ...]
    named: bool  # its name says that it matters
    incidental: bool = False  # its name says that it does not


def splits(rows: Rows, plan: Plan, pooled: Sequence[str]) -> list[Split]:
    """Return the columns that could tell sorts of runs apart; those that the user pools are none."""
    tuned = {setting.name for setting in _cells.settings(rows, plan)}
    found = []
    for name, factor in rows.extras.items():
        if set(filter(None, factor.labels)) <= set(get_args(Group)):  # the groups of a study: `_reduce` chooses the sweep
            continue
        last = plain(_last(name))
        if name in tuned or _is_pooled(name, pooled) or last in SEEDS or not plain(name):
            continue
        used, codes = np.unique(factor.codes, return_inverse=True)
        if 2 <= used.size <= LEVELS:
            labels = tuple(factor.labels[i] for i in used)
            found.append(Split(name, codes.reshape(-1).astype(np.int64), labels, last in NAMED, last.startswith(IGNORED)))
    for role in _ROLE_FACTORS:
        if role in rows.values and not _is_pooled(str(plan.sources[role]), pooled):
            used, codes = np.unique(np.nan_to_num(rows.values[role], nan=-1.0), return_inverse=True)
            if 2 <= used.size <= LEVELS:
                found.append(Split(str(plan.sources[role]), codes.reshape(-1).astype(np.int64), tuple(f"{value:g}" for value in used), True))
    return found


def _is_pooled(name: str, pooled: Sequence[str]) -> bool:
    return any(plain(name) == plain(one) or one == "all" for one in pooled)


def _last(name: str) -> str:
    return name.replace("/", ".").rsplit(".", 1)[-1]


def check(grouped: Grouped, found: Sequence[Split]) -> tuple[Note, ...]:
    """Compare the losses of sorts of runs.

    Args:
        grouped: Runs, of which the best settings are left.
        found: Columns, with codes for these runs.

    Raises:
        QuestionError: One law cannot hold for all of them.
    """
    notes, worst = [], None
    for split in found:
        if np.unique(split.codes).size < 2:
            continue
        why = _difference(grouped.last, split)
        if why is not None and (worst is None or (why.size, split.named) > (worst[1].size, worst[0].named)):
            worst = (split, why)
        elif why is None and split.named:
            notes.append(Note("pooled", f"{split.name} has {len(split.labels)} values ({_shown(split.labels)}) and no effect on the loss was seen."))
    if worst is not None:
        raise _question(worst[0], worst[1].text)
    return tuple(notes)


class _Why(NamedTuple):
    size: float  # of the effect, as a share of the loss
    text: str


def _difference(rows: Rows, split: Split) -> _Why | None:
    """Return how much the loss differs between sorts of runs; None where it does not."""
    if not split.named and all(_number(label) for label in split.labels) and (len(split.labels) > NUMBERS or np.bincount(split.codes).min() < PAIRED):
        return None  # a measurement, which differs from run to run
    paired = _paired(rows, split)
    if paired is not None:
        return paired if paired.size > LEAST else None
    if split.incidental:
        return None
    if not split.named and (all(_number(label) for label in split.labels) or _is_label(rows, split)):
        return None  # a size, a depth or a name, which params tell as well
    return _explained(rows, split)


def _paired(rows: Rows, split: Split) -> _Why | None:
    """Compare runs of one size and length that differ in the column; None where too few do."""
    exactly = np.unique(rows.values["params"], return_inverse=True)[1].reshape(-1).astype(np.int64)  # shapes of nearly one size differ in all else
    seeds = np.unique(np.nan_to_num(rows.values["seed"]), return_inverse=True)[1].reshape(-1) if "seed" in rows.values else np.zeros_like(exactly)
    cell, logs = _cells.cells(rows, () if split.named else (exactly, seeds)), np.log(rows.values["loss"])
    inside = np.zeros(rows.number.size)
    seen = 0
    off: dict[int, list[float]] = {}
    order = np.argsort(cell, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        if np.unique(split.codes[part]).size > 1:
            seen += 1
            inside[part] = 1
            centre = float(np.mean([logs[part[split.codes[part] == code]].mean() for code in np.unique(split.codes[part])]))
            for code in np.unique(split.codes[part]):
                off.setdefault(int(code), []).append(float(logs[part[split.codes[part] == code]].mean()) - centre)
    if seen < PAIRED:
        return None
    size = 0.0
    for values in off.values():
        mean, scatter = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.inf
        if len(values) >= PAIRED and abs(mean) > DEVIATIONS * scatter / math.sqrt(len(values)):
            size = max(size, abs(mean))
    spread = max(size, 0.0)
    return _Why(2 * spread, f"at equal size and tokens the loss differs by {200 * spread:.1f} %")


def _explained(rows: Rows, split: Split) -> _Why | None:
    """Compare how well one smooth surface of the loss holds for all runs, and one with a step for each sort of runs."""
    n, d, y = (np.log(rows.values[role]) for role in ("params", "tokens", "loss"))
    n, d = n - n.mean(), d - d.mean()
    surface = np.stack([np.ones_like(n), n, d, n * n, n * d, d * d], axis=1)
    codes = np.unique(split.codes)
    steps = np.stack([(split.codes == code).astype(float) for code in codes[1:]], axis=1)
    free = y.size - surface.shape[1] - steps.shape[1]
    if free < surface.shape[1]:
        few = "there are too few runs to see whether their losses agree"
        return _Why(math.inf, few) if split.named and y.size >= FEWEST else None
    alone, effect = _fit(surface, y)
    both, coefficients = _fit(np.concatenate([surface, steps], axis=1), y)
    effect = coefficients[surface.shape[1] :]
    size = float(np.ptp(np.concatenate([[0.0], effect])))
    shrinks = math.sqrt(alone / (y.size - surface.shape[1])) / max(math.sqrt(both / free), 1e-12)
    needed, least = (EXPLAINED_NAMED, NAMED_LEAST) if split.named else (EXPLAINED, 2 * NAMED_LEAST)
    if shrinks < needed or size < least:
        return None
    return _Why(size, f"beyond what size and tokens explain, the loss differs by {100 * size:.1f} %")


def _fit(X: Floats, y: Floats) -> tuple[float, Floats]:
    coefficients: Floats = np.asarray(np.linalg.lstsq(X, y, rcond=None)[0], dtype=np.float64)
    return float(np.sum((y - X @ coefficients) ** 2)), coefficients


def _is_label(rows: Rows, split: Split) -> bool:
    """Return whether the column is a function of params, as the name of a model is, and sizes come more than once, so that this says something."""
    if np.unique(rows.values["params"]).size > rows.number.size / 2:
        return False
    pairs = np.unique(np.stack([np.unique(rows.values["params"], return_inverse=True)[1].reshape(-1), split.codes]), axis=1)
    return bool(pairs.shape[1] == np.unique(pairs[0]).size)


def _number(label: str) -> bool:
    try:
        float(label or "0")
    except ValueError:
        return False
    return True


def _shown(labels: Sequence[str]) -> str:
    shown = ", ".join(label or "empty" for label in labels[:SHOWN])
    return shown + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")


def _question(split: Split, why: str) -> QuestionError:
    counts = np.bincount(split.codes, minlength=len(split.labels))
    order = sorted(range(len(split.labels)), key=lambda i: -counts[i])
    one = tuple(Reading(f"only {split.labels[i] or 'the rows without one'}: {counts[i]:,} runs", _where(split.name, split.labels[i])) for i in order[:SHOWN])
    return QuestionError(
        f"the column {split.name!r} holds {len(split.labels)} sorts of runs ({_shown([split.labels[i] for i in order])}), and {why}. "
        "One law cannot hold for all of them.",
        (
            *one,
            Reading("a fit for each of them", f"--by {shell(split.name)}"),
            Reading(f"one fit for all {split.codes.size:,} runs, as if they were alike", f"--pool {shell(split.name)}"),
        ),
    )


def _where(column: str, label: str) -> str:
    return f"--where {shell(f'{written(column)} == {label}' if label and _number(label) else equals(column, label))}"
