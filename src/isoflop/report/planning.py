"""Tables of plans by published laws, or by a study's own asked as if they were."""

import dataclasses
import math
from collections.abc import Callable, Iterable

from isoflop import units
from isoflop.plan.data_limits import FUTILE
from isoflop.plan.estimate import Estimate
from isoflop.plan.hardware import bill
from isoflop.plan.overtraining import Smaller
from isoflop.plan.question import NATS, Answer
from isoflop.plan.recipe import Recommendation
from isoflop.report.laws import brief, exponent
from isoflop.report.table import DASH, Cell, Row, Table, nats, ratio, row, shown


def plan(answer: Answer) -> Table:
    """What each law recommends."""
    rows = tuple(
        row(
            brief(e.fit),
            units.flops(e.flops),
            Cell(units.count(e.params), _between(e, "params", units.count)),
            Cell(units.count(e.tokens), _between(e, "tokens", units.count)),
            ratio(e.tokens_per_param),
            Cell(nats(e.loss), _between(e, "loss", nats)),
            exponent(e.fit, "a"),
            Cell(shown(units.times, e.reach), _backed(e)),
            muted=e.outside,
        )
        for e in answer.estimates.rows
    )
    head = ("law", "FLOPs", "parameters", "tokens", "tokens per parameter", _loss_head(answer), "a in N_opt \u221d C^a", "times its largest run")
    note = (
        "Each law counts parameters as its authors did. A loss is for its authors' text and tokens. Ranges of a are as printed; `isoflop laws NAME` says more."
    )
    if all(e.fit.spread for e in answer.estimates.rows):
        note = "By your own runs, counted as they are. Ranges are 80 % intervals; of the loss, for one new run."
    elif answer.question.unit != NATS:
        note = f"Losses of your own fits are in {answer.question.unit}; those of published laws in {NATS}. {note}"
    return Table(title=f"Plan for {answer.estimates.goal}", head=head, rows=rows, note=note)


def _loss_head(answer: Answer) -> str:
    unit = answer.question.unit
    return "loss (nats/token)" if unit == NATS else f"loss ({unit})"


def _between(e: Estimate, quantity: str, print_: Callable[[float], str]) -> str:
    found = e.interval_of(quantity)
    return f"{print_(found.low)} to {print_(found.high)}" if found else ""


def _backed(e: Estimate) -> str:
    """How a budget beyond a law's data is to be taken."""
    if e.outside:
        return "beyond its data"
    return f"tested at {units.flops(e.fit.confirmed_flops)}" if e.reach > 1 and e.fit.confirmed_flops > e.fit.fitted_flops[1] else ""


def details(answer: Answer) -> tuple[Table, ...]:
    """What else was asked, a table each."""
    tables = (_training(answer), _memory(answer), _shapes(answer), _recipes(answer), _lifetimes(answer), *_smaller(answer), _data(answer))
    return tuple(table for table in tables if table.rows)


def _training(answer: Answer) -> Table:
    cluster = answer.question.cluster
    rows = [
        row(
            brief(d.estimate.fit),
            units.duration(d.bill.seconds),
            f"{units.count(d.bill.accelerator_hours)} h",
            units.dollars(d.bill.dollars),
            shown(units.energy, d.bill.kwh),
            shown(units.mass, d.bill.kg_co2),
            units.size(d.to_train.sharded_bytes),
            str(d.to_train.count),
            str(d.to_serve.count),
        )
        for d in answer.details
        if d.bill and d.to_train and d.to_serve
    ]
    head = ("law", "time", "accelerator time", "cost", "energy", "CO2e", "weights, gradients, optimiser", "fewest to train on", "fewest to serve on")
    if cluster is None:
        return Table(title="Training", head=head, rows=())
    price = f"{units.dollars(cluster.dollars_per_hour)} an hour each" + (" (an assumption: give yours with --price)" if cluster.price_is_default else "")
    chip, watts = cluster.accelerator, shown("{:g} W".format, cluster.power)
    note = (
        f"{cluster.mfu:.0%} of {units.flops(chip.peak_flops)} FLOP/s ({chip.precision}, dense), {price}, {watts}, PUE {cluster.pue:g}, "
        f"{cluster.kg_co2_per_kwh:g} kg CO2e a kWh; power is the boards' alone. "
        "Fewest: states sharded over all, one sequence at a time on each, layers made anew. "
        f"Source of the rates: {chip.source}."
    )
    return Table(title=f"Training on {cluster.count:,} x {chip.title}", head=head, rows=tuple(rows), note=note)


