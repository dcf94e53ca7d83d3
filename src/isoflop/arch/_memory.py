"""Bytes that training a model takes, and serving it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from isoflop import _registry

if TYPE_CHECKING:
    from isoflop.arch import Shape

Recompute = Literal["none", "selective", "full"]
RECOMPUTE: Mapping[Recompute, str] = {
    "none": "everything a layer's backward pass needs is kept",
    "selective": "attention weights are made anew in the backward pass (Korthikanti et al. 2022), as flash attention does (Dao et al. 2022)",
    "full": "only each layer's input is kept, and the layer run forward again (Chen et al. 2016): a third more FLOPs",
}
LOGIT_BYTES = 4  # the loss is taken in float32: Korthikanti et al. 2022, Sec. 4


@dataclass(frozen=True, kw_only=True)
class States:
    """Bytes a parameter takes in training."""

    weights: float
    gradients: float
    optimizer: float  # moments, and a float32 copy of the weights where they are kept in 16 bits

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


MIXED_ADAMW = States(weights=2, gradients=2, optimizer=12)  # Rajbhandari et al. 2020 (ZeRO), Sec. 3.1: K = 12
FLOAT32_ADAMW = States(weights=4, gradients=4, optimizer=8)  # two moments; what isoflop trains with


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Numbers per token that one layer keeps for its backward pass, each as wide as an activation."""

    norm: int  # inputs of both norms
    attention: int  # its input, queries, keys, values, and what its output projection reads
    weights: int  # attention weights, for the whole context: what selective recomputation drops
    feed_forward: int  # its input, and all that its non-linearity reads and gives


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes of activations of one step at their peak, by how much is computed anew."""

    none: float
    selective: float
    full: float
    parts: Mapping[str, float]  # of `none`: norm, attention, weights, feed_forward (all layers together), head


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one whole model, however many devices they are spread over; nothing for buffers and fragments of an allocator."""

    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    kv_cache: float = 0.0

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.kv_cache


def training_memory(
    shape: "Shape", *, sequences: float = 1, states: States = MIXED_ADAMW, recompute: Recompute = "selective", value_bytes: float = 2
) -> Memory:
    """Bytes of training with AdamW.

    Args:
        shape: Of any family.
        sequences: That are in flight at once: the micro-batch, not the batch.
        states: Bytes a parameter.
        recompute: One of RECOMPUTE.
        value_bytes: Of one activation: 2 in bf16, 4 in float32.

    Raises:
        UnknownNameError: No such way to recompute.
    """
    _registry.check(recompute, RECOMPUTE, noun="way to recompute")
    N = shape.params.total
    return Memory(
        weights=N * states.weights,
        gradients=N * states.gradients,
        optimizer=N * states.optimizer,
        activations=getattr(activations(shape, sequences=sequences, value_bytes=value_bytes), recompute),
    )


def serving_memory(shape: "Shape", *, sequences: float = 1, tokens: float | None = None, weight_bytes: float = 2, cache_bytes: float = 2) -> Memory:
    """Bytes of weights and of the cache of keys and values of sequences served at once.

    Args:
        shape: Of any family.
        sequences: Served at once.
        tokens: Of each, prompt and answer; None for the whole context.
        weight_bytes: Of one parameter: 2 in bf16, 1 in 8 bits, 0.5 in 4 bits.
        cache_bytes: Of one number in the cache.
    """
    cached = sequences * (shape.context if tokens is None else tokens)
    return Memory(weights=shape.params.total * weight_bytes, kv_cache=cached * kv_cache_per_token(shape, cache_bytes=cache_bytes))


def kv_cache_per_token(shape: "Shape", *, cache_bytes: float = 2) -> float:
    """Bytes that one token's keys and values take (Kwon et al. 2023, Sec. 3, but with as many heads as they have)."""
    return 2.0 * shape.n_layers * shape.kv_heads * shape.kv_size * cache_bytes


