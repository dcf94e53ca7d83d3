"""Tables for the page and the terminal: finished results in words and figures."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from isoflop import units
from isoflop.arch import Convention, Shape
from isoflop.fit import APPROACHES, Fit
from isoflop.plan import Plan
from isoflop.published import kaplan
from isoflop.report import contenders
from isoflop.report.answer import between
from isoflop.report.table import DASH, Cell, Row, Table, nats, row
from isoflop.runs import RunSpec
from isoflop.validate import Validation

NAMES: Mapping[str, str] = {
    "envelope": "1. Training curve envelope",
    "isoflop": "2. IsoFLOP profiles",
    "parametric": "3. Parametric loss",
    "forecast": "By hold-out",
}
_RANGES = "Ranges: 10th to 90th percentile of resampled fits; of the loss: for one new run."


def design(specs: Sequence[RunSpec], *, train_tokens: int, seconds: Mapping[str, float], left: Collection[str]) -> Table:
    """Show what a design will train, a row a budget; time on one core, for the runs that are left and whose seconds are given."""

    def time_of(cells: Sequence[RunSpec]) -> str:
        times = [seconds.get(spec.id) for spec in cells if spec.id in left]
        if not times:
            return "trained"
        return DASH if None in times else units.duration(sum(filter(None, times)))

    rows = []
    for budget in sorted({spec.budget for spec in specs}):
        cells = [spec for spec in specs if spec.budget == budget]
        params, tokens = sorted(spec.shape.params.total for spec in cells), sorted(spec.tokens for spec in cells)
        sizes = ", ".join(str(d) for d in sorted({spec.shape.d_model for spec in cells}))
        rows.append(
            row(
                units.flops(budget), str(len(cells)), sizes, counts(params[0], params[-1]), counts(tokens[0], tokens[-1]), f"{tokens[-1] / train_tokens:.2g}",
                units.flops(sum(spec.flops for spec in cells)), time_of(cells),
            )
        )  # fmt: skip
    rows.append(row("all", str(len(specs)), "", "", "", "", units.flops(sum(s.flops for s in specs)), time_of(specs)))
    head = ("budget (FLOPs)", "runs", "widths (d_model)", "parameters", "tokens", "epochs, at most", "FLOPs", "core time")
    return Table(title="Design", head=head, rows=tuple(rows), words=frozenset({0, 2}))


def approaches(fits: Iterable[Fit], plans: Iterable[Plan], left_out: Iterable[tuple[str, str]] = ()) -> Table:
    """Exponents as in Hoffmann et al. 2022, Table 2, and each approach's recommendation at the target."""
    by_fit, by_plan, missing = {f.approach: f for f in fits}, {p.approach: p for p in plans}, dict(left_out)
    rows = [_approach_row(by_fit[name], by_plan.get(name)) for name in APPROACHES if name in by_fit]
    rows += [row(NAMES.get(name, name), *[DASH] * 5, "could not be fitted", muted=True) for name in missing]
    if "forecast" in by_plan:
        convention = next(iter(by_fit.values())).convention
        rows.append(row(NAMES["forecast"], DASH, DASH, *_recommended(by_plan["forecast"], convention)))
    rows.append(row("Kaplan et al. 2020", f"{kaplan.A_EXPONENT}", f"{kaplan.B_EXPONENT}", DASH, DASH, DASH, DASH, muted=True))
    return Table(
        title="The three approaches",
        head=("approach", "a in N_opt \u221d C^a", "b in D_opt \u221d C^b", "parameters", "tokens", "loss (nats/token)", "nearest real shape"),
        rows=tuple(rows),
        words=frozenset({0, 6}),
        note=f"{_RANGES} Hoffmann et al. 2022 found a = 0.50, 0.49 and 0.46 by Approaches 1 to 3 (their Table 2).",
    )


def plans(items: Iterable[Plan]) -> Table:
    """What each approach recommends for one budget."""
    rows = tuple(
        row(
            NAMES[p.approach],
            units.flops(p.flops),
            Cell(units.count(p.params), counts(*p.params_interval)),
            Cell(units.count(p.tokens), counts(*p.tokens_interval)),
            f"{p.tokens_per_param:.0f}",
            Cell(nats(p.loss), between(*p.loss_interval)),
            shape(p.shape),
            units.count(p.shape_tokens),
        )
        for p in items
    )
    head = ("approach", "FLOPs", "parameters", "tokens", "tokens per parameter", "loss (nats/token)", "nearest real shape", "tokens at that shape")
    return Table(title="Plan", head=head, rows=rows, words=frozenset({0, 6}), note=_RANGES)


