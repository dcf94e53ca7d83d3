"""Runs as rows of a figure: which are drawn, how far the axes go, and which are left out."""

from collections.abc import Iterable, Iterator

import altair as alt
import numpy as np
from numpy.typing import NDArray

from isoflop.fit import account
from isoflop.fit.result import Fit
from isoflop.report.figures import _axes, _look
from isoflop.report.figures._axes import Domain, Row
from isoflop.runs import Dropped, Runs

Floats = NDArray[np.float64]

MOST = 1500  # runs that a figure shows: more overlap, and make a page heavy
_FAR = 6.0  # interquartile ranges beyond the quartiles of log loss from which a run stands outside the frame; assumption: no sweep spreads so far
_REASONS = 3  # that a caption tells; the table of what was left out has all
_NAMED = 3


def drawn(count: int, most: int = MOST) -> NDArray[np.intp]:
    """Indices of those that are drawn, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def rows(runs: Runs, *, apart: Iterable[str] = ()) -> Iterator[Row]:
    """A row a run; those of some ids are left out."""
    others = frozenset(apart)
    kept = [i for i, name in enumerate(runs.ids) if name not in others]
    for k in drawn(len(kept)):
        i = kept[k]
        yield {"flops": runs.flops[i], "params": runs.params[i], "tokens": runs.tokens[i], "loss": runs.loss[i], "budget": runs.budget[i]}


def tooltip(runs: Runs) -> list[alt.Tooltip]:
    """What a run says when it is pointed at."""
    counts = [_axes.tip_count("params", "parameters"), _axes.tip_count("tokens", "tokens")]
    return [_axes.tip_flops("flops"), *counts, _axes.tip_loss(title=_axes.loss_in(runs.unit))]


def set_aside(runs: Runs, fit: Fit | None, at: dict[str, object]) -> list[alt.Chart]:
    """A cross for each run that was found far off and does not count."""
    ids = names_aside(fit)
    some = [i for i, name in enumerate(runs.ids) if name in ids]
    cross = alt.MarkDef(type="point", shape=_look.CROSS, size=26, strokeWidth=1.8, color=_look.INK, opacity=1, clip=True)
    found = [{"run": runs.ids[i], "flops": runs.flops[i], "params": runs.params[i], "tokens": runs.tokens[i], "loss": runs.loss[i]} for i in some]
    tips = [alt.Tooltip("run:N", title="set aside"), *tooltip(runs)]
    return [_axes.layer(found, cross, {**at, "tooltip": tips})] if found else []


def names_aside(fit: Fit | None) -> frozenset[str]:
    """Ids of the runs that were set aside."""
    return frozenset(one.id for one in fit.set_aside) if fit else frozenset()


def losses(runs: Runs, *others: Iterable[float], pad: float = 0.05) -> Domain:
    """Range of the losses in a frame, without those far off."""
    return _axes.domain(np.clip(runs.loss, *near(runs.loss)), *(np.asarray(tuple(one), dtype=float) for one in others), pad=pad)


def near(loss: Floats) -> Domain:
    """The smallest and the largest loss that is not far off."""
    low, high = np.quantile(np.log(loss), [0.25, 0.75])
    room = _FAR * (high - low) + 1e-3
    inside = loss[(np.log(loss) >= low - room) & (np.log(loss) <= high + room)]
    return float(inside.min()), float(inside.max())


def left_out(runs: Runs, fit: Fit | None) -> str:
    """What is not drawn, or drawn and not counted, as sentences; empty where that is nothing."""
    low, high = near(runs.loss)
    outside = int(((runs.loss < low) | (runs.loss > high)).sum())
    beyond = f" Outside the frame: {outside:,} run{'s' * (outside != 1)}, with a loss far from all others." if outside else ""
    return dropped(runs, fit) + apart(fit, "as far off (crosses)") + beyond


def apart(fit: Fit | None, how: str = "as far off") -> str:
    """Which runs were set aside, as a sentence; empty where none were."""
    if fit is None or not fit.set_aside:
        return ""
    more = len(fit.set_aside) - _NAMED
    names = ", ".join(short(one.id) for one in fit.set_aside[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f" Set aside {how}: {names}."


def dropped(runs: Runs, fit: Fit | None) -> str:
    """What never reached a fit, as a sentence; empty where that is nothing."""
    gone = (fit.dropped if fit else ()) or runs.dropped
    return f" Dropped before the fit: {_counted(gone)}." if gone else ""


def few(runs: Runs) -> str:
    """That not every run is drawn, where there are too many."""
    return f" Of {len(runs):,} runs {MOST:,} are drawn, evenly spread." if len(runs) > MOST else ""


def _counted(gone: tuple[Dropped, ...]) -> str:
    """How many rows are gone, with the commonest reasons."""
    groups = account.groups(gone)
    told = "; ".join(f"{group.runs:,} {short(group.reason, 60)}" for group in groups[:_REASONS])
    more = sum(group.runs for group in groups[_REASONS:])
    count = sum(group.runs for group in groups)
    return f"{count:,} row{'s' * (count != 1)} ({told}{f'; {more:,} for other reasons' if more else ''})"


def short(text: str, most: int = 32) -> str:
    """What of a name there is room for."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