def activations(shape: "Shape", *, sequences: float = 1, value_bytes: float = 2) -> Activations:
    """Bytes of activations that wait for the backward pass, without dropout, of `sequences` whole contexts.

    Korthikanti et al. 2022, Sec. 4, for any feed-forward size, gated units and grouped queries. What they have more are dropout's masks and copies:
    2 bytes x d_model and 3 bytes x heads x context a token. With recomputation, one layer at a time has all of its activations back, which
    they leave out. Statistics of norms and of the softmax, one number a row, are left out as there.
    """
    saved, L = shape.saved, shape.n_layers
    one = sequences * shape.context * value_bytes  # bytes of one number of every token
    layer = one * (saved.norm + saved.attention + saved.feed_forward)
    weights, stream = one * saved.weights, one * shape.d_model
    head = 2 * stream + sequences * shape.context * shape.vocab * LOGIT_BYTES  # what the last norm, the output matrix and the loss read
    parts = {name: L * one * getattr(saved, name) for name in ("norm", "attention", "weights", "feed_forward")}
    return Activations(
        none=L * (layer + weights) + head,
        selective=L * layer + max(weights, head),  # the head is done with when the first layer is made anew
        full=L * stream + max(layer - stream + weights, head),  # a layer's input is kept already
        parts=MappingProxyType({**parts, "head": head}),
    )


