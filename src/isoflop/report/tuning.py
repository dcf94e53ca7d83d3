"""What a search for the learning rate found: a row a size, a column a rate."""

from isoflop import units
from isoflop.report.table import DASH, Cell, Table, nats, row
from isoflop.tune import Found, Tuning


def table(tuning: Tuning) -> Table:
    """Losses by rate over the recipe's, and the best rate."""
    times = sorted({rate for found in tuning.sizes for rate in found.losses})
    head = ("budget (FLOPs)", "width", "parameters", *(f"x {rate:.3g}" for rate in times), "best", "peak rate")
    rows = tuple(
        row(
            units.flops(found.site.budget),
            str(found.site.shape.d_model),
            units.count(found.site.shape.params.total),
            *(_loss(found, rate) for rate in times),
            Cell(f"x {2.0**found.best.rate:.3g}", f"{2.0 ** (found.best.rate - found.best.error):.3g} to {2.0 ** (found.best.rate + found.best.error):.3g}"),
            f"{found.lr_best:.3g}",
        )
        for found in tuning.sizes
    )
    note = "Losses in nats per token, by the peak learning rate over the recipe's. Best: the vertex of a parabola in the log of the rate; one standard error."
    return Table(title="Learning rate", head=head, rows=rows, words=frozenset(), note=note)


def sentence(tuning: Tuning) -> str:
    """What goes into the study, and why."""
    trend, found = tuning.trend, tuning.sizes
    low, high = (2.0 ** (trend.rate + side * trend.error) for side in (-1, 1))
    said = f"The best rate is {2.0**trend.rate:.3g} times the recipe's ({low:.3g} to {high:.3g}) in the middle of the widths tried, {trend.width:.4g}"
    largest, target = max(one.site.budget for one in found), tuning.study.target
    caution = f"Measured at up to {units.flops(largest)} FLOPs; the target is {target / largest:.3g} times that, and a rate may want to fall with the budget."
    if trend.power:
        return f"{said}, and changes with the width to the power {trend.power:+.2g} (give or take {trend.power_error:.1g}) beside the recipe's own. {caution}"
    widths = " and ".join(str(one.site.shape.d_model) for one in found)
    return f"{said}. Between widths {widths} no trend is clear beside the recipe's own (a power's standard error is {trend.power_error:.1g}). {caution}"


def values(tuning: Tuning) -> dict[str, object]:
    """The same as JSON has it."""
    return {
        "sizes": [
            {
                "budget": found.site.budget,
                "d_model": found.site.shape.d_model,
                "params": found.site.shape.params.total,
                "runs": [{"lr": found.lr * rate, "lr_over_recipe": rate, "loss": loss} for rate, loss in found.losses.items()],
                "lr_best": found.lr_best,
                "lr_one_standard_error": found.lr_interval,
            }
            for found in tuning.sizes
        ],
        "recipe": tuning.recipe.model_dump(),
        "flops": tuning.flops,
    }


def _loss(found: Found, rate: float) -> str:
    loss = found.losses.get(rate, 0.0)
    if rate not in found.losses:
        return DASH
    return "diverged" if loss is None else nats(loss)
