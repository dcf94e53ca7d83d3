"""Tables of fits: the rows they saw, the paper's Table 2, and how far off each was when budgets were held out."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from isoflop import laws, units
from isoflop.errors import FitError
from isoflop.fit import APPROACHES, Fit, Fits, Trial
from isoflop.fit.account import Account, Group, groups
from isoflop.published import kaplan
from isoflop.report.table import DASH, Cell, Table, row, shown
from isoflop.report.tables import NAMES
from isoflop.runs import NATS, Dropped, Floats

MOST = 6  # reasons, runs or budgets that are named before the others are only counted
REACHES = (1.0, 2.0, 4.0, 8.0, 16.0, math.inf)  # how many times beyond the data: edges of the columns of errors (assumption: by doubling)
Interval = tuple[float, float]
_NUMBER = re.compile(r"\d[\d.,e+-]*")
_DROPPED = re.compile(r"\d+ of \d+ runs are not in the fit: ")  # how `fit` counts them


def title(fit: Fit) -> str:
    """Return the name of an approach, with the form of its law where that is not the paper's."""
    usual = {"envelope": "powerlaw", "isoflop": "powerlaw", "parametric": "chinchilla"}
    return NAMES[fit.approach] if fit.form == usual[fit.approach] else f"{NAMES[fit.approach]}, {fit.form}"


def candidate(fit: Fit) -> str:
    """Return the name of a fit in a hold-out."""
    return f"{fit.approach} {fit.form}" if fit.approach == "parametric" else fit.approach


def short(unit: str) -> str:
    """A unit of loss as a heading has it."""
    return "nats/token" if unit == NATS else unit


def exponents(fits: Fits, *, level: float) -> Table:
    """Exponents as in Hoffmann et al. 2022, Table 2."""
    made = {
        fit.approach: row(title(fit), *(Cell(shown("{:.3f}".format, value), edges(*ends, "{:.3f}".format)) for value, ends in both(fit, level))) for fit in fits
    }
    made |= {name: row(NAMES[name], DASH, DASH, muted=True) for name, _ in fits.left_out}
    rows = [made[name] for name in APPROACHES if name in made]
    rows.append(row("Kaplan et al. 2020", f"{kaplan.A_EXPONENT}", f"{kaplan.B_EXPONENT}", muted=True))
    methods = "; ".join(f"{fit.approach}: {fit.intervals_by}" for fit in fits if fit.resamples)
    note = f"Ranges: {level * 100:g} % intervals ({methods}). " if methods else ""
    return Table(
        title="How the best size and length grow with compute",
        head=("approach", "a in N_opt \u221d C^a", "b in D_opt \u221d C^b"),
        rows=tuple(rows),
        note=f"{note}Hoffmann et al. 2022 found a = 0.50, 0.49 and 0.46 by Approaches 1 to 3 (their Table 2).",
    )


def both(fit: Fit, level: float) -> tuple[tuple[float, Interval], tuple[float, Interval]]:
    """The exponents a and b with their intervals; at the largest run where they change along the frontier."""
    return _one(fit, "a", level), _one(fit, "b", level)


def _one(fit: Fit, name: str, level: float) -> tuple[float, Interval]:
    return _exponent(fit.law, name, fit), fit.interval(lambda law: _exponent(law, name, fit), level=level)


def _exponent(law: laws.Law, name: str, fit: Fit) -> float:
    value = float(getattr(law, name))
    if math.isfinite(value):
        return value
    try:
        return float(laws.exponents(law, fit.reach_flops)["ab".index(name)])
    except FitError:
        return math.nan


def edges(low: float, high: float, print_: Callable[[float], str]) -> str:
    """An interval; empty where there is none."""
    return f"{print_(low)} to {print_(high)}" if math.isfinite(low) and math.isfinite(high) else ""


def holdout(fits: Fits) -> tuple[Table, ...]:
    """Errors against reach, of the loss and of the best size: fitted on the lower budgets, asked for the higher ones."""
    if fits.holdout is None or not fits.holdout.trials:
        return ()
    trials = fits.holdout.trials
    columns = [(low, high) for low, high in itertools.pairwise(REACHES) if any(low < t.reach <= high for t in trials)]
    heads = [f"{low:g} to {high:g} times" if math.isfinite(high) else f"over {low:g} times" for low, high in columns]
    inside = {candidate(fit): in_sample(fit) for fit in fits}
    members = {m.name: in_sample(m.fit) for m in (*fits.forecast.loss.members, *fits.forecast.size.members)} if fits.forecast is not None else {}
    loss = [
        row(_brief(by), _percent(({**members, **inside}).get(by, math.nan)), *_cells(fits.holdout.of(by), columns, _loss_error))
        for by in fits.holdout.candidates
    ]
    size = [row(_brief(by), *_cells(fits.holdout.of(by), columns, _size_error)) for by in fits.holdout.candidates]
    how = "Fitted on the budgets up to one, asked for those above it. Columns: how many times beyond the largest budget fitted; in brackets, how many trials."
    tables = [
        Table(title="Error of the loss (root mean square)", head=("by", "in sample", *heads), rows=tuple(loss), note=how),
        Table(title="Error of the best size (typical factor)", head=("by", *heads), rows=tuple(size), note=""),
    ]
    return tuple(tables if any(math.isfinite(t.params_factor) for t in trials) else tables[:1])


