"""The llama family as a module: RMSNorm, rotary positions, SwiGLU, no biases (Touvron et al. 2023); grouped queries and an own head by choice.

Written for one CPU core and widths of 8 to 128, where plain PyTorch spends most of a step outside its matrix products
(`benchmarks/step_speed.py` measures it). Hence three choices:

1. activations are kept feature-major (x_DM, not x_MD): both halves of a rotation and of a gated unit, and the sum of a norm,
   are then long contiguous rows, which vectorise; a slice of a row of 16 numbers does not;
2. a block is one autograd node with its backward pass written out, so that few and large operations remain;
3. a norm's gain is multiplied into the matrix after it: the matrix is smaller than the activations.

Axes: B sequences, T positions, M = B x T tokens, D d_model, H heads, G key-value heads, R = H / G queries each, K kv_size,
C = K / 2 rotated pairs, A = H x K (A + 2 x G x K in the joint matrix), F ffw_size, V vocab, N = B x H (B x G of keys and values),
P = 2 for (queries, keys), X = 2 for the two numbers of a rotated pair.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape

EPS = 1e-5  # LLaMA 2's; LLaMA 1 had 1e-6
ROPE_BASE = 10_000.0  # Su et al. 2021, Sec. 3.3


def build(shape: Shape, *, seed: int) -> nn.Module:
    """A float32 model with weights drawn from its own generator, so that the seed alone decides them."""
    return Llama(shape, torch.Generator().manual_seed(seed))


class Llama(nn.Module):
    """Tokens to logits, or with targets to their cross-entropy in nats."""

    head_VD: nn.Parameter | None
    rotation_XCT: Tensor
    mask_TT: Tensor

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        D, V, T, K = shape.d_model, shape.vocab, shape.context, shape.kv_size
        # Assumption: with a normed final stream the logits have variance D x std^2 = 0.04, so a fresh model's loss is ln V + 0.02.
        self.embedding_VD = _normal(V, D, std=0.2 / math.sqrt(D), generator=generator)
        self.blocks = nn.ModuleList(Block(shape, generator) for _ in range(shape.n_layers))
        self.norm_D = nn.Parameter(torch.ones(D))
        # Drawn last, so that all else is as in the tied model; the embedding's size does not matter to a normed stream.
        self.register_parameter("head_VD", None if shape.tied else _normal(V, D, std=0.2 / math.sqrt(D), generator=generator))
        angle_CT = ROPE_BASE ** (-torch.arange(0, K, 2, dtype=torch.float64) / K)[:, None] * torch.arange(T)
        self.register_buffer("rotation_XCT", torch.stack((angle_CT.cos(), angle_CT.sin())).float(), persistent=False)
        self.register_buffer("mask_TT", torch.full((T, T), -math.inf).triu(1), persistent=False)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Logits (B, T, V); or the mean or the sum over targets of the cross-entropy in nats."""
        B, T = tokens_BT.shape
        x_DM = self.embedding_VD.index_select(0, tokens_BT.flatten()).t().contiguous()  # its backward is 4 times faster than embedding's
        rotation_XCT, mask_TT = self.rotation_XCT[..., :T], self.mask_TT[:T, :T]
        for block in self.blocks:
            x_DM = block(x_DM, rotation_XCT, mask_TT)
        head_VD = self.embedding_VD if self.head_VD is None else self.head_VD
        logits_MV: Tensor = Head.apply(x_DM, self.norm_D, head_VD)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        if targets_BT is None:
            return logits_MV.view(B, T, -1)
        return functional.cross_entropy(logits_MV, targets_BT.flatten(), reduction=reduction)


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed stream and added to it; names begin with the parameter group of `Shape.params`."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        D, A, F = shape.d_model, shape.n_heads * shape.kv_size, shape.ffw_size
        self.heads = shape.n_heads, shape.kv_heads
        residual = 1 / math.sqrt(2 * shape.n_layers)  # Radford et al. 2019 (GPT-2), Sec. 2.3: residual outputs by 1 / sqrt(their number)
        self.norm_attention_D = nn.Parameter(torch.ones(D))
        # Assumption: variance 1 / fan-in. GPT-2's fixed 0.02 is that at 2500 wide and 18 times too small at 8 wide.
        self.attention_qkv_AD = _normal(A + 2 * shape.kv_heads * shape.kv_size, D, std=1 / math.sqrt(D), generator=generator)
        self.attention_out_DA = _normal(D, A, std=residual / math.sqrt(A), generator=generator)
        self.norm_feed_forward_D = nn.Parameter(torch.ones(D))
        self.feed_forward_in_FD = _normal(2 * F, D, std=1 / math.sqrt(D), generator=generator)  # gate, then up
        self.feed_forward_out_DF = _normal(D, F, std=residual / math.sqrt(F), generator=generator)

    def forward(self, x_DM: Tensor, rotation_XCT: Tensor, mask_TT: Tensor) -> Tensor:
        """The stream after the block."""
        attention = self.norm_attention_D, self.attention_qkv_AD, self.attention_out_DA
        feed_forward = self.norm_feed_forward_D, self.feed_forward_in_FD, self.feed_forward_out_DF
        x_DM = Attention.apply(x_DM, *attention, rotation_XCT, mask_TT, *self.heads)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        out_DM: Tensor = FeedForward.apply(x_DM, *feed_forward)  # type: ignore[no-untyped-call]
        return out_DM


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_DM: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, rotation_XCT: Tensor, mask_TT: Tensor, H: int, G: int
    ) -> Tensor:
        T, A = mask_TT.shape[0], out_DA.shape[1]
        B, K = x_DM.shape[1] // T, A // H
        h_DM, scale_M = _normed(x_DM)
        gained_AD = qkv_AD * gain_D
        qkv_AM = gained_AD @ h_DM
        qk_S = x_DM.new_empty((H + G) * B * K * T)
        for rows_PBHXCT, turned_PBHXCT in _queries_and_keys(qkv_AM, qk_S, (B, H, G)):
            _rotate(rows_PBHXCT, rotation_XCT, sign=1, out=turned_PBHXCT)
        q_NKT, k_NKT = qk_S[: H * B * K * T].view(-1, K, T), qk_S[H * B * K * T :].view(-1, K, T)
        v_NKT = qkv_AM[A + G * K :].view(G, K, B, T).permute(2, 0, 1, 3).reshape(B * G, K, T)
        p_NTT = torch.baddbmm(mask_TT, q_NKT.mT, _shared(k_NKT, H // G), alpha=K**-0.5).softmax(-1)
        o_AM = torch.bmm(_shared(v_NKT, H // G), p_NTT.mT).view(B, H, K, T).permute(1, 2, 0, 3).reshape(A, B * T)
        ctx.save_for_backward(h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_NKT, k_NKT, v_NKT, p_NTT, o_AM, rotation_XCT)
        ctx.heads = H, G
        return torch.addmm(x_DM, out_DA, o_AM)

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_NKT, k_NKT, v_NKT, p_NTT, o_AM, rotation_XCT = ctx.saved_tensors
        (N, K, T), (H, G), A = q_NKT.shape, ctx.heads, out_DA.shape[1]
        B, R = N // H, H // G
        dout_DA = dx_DM @ o_AM.t()
        do_NKT = (out_DA.t() @ dx_DM).view(H, K, B, T).permute(2, 0, 1, 3).reshape(N, K, T)
        dqkv_AM = dx_DM.new_empty(A + 2 * G * K, B * T)
        dqkv_AM[A + G * K :].view(G, K, B, T).permute(2, 0, 1, 3).copy_(_gathered(torch.bmm(do_NKT, p_NTT), R).view(B, G, K, T))
        dp_NTT = torch.bmm(do_NKT.mT, _shared(v_NKT, R))
        ds_NTT = torch._softmax_backward_data(dp_NTT, p_NTT, -1, p_NTT.dtype)  # noqa: SLF001 -- autograd's own, one pass
        dqk_S = dx_DM.new_empty((H + G) * B * K * T)
        dq_NKT, dk_NKT = dqk_S[: N * K * T].view(-1, K, T), dqk_S[N * K * T :].view(-1, K, T)
        torch.bmm(_shared(k_NKT, R), ds_NTT.mT, out=dq_NKT)
        if R == 1:
            torch.bmm(q_NKT, ds_NTT, out=dk_NKT)
        else:
            dk_NKT.copy_(_gathered(torch.bmm(q_NKT, ds_NTT), R))
        dqk_S *= K**-0.5
        for rows_PBHXCT, turned_PBHXCT in _queries_and_keys(dqkv_AM, dqk_S, (B, H, G)):
            _rotate(turned_PBHXCT, rotation_XCT, sign=-1, out=rows_PBHXCT)
        dgained_AD = (h_DM @ dqkv_AM.t()).t()  # not dqkv @ h.t(): 4 times slower at 8 wide, MKL's worst case
        dx_DM = _norm_backward(dx_DM, gained_AD.t() @ dqkv_AM, h_DM, scale_M)
        return dx_DM, (dgained_AD * qkv_AD).sum(0), dgained_AD * gain_D, dout_DA, None, None, None, None


class FeedForward(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))) as one autograd node (Shazeer 2020, Eq. 6)."""

    @staticmethod
    def forward(ctx: Any, x_DM: Tensor, gain_D: Tensor, in_FD: Tensor, out_DF: Tensor) -> Tensor:
        h_DM, scale_M = _normed(x_DM)
        gained_FD = in_FD * gain_D
        gate_FM, up_FM = (gained_FD @ h_DM).chunk(2)
        silu_FM = functional.silu(gate_FM)
        act_FM = silu_FM * up_FM
        ctx.save_for_backward(h_DM, scale_M, gain_D, in_FD, gained_FD, out_DF, gate_FM, up_FM, silu_FM, act_FM)
        return torch.addmm(x_DM, out_DF, act_FM)

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, in_FD, gained_FD, out_DF, gate_FM, up_FM, silu_FM, act_FM = ctx.saved_tensors
        dout_DF = dx_DM @ act_FM.t()
        dact_FM = out_DF.t() @ dx_DM
        din_2FM = dx_DM.new_empty(2, *gate_FM.shape)
        torch.mul(dact_FM, silu_FM, out=din_2FM[1])
        torch.ops.aten.silu_backward.grad_input(dact_FM.mul_(up_FM), gate_FM, grad_input=din_2FM[0])
        din_FM = din_2FM.flatten(0, 1)
        dgained_FD = (h_DM @ din_FM.t()).t()
        dx_DM = _norm_backward(dx_DM, gained_FD.t() @ din_FM, h_DM, scale_M)
        return dx_DM, (dgained_FD * in_FD).sum(0), dgained_FD * gain_D, dout_DF


class Head(torch.autograd.Function):
    """Logits of the normed stream as one autograd node; the matrix is the embedding, or its own."""

    @staticmethod
    def forward(ctx: Any, x_DM: Tensor, gain_D: Tensor, head_VD: Tensor) -> Tensor:
        h_DM, scale_M = _normed(x_DM)
        gained_VD = head_VD * gain_D
        ctx.save_for_backward(h_DM, scale_M, gain_D, head_VD, gained_VD)
        return h_DM.t() @ gained_VD.t()

    @staticmethod
    def backward(ctx: Any, dlogits_MV: Tensor) -> tuple[Tensor, ...]:
        h_DM, scale_M, gain_D, head_VD, gained_VD = ctx.saved_tensors
        dgained_VD = (h_DM @ dlogits_MV).t()
        dx_DM = _norm_backward(None, gained_VD.t() @ dlogits_MV.t(), h_DM, scale_M)
        return dx_DM, (dgained_VD * head_VD).sum(0), dgained_VD * gain_D


def _normed(x_DM: Tensor) -> tuple[Tensor, Tensor]:
    """The stream over its root mean square, and what it was multiplied by."""
    scale_M = (x_DM * x_DM).sum(0).div_(x_DM.shape[0]).add_(EPS).rsqrt_()
    return x_DM * scale_M, scale_M


def _norm_backward(dx_DM: Tensor | None, dh_DM: Tensor, h_DM: Tensor, scale_M: Tensor) -> Tensor:
    """The gradient of the stream: that of the residual path and that through the norm."""
    dcentred_DM = torch.addcmul(dh_DM, h_DM, (dh_DM * h_DM).sum(0), value=-1 / h_DM.shape[0])
    return dcentred_DM.mul_(scale_M) if dx_DM is None else torch.addcmul(dx_DM, dcentred_DM, scale_M)


def _rotate(qk_PBHXCT: Tensor, rotation_XCT: Tensor, *, sign: int, out: Tensor) -> None:
    """Each pair (first half, second half) turned by its position's angle (Su et al. 2021, Eq. 34), or back with sign -1."""
    cos_CT, sin_CT = rotation_XCT.unbind()
    torch.mul(qk_PBHXCT, cos_CT, out=out)
    out[:, :, :, 0].addcmul_(qk_PBHXCT[:, :, :, 1], sin_CT, value=-sign)
    out[:, :, :, 1].addcmul_(qk_PBHXCT[:, :, :, 0], sin_CT, value=sign)


def _queries_and_keys(qkv_AM: Tensor, qk_S: Tensor, sizes: tuple[int, int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Views (P, B, H, X, C, T) of the same numbers as features by tokens and as heads one after another.

    Queries and keys at once where there are as many of both, one after the other where keys are fewer.
    """
    B, H, G = sizes
    K, T = qk_S.numel() // ((H + G) * qkv_AM.shape[1]), qkv_AM.shape[1] // B
    done = 0
    for P, heads in ((2, H),) if G == H else ((1, H), (1, G)):
        rows, size = slice(done * K, (done + P * heads) * K), slice(done * K * B * T, (done + P * heads) * K * B * T)
        yield qkv_AM[rows].view(P, heads, 2, K // 2, B, T).permute(0, 4, 1, 2, 3, 5), qk_S[size].view(P, B, heads, 2, K // 2, T)
        done += P * heads


def _shared(kv_NKT: Tensor, R: int) -> Tensor:
    """Keys or values for every head: each for the R heads after one another that share it."""
    return kv_NKT if R == 1 else kv_NKT.repeat_interleave(R, 0)


def _gathered(dkv_NKT: Tensor, R: int) -> Tensor:
    """The gradient of what R heads share."""
    return dkv_NKT if R == 1 else dkv_NKT.view(-1, R, *dkv_NKT.shape[1:]).sum(1)


def _normal(rows: int, columns: int, *, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).normal_(0, std, generator=generator))
