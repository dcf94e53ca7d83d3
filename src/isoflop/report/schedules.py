"""What one learning-rate schedule for all lengths does to the exponent: the same grid, trained both ways."""

import math

from isoflop.fit import Fit
from isoflop.published import kaplan
from isoflop.report.fits import both, edges
from isoflop.report.table import Cell, Table, row, shown


def table(matched: Fit, overlong: Fit, *, level: float) -> Table:
    """The exponents of a grid trained on schedules that end with each run, and on one schedule for all."""
    ways = {"a schedule that ends with each run": matched, "one schedule for all lengths": overlong}
    rows = [row(way, *(Cell(shown("{:.3f}".format, value), edges(*ends, "{:.3f}".format)) for value, ends in both(fit, level))) for way, fit in ways.items()]
    rows.append(row("Kaplan et al. 2020, one schedule", f"{kaplan.A_EXPONENT}", f"{kaplan.B_EXPONENT}", muted=True))
    return Table(
        title="What the schedule does to the exponents (Approach 2)",
        head=("learning rate", "a in N_opt \u221d C^a", "b in D_opt \u221d C^b"),
        rows=tuple(rows),
        note=f"Ranges: {level * 100:g} % intervals. {sentence(matched, overlong, level=level)}",
    )


def sentence(matched: Fit, overlong: Fit, *, level: float) -> str:
    """Which way the exponent is bent, if it is."""
    (own, inside), (one, other) = both(matched, level)[0], both(overlong, level)[0]
    if inside[0] <= one <= inside[1] or other[0] <= own <= other[1]:
        return f"One schedule for all lengths gives a = {one:.2f}, where matched ones give {own:.2f}: no more apart than chance allows here."
    if not all(map(math.isfinite, (*inside, *other))):
        return f"One schedule for all lengths gives a = {one:.2f}, where matched ones give {own:.2f}; without intervals of both, that may be chance."
    way = "larger" if one > own else "smaller"
    return (
        f"Runs that stop before their rate has come down, or soon after the warm-up, look worse than they are: one schedule for all "
        f"lengths gives a = {one:.2f} where matched ones give {own:.2f}, and so would have {way} models trained on {'fewer' if one > own else 'more'} tokens."
    )
