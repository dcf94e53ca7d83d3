"""Where known models stand against each law: the table, and the same as values for JSON."""

from isoflop import units
from isoflop.compare import Comparison, Standing
from isoflop.report import planning
from isoflop.report.table import Table, row


def table(comparison: Comparison) -> Table:
    """A row a model and law."""
    rows = tuple(
        row(
            s.model.title,
            s.fit.title,
            units.flops(s.flops),
            units.count(s.model.params),
            units.count(s.params),
            units.count(s.model.tokens),
            units.count(s.tokens),
            planning.nats(s.excess_loss),
            planning.shown("{:.0%}".format, s.compute_factor),
            planning.shown(units.times, s.serving_factor),
            s.verdict,
            muted=s.beyond,
        )
        for s in comparison.rows
    )
    head = (
        "model", "law", "6ND (FLOPs)", "parameters", "optimal", "tokens", "optimal", "excess loss", "compute needed", "serving cost (times)", "verdict",
    )  # fmt: skip
    note = (
        "Optimal: at the same compute. Excess loss: nats per token above that optimum, by the law. Compute needed, of what was spent: "
        "by the optimal model of the same loss. Serving cost: how many times larger than that model."
    )
    return Table(title="Known models", head=head, rows=rows, words=frozenset({0, 1, 10}), note=note)


def values(comparison: Comparison) -> list[dict[str, object]]:
    """One object a model and law; null is not known."""
    return [_values(s) for s in comparison.rows]


def _values(s: Standing) -> dict[str, object]:
    numbers = {
        "flops": s.flops,
        "params": s.model.params,
        "tokens": s.model.tokens,
        "tokens_per_param": s.model.tokens_per_param,
        "optimal_params": s.params,
        "optimal_tokens": s.tokens,
        "size_factor": s.size_factor,
        "tokens_factor": s.tokens_factor,
        "loss": s.model_loss,
        "optimal_loss": s.loss,
        "excess_loss": s.excess_loss,
        "matched_flops": s.matched_flops,
        "matched_params": s.matched_params,
        "compute_factor": s.compute_factor,
        "serving_factor": s.serving_factor,
        "reach": s.reach,
    }
    plain = {name: planning.values(float(value)) for name, value in numbers.items()}
    return {"model": s.model.name, "law": s.fit.name, **plain, "beyond": s.beyond, "verdict": s.verdict, "source": s.model.source}