def _memory(answer: Answer) -> Table:
    rows = [
        row(
            brief(d.estimate.fit),
            units.size(d.training.weights),
            units.size(d.training.gradients),
            units.size(d.training.optimizer),
            units.size(d.activations.none),
            units.size(d.activations.selective),
            units.size(d.activations.full),
            units.size(d.serving.kv_cache),
        )
        for d in answer.details
        if d.training and d.activations and d.serving
    ]
    head = ("law", "weights", "gradients", "optimiser", "activations", "attention made anew", "layers made anew", "KV cache of a context")
    note = (
        "Mixed-precision AdamW: bf16 weights and gradients, float32 copy and two moments (Rajbhandari et al. 2020). Activations: of one sequence, all kept, "
        "with selective and with full recomputation (Korthikanti et al. 2022)."
    )
    return Table(title="Memory of the whole model", head=head, rows=tuple(rows), note=note)


def _shapes(answer: Answer) -> Table:
    rows = [
        row(
            brief(d.estimate.fit),
            str(d.shape.d_model),
            str(d.shape.n_layers),
            str(d.shape.n_heads),
            str(d.shape.kv_heads),
            str(d.shape.kv_size),
            str(d.shape.ffw_size),
            units.count(d.shape.params.total),
            units.count(d.estimate.flops / d.shape.flops_per_token.training),
        )
        for d in answer.details
        if d.shape
    ]
    kind = answer.question.kind
    if kind is None:
        return Table(title="Shape", head=(), rows=())
    head_of = "the output head is the embedding" if kind.tied else "an output head of its own"
    ffw = "8/3 of the width in multiples of 256, as LLaMA (Touvron et al. 2023)" if kind.family == "llama" else "4 times the width"
    note = (
        f"Width, depth and heads as in Hoffmann et al. 2022, Table A9; feed-forward {ffw}. Vocabulary {kind.vocab:,}, context {kind.context:,}, {head_of}. "
        "Tokens: what the budget pays for by this shape's own FLOPs, attention and logits included."
    )
    head = ("law", "d_model", "layers", "heads", "of keys", "kv_size", "ffw_size", "parameters in all", "tokens at that shape")
    return Table(title=f"Shape ({kind.family})", head=head, rows=tuple(rows), note=note)


def _recipes(answer: Answer) -> Table:
    found = [(d.estimate, d.recommendation) for d in answer.details if d.recommendation]
    head = ("law", "peak learning rate", "batch (tokens)", "steps", "warm-up (steps)")
    if not found:
        return Table(title="Recipe", head=head, rows=())
    rows = tuple(
        row(brief(e.fit), f"{r.lr.value:.2e}", units.count(float(r.batch.value)), f"{float(r.steps.value):,.0f}", f"{float(r.warmup.value):,.0f}")
        for e, r in found
    )
    first = found[0][1]
    fixed = f"Schedule: {first.schedule.value}. AdamW with betas {first.beta1.value} and {first.beta2.value}, weight decay {first.weight_decay.value}"
    note = " ".join([f"{fixed}, gradients clipped at {first.clip.value}. By {first.source}: {_sources(first)}", *first.cautions])
    return Table(title=f"Recipe ({first.recipe})", head=head, rows=rows, note=note)


def _sources(recommendation: Recommendation) -> str:
    by_source: dict[str, list[str]] = {}
    for field in dataclasses.fields(recommendation):
        setting = getattr(recommendation, field.name)
        if hasattr(setting, "source"):
            by_source.setdefault(setting.source, []).append(field.name.replace("_", " "))
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items()) + "."


