"""What a module gives for its stream, and the loss by kernels in C (`_kernels.c`). Needs torch.

Axes: B sequences, T positions, M = B x T tokens, D d_model, V vocab.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from isoflop.arch import _written
from isoflop.arch._kernels import Kernels, Shape
from isoflop.arch._module import Reduction
from isoflop.arch._written import EPS, LOGITS


def pointer(x: Tensor) -> int:
    """Where a tensor's numbers lie, one after another."""
    assert x.is_contiguous(), "a kernel reads numbers that lie one after another"
    assert x.device.type == "cpu", "a kernel runs on the processor"
    assert x.dtype in {torch.float32, torch.int64}, "a kernel computes in float32"
    return x.data_ptr()


class Loss(torch.autograd.Function):
    """As `_written.Loss`: the cross-entropy of the normed stream's logits, its gradient taken on the way."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any,
        x_MD: Tensor,
        gain_D: Tensor,
        head_VD: Tensor,
        targets_M: Tensor,
        z_loss: float,
        count: int,
        learns: bool,  # noqa: FBT001 -- likewise
        kernels: Kernels,
    ) -> Tensor:
        (M, D), V, library = x_MD.shape, len(head_VD), kernels.library
        least, most = targets_M.aminmax()
        assert len(targets_M) == M, "a target for every token"
        assert least >= 0, "a target is a token's number"
        assert most < V, "a target beyond the vocabulary"
        shape = ctypes.byref(Shape(B=1, T=M, D=D, V=V))
        scratch = x_MD.new_empty(library.loss_scratch(shape, LOGITS))
        learned = (x_MD, gain_D, head_VD)
        gradients = tuple(map(torch.empty_like, learned)) if learns else ()
        places = map(pointer, gradients) if learns else (None, None, None)
        loss = library.loss(shape, LOGITS, EPS, z_loss, 1 / count, *map(pointer, (*learned, targets_M, scratch)), *places)
        ctx.save_for_backward(*gradients)
        return torch.tensor(loss, dtype=x_MD.dtype)

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * dloss for gradient in ctx.saved_tensors), None, None, None, None, None


def answer(
    head: tuple[Tensor, Tensor, Tensor], tokens_BT: Tensor, targets_BT: Tensor | None, reduction: Reduction, *, z_loss: float, kernels: Kernels | None
) -> Tensor:
    """What a module gives for its tokens: logits (B, T, V), or the loss of targets.

    Args:
        head: The stream, the gain of its last norm, and the output matrix.
        tokens_BT: For their shape.
        targets_BT: None for logits.
        reduction: Of the loss over targets.
        z_loss: As in `_module.loss_of`.
        kernels: To take the loss with; None for PyTorch's operations.
    """
    if targets_BT is None:
        logits_MV: Tensor = _written.Logits.apply(*head)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return logits_MV.view(*tokens_BT.shape, -1)
    count = 1 if reduction == "sum" else targets_BT.numel()
    asked = (*head, targets_BT.flatten(), z_loss, count, torch.is_grad_enabled())
    loss: Tensor = _written.Loss.apply(*asked) if kernels is None else Loss.apply(*asked, kernels)  # type: ignore[no-untyped-call]
    return loss