def _brief(by: str) -> str:
    """Return the form of the law alone for Approach 3, so that the errors stand in one table at eighty columns."""
    return by.removeprefix("parametric ")


def in_sample(fit: Fit) -> float:
    """Root mean square of observed over fitted loss, less one; NaN where nothing is fitted but the frontier."""
    residuals = fit.residuals[np.isfinite(fit.residuals)]
    return _root_mean_square(np.where(residuals > 700, np.inf, np.expm1(np.minimum(residuals, 700)))) if residuals.size else math.nan


def _root_mean_square(errors: Floats) -> float:
    """Return the root of the mean square; infinite where a square is."""
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(errors**2)))


def _exp(logs: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(logs))


def _cells(trials: Sequence[Trial], columns: Iterable[Interval], error: Callable[[Sequence[Trial]], tuple[str, int]]) -> list[Cell]:
    made = [error([t for t in trials if low < t.reach <= high]) for low, high in columns]
    return [Cell(text, str(n) if n else "") for text, n in made]


def _loss_error(trials: Sequence[Trial]) -> tuple[str, int]:
    found = np.array([t.error for t in trials if math.isfinite(t.error)])
    return _percent(_root_mean_square(found)) if found.size else DASH, found.size


def _size_error(trials: Sequence[Trial]) -> tuple[str, int]:
    factors = np.array([t.params_factor for t in trials if math.isfinite(t.params_factor) and t.params_factor > 0])
    return f"{_exp(_root_mean_square(np.log(factors))):.2f}x" if factors.size else DASH, factors.size


def _percent(value: float) -> str:
    return shown("{:.2%}".format, value)


def account(seen: Account, fits: Iterable[Fit]) -> Table:
    """Return what became of every row."""
    many = len(seen.budgets) > seen.kept / 2
    lowest, highest = units.flops(seen.smallest_flops), units.flops(seen.largest_flops)
    budgets = f"none shared: {seen.kept} runs from {lowest} to {highest} FLOPs" if many else f"{len(seen.budgets)}, from {lowest} to {highest} FLOPs"
    lines = [
        ("read", f"{seen.read} runs and {seen.rows} rows that count in none, from {seen.source}" if seen.rows else f"{seen.read} from {seen.source}"),
        *((note.about, note.text) for note in seen.notes),
        ("kept", str(seen.kept)),
        *(("excluded", words) for words in _named(seen.dropped)),
        *(("flagged", words) for words in _named(seen.doubtful)),
        *((f"excluded ({', '.join(approaches)})", f"{entry.id}: {entry.reason}") for entry, approaches in _aside(fits).items()),
        ("budgets", budgets),
        ("FLOPs", seen.flops_from),
        ("parameters", _counted(seen)),
        ("loss", seen.unit),
    ]
    return Table(title="Runs", head=("", ""), rows=tuple(row(*line) for line in lines), words=frozenset({0, 1}))


def _counted(seen: Account) -> str:
    """Return how the parameters are counted."""
    if seen.experts is not None:
        return "the active ones of mixtures of experts"
    return {"total": "all, embeddings included", "nonembedding": "without embeddings"}.get(seen.convention, seen.convention)


def in_all(seen: Account, params: float) -> str:
    """Return the sentence that says how many parameters a mixture of experts has in all; empty for other models."""
    total = seen.total_params(params)
    if total is None or not math.isfinite(params):
        return ""
    return f"These are active parameters; in all the model has about {units.count(total)}, {total / params:.2g} times as many."


def _aside(fits: Iterable[Fit]) -> dict[Dropped, list[str]]:
    """Runs that fits set aside, with the approaches that did."""
    found: dict[Dropped, list[str]] = {}
    for fit in fits:
        for entry in fit.set_aside:
            found.setdefault(entry, []).append(fit.approach)
    return found


def warnings(fits: Fits, *, accounted: bool = False) -> tuple[str, ...]:
    """Return the warnings of the fits, each sentence once with the approaches that say it, and one for many that differ in their numbers alone.

    Args:
        fits: Of some runs.
        accounted: The account of the rows is shown, so that nothing need be said again of what was dropped.
    """
    said: dict[str, list[str]] = {}
    for fit in fits:
        for warning in fit.warnings:
            if not (accounted and _DROPPED.match(warning)):
                said.setdefault(warning, []).append(fit.approach)
    alike: dict[tuple[str, str], list[str]] = {}
    for warning, approaches in said.items():
        alike.setdefault((", ".join(approaches), _NUMBER.sub("#", warning)), []).append(warning)
    return tuple(
        f"({names}): {found[0]}" + (f" And {len(found) - 1} more like it; --json has all." if found[1:] else "") for (names, _), found in alike.items()
    )


def _named(dropped: Iterable[Dropped]) -> list[str]:
    found = groups(dropped)
    said = [_grouped(group) for group in found]
    rest = sum(group.runs for group in found[MOST:])
    return [*said[:MOST], *([f"{rest} for other reasons; --json names all"] if rest else [])]


def _grouped(group: Group) -> str:
    """Return the runs of one reason, with an example unless the reason names one."""
    if group.runs == 1:
        return f"{group.example}: {group.reason}"
    example = "" if group.counted else f" (such as {group.example})"
    return f"{group.runs} \u00d7 {group.reason}{example}"