def _lifetimes(answer: Answer) -> Table:
    found = [(d.estimate, d.lifetime) for d in answer.details if d.lifetime]
    rows = [
        row(
            brief(e.fit),
            Cell(units.count(life.best.params), f"{units.count(life.baseline.params)} without"),
            Cell(units.count(life.best.tokens), f"{units.count(life.baseline.tokens)} without"),
            ratio(life.best.tokens_per_param),
            nats(life.loss),
            units.flops(life.best.training_flops),
            units.flops(life.best.inference_flops),
            *_cost(answer, life.best.total, life.baseline.total),
            f"{life.savings:.1%}",
        )
        for e, life in found
    ]
    asked, price = shown(units.count, answer.question.inference_tokens or math.nan), found[0][1].price if found else 1.0
    cost = () if answer.question.cluster is None else ("training and serving cost",)
    head = ("law", "parameters", "tokens", "tokens per parameter", _loss_head(answer), "training FLOPs", "inference FLOPs", *cost, "saved in all")
    worse = "as cheap as one of training; give --inference-mfu" if price == 1 else f"as dear as {units.times(price)} of training"
    note = (
        "The cheapest model, in training and inference together, that reaches the loss of the compute-optimal one (Sardana et al. 2024). "
        f"A FLOP of inference is {worse}."
    )
    return Table(title=f"With {asked} tokens of inference", head=head, rows=tuple(rows), note=note)


def _cost(answer: Answer, best: float, baseline: float) -> tuple[Cell, ...]:
    """Dollars of FLOPs of training, where the hardware is known."""
    cluster = answer.question.cluster
    return () if cluster is None else (Cell(units.dollars(bill(best, cluster).dollars), f"{units.dollars(bill(baseline, cluster).dollars)} without"),)


def _smaller(answer: Answer) -> Iterable[Table]:
    head = ("size", "parameters", "tokens", "tokens per parameter", "training FLOPs", "more training", "serving cost", "pays from (tokens served)")
    note = (
        "At the loss of the compute-optimal model; a token of fine-tuning costs as much less as one of serving. "
        "It pays from as many tokens served as make up for the longer training."
    )
    for d in answer.details:
        rows = [_smaller_row(s) for s in d.smaller]
        yield Table(title=f"Smaller than optimal, by {brief(d.estimate.fit)}", head=head, rows=tuple(rows), note=note)


def _smaller_row(s: Smaller) -> Row:
    size, params, serving = f"{s.scale:.1%}", units.count(s.params), f"{s.serving:.1%}"
    if not s.reachable:
        return row(size, params, "never", DASH, DASH, DASH, serving, DASH, muted=True)
    pays = units.count(s.break_even_tokens) if s.scale < 1 else DASH
    return row(size, params, units.count(s.tokens), ratio(s.tokens_per_param), units.flops(s.flops), f"{s.overhead:+.1%}", serving, pays)


def _data(answer: Answer) -> Table:
    rows = [
        row(
            brief(d.estimate.fit),
            units.count(d.data.params),
            units.count(d.data.tokens),
            f"{d.data.epochs:.2f}",
            f"{d.data.token_worth:.0%}",
            nats(d.data.loss),
            f"{d.data.penalty:.4f}",
            units.flops(d.data.exhausted_flops),
            units.flops(d.data.futile_flops),
        )
        for d in answer.details
        if d.data
    ]
    asked = shown(units.count, answer.question.unique_tokens or math.nan)
    head = (
        "law",
        "parameters",
        "tokens",
        "epochs",
        "worth of the last token",
        _loss_head(answer),
        "lost to repetition",
        "free up to (FLOPs)",
        "futile from (FLOPs)",
    )
    epochs = next((d.data.half_worth_epochs for d in answer.details if d.data), math.nan)
    unit = answer.question.unit.partition(" ")[0]
    worn = f"A repeated token is worth half a new one after {epochs:.0f} epochs, and parameters beyond what the unique tokens need wear out too"
    note = f"{worn} (Muennighoff et al. 2023). Free: the best model reads nothing twice. Futile: doubling the budget buys less than {FUTILE:g} {unit}."
    return Table(title=f"With {asked} unique tokens", head=head, rows=tuple(rows), note=note)
