"""The llama family's block in two autograd nodes by kernels in C (`isoflop/arch/_kernels.c`): for one CPU core, in float32.

Axes: as in module.py; C = K / 2 rotated pairs.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoflop.arch._fused import pointer
from isoflop.arch._kernels import Kernels, Shape
from isoflop.arch._written import EPS


class Tables(NamedTuple):
    """What the nodes need: the kernels, and the cosines and sines of positions' angles."""

    kernels: Kernels
    cosine_TC: Tensor
    sine_TC: Tensor


def tables(rotation_TCX: Tensor, T: int, kernels: Kernels) -> Tables:
    """For T positions, as many as the rotation has."""
    assert len(rotation_TCX) == T, "more tokens than the context"
    return Tables(kernels, *(part_TC.contiguous() for part_TC in rotation_TCX.unbind(-1)))


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_MD: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, tables: Tables, heads: tuple[int, int]
    ) -> Tensor:
        (M, D), (T, C), (H, G) = x_MD.shape, tables.cosine_TC.shape, heads
        ctx.shape, ctx.tables = Shape(B=M // T, T=T, D=D, H=H, G=G, K=2 * C), tables
        assert out_DA.shape[1] == H * 2 * C, "features are turned in pairs: kv_size must be even"
        library, shape = tables.kernels.library, ctypes.byref(ctx.shape)
        kept, scratch = x_MD.new_empty(library.attention_kept(shape)), x_MD.new_empty(library.attention_scratch(shape))
        out_MD = torch.empty_like(x_MD)
        learned = (x_MD, gain_D, qkv_AD, out_DA)
        library.attention_forward(shape, EPS, *map(pointer, (*tables[1:], *learned, kept, scratch, out_MD)))
        ctx.save_for_backward(*learned, kept)
        return out_MD

    @staticmethod
    def backward(ctx: Any, dout_MD: Tensor) -> tuple[Tensor | None, ...]:
        *learned, kept = ctx.saved_tensors
        library, shape = ctx.tables.kernels.library, ctypes.byref(ctx.shape)
        scratch, dout_MD = kept.new_empty(library.attention_scratch(shape)), dout_MD.contiguous()
        gradients = tuple(map(torch.empty_like, learned))
        library.attention_backward(shape, *map(pointer, (*ctx.tables[1:], *learned, kept, scratch, dout_MD, *gradients)))
        return *gradients, None, None


class FeedForward(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))) as one autograd node."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, gain_D: Tensor, in_FD: Tensor, out_DF: Tensor, tables: Tables) -> Tensor:  # noqa: PLR0917 -- autograd passes by position
        ctx.shape, ctx.library = Shape(B=1, T=x_MD.shape[0], D=x_MD.shape[1], F=out_DF.shape[1]), tables.kernels.library
        library, shape = ctx.library, ctypes.byref(ctx.shape)
        kept, scratch = x_MD.new_empty(library.feed_forward_kept(shape)), x_MD.new_empty(library.feed_forward_scratch(shape))
        out_MD = torch.empty_like(x_MD)
        learned = (x_MD, gain_D, in_FD, out_DF)
        library.feed_forward_forward(shape, EPS, *map(pointer, (*learned, kept, scratch, out_MD)))
        ctx.save_for_backward(*learned, kept)
        return out_MD

    @staticmethod
    def backward(ctx: Any, dout_MD: Tensor) -> tuple[Tensor | None, ...]:
        *learned, kept = ctx.saved_tensors
        shape = ctypes.byref(ctx.shape)
        scratch, dout_MD = kept.new_empty(ctx.library.feed_forward_scratch(shape)), dout_MD.contiguous()
        gradients = tuple(map(torch.empty_like, learned))
        ctx.library.feed_forward_backward(shape, *map(pointer, (*learned, kept, scratch, dout_MD, *gradients)))
        return *gradients, None
