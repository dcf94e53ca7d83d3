"""Tables of published laws and of plans by them, and the same as values for JSON."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from isoflop import units
from isoflop.laws import Law
from isoflop.plan.data_limits import FUTILE
from isoflop.plan.estimate import Estimate
from isoflop.plan.overtraining import Smaller
from isoflop.plan.question import Answer, Detail
from isoflop.plan.recipe import Recommendation
from isoflop.published import Published
from isoflop.report.table import DASH, Cell, Row, Table, row

# --- laws


def laws(fits: Iterable[Published]) -> Table:
    """Published laws, a row each."""
    rows = tuple(
        row(fit.name, fit.title, exponent(fit, "a"), exponent(fit, "b"), _form(fit), _range(*fit.fitted_flops), _known(fit.confirmed_flops)) for fit in fits
    )
    head = ("name", "law", "a in N_opt \u221d C^a", "b in D_opt \u221d C^b", "form", "fitted on (FLOPs)", "proved at (FLOPs)")
    note = "Exponents and their intervals as printed. `isoflop laws NAME` says all of one: constants, source, counting, corpus, traps."
    return Table(title="Published laws", head=head, rows=rows, words=frozenset({0, 1, 4}), note=note)


def law(fit: Published) -> Table:
    """All of one published law."""
    constants = {name: f"{value:.8g}" for name, value in constants_of(fit.law).items()}
    said: dict[str, str] = {
        "source": fit.source,
        "form": _form(fit),
        "constants": ", ".join(f"{name} {value}" for name, value in constants.items()) or "not printed: exponents only",
        "exponents as printed": f"a {exponent(fit, 'a')}, b {exponent(fit, 'b')}",
        "counting": fit.convention,
        "corpus": fit.corpus,
        "fitted on": f"{_range(*fit.fitted_flops)} FLOPs",
        "proved at": f"{_known(fit.confirmed_flops)} FLOPs",
        **{f"interval of {i.quantity}": f"{i.low:g} to {i.high:g} ({i.level:.0%})" for i in fit.intervals},
        **{f"trap {number}": words for number, words in enumerate(fit.cautions, start=1)},
    }
    rows = tuple(row(name, words) for name, words in said.items())
    return Table(title=f"{fit.name}: {fit.title}", head=("", ""), rows=rows, words=frozenset({0, 1}))


def brief(fit: Published) -> str:
    """A law's title without what comes after the colon."""
    return fit.title.partition(":")[0]


def exponent(fit: Published, name: str) -> Cell:
    """A printed exponent with its printed interval."""
    value = fit.a if name == "a" else fit.b
    found = next((i for i in fit.intervals if i.quantity == name), None)
    return Cell(_plain_number(value), f"{found.low:g} to {found.high:g}" if found else "")


def constants_of(law: Law | None) -> dict[str, float]:
    """The constants of a law by name, what is not set left out."""
    return {name: value for name, value in vars(law or object).items() if isinstance(value, float) and math.isfinite(value)}


# --- plans


def plan(answer: Answer) -> Table:
    """What each law recommends."""
    rows = tuple(
        row(
            brief(e.fit),
            units.flops(e.flops),
            units.count(e.params),
            units.count(e.tokens),
            ratio(e.tokens_per_param),
            nats(e.loss),
            exponent(e.fit, "a"),
            Cell(_reach(e), "beyond its data" if e.outside else ""),
            muted=e.outside,
        )
        for e in answer.estimates.rows
    )
    head = ("law", "FLOPs", "parameters", "tokens", "tokens per parameter", "loss (nats/token)", "a (as printed)", "times its largest run")
    note = "Each law counts parameters as its authors did. A loss is for its authors' text and tokens."
    return Table(title=f"Plan for {answer.estimates.goal}", head=head, rows=rows, note=note)


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
    price = f"${cluster.dollars_per_hour:g} an hour each" + (" (an assumption: give yours with --price)" if cluster.price_is_default else "")
    chip, watts = cluster.accelerator, shown("{:g} W".format, cluster.power)
    note = (
        f"{cluster.mfu:.0%} of {units.flops(chip.peak_flops)} FLOP/s ({chip.precision}, dense), {price}, {watts}, PUE {cluster.pue:g}, "
        f"{cluster.kg_co2_per_kwh:g} kg CO2e a kWh. Source of the rates: {chip.source}."
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
    note = (
        f"Vocabulary {kind.vocab:,}, context {kind.context:,}, {head_of}. "
        "Tokens: what the budget pays for by this shape's own FLOPs, attention and logits included."
    )
    head = ("law", "d_model", "layers", "heads", "of keys", "kv_size", "ffw_size", "parameters in all", "tokens at that shape")
    return Table(title=f"Shape ({kind.family})", head=head, rows=tuple(rows), note=note)


def _recipes(answer: Answer) -> Table:
    rows = [_recipe(d) for d in answer.details if d.recommendation]
    head = ("law", "peak learning rate", "batch (tokens)", "steps", "warm-up (steps)", "schedule", "AdamW betas", "weight decay", "gradient clip")
    first = next((d.recommendation for d in answer.details if d.recommendation), None)
    if first is None:
        return Table(title="Recipe", head=head, rows=())
    cautions = dict.fromkeys(words for d in answer.details if d.recommendation for words in d.recommendation.cautions)
    note = " ".join([f"Sources: {_sources(first)}", *cautions])
    return Table(title=f"Recipe ({first.recipe})", head=head, rows=tuple(rows), words=frozenset({0, 5}), note=note)


def _recipe(detail: Detail) -> Row:
    r = detail.recommendation
    assert r is not None  # only those are asked for
    return row(
        brief(detail.estimate.fit),
        f"{r.lr.value:.2e}",
        units.count(float(r.batch.value)),
        f"{float(r.steps.value):,.0f}",
        f"{float(r.warmup.value):,.0f}",
        str(r.schedule.value),
        f"{r.beta1.value}, {r.beta2.value}",
        str(r.weight_decay.value),
        str(r.clip.value),
    )


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
            f"{life.savings:.1%}",
        )
        for e, life in found
    ]
    asked = shown(units.count, answer.question.inference_tokens or math.nan)
    head = ("law", "parameters", "tokens", "tokens per parameter", "loss (nats/token)", "training FLOPs", "inference FLOPs", "saved in all")
    note = "The model of least FLOPs in training and inference together that reaches the loss of the compute-optimal one (Sardana et al. 2024)."
    return Table(title=f"With {asked} tokens of inference", head=head, rows=tuple(rows), note=note)


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
        "loss (nats/token)",
        "lost to repetition",
        "free up to (FLOPs)",
        "futile from (FLOPs)",
    )
    epochs = next((d.data.half_worth_epochs for d in answer.details if d.data), math.nan)
    worn = f"A repeated token is worth half a new one after {epochs:.0f} epochs, and parameters beyond what the unique tokens need wear out too"
    note = f"{worn} (Muennighoff et al. 2023). Free: the best model reads nothing twice. Futile: doubling the budget buys less than {FUTILE:g} nats."
    return Table(title=f"With {asked} unique tokens", head=head, rows=tuple(rows), note=note)


