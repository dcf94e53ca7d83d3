"""Where known models stand against each law."""

from isoflop import units
from isoflop.compare import Comparison
from isoflop.report.laws import brief
from isoflop.report.table import Table, nats, row, shown


def table(comparison: Comparison) -> Table:
    """A row a model and law."""
    rows = tuple(
        row(
            s.model.title,
            brief(s.fit),
            units.flops(s.flops),
            units.count(s.model.params),
            units.count(s.params),
            units.count(s.model.tokens),
            units.count(s.tokens),
            nats(s.excess_loss),
            shown("{:.0%}".format, s.compute_factor),
            shown(units.times, s.serving_factor),
            s.verdict,
            muted=s.beyond,
        )
        for s in comparison.rows
    )
    head = (
        "model", "law", "6ND (FLOPs)", "parameters", "optimal parameters", "tokens", "optimal tokens", "excess loss", "compute needed",
        "serving cost (times)", "verdict",
    )  # fmt: skip
    note = (
        "Optimal: at the same compute. Excess loss: nats per token above that optimum, by the law. Compute needed, of what was spent: "
        "by the optimal model of the same loss. Serving cost: how many times larger than that model."
    )
    return Table(title="Known models", head=head, rows=rows, words=frozenset({0, 1, 10}), note=note)
