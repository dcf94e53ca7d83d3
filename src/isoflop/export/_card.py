"""The model card: what the model is, what it was trained on, how good it is, and what it is not."""

from collections.abc import Iterator

from isoflop import units
from isoflop.export._run import Source
from isoflop.runs import RunRecord

_HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- isoflop
- scaling-law
---
"""
_USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # this folder
model = AutoModelForCausalLM.from_pretrained(".")
print(tokenizer.decode(model.generate(**tokenizer("The ", return_tensors="pt"))[0]))
```
"""


def text(run: Source) -> str:
    """The card as Markdown; the same run has the same card."""
    record = run.record
    title = f"{run.study}: {record.spec.label or record.id}"
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _facts(run))]
    return "\n".join([f"{_HEAD}\n# {title}\n", f"{_what(record)}\n", *table, "", _USE, f"## What it is not\n\n{_limits(run)}"])


def _what(record: RunRecord) -> str:
    size, tokens = units.count(record.params.total), units.count(record.tokens)
    return (
        f"A language model of {size} parameters, trained on {tokens} tokens ({units.flops(record.flops)} FLOPs) by "
        "isoflop as one run of a compute-optimal scaling study. It was trained to be measured, not to be used."
    )


def _facts(run: Source) -> Iterator[tuple[str, str]]:
    record, spec, shape = run.record, run.record.spec, run.record.spec.shape
    groups = ", ".join(f"{units.count(n)} {group.replace('_', '-')}" for group, n in record.params if n)
    yield "study", run.study
    yield "run", f"`{record.id}`" + (f", {spec.label} of the proof" if spec.label else f", {spec.group}")
    yield "ended", record.status + (f": {record.reason}" if record.reason else "")
    yield "validation loss", "none" if record.loss is None else f"{record.loss:.4f} nats per token"
    yield "bits per byte", "none" if record.bits_per_byte is None else f"{record.bits_per_byte:.4f}"
    yield "parameters", f"{record.params.total:,} ({groups})"
    yield "shape", f"{shape.n_layers} layers, {shape.d_model} wide, feed-forward {shape.ffw_size}"
    yield "heads", f"{shape.n_heads} of {shape.kv_size}, {shape.kv_heads} of keys and values"
    yield "output head", "the embedding" if shape.tied else "its own"
    yield "context", f"{shape.context} tokens"
    yield "tokenizer", "bytes" if run.tokenizer is None else f"byte-level BPE of {shape.vocab}, learnt from the same text"
    yield "trained on", f"{record.tokens:,} tokens, {record.epochs:.2f} epochs of the text with digest `{spec.data}`"
    yield "steps", f"{record.tokens // spec.batch:,} of {spec.batch:,} tokens"
    yield "learning rate", f"{spec.lr:.3g} at its peak, {spec.schedule.name}"
    yield "precision", spec.precision
    yield "seed", str(spec.seed)
    yield "made with", ", ".join(f"{name} {version}" for name, version in sorted(record.clock.versions.items()))


def _limits(run: Source) -> str:
    """In words; what a reader could otherwise think."""
    shape = run.record.spec.shape
    return (
        "It continues text in the manner of what it was trained on. It follows no instructions, nothing was done to make what it writes true, harmless or "
        f"free of what stands in that text, and positions beyond {shape.context} were never trained. Its loss was measured on other documents of the "
        "same text; no other benchmark was run. The terms of the text, which isoflop does not know, may bind the model too.\n\n"
        "`isoflop.json` holds the whole record of the run.\n"
    )
