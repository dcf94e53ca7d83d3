"""The paper's family as a module: Transformer-XL relative positions, RMSNorm, GELU, tied embedding (Rae et al. 2021; Dai et al. 2019).

Written for one CPU core and widths of 8 to 128, where plain PyTorch spends most of a step outside its matrix products
(`benchmarks/step_speed.py` measures it). Hence four choices:

1. activations are kept feature-major (x_DM, not x_MD): sums over features and biases are then over long contiguous rows;
2. attention and feed-forward are one autograd node each, with the backward pass written out, so that few and large operations remain;
3. a norm's gain is multiplied into the matrix after it: the matrix is smaller than the activations;
4. the relative shift is a view: query i's score at distance i - j lies T - 1 numbers after query i - 1's, so a stride of T - 1 lines
   the keys up. What the view reads for keys after the query is masked.

Axes: B sequences, T positions, M = B x T tokens, D d_model, H heads, K kv_size, A = H x K, F ffw_size, V vocab, N = B x H,
P = 2 for queries with (content, position) bias. Distances run from T - 1 down to 0, as keys do for the last query.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape

EPS = 1e-5  # assumption: Rae et al. 2021 do not say; LLaMA 2's
SINUSOID_BASE = 10_000.0  # Vaswani et al. 2017, Sec. 3.5, which Dai et al. 2019 keep


def build(shape: Shape, *, seed: int) -> nn.Module:
    """A float32 model with weights drawn from its own generator, so that the seed alone decides them."""
    return Gopher(shape, torch.Generator().manual_seed(seed))


class Gopher(nn.Module):
    """Tokens to logits, or with targets to their cross-entropy in nats."""

    distance_DT: Tensor
    mask_TT: Tensor

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        D, V, T = shape.d_model, shape.vocab, shape.context
        # Assumption: with a normed final stream the logits have variance D x std^2 = 0.04, so a fresh model's loss is ln V + 0.02.
        self.embedding_VD = _normal(V, D, std=0.2 / math.sqrt(D), generator=generator)
        self.blocks = nn.ModuleList(Block(shape, generator) for _ in range(shape.n_layers))
        self.norm_D = nn.Parameter(torch.ones(D))
        angle_CT = SINUSOID_BASE ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)[:, None] * torch.arange(T - 1, -1, -1)
        self.register_buffer("distance_DT", torch.cat((angle_CT.sin(), angle_CT.cos()))[:D].float(), persistent=False)
        self.register_buffer("mask_TT", torch.full((T, T), -math.inf).triu(1), persistent=False)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Logits (B, T, V); or the mean or the sum over targets of the cross-entropy in nats."""
        B, T = tokens_BT.shape
        x_DM = self.embedding_VD.index_select(0, tokens_BT.flatten()).t().contiguous()  # its backward is 4 times faster than embedding's
        distance_DT, mask_TT = self.distance_DT[:, -T:], self.mask_TT[:T, :T]
        for block in self.blocks:
            x_DM = block(x_DM, distance_DT, mask_TT)
        logits_MV: Tensor = Head.apply(x_DM, self.norm_D, self.embedding_VD)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        if targets_BT is None:
            return logits_MV.view(B, T, -1)
        return functional.cross_entropy(logits_MV, targets_BT.flatten(), reduction=reduction)


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed stream and added to it; names begin with the parameter group of `Shape.params`."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        D, A, F = shape.d_model, shape.n_heads * shape.kv_size, shape.ffw_size
        residual = 1 / math.sqrt(2 * shape.n_layers)  # Radford et al. 2019 (GPT-2), Sec. 2.3: residual outputs by 1 / sqrt(their number)
        self.norm_attention_D = nn.Parameter(torch.ones(D))
        # Assumption: variance 1 / fan-in. GPT-2's fixed 0.02 is that at 2500 wide and 18 times too small at 8 wide.
        self.attention_qkv_AD = _normal(3 * A, D, std=1 / math.sqrt(D), generator=generator)
        self.attention_out_DA = _normal(D, A, std=residual / math.sqrt(A), generator=generator)
        self.attention_out_bias_D = nn.Parameter(torch.zeros(D))
        # The sinusoids' mean square is 1/2, so 2 / fan-in gives keys of distance the size of keys of content.
        self.position_key_AD = _normal(A, D, std=math.sqrt(2 / D), generator=generator)
        self.position_biases_PHK = nn.Parameter(torch.zeros(2, shape.n_heads, shape.kv_size))  # u, v of Dai et al. 2019, Eq. 5
        self.norm_feed_forward_D = nn.Parameter(torch.ones(D))
        self.feed_forward_in_FD = _normal(F, D, std=1 / math.sqrt(D), generator=generator)
        self.feed_forward_in_bias_F = nn.Parameter(torch.zeros(F))
        self.feed_forward_out_DF = _normal(D, F, std=residual / math.sqrt(F), generator=generator)
        self.feed_forward_out_bias_D = nn.Parameter(torch.zeros(D))

    def forward(self, x_DM: Tensor, distance_DT: Tensor, mask_TT: Tensor) -> Tensor:
        """The stream after the block."""
        r_AT = self.position_key_AD @ distance_DT
        attention = self.norm_attention_D, self.attention_qkv_AD, self.attention_out_DA, self.attention_out_bias_D, self.position_biases_PHK
        feed_forward = self.feed_forward_in_FD, self.feed_forward_in_bias_F, self.feed_forward_out_DF, self.feed_forward_out_bias_D
        x_DM = Attention.apply(x_DM, r_AT, *attention, mask_TT)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        out_DM: Tensor = FeedForward.apply(x_DM, self.norm_feed_forward_D, *feed_forward)  # type: ignore[no-untyped-call]
        return out_DM


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) with relative positions as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_DM: Tensor, r_AT: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, bias_D: Tensor, biases_PHK: Tensor, mask_TT: Tensor
    ) -> Tensor:
        (_, H, K), (A, T) = biases_PHK.shape, r_AT.shape
        B = x_DM.shape[1] // T
        h_DM, scale_M = _normed(x_DM)
        gained_AD = qkv_AD * gain_D
        qkv_3BHKT = (gained_AD @ h_DM).view(3, H, K, B, T).permute(0, 3, 1, 2, 4)
        q_PNKT = torch.add(qkv_3BHKT[0], biases_PHK[:, None, :, :, None]).reshape(2, B * H, K, T)
        k_NKT, v_NKT = qkv_3BHKT[1:].reshape(2, B * H, K, T).unbind()
        r_NKT = r_AT.view(H, K, T).repeat(B, 1, 1)
        position_NTT = torch.bmm(q_PNKT[1].mT, r_NKT)
        shifted_NTT = position_NTT.as_strided((B * H, T, T), (T * T, T - 1, 1), T - 1)
        p_NTT = torch.baddbmm(shifted_NTT, q_PNKT[0].mT, k_NKT, beta=K**-0.5, alpha=K**-0.5).add_(mask_TT).softmax(-1)
        o_AM = torch.bmm(v_NKT, p_NTT.mT).view(B, H, K, T).permute(1, 2, 0, 3).reshape(A, B * T)
        ctx.save_for_backward(h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_PNKT, k_NKT, v_NKT, r_NKT, p_NTT, o_AM)
        ctx.H = H
        return torch.addmm(x_DM, out_DA, o_AM).add_(bias_D[:, None])

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_PNKT, k_NKT, v_NKT, r_NKT, p_NTT, o_AM = ctx.saved_tensors
        (N, K, T), H = k_NKT.shape, ctx.H
        B, A = N // H, out_DA.shape[1]
        dout_DA = dx_DM @ o_AM.t()
        do_NKT = (out_DA.t() @ dx_DM).view(H, K, B, T).permute(2, 0, 1, 3).reshape(N, K, T)
        # T zeros before the scores' gradient make its shift back a view too (Dai et al. 2019, App. B, in reverse).
        padded_NS = dx_DM.new_zeros(N, T + T * T)
        ds_NTT = padded_NS[:, T:].view(N, T, T)
        dlogit_NTT = torch._softmax_backward_data(torch.bmm(do_NKT.mT, v_NKT), p_NTT, -1, p_NTT.dtype)  # noqa: SLF001 -- autograd's own, one pass
        torch.mul(dlogit_NTT, K**-0.5, out=ds_NTT)
        dposition_NTT = padded_NS.as_strided((N, T, T), (T + T * T, T + 1, 1), 1)
        dq_PNKT = torch.stack((torch.bmm(k_NKT, ds_NTT.mT), torch.bmm(r_NKT, dposition_NTT.mT)))
        dr_AT = torch.bmm(q_PNKT[1], dposition_NTT).view(B, A, T).sum(0)
        dqkv_AM = dx_DM.new_empty(3 * A, B * T)
        dqkv_3BHKT = dqkv_AM.view(3, H, K, B, T).permute(0, 3, 1, 2, 4)
        torch.add(dq_PNKT[0].view(B, H, K, T), dq_PNKT[1].view(B, H, K, T), out=dqkv_3BHKT[0])
        dqkv_3BHKT[1] = torch.bmm(q_PNKT[0], ds_NTT).view(B, H, K, T)
        dqkv_3BHKT[2] = torch.bmm(do_NKT, p_NTT).view(B, H, K, T)
        dgained_AD = (h_DM @ dqkv_AM.t()).t()  # not dqkv @ h.t(): 4 times slower at 8 wide, MKL's worst case
        dh_DM = gained_AD.t() @ dqkv_AM
        dbiases_PHK = dq_PNKT.view(2, B, H, K, T).sum((1, 4))
        dgain_D, dbias_D = (dgained_AD * qkv_AD).sum(0), dx_DM.sum(1)
        return _norm_backward(dx_DM, dh_DM, h_DM, scale_M), dr_AT, dgain_D, dgained_AD * gain_D, dout_DA, dbias_D, dbiases_PHK, None


