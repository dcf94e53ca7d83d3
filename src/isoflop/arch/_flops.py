"""FLOPs per token by the conventions of the literature."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from isoflop import _registry

if TYPE_CHECKING:
    from isoflop.arch import Convention, Shape

BACKWARD = 2.0  # a backward pass costs twice its forward: Kaplan et al. 2020, Sec. 2.1; Hoffmann et al. 2022, App. F
FlopConvention = Literal["module", "6nd", "6nd_attention", "appendix_f"]
FLOP_CONVENTIONS: Mapping[FlopConvention, str] = {
    "module": "every matrix product of the module, as PyTorch counts them; what isoflop's runs count",
    "6nd": "6 for every parameter (Kaplan et al. 2020, Sec. 2.1)",
    "6nd_attention": "6 for every parameter and 6 n_layer n_ctx d_attn for attention over the context (Kaplan et al. 2020, Table 1)",
    "appendix_f": "every matrix product, the embedding as one and the softmax (Hoffmann et al. 2022, App. F)",
}


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs per token, a multiply-add as two."""

    convention: FlopConvention
    parts: Mapping[str, float]  # of a forward pass

    @property
    def forward(self) -> float:
        return sum(self.parts.values())

    @property
    def training(self) -> float:
        return (1 + BACKWARD) * self.forward


def flops(shape: "Shape", convention: FlopConvention = "module", *, counted: "Convention | None" = None) -> Flops:
    """FLOPs per token of a shape, attention over its whole context.

    Args:
        shape: Of any family.
        convention: One of FLOP_CONVENTIONS.
        counted: Which parameters N of 6N has; None for those of the paper that the convention is from: all for "6nd", as Hoffmann et al. 2022
            have it, and "nonembedding" for "6nd_attention". Nothing to the other two.

    Raises:
        UnknownNameError: No such convention.
    """
    _registry.check(convention, FLOP_CONVENTIONS, noun="way of counting FLOPs")
    match convention:
        case "module":
            parts = shape.flops_per_token.model_dump()
        case "6nd":
            parts = {"params": 2.0 * shape.params.count(counted or "total")}
        case "6nd_attention":
            d_attn = shape.kv_size * shape.n_heads
            attention = 2.0 * shape.n_layers * shape.context * d_attn  # Kaplan et al. 2020, Table 1: "Attention: Mask"
            parts = {"params": 2.0 * shape.params.count(counted or "nonembedding"), "attention": attention}
        case "appendix_f":
            parts = _appendix_f(shape)
    return Flops(convention=convention, parts=MappingProxyType(parts))


def _appendix_f(shape: "Shape") -> dict[str, float]:
    """The list of Hoffmann et al. 2022, App. F, over seq_len; grouped queries and gated units as their own products are.

    Relative positions are not on the list, and the embedding's look-up is, as a product with one-hot rows.
    """
    L, V, T, d, H = shape.n_layers, shape.vocab, shape.context, shape.d_model, shape.n_heads
    kh, kh_kv = shape.kv_size * H, shape.kv_size * shape.kv_heads
    return {
        "embeddings": 2.0 * V * d,
        "query_key_value": 2.0 * L * d * (kh + 2 * kh_kv),
        "key_query_logits": 2.0 * L * T * kh,
        "softmax": 3.0 * L * H * T,
        "softmax_query_reductions": 2.0 * L * T * kh,
        "final_linear": 2.0 * L * kh * d,
        "dense": shape.flops_per_token.feed_forward,
        "final_logits": 2.0 * d * V,
    }