def proof(validation: Validation) -> Table:
    """What the models of the proof reached, best first."""
    rows = []
    for c in validation.contenders:
        record, params = c.record, c.record.params.total
        rows.append(
            row(
                contenders.row(validation, c.label),
                shape(record.spec.shape),
                units.count(params),
                units.count(record.tokens),
                f"{record.tokens / params:.0f}",
                units.flops(record.flops),
                record.status if record.loss is None else nats(record.loss),
                DASH if record.bits_per_byte is None else nats(record.bits_per_byte),
                nats(c.predicted),
                _off(record.loss, c.predicted),
                muted=record.loss is None,
            )
        )
    head = ("model", "shape", "parameters", "tokens", "tokens per parameter", "FLOPs", "loss (nats/token)", "bits per byte", "Approach 3 expected", "off by")
    return Table(title="Measured", head=head, rows=tuple(rows), words=frozenset({0, 1}), note="Parameters are counted in all, embeddings included.")


def minima(fit: Fit) -> Table:
    """The minimum of each IsoFLOP profile (Approach 2)."""
    rows = []
    for p in fit.profiles:
        optimum = (units.count(p.params_opt), units.count(p.tokens_opt), f"{p.tokens_opt / p.params_opt:.0f}", nats(p.loss_opt)) if p.interior else (DASH,) * 4
        used = f"{int(p.used.sum())} of {p.params.size}"
        rows.append(row(units.flops(p.flops), used, *optimum, "yes" if p.interior else "no", p.note, muted=not p.interior))
    head = ("budget (FLOPs)", "sizes used", "best parameters", "on tokens", "tokens per parameter", "loss (nats/token)", "minimum inside", "note")
    return Table(title="Minima of the IsoFLOP profiles", head=head, rows=tuple(rows), words=frozenset({0, 6, 7}))


RUN_COLUMNS = (
    "id",
    "group",
    "budget",
    "d_model",
    "n_layers",
    "params",
    "tokens",
    "epochs",
    "batch",
    "lr",
    "seed",
    "loss",
    "bits_per_byte",
    "seconds",
    "status",
    "reason",
)
_RUN_HEADS = (
    "run",
    "group",
    "budget (FLOPs)",
    "d_model",
    "layers",
    "parameters",
    "tokens",
    "epochs",
    "batch",
    "peak LR",
    "seed",
    "loss",
    "bits/byte",
    "time",
    "status",
)


def runs(rows: Sequence[Mapping[str, object]]) -> Table:
    """Runs, finished or not, from the rows that `export.row` makes."""
    made = []
    for run in rows:
        status, reason = str(run["status"]), str(run["reason"] or "")
        cells = [_shown(name, run[name]) for name in RUN_COLUMNS[:-2]]
        made.append(row(*cells, f"{status}: {reason}" if reason else status, muted=status != "ok"))
    return Table(title="Runs", head=_RUN_HEADS, rows=tuple(made), words=frozenset({0, 1, 14}))


def shape(value: Shape) -> str:
    """A shape in a line."""
    return f"{value.arch}, {value.d_model} wide, {value.n_layers} deep, {value.n_heads} heads"


def counts(low: float, high: float) -> str:
    """An interval of counts; empty where there is none."""
    return f"{units.count(low)} to {units.count(high)}" if math.isfinite(low) and math.isfinite(high) else ""


def _off(loss: float | None, predicted: float) -> str:
    if loss is None or not math.isfinite(predicted):
        return DASH
    return f"{100 * (loss / predicted - 1):+.1f} %".replace("-", "\u2212")


def _approach_row(fit: Fit, plan: Plan | None) -> Row:
    name = NAMES[fit.approach]
    a = Cell(f"{fit.law.a:.2f}", _percentiles(*fit.interval(lambda law: law.a)))
    b = Cell(f"{fit.law.b:.2f}", _percentiles(*fit.interval(lambda law: law.b)))
    return row(name, a, b, *([DASH] * 4 if plan is None else _recommended(plan, fit.convention)))


def _recommended(plan: Plan, convention: Convention) -> tuple[Cell, ...]:
    """Params, tokens, loss and the nearest real shape."""
    real = f"{units.count(plan.shape.params.count(convention))} on {units.count(plan.shape_tokens)} tokens"
    return (
        Cell(units.count(plan.params), counts(*plan.params_interval)),
        Cell(units.count(plan.tokens), counts(*plan.tokens_interval)),
        Cell(nats(plan.loss), between(*plan.loss_interval)),
        Cell(real, shape(plan.shape)),
    )


def _percentiles(low: float, high: float) -> str:
    return f"{low:.2f}, {high:.2f}" if math.isfinite(low) and math.isfinite(high) else ""


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "budget": units.flops,
    "params": units.count,
    "tokens": units.count,
    "epochs": "{:.2f}".format,
    "lr": "{:.2e}".format,
    "loss": "{:.4f}".format,
    "bits_per_byte": "{:.4f}".format,
    "seconds": units.duration,
}


def _shown(name: str, value: object) -> str:
    if value is None:
        return DASH
    return _FORMATS[name](value) if name in _FORMATS and isinstance(value, int | float) else str(value)