# --- values


def laws_json(fits: Iterable[Published]) -> list[dict[str, object]]:
    """Published laws with all that is known of them."""
    return [
        {**{k: v for k, v in values(fit).items() if k != "law"}, "form": _form(fit), "constants": constants_of(fit.law)}  # type: ignore[attr-defined]
        for fit in fits
    ]


def plan_json(answer: Answer) -> list[dict[str, object]]:
    """One object a law; what was asked besides is in `training`, `shape`, `recipe`, `inference`, `smaller` and `data`."""
    return [_estimate_json(d.estimate) | _detail_json(answer, d) for d in answer.details]


def _estimate_json(e: Estimate) -> dict[str, object]:
    return {
        "law": e.fit.name,
        "flops": e.flops,
        "params": e.params,
        "tokens": e.tokens,
        "tokens_per_param": e.tokens_per_param,
        "loss": values(e.loss),
        "interval": values(e.interval),
        "reach": values(e.reach),
        "outside": e.outside,
        "source": e.fit.source,
    }


def _detail_json(answer: Answer, d: Detail) -> dict[str, object]:
    asked = answer.question
    found: dict[str, object] = {}
    if asked.cluster is not None:
        found["training"] = {"bill": values(d.bill), "fewest_to_train": values(d.to_train), "fewest_to_serve": values(d.to_serve)}
    if d.training is not None:
        found["memory"] = {"training": values(d.training), "activations": values(d.activations), "serving": values(d.serving)}
    if d.shape is not None:
        found["shape"] = d.shape.model_dump() | {"params": d.shape.params.total}
        found["recipe"] = values(d.recommendation)
    if asked.inference_tokens is not None:
        found["inference"] = values(d.lifetime)
    if asked.smaller:
        found["smaller"] = values(d.smaller)
    if asked.unique_tokens is not None:
        found["data"] = values(d.data)
    return found


def values(value: object) -> object:
    """Nested frozen values as JSON has them; what is not finite is null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case Mapping():
            return {key: values(v) for key, v in value.items()}
        case Sequence():
            return [values(v) for v in value]
        case _ if dataclasses.is_dataclass(value):
            return {f.name: values(getattr(value, f.name)) for f in dataclasses.fields(value)}
        case _:
            return float(value) if hasattr(value, "__float__") else str(value)


# --- words


def nats(value: float) -> str:
    """Loss with three decimals; a dash where nothing is known."""
    return f"{value:.3f}" if math.isfinite(value) else DASH


def shown(print_: Callable[[float], str], value: float) -> str:
    """A number as `print_` prints it; a dash where it is not known."""
    return print_(value) if math.isfinite(value) else DASH


def ratio(value: float) -> str:
    """Tokens per parameter."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def _form(fit: Published) -> str:
    return DASH if fit.law is None else type(fit.law).__module__.rpartition(".")[2]


def _range(low: float, high: float) -> str:
    if not (math.isfinite(low) or math.isfinite(high)):
        return "not printed"
    return f"{_known(low)} to {_known(high)}"


def _known(flops: float) -> str:
    return units.flops(flops) if math.isfinite(flops) else DASH


def _plain_number(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else shown("{:.3f}".format, value)


def _reach(e: Estimate) -> str:
    return units.times(e.reach) if math.isfinite(e.reach) else DASH
