"""What the families' written-out paths share: products, the norm, attention's edges, and the loss as one autograd node. Needs torch.

Axes: B sequences, T positions, M = B x T tokens, D d_model, E features of any kind, H heads, K kv_size, N = B x H, S queries of a block, V vocab.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isoflop.arch._module import Precision

Head = tuple[Tensor, Tensor, Tensor]  # the stream, the gain of its last norm, and the output matrix
EPS = 1e-5  # of both families' norms: LLaMA 2's; LLaMA 1 had 1e-6, and Rae et al. 2021 do not say
BLOCK = 64  # queries attended for at once; keys after the last of them are left out
LOGITS = 1 << 22  # numbers at once: 16 MB
ONEDNN_FROM = 1 << 22  # multiplications: below, oneDNN's 20 microseconds a call are more than it saves
# PyTorch takes float32 products to MKL, whose kernels for processors of another maker are up to a fifth slower than oneDNN's.
_ONEDNN = torch.ops.mkldnn._linear_pointwise if hasattr(torch.ops.mkldnn, "_linear_pointwise") else None  # noqa: SLF001 -- no public name


def rounded(x: Tensor, precision: Precision) -> Tensor:
    """What a product takes: numbers as they are, or rounded to bfloat16."""
    return x.bfloat16() if precision == "bf16" else x


def product(x_MD: Tensor, w_ED: Tensor) -> Tensor:
    """The product x @ w.T."""
    if _ONEDNN is None or x_MD.dtype != torch.float32 or x_MD.numel() * w_ED.shape[0] < ONEDNN_FROM:
        return functional.linear(x_MD, w_ED)
    y_ME: Tensor = _ONEDNN(x_MD, w_ED, None, "none", [], "")
    return y_ME


def blocks(T: int) -> list[tuple[int, int]]:
    """First query and the one after the last, block by block."""
    return [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]


def normed(x_MD: Tensor) -> tuple[Tensor, Tensor]:
    """The stream over its root mean square, and what it was multiplied by."""
    scale_M1 = torch.linalg.vector_norm(x_MD, dim=-1, keepdim=True).square_().div_(x_MD.shape[1]).add_(EPS).rsqrt_()
    return x_MD * scale_M1, scale_M1


def norm_backward(dh_MD: Tensor, h_MD: Tensor, scale_M1: Tensor) -> Tensor:
    """The gradient of what was normed; of the stream's precision, whatever the product's was."""
    dh_MD, h_MD = dh_MD.to(scale_M1.dtype), h_MD.to(scale_M1.dtype)
    along_M1 = (dh_MD * h_MD).sum(-1, keepdim=True)
    return torch.addcmul(dh_MD, h_MD, along_M1, value=-1 / h_MD.shape[1]).mul_(scale_M1)


def features_normed(x_DM: Tensor) -> tuple[Tensor, Tensor]:
    """As `normed`, feature-major."""
    scale_M = (x_DM * x_DM).sum(0).div_(x_DM.shape[0]).add_(EPS).rsqrt_()
    return x_DM * scale_M, scale_M


def features_norm_backward(dx_DM: Tensor, dh_DM: Tensor, h_DM: Tensor, scale_M: Tensor) -> Tensor:
    """The gradient of the stream: that of the residual path and that through the norm; of the stream's precision."""
    dh_DM, h_DM = dh_DM.to(dx_DM.dtype), h_DM.to(dx_DM.dtype)
    dcentred_DM = torch.addcmul(dh_DM, h_DM, (dh_DM * h_DM).sum(0), value=-1 / h_DM.shape[0])
    return torch.addcmul(dx_DM, dcentred_DM, scale_M)


def onto(x_DM: Tensor, w_DE: Tensor, y_EM: Tensor) -> Tensor:
    """The stream and w @ y, feature-major."""
    return torch.addmm(x_DM, w_DE, y_EM) if w_DE.dtype == x_DM.dtype else x_DM + w_DE @ y_EM


