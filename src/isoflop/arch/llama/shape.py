"""What a model of the llama family costs (Touvron et al. 2023), with a tied embedding."""

from isoflop.arch import FlopParts, ParamGroups, Shape, depth, heads


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


def params(shape: Shape) -> ParamGroups:
    """Parameters by group: V d + L (4 d k h + 3 d f + 2 d) + d."""
    L, d, f, kh = shape.n_layers, shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads
    return ParamGroups(embedding=shape.vocab * d, attention=L * 4 * d * kh, position=0, feed_forward=L * 3 * d * f, norm=L * 2 * d + d, head=0)


def flops_per_token(shape: Shape) -> FlopParts:
    """Forward FLOPs per token by part; rotations and norms are not matrix products and are left out, as everywhere in the field."""
    L, d, f, kh = shape.n_layers, shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads
    return FlopParts(
        projections=2.0 * L * 4 * d * kh,
        position=0.0,
        scores=2.0 * L * 2 * shape.context * kh,
        feed_forward=2.0 * L * 3 * d * f,
        head=2.0 * d * shape.vocab,
    )
