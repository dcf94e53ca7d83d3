"""What the families' modules have in common: which path a step takes, its precision, and the loss of logits. Needs torch."""

import contextlib
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Precision = Literal["float32", "bf16"]
Reduction = Literal["mean", "sum"]


def takes_plain(chosen: bool | None, x: Tensor) -> bool:  # noqa: FBT001 -- the module's attribute
    """Whether a step goes through ordinary torch operations: where the written-out ones gain nothing, or would hide something.

    They are float32 for a CPU; autocast must see every product, and a compiler every operation.
    """
    if chosen is not None:
        return chosen
    return x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()


def autocast(precision: Precision, x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bfloat16 with float32 sums if the precision says so; an outer autocast stays as it is."""
    return torch.autocast(x.device.type, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def loss_of(logits_MV: Tensor, targets_M: Tensor, reduction: Reduction, z_loss: float) -> Tensor:
    """Cross-entropy in nats, and z_loss times the squared log of the softmax's sum (Chowdhery et al. 2022, Sec. 5)."""
    loss = functional.cross_entropy(logits_MV, targets_M, reduction=reduction)
    if not z_loss:
        return loss
    squares_M = logits_MV.logsumexp(-1).square()
    return loss + z_loss * (squares_M.mean() if reduction == "mean" else squares_M.sum())
