"""What a model of the paper's family costs (Rae et al. 2021; Hoffmann et al. 2022, Table A9)."""

from isoflop.arch import FlopParts, ParamGroups, Saved, Shape, depth, heads, large_kv_size

VARIANTS = False  # Rae et al. 2021 have as many key-value heads as heads, and the tied embedding is what Table A9's counts need


def at(d_model: int, *, vocab: int, context: int) -> Shape:
    """The family's shape at a width: feed-forward of 4 d_model, depth and heads as Table A9 grows them."""
    n_heads = heads(d_model)
    return Shape(
        arch="gopher",
        d_model=d_model,
        n_layers=depth(d_model),
        n_heads=n_heads,
        kv_size=d_model // n_heads,
        ffw_size=4 * d_model,
        vocab=vocab,
        context=context,
    )


def large(d_model: int, n_layers: int, *, vocab: int, context: int) -> Shape:
    """The family's shape from 512 wide, as the rows of Table A9."""
    kv_size = large_kv_size(d_model)
    return Shape(
        arch="gopher",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=d_model // kv_size,
        kv_size=kv_size,
        ffw_size=4 * d_model,
        vocab=vocab,
        context=context,
    )


def params(shape: Shape) -> ParamGroups:
    """Parameters by group: V d + L (5 d k h + 2 d f + f + 4 d + 2 k h) + d.

    Five d x (k h) matrices a layer, the fifth for relative positions, give the printed millions of Table A9; four do not.
    """
    L, d, f, kh = shape.n_layers, shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads
    return ParamGroups(
        embedding=shape.vocab * d,
        attention=L * (4 * d * kh + d),  # output bias
        position=L * (d * kh + 2 * kh),  # content and position biases of Dai et al. 2019, Eq. 5
        feed_forward=L * (2 * d * f + f + d),
        norm=L * 2 * d + d,
        head=0,
    )


def flops_per_token(shape: Shape) -> FlopParts:
    """Forward FLOPs per token by part; scores hold a content and a position term."""
    L, d, f, kh = shape.n_layers, shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads
    return FlopParts(
        projections=2.0 * L * 4 * d * kh,
        position=2.0 * L * d * kh,
        scores=2.0 * L * 3 * shape.context * kh,
        feed_forward=2.0 * L * 2 * d * f,
        head=2.0 * d * shape.vocab,
    )


def saved(shape: Shape) -> Saved:
    """Numbers per token that a layer keeps: queries twice, with the content's and with the position's bias; the unit's input and output.

    Keys of distances are left out: they are of a step, not of its sequences.
    """
    d, f, kh = shape.d_model, shape.ffw_size, shape.kv_size * shape.n_heads
    return Saved(norm=2 * d, attention=d + 5 * kh, weights=shape.n_heads * shape.context, feed_forward=d + 2 * f)
