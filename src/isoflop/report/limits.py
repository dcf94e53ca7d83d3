"""How far the runs let Approach 3 go, by its resamples and by profile likelihood."""

import math
from collections.abc import Callable, Sequence

from isoflop import units
from isoflop.fit.limits import Limits
from isoflop.report.fits import edges, short
from isoflop.report.table import DASH, Row, Table, row


def table(limits: Sequence[Limits], *, unit: str, level: float) -> Table:
    """A row a quantity.

    Args:
        limits: Of one fit.
        unit: Of the loss.
        level: Of the intervals.
    """
    return Table(
        title="Approach 3 by profile likelihood",
        head=("", "best", "by resamples", "by profile likelihood"),
        rows=tuple(_row(entry, unit) for entry in limits),
        note=f"Ranges: {level * 100:g} % intervals; of the loss, for the law itself and not for one new run. By profile likelihood: as far as the runs let "
        "it go, all else fitted anew.",
    )


def _row(entry: Limits, unit: str) -> Row:
    print_: Callable[[float], str] = units.count if entry.quantity == "params_opt" else "{:.3f}".format
    return row(_name(entry, unit), print_(entry.value), edges(*entry.by_resamples, print_) or DASH, _allowed(*entry.by_profile, print_))


def _name(entry: Limits, unit: str) -> str:
    if entry.flops is None:
        return entry.quantity
    at = f"at {units.flops(entry.flops)} FLOPs"
    return f"best parameters {at}" if entry.quantity == "params_opt" else f"best loss {at} ({short(unit)})"


def _allowed(low: float, high: float, print_: Callable[[float], str]) -> str:
    """An interval whose ends may be no limits, in words where they are none."""
    match low > 0, high < math.inf:
        case True, True:
            return edges(low, high, print_)
        case False, True:
            return f"{print_(high)} or less"
        case True, False:
            return f"{print_(low)} or more"
        case _:
            return "no limit found"
