"""Architectures: what a model costs, and (in each family's module.py) the model itself.

A family is a folder: `shape.py` counts, without torch; `module.py` holds the `torch.nn.Module`. A family's one dial is its width.
What a shape takes: `Shape.params` by group, `flops` a token by convention, `training_memory`, `serving_memory`; `nearest` is the way back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, cast

from pydantic import BaseModel, ConfigDict, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from isoflop import _registry
from isoflop.arch import _nearest
from isoflop.arch._flops import BACKWARD, FLOP_CONVENTIONS, FlopConvention, Flops, flops
from isoflop.arch._grid import depth, heads, large_kv_size, widths
from isoflop.arch._memory import (
    FLOAT32_ADAMW,
    MIXED_ADAMW,
    PROCESS_BASE,
    Activations,
    Memory,
    ProcessMemory,
    Recompute,
    Saved,
    States,
    activations,
    kv_cache_per_token,
    process_memory,
    serving_memory,
    training_memory,
)
from isoflop.arch._nearest import LARGE
from isoflop.errors import UsageError

Convention = Literal["total", "nonembedding", "with_head"]
CONVENTIONS: Mapping[Convention, str] = {
    "total": "every parameter, a tied embedding once (Hoffmann et al. 2022)",
    "nonembedding": "neither embedding nor output head (Kaplan et al. 2020)",
    "with_head": "the output head, tied or not, but no input embedding of its own (Porian et al. 2024)",
}


class ParamGroups(BaseModel):
    """Parameters by group; a tied output head counts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    embedding: int
    attention: int
    position: int
    feed_forward: int
    norm: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.position + self.feed_forward + self.norm + self.head

    def count(self, convention: Convention) -> int:
        """Parameters by one of CONVENTIONS.

        Raises:
            UnknownNameError: No such convention.
        """
        _registry.check(convention, CONVENTIONS, noun="way of counting parameters")
        match convention:
            case "total":
                return self.total
            case "nonembedding":
                return self.total - self.embedding - self.head
            case "with_head":  # one matrix is embedding and head if tied, so that it counts; else the embedding does not
                return self.total - (self.embedding if self.head else 0)