class FeedForward(torch.autograd.Function):
    """x + down(gelu(up(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(ctx: Any, x_DM: Tensor, gain_D: Tensor, in_FD: Tensor, in_bias_F: Tensor, out_DF: Tensor, out_bias_D: Tensor) -> Tensor:  # noqa: PLR0917
        h_DM, scale_M = _normed(x_DM)
        gained_FD = in_FD * gain_D
        up_FM = torch.addmm(in_bias_F[:, None], gained_FD, h_DM)
        act_FM = functional.gelu(up_FM)  # not its tanh approximation: 3 times slower on a CPU
        ctx.save_for_backward(h_DM, scale_M, gain_D, in_FD, gained_FD, out_DF, up_FM, act_FM)
        return torch.addmm(x_DM, out_DF, act_FM).add_(out_bias_D[:, None])

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor, ...]:
        h_DM, scale_M, gain_D, in_FD, gained_FD, out_DF, up_FM, act_FM = ctx.saved_tensors
        dout_DF = dx_DM @ act_FM.t()
        dup_FM = torch.ops.aten.gelu_backward(out_DF.t() @ dx_DM, up_FM)
        dgained_FD = (h_DM @ dup_FM.t()).t()
        dh_DM = gained_FD.t() @ dup_FM
        dgain_D = (dgained_FD * in_FD).sum(0)
        return _norm_backward(dx_DM, dh_DM, h_DM, scale_M), dgain_D, dgained_FD * gain_D, dup_FM.sum(1), dout_DF, dx_DM.sum(1)


class Head(torch.autograd.Function):
    """Logits of the normed stream as one autograd node; the matrix is the embedding."""

    @staticmethod
    def forward(ctx: Any, x_DM: Tensor, gain_D: Tensor, embedding_VD: Tensor) -> Tensor:
        h_DM, scale_M = _normed(x_DM)
        gained_VD = embedding_VD * gain_D
        ctx.save_for_backward(h_DM, scale_M, gain_D, embedding_VD, gained_VD)
        return h_DM.t() @ gained_VD.t()

    @staticmethod
    def backward(ctx: Any, dlogits_MV: Tensor) -> tuple[Tensor, ...]:
        h_DM, scale_M, gain_D, embedding_VD, gained_VD = ctx.saved_tensors
        dgained_VD = (h_DM @ dlogits_MV).t()
        dx_DM = _norm_backward(None, gained_VD.t() @ dlogits_MV.t(), h_DM, scale_M)
        return dx_DM, (dgained_VD * embedding_VD).sum(0), dgained_VD * gain_D


def _normed(x_DM: Tensor) -> tuple[Tensor, Tensor]:
    """The stream over its root mean square, and what it was multiplied by."""
    scale_M = (x_DM * x_DM).sum(0).div_(x_DM.shape[0]).add_(EPS).rsqrt_()
    return x_DM * scale_M, scale_M


def _norm_backward(dx_DM: Tensor | None, dh_DM: Tensor, h_DM: Tensor, scale_M: Tensor) -> Tensor:
    """The gradient of the stream: that of the residual path and that through the norm."""
    dcentred_DM = torch.addcmul(dh_DM, h_DM, (dh_DM * h_DM).sum(0), value=-1 / h_DM.shape[0])
    return dcentred_DM.mul_(scale_M) if dx_DM is None else torch.addcmul(dx_DM, dcentred_DM, scale_M)


def _normal(rows: int, columns: int, *, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).normal_(0, std, generator=generator))
