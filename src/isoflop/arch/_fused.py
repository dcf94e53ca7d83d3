"""What a module gives for its stream: logits, or the loss, by kernels in C (`_kernels.c`) where there are some. Needs torch.

Axes: B sequences, T positions, M = B x T tokens, D d_model, V vocab.
"""

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from isoflop.arch import _written
from isoflop.arch._kernels import Kernels, Shape
from isoflop.arch._module import Reduction
from isoflop.arch._written import EPS, LOGITS, Head


def pointer(x: Tensor) -> int:
    """Where a tensor's numbers lie, one after another."""
    assert x.is_contiguous(), "a kernel reads numbers that lie one after another"
    assert x.device.type == "cpu", "a kernel runs on the processor"
    assert x.dtype in {torch.float32, torch.int64}, "a kernel computes in float32"
    return x.data_ptr()


class Loss(torch.autograd.Function):
    """The loss of a stream's targets as one node, its gradients taken on the way: by kernels, or without them as `_written.loss` takes them."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *head, targets_M, z_loss, count, learns, kernels = given
        way = _written.loss if kernels is None else functools.partial(_loss, kernels)
        loss, gradients = way(tuple(head), targets_M, z_loss, count, learns=learns)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * dloss for gradient in ctx.saved_tensors), None, None, None, None, None


def _loss(kernels: Kernels, head: Head, targets_M: Tensor, z_loss: float, count: int, *, learns: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    (M, D), V, library = head[0].shape, len(head[2]), kernels.library
    least, most = targets_M.aminmax()
    assert len(targets_M) == M, "a target for every token"
    assert least >= 0, "a target is a token's number"
    assert most < V, "a target beyond the vocabulary"
    shape = ctypes.byref(Shape(B=1, T=M, D=D, V=V))
    scratch = head[0].new_empty(library.loss_scratch(shape, LOGITS))
    gradients = tuple(map(torch.empty_like, head)) if learns else ()
    places = map(pointer, gradients) if learns else (None, None, None)
    loss = library.loss(shape, LOGITS, EPS, z_loss, 1 / count, *map(pointer, (*head, targets_M, scratch)), *places)
    return torch.tensor(loss, dtype=head[0].dtype), gradients


def answer(head: Head, tokens_BT: Tensor, targets_BT: Tensor | None, reduction: Reduction, *, z_loss: float, kernels: Kernels | None) -> Tensor:
    """What a module gives for its tokens: logits (B, T, V), or the loss of targets.

    Args:
        head: What is left of the module when its blocks are through.
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
    loss: Tensor = Loss.apply(*head, targets_BT.flatten(), z_loss, count, torch.is_grad_enabled(), kernels)  # type: ignore[no-untyped-call]
    return loss