def shared(kv_NXX: Tensor, R: int) -> Tensor:
    """Keys or values for every head: each for the R heads after one another that share it."""
    return kv_NXX if R == 1 else kv_NXX.repeat_interleave(R, 0)


def gathered(dkv_NXX: Tensor, R: int) -> Tensor:
    """The gradient of what R heads share."""
    return dkv_NXX if R == 1 else dkv_NXX.view(-1, R, *dkv_NXX.shape[1:]).sum(1)


class Turned(torch.autograd.Function):
    """The other way around, numbers moved: x_MD to x_DM and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 -- autograd passes it
        return x.t().contiguous()

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> Tensor:  # noqa: ARG004
        return dx.t().contiguous()


class Logits(torch.autograd.Function):
    """Logits of the normed stream."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, gain_D: Tensor, head_VD: Tensor) -> Tensor:
        h_MD, scale_M1 = normed(x_MD)
        gained_VD = head_VD * gain_D
        ctx.save_for_backward(h_MD, scale_M1, gain_D, head_VD, gained_VD)
        return product(h_MD, gained_VD)

    @staticmethod
    def backward(ctx: Any, dlogits_MV: Tensor) -> tuple[Tensor, ...]:
        h_MD, scale_M1, gain_D, head_VD, gained_VD = ctx.saved_tensors
        dgained_VD = dlogits_MV.t() @ h_MD
        dx_MD = norm_backward(product(dlogits_MV, gained_VD.t()), h_MD, scale_M1)
        return dx_MD, (dgained_VD * head_VD).sum(0), dgained_VD * gain_D


def loss(head: Head, targets_M: Tensor, z_loss: float, count: int, *, learns: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cross-entropy of the normed stream's logits, and z_loss times their squared log-sums, summed over targets and divided by `count`; its gradients.

    These are taken on the way, as many tokens at a time as have LOGITS logits, so that those of a large vocabulary are never there at once; none unless it
    `learns`.
    """
    x_MD, gain_D, head_VD = head
    h_MD, scale_M1 = normed(x_MD)
    gained_VD = head_VD * gain_D
    share = x_MD.new_ones(()) / count  # of a target in the loss; it goes onto what is small
    shared_DV, dh_MD = ((gained_VD * share).t(), torch.empty_like(h_MD)) if learns else (gained_VD, h_MD)  # else neither is used
    loss, dgained_VD = x_MD.new_zeros(()), None
    rows = max(1, LOGITS // len(head_VD))
    for part in (slice(start, start + rows) for start in range(0, len(h_MD), rows)):
        h_RD, targets_R1 = h_MD[part], targets_M[part, None]
        logits_RV = product(h_RD, gained_VD)
        p_RV = logits_RV.softmax(-1)  # a third of the time of log_softmax and an exponential
        z_R1 = logits_RV.amax(-1, keepdim=True) - p_RV.amax(-1, keepdim=True).log()  # log of the sum: exact, as the largest p is at least 1 / V
        loss += (z_R1 - logits_RV.gather(1, targets_R1)).sum()
        if z_loss:
            loss += z_loss * z_R1.square().sum()
            p_RV.mul_(1 + 2 * z_loss * z_R1)
        if learns:
            p_RV.scatter_add_(1, targets_R1, torch.full_like(z_R1, -1.0))  # the logits' gradient, from here on
            dgained_VD = p_RV.t() @ h_RD if dgained_VD is None else dgained_VD.addmm_(p_RV.t(), h_RD)
            dh_MD[part] = product(p_RV, shared_DV)
        del logits_RV, p_RV  # before the next ones are made
    if dgained_VD is None:
        return loss / count, ()
    dgained_VD.mul_(share)
    return loss / count, (norm_backward(dh_MD, h_MD, scale_M1), (dgained_VD * head_VD).sum(0), dgained_VD.mul_(gain_D))
