"""What a model of the llama family costs (Touvron et al. 2023), with grouped queries and a head of its own by choice."""

from isoflop.arch import FlopParts, ParamGroups, Saved, Shape, depth, heads, large_kv_size

VARIANTS = True
FFW_MULTIPLE = 256  # LLaMA's own `multiple_of`: 8/3 d_model rounded up to it gives the 11008, 13824, 17920 and 22016 of its four sizes


def at(d_model: int, *, vocab: int, context: int) -> Shape:
    """The family's shape at a width: feed-forward of 8/3 d_model, as LLaMA, to a multiple of 8."""
    n_heads = heads(d_model)
    return Shape(
        arch="llama",
        d_model=d_model,
        n_layers=depth(d_model),
        n_heads=n_heads,
        kv_size=d_model // n_heads,
        ffw_size=8 * round(d_model / 3),
        vocab=vocab,
        context=context,
    )


def large(d_model: int, n_layers: int, *, vocab: int, context: int) -> Shape:
    """The family's shape from 512 wide: feed-forward of 8/3 d_model, up to a multiple of 256."""
    kv_size = large_kv_size(d_model)
    return Shape(
        arch="llama",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=d_model // kv_size,
        kv_size=kv_size,
        ffw_size=-(-8 * d_model // (3 * FFW_MULTIPLE)) * FFW_MULTIPLE,
        vocab=vocab,
        context=context,
    )


def params(shape: Shape) -> ParamGroups:
    """Parameters by group: V d, once or twice, + L (2 d k (h + h_kv) + 3 d f + 2 d) + d."""
    L, d, f, kh, kh_kv = _letters(shape)
    return ParamGroups(
        embedding=shape.vocab * d,
        attention=L * 2 * d * (kh + kh_kv),
        position=0,
        feed_forward=L * 3 * d * f,
        norm=L * 2 * d + d,
        head=0 if shape.tied else shape.vocab * d,
    )


def flops_per_token(shape: Shape) -> FlopParts:
    """Forward FLOPs per token by part; rotations and norms are not matrix products and are left out, as everywhere in the field."""
    L, d, f, kh, kh_kv = _letters(shape)
    return FlopParts(
        projections=2.0 * L * 2 * d * (kh + kh_kv),
        position=0.0,
        scores=2.0 * L * 2 * shape.context * kh,  # every head asks, whoever answers
        feed_forward=2.0 * L * 3 * d * f,
        head=2.0 * d * shape.vocab,
    )


def saved(shape: Shape) -> Saved:
    """Numbers per token that a layer keeps: the gate before and after its unit, the other half, and their product."""
    _, d, f, kh, kh_kv = _letters(shape)
    return Saved(norm=2 * d, attention=d + 2 * kh + 2 * kh_kv, weights=shape.n_heads * shape.context, feed_forward=d + 4 * f)


def _letters(shape: Shape) -> tuple[int, int, int, int, int]:
    return shape.n_layers, shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads, shape.kv_size * shape.kv_heads