class FlopParts(BaseModel):
    """Forward FLOPs per token by part, a multiply-add as two; scores over the whole context.

    As in Hoffmann et al. 2022, App. F, but for the embedding, which is a look-up and no product, and the softmax.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    projections: float  # queries, keys, values, output
    position: float  # relative position projection, for one sequence a step
    scores: float  # queries by keys, weights by values
    feed_forward: float
    head: float  # logits

    @property
    def forward(self) -> float:
        return self.projections + self.position + self.scores + self.feed_forward + self.head

    @property
    def training(self) -> float:
        return (1 + BACKWARD) * self.forward


class Shape(BaseModel):
    """Sizes of one model, in the words of Hoffmann et al. 2022, Table A9.

    What was not given is not in its dump either, so that shapes written before a key was there keep their ids.

    Raises:
        UsageError: The family is not built with fewer key-value heads or an own head, or the heads cannot share them evenly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    arch: str
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    kv_size: PositiveInt
    ffw_size: PositiveInt
    vocab: PositiveInt
    context: PositiveInt
    n_kv_heads: PositiveInt | None = None  # of keys and values, each shared by as many queries (Ainslie et al. 2023); None: a pair for every head
    tied: bool = True  # the output head is the embedding

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_it(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("n_kv_heads") is not None and values["n_kv_heads"] == values.get("n_heads"):
            return {key: value for key, value in values.items() if key != "n_kv_heads"}
        return values

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise UsageError(f"{self.n_heads} heads cannot share {self.n_kv_heads} key-value heads evenly. Take a number of them that divides {self.n_heads}.")
        if (self.n_kv_heads is not None or not self.tied) and not get(self.arch).VARIANTS:
            what = "fewer key-value heads than heads" if self.n_kv_heads is not None else "an output head of its own"
            raise UsageError(f"{self.arch} is not built with {what}, since its paper has none. Take llama, or leave that out.")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults_of_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump: dict[str, Any] = handler(self)
        if self.n_kv_heads is None:
            dump.pop("n_kv_heads", None)
        if self.tied:
            dump.pop("tied", None)
        return dump

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def params(self) -> ParamGroups:
        return get(self.arch).params(self)

    @property
    def flops_per_token(self) -> FlopParts:
        return get(self.arch).flops_per_token(self)

    @property
    def saved(self) -> Saved:
        return get(self.arch).saved(self)


class Family(Protocol):
    """What a family's shape.py offers."""

    VARIANTS: bool  # whether it is built with n_kv_heads and with tied = False

    def at(self, d_model: int, *, vocab: int, context: int) -> Shape:
        """The family's shape at a width; below 512 wide this is what sweeps train."""

    def large(self, d_model: int, n_layers: int, *, vocab: int, context: int) -> Shape:
        """The family's shape from 512 wide, where every size is a multiple of 64."""

    def params(self, shape: Shape) -> ParamGroups:
        """Parameters by group, equal to what the built module has."""

    def flops_per_token(self, shape: Shape) -> FlopParts:
        """Forward FLOPs per token by part, equal to what the built module does on one sequence."""

    def saved(self, shape: Shape) -> Saved:
        """Numbers per token that a layer keeps for its backward pass."""


def get(name: str) -> Family:
    """The family of a name.

    Raises:
        UnknownNameError: No such family; the message lists those there are.
    """
    _registry.check(name, _registry.names(__name__), noun="architecture")
    return cast("Family", __import__(f"{__name__}.{name}.shape", fromlist=["shape"]))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What kind of model: a family, and what a size does not say."""

    family: str
    vocab: int  # of the tokenizer
    context: int  # tokens a sequence
    tied: bool = True  # the output head is the embedding
    kv_heads: int | None = None  # at most so many heads of keys and values, as many as divide the heads; None: as many as heads

    def at(self, d_model: int) -> Shape:
        """The shape at a width of the ladder that sweeps are laid out on."""
        return self._varied(get(self.family).at(d_model, vocab=self.vocab, context=self.context))

    def large(self, d_model: int, n_layers: int) -> Shape:
        """The shape at a width from 512 up."""
        return self._varied(get(self.family).large(d_model, n_layers, vocab=self.vocab, context=self.context))

    def nearest(self, params: float, convention: Convention = "total") -> Shape:
        """The best real shape near a parameter count, as `isoflop.arch.nearest`."""
        return _nearest.search(self, params, convention)

    def _varied(self, shape: Shape) -> Shape:
        if self.tied and self.kv_heads is None:
            return shape
        most = shape.n_heads if self.kv_heads is None else min(self.kv_heads, shape.n_heads)
        pairs = ((n, shape.n_heads // n) for n in range(1, math.isqrt(shape.n_heads) + 1) if shape.n_heads % n == 0)
        shared = max(n for pair in pairs for n in pair if n <= most)
        return Shape(**{**shape.model_dump(), "tied": self.tied, "n_kv_heads": shared})


def nearest(name: str, params: float, *, vocab: int, context: int, convention: Convention = "total") -> Shape:
    """The family's best real shape near a parameter count.

    Below 512 wide the nearest rung of the ladder that sweeps are laid out on. From there on, widths are multiples of 64 to 1024, of 128 to
    4096, of 512 to 8192 and of 1024 above, heads as in Hoffmann et al. 2022, Table A9, and the depth may leave `depth` by a sixth if that comes
    nearer to the count.

    Args:
        name: Family.
        params: Wanted, by `convention`.
        vocab: Of the tokenizer.
        context: Tokens a sequence.
        convention: One of CONVENTIONS.

    Raises:
        UnknownNameError: No such family or convention.
        UsageError: Not a positive finite count.
    """
    return Kind(family=name, vocab=vocab, context=context).nearest(params, convention)


__all__ = [
    "BACKWARD",
    "CONVENTIONS",
    "FLOAT32_ADAMW",
    "FLOP_CONVENTIONS",
    "LARGE",
    "MIXED_ADAMW",
    "PROCESS_BASE",
    "Activations",
    "Convention",
    "Family",
    "FlopConvention",
    "FlopParts",
    "Flops",
    "Kind",
    "Memory",
    "ParamGroups",
    "ProcessMemory",
    "Recompute",
    "Saved",
    "Shape",
    "States",
    "activations",
    "depth",
    "flops",
    "get",
    "heads",
    "kv_cache_per_token",
    "large_kv_size",
    "nearest",
    "process_memory",
    "serving_memory",
    "training_memory",
    "widths",
]
