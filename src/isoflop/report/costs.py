"""Tables of what one shape costs: parameters by group, FLOPs a token by convention, memory."""

from isoflop import arch, units
from isoflop.arch import BACKWARD, CONVENTIONS, FLOP_CONVENTIONS, Shape
from isoflop.report.table import Table, row


def tables(shape: Shape) -> tuple[Table, ...]:
    """All that is counted of a shape."""
    return _params(shape), _flops(shape), _memory(shape)


def values(shape: Shape) -> dict[str, object]:
    """The same for JSON: counts, FLOPs a token, bytes."""
    training, serving = arch.training_memory(shape, recompute="full"), arch.serving_memory(shape)
    kept = arch.activations(shape)
    return {
        "shape": shape.model_dump(),
        "params": shape.params.model_dump() | {name: shape.params.count(name) for name in CONVENTIONS},
        "flops_per_token": {
            name: {"parts": dict(found.parts), "forward": found.forward, "training": found.training}
            for name, found in ((name, arch.flops(shape, name)) for name in FLOP_CONVENTIONS)
        },
        "bytes": {
            "weights": training.weights,
            "gradients": training.gradients,
            "optimizer": training.optimizer,
            "activations": {"none": kept.none, "selective": kept.selective, "full": kept.full},
            "kv_cache": serving.kv_cache,
        },
    }


def _params(shape: Shape) -> Table:
    groups = shape.params.model_dump()
    total = shape.params.total
    rows = [row(name.replace("_", " "), units.count(count), f"{count / total:.1%}") for name, count in groups.items() if count]
    rows += [row(f"{name}: {words}", units.count(shape.params.count(name)), f"{shape.params.count(name) / total:.1%}") for name, words in CONVENTIONS.items()]
    heads = f"{shape.n_heads} heads of {shape.kv_size}" + (f", {shape.kv_heads} of keys and values" if shape.n_kv_heads else "")
    title = f"Parameters: {shape.arch}, {shape.n_layers} layers, {shape.d_model} wide, {heads}, feed-forward {shape.ffw_size}, vocabulary {shape.vocab:,}"
    return Table(title=title, head=("group or convention", "parameters", "of all"), rows=tuple(rows))


def _flops(shape: Shape) -> Table:
    found = {name: arch.flops(shape, name) for name in FLOP_CONVENTIONS}
    rows = [
        row(f"{name}: {FLOP_CONVENTIONS[name]}", units.flops(f.forward), units.flops(f.training), f"{f.training / (6 * shape.params.total):.2f}")
        for name, f in found.items()
    ]
    rows += [row(part.replace("_", " "), units.flops(value), units.flops((1 + BACKWARD) * value), "") for part, value in found["module"].parts.items() if value]
    return Table(
        title=f"FLOPs a token, context {shape.context:,}", head=("convention, or part of the first", "forward", "training", "times 6N"), rows=tuple(rows)
    )


def _memory(shape: Shape) -> Table:
    training, serving, kept = arch.training_memory(shape, recompute="full"), arch.serving_memory(shape), arch.activations(shape)
    said = {
        "weights, bf16": training.weights,
        "gradients, bf16": training.gradients,
        "AdamW: float32 copy and two moments": training.optimizer,
        "activations of one sequence, all kept": kept.none,
        "the same, attention weights made anew": kept.selective,
        "the same, layers made anew": kept.full,
        "keys and values of one whole context, bf16": serving.kv_cache,
    }
    rows = tuple(row(name, units.size(value)) for name, value in said.items())
    return Table(title="Memory of the whole model", head=("of what", "bytes"), rows=rows)
