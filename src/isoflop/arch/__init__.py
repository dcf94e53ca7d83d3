"""Architectures: what a model costs, and (in each family's module.py) the model itself.

A family is a folder: `shape.py` counts, without torch; `module.py` holds the `torch.nn.Module`. A family's one dial is its width.
"""

import math
from collections.abc import Iterator
from typing import Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, PositiveInt

from isoflop import _registry

Convention = Literal["total", "nonembedding"]
BACKWARD = 2.0  # a backward pass costs twice its forward: Kaplan et al. 2020, Sec. 2.1; Hoffmann et al. 2022, App. F


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
        """Parameters by a convention: "total" (Hoffmann et al. 2022) or "nonembedding" (Kaplan et al. 2020)."""
        return self.total if convention == "total" else self.total - self.embedding - self.head


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
    """Sizes of one model, in the words of Hoffmann et al. 2022, Table A9."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    arch: str
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    kv_size: PositiveInt
    ffw_size: PositiveInt
    vocab: PositiveInt
    context: PositiveInt

    @property
    def params(self) -> ParamGroups:
        return get(self.arch).params(self)

    @property
    def flops_per_token(self) -> FlopParts:
        return get(self.arch).flops_per_token(self)


class Family(Protocol):
    """What a family's shape.py offers."""

    def at(self, d_model: int, *, vocab: int, context: int) -> Shape:
        """The family's shape at a width."""

    def params(self, shape: Shape) -> ParamGroups:
        """Parameters by group, equal to what the built module has."""

    def flops_per_token(self, shape: Shape) -> FlopParts:
        """Forward FLOPs per token by part, equal to what the built module does on one sequence."""


def get(name: str) -> Family:
    """The family of a name.

    Raises:
        UnknownNameError: No such family; the message lists those there are.
    """
    _registry.check(name, _registry.names(__name__), noun="architecture")
    return cast("Family", __import__(f"{__name__}.{name}.shape", fromlist=["shape"]))


def widths() -> Iterator[int]:
    """Widths a family is built at, smallest first: 8, 12, 16, 24, ... by eights to 128, then eight steps an octave."""
    yield from (8, 12)
    yield from range(16, 64, 8)
    octave = 64
    while True:
        yield from range(octave, 2 * octave, octave // 8)
        octave *= 2


def nearest(name: str, params: float, *, vocab: int, context: int, convention: Convention = "total") -> Shape:
    """The family's shape whose parameter count is nearest, in log, to a target."""
    family = get(name)
    below: Shape | None = None
    for d_model in widths():
        shape = family.at(d_model, vocab=vocab, context=context)
        if shape.params.count(convention) >= params:
            break
        below = shape
    if below is None:
        return shape
    over = math.log(shape.params.count(convention) / params)
    under = math.log(params / below.params.count(convention))
    return shape if over < under else below


def depth(d_model: int) -> int:
    """Layers at a width: through the smallest and the largest rows of Hoffmann et al. 2022, Table A9 (512 wide, 8 deep; 8192 wide, 80 deep), at least 2."""
    return max(2, round(8 * math.pow(d_model / 512, math.log(10) / math.log(16))))


def heads(d_model: int) -> int:
    """Heads at a width: an even kv_size near 64 at 512 wide, never above 128 (Table A9: 64 to 128), and near 8 from 32 wide down.

    Small models want several narrow heads more than one wide one: benchmarks/recipe.md.
    """
    kv_size = min(128.0, max(8.0, 8 * math.pow(d_model / 32, 0.75)))
    return min((h for h in range(1, d_model // 2 + 1) if d_model % (2 * h) == 0), key=lambda h: (round(abs(math.log(d_model / h / kv_size)), 6), -h))