PROCESS_BASE = 272e6  # of Python, PyTorch on a CPU, its buffers and the writing of a record: benchmarks/memory.md, and so for the two below
HELD = 1.5  # of what a layer keeps, what glibc's allocator holds beyond all that lives at the peak: freed blocks are kept, and seldom fit the next
HELD_BY_KERNELS = 0.5  # likewise: their blocks are few, and fit the next
EVALUATED = 4096  # tokens a forward pass of the evaluation: isoflop.train.evaluate
COPY = 12  # bytes a parameter of what a checkpoint copies, to be written while training goes on: weights and two moments
BLOCK, LOGITS = 64, 1 << 22  # queries that attention is computed for at once, and numbers of logits: isoflop.arch._written
ROWS = 128  # tokens at once: isoflop/arch/_kernels.c
DATA_TOKENS, TOKEN_BYTES = 1 << 17, 40  # of a block of steps, and of a token in it while the next is made: isoflop.data.batches
RECORD_BYTES = 60  # of a step: its loss, and the curve while it is written


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Bytes that one process takes at its peak which trains one model on a CPU; pages of files, which the system can take back, are not among them."""

    base: float  # of the process, whatever it trains
    states: float  # weights, gradients, moments
    checkpoint: float  # their copy, while it is written
    activations: float  # of the step or the evaluation, as the allocator holds them
    data: float  # batches and losses

    @property
    def total(self) -> float:
        return self.base + self.states + self.checkpoint + self.activations + self.data


def process_memory(
    shape: "Shape",
    *,
    sequences: float,
    batch: int,
    steps: int = 0,
    eval_tokens: int = 0,
    value_bytes: float = 4,
    muon: bool = False,
    kernels: bool = False,
) -> ProcessMemory:
    """Bytes of a process that trains a model of ours on a CPU, its weights and moments in float32.

    Args:
        shape: Of any family.
        sequences: That are in flight at once: the micro-batch.
        batch: Tokens a step.
        steps: Of the run.
        eval_tokens: Of the validation set.
        value_bytes: Of one activation in a layer: 4 in float32, 2 in bf16.
        muon: Whether the matrices of the blocks have Muon's single moment; else all have AdamW's two.
        kernels: Whether its blocks are computed by our kernels in C.
    """
    N, spared = shape.params.total, 4 * (shape.params.attention + shape.params.feed_forward) if muon else 0
    evaluated = min(max(1, EVALUATED // shape.context), eval_tokens // shape.context)
    live, layer, held = (live_bytes_of_kernels, _layer_bytes_of_kernels, HELD_BY_KERNELS) if kernels else (live_bytes, _layer_bytes, HELD)
    peak = max(live(shape, sequences, value_bytes, backward=True), live(shape, evaluated, value_bytes, backward=False))
    return ProcessMemory(
        base=PROCESS_BASE,
        states=N * FLOAT32_ADAMW.total - spared,
        checkpoint=N * COPY - spared,
        activations=peak + held * layer(shape, sequences, value_bytes),
        data=TOKEN_BYTES * (max(DATA_TOKENS, batch) + eval_tokens) + RECORD_BYTES * steps,
    )


def live_bytes(shape: "Shape", sequences: float, value_bytes: float, *, backward: bool) -> float:
    """Bytes of a step's tensors at their peak, but for the states: at the loss, or in the last layer's backward pass; or of a forward pass alone."""
    kept, saved = _layer_bytes(shape, sequences, value_bytes), shape.saved
    one = sequences * shape.context * value_bytes
    stream = one * shape.d_model
    logits = min(sequences * shape.context, max(1, LOGITS // shape.vocab)) * shape.vocab
    at_loss = (2 * logits + 3 * shape.vocab * shape.d_model) * LOGIT_BYTES + 2 * stream
    if not backward:  # one layer at a time, and nothing is kept
        return max(at_loss, kept + 2 * stream)
    in_attention = one * (saved.attention - saved.feed_forward) + 3 * stream
    in_feed_forward = one * saved.feed_forward / 2 + 3 * stream
    return shape.n_layers * kept + max(at_loss, in_attention, in_feed_forward)


def live_bytes_of_kernels(shape: "Shape", sequences: float, value_bytes: float, *, backward: bool) -> float:
    """As `live_bytes`, where blocks and loss are computed by our kernels: matrices are there once more, their gradients twice, and one head's scores."""
    kept = _layer_bytes_of_kernels(shape, sequences, value_bytes)
    stream = sequences * shape.context * value_bytes * shape.d_model
    logits = min(ROWS, max(1, LOGITS // shape.vocab)) * shape.vocab
    at_loss = (4 * shape.vocab * shape.d_model + logits) * LOGIT_BYTES + 2 * stream
    if not backward:
        return max(at_loss, kept + 2 * stream)
    sublayer, head = max(shape.params.attention, shape.params.feed_forward) / shape.n_layers, shape.context**2 * _seen(shape)
    return shape.n_layers * kept + max(at_loss, 2 * stream + value_bytes * (3 * sublayer + head))


def _layer_bytes_of_kernels(shape: "Shape", sequences: float, value_bytes: float) -> float:
    """As `_layer_bytes`: what comes after the feed-forward's first product is computed again, and no matrix is kept."""
    saved = shape.saved
    return sequences * shape.context * value_bytes * (saved.attention + saved.feed_forward - 2 * shape.ffw_size + saved.weights * _seen(shape))


def _seen(shape: "Shape") -> float:
    """Share of attention's weights that are there, without the keys after a block of queries."""
    return (shape.context + min(BLOCK, shape.context)) / (2 * shape.context)


def _layer_bytes(shape: "Shape", sequences: float, value_bytes: float) -> float:
    """Bytes of what one layer of our modules keeps for the backward pass; of attention's weights without the keys after a block of queries."""
    saved, numbers = shape.saved, sequences * shape.context
    held = numbers * (saved.attention + saved.feed_forward + saved.weights * _seen(shape))
    return value_bytes * (held + _matrices_kept(shape, value_bytes))


def _matrices_kept(shape: "Shape", value_bytes: float) -> float:
    """Numbers of one layer's matrices that are kept as products take them: with a norm's gain, and in bf16 all of them, rounded."""
    plain = shape.d_model * (shape.n_heads * shape.kv_size + shape.ffw_size) if value_bytes == FLOAT32_ADAMW.weights else 0
    return (shape.params.attention + shape.params.feed_forward) / shape.n_layers - plain
