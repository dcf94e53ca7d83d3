"""Settings swept at one size and length: the best setting of each counts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.readers._collect import Factor, Rows
from isoflop.readers._columns import Plan
from isoflop.readers._grouped import Grouped
from isoflop.readers._names import plain
from isoflop.runs import Floats, Note

SAME = 0.01  # of params and tokens: one size and length (assumption: whole batches differ by less, and grids by more)
ALIKE = 0.02  # of a rate: the highest that a curve logged differs so far from its peak (assumption)
# Settings of the optimiser, of which the best is what a run would have used. Names without separators; a name that begins so counts too.
_TUNED = (
    "lr learningrate peaklr maxlr minlr baselr lrmult lrscale batch bs gbs gbsz globalbatch weightdecay wd beta adam eps warmup clip gradclip maxgradnorm "
    "momentum dropout initstd initscale zloss decayfrac cooldown qklr embedlr muonlr"
)
TUNED = tuple(_TUNED.split())
_ROLES = ("lr", "batch", "batch_tokens")


class Setting(NamedTuple):
    """A setting of runs."""

    name: str
    codes: NDArray[np.int64]  # (runs,)
    values: Floats | None  # (runs,); None of texts

    def first(self, n: int) -> "Setting":
        """Return the setting of the first n runs."""
        return Setting(self.name, self.codes[:n], None if self.values is None else self.values[:n])


def together(first: Rows, others: Sequence[Rows]) -> Rows:
    """Return rows of one table after each other; the tally and the names are those of the first."""
    every = (first, *others)

    def joined(*arrays: NDArray[Any] | None) -> Any:
        return np.concatenate(arrays) if all(one is not None for one in arrays) else None  # type: ignore[arg-type]

    return replace(
        first,
        number=joined(*(rows.number for rows in every)),
        run=joined(*(rows.run for rows in every)),
        bad=joined(*(rows.bad for rows in every)),
        counted=joined(*(rows.counted for rows in every)),
        final=joined(*(rows.final for rows in every)),
        group=joined(*(rows.group for rows in every)),
        values={role: joined(*(rows.values[role] for rows in every)) for role in first.values if all(role in rows.values for rows in others)},
        extras={name: factor._replace(codes=joined(*(rows.extras[name].codes for rows in every))) for name, factor in first.extras.items()},
    )


def settings(rows: Rows, plan: Plan) -> list[Setting]:
    """Return the settings that a table has columns for and that differ between its rows."""
    found = []
    for role in _ROLES:
        if role in rows.values:
            values = np.nan_to_num(rows.values[role], nan=-1.0)
            codes = _near(values, ALIKE) if (values > 0).all() else np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
            found.append(Setting(str(plan.sources[role]), codes, rows.values[role]))
    for name, factor in rows.extras.items():
        if plain(name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]).startswith(TUNED):
            found.append(Setting(name, factor.codes, _numbers(factor)))
    return [setting for setting in found if np.unique(setting.codes).size > 1]


def _numbers(factor: Factor) -> Floats | None:
    try:
        return np.array([float(label or "nan") for label in factor.labels])[factor.codes]
    except ValueError:
        return None


def cells(rows: Rows, apart: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return which size and length each row is of.

    Args:
        rows: Of runs.
        apart: Codes that keep rows apart: of corpora, say.
    """
    code = np.zeros(rows.number.size, dtype=np.int64)
    for key in (*(_near(rows.values[role]) for role in ("params", "tokens")), *apart):
        values, back = np.unique(key, return_inverse=True)
        _, code = np.unique(code * values.size + back.reshape(-1), return_inverse=True)
    return code.astype(np.int64)


def _near(values: Floats, step: float = SAME) -> NDArray[np.int64]:
    """Return a code for each positive value; values that a chain of such steps joins share it."""
    order = np.argsort(values, kind="stable")
    with np.errstate(all="ignore"):
        new = np.concatenate([[0], np.diff(np.log(values[order])) > step]) if values.size else np.empty(0)
    code = np.empty(values.size, dtype=np.int64)
    code[order] = np.cumsum(new).astype(np.int64)
    return code


def keep_best(grouped: Grouped, tried: Rows, plan: Plan, apart: Sequence[NDArray[np.int64]], *, every_run: bool) -> tuple[Note, ...]:
    """Exclude runs that are not of the best setting at their size and length.

    Seeds of one setting stay together, and their mean decides.

    Args:
        grouped: Runs.
        tried: The rows of these runs, then those of runs that diverged: their settings were tried, too.
        plan: What was read from where.
        apart: Codes of `tried` that keep rows apart: of corpora, say.
        every_run: Exclude none.
    """
    rows, n = grouped.last, len(grouped.ids)
    swept = settings(tried, plan)
    if not swept or not n:
        return ()
    everywhere = cells(tried, apart)
    loss = np.concatenate([rows.values["loss"], np.full(everywhere.size - n, np.inf)])
    edges = tuple(text for one in swept if (text := _edge(one, everywhere, loss)))
    swept = [one for one in (one.first(n) for one in swept) if np.unique(one.codes).size > 1]
    if not swept:
        return ()
    cell = np.unique(everywhere[:n], return_inverse=True)[1].reshape(-1)
    _, setting = np.unique(np.stack([one.codes for one in swept]), axis=1, return_inverse=True)
    pair = cell * (setting.max() + 1) + setting.reshape(-1)
    pairs, back, counts = np.unique(pair, return_inverse=True, return_counts=True)
    mean = np.bincount(back.reshape(-1), weights=rows.values["loss"]) / counts
    of_cell = pairs // (setting.max() + 1)
    several = np.bincount(of_cell) > 1
    if not several.any():
        return ()
    lowest = np.full(cell.max() + 1, np.inf)
    np.minimum.at(lowest, of_cell, mean)
    best = mean == lowest[of_cell]
    names = " and ".join(one.name for one in swept)
    out = ~best[back.reshape(-1)]
    total, kept, many = len(grouped.ids), int((~out).sum()), int(several.sum())
    if every_run:
        head = f"{names} differ at {many:,} of {several.size:,} sizes and lengths; all {total:,} runs are kept by --every-run."
    else:
        head = f"the best {names} at each size and length counts: {kept:,} of {total:,} runs. --every-run keeps all."
        grouped.drop(out, f"not the best {names} at its size and length")
    return (Note("settings", " ".join((head, *edges))),)


def _edge(setting: Setting, cell: NDArray[np.int64], loss: Floats) -> str:
    """Return a sentence on how often the best value is the lowest or highest tried; nothing where it never is."""
    if setting.values is None:
        return ""
    order = np.lexsort((loss, cell))
    edges = tried = two = 0
    for part in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        values = setting.values[part]
        distinct = np.unique(setting.codes[part]).size
        if distinct < 2 or not np.isfinite(loss[part[0]]) or not np.isfinite(values).all():
            continue
        tried, two = tried + 1, two + (distinct == 2)
        edges += bool(values[0] in {values.min(), values.max()})
    if not edges:
        return ""
    pairs = f" (at {two:,} only two were tried)" if two else ""
    return f"At {edges:,} of {tried:,} the best {setting.name} is the lowest or highest tried{pairs}: a better one may lie outside."
