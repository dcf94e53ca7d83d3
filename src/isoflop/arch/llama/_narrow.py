"""The llama family's block in two autograd nodes, feature-major: for one CPU core and widths below 48, in float32.

So narrow, most of a step is outside its matrix products. Hence three choices:

1. activations are kept feature-major (x_DM, not x_MD): both halves of a rotation and of a gated unit, and the sum of a norm,
   are then long contiguous rows, which vectorise; a slice of a row of 16 numbers does not;
2. a norm's gain is multiplied into the matrix after it: the matrix is smaller than the activations;
3. queries attend in blocks, and keys after a block's last query are left out.

Axes: as in module.py; C = K / 2 rotated pairs, P = 2 for (queries, keys), X = 2 for the two numbers of a rotated pair; U keys up to a block's last query.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from isoflop.arch._written import blocks, features_norm_backward, features_normed, gathered, shared


class Tables(NamedTuple):
    """What the nodes need of positions: their cosines and sines, and 0 where a query may look, else -inf."""

    rotation_XCT: Tensor
    mask_TT: Tensor


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_DM: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, tables: Tables, heads: tuple[int, int]
    ) -> Tensor:
        (rotation_XCT, mask_TT), (H, G) = tables, heads
        T, A = mask_TT.shape[0], out_DA.shape[1]
        B, K = x_DM.shape[1] // T, A // H
        h_DM, scale_M = features_normed(x_DM)
        gained_AD = qkv_AD * gain_D
        qkv_AM = gained_AD @ h_DM
        qk_S = x_DM.new_empty((H + G) * B * K * T)
        for rows_PBHXCT, turned_PBHXCT in _queries_and_keys(qkv_AM, qk_S, (B, H, G)):
            _rotate(rows_PBHXCT, rotation_XCT, sign=1, out=turned_PBHXCT)
        q_NKT, k_NKT = qk_S[: H * B * K * T].view(-1, K, T), qk_S[H * B * K * T :].view(-1, K, T)
        v_NKT = qkv_AM[A + G * K :].view(G, K, B, T).permute(2, 0, 1, 3).reshape(B * G, K, T)
        k_of_q_NKT, v_of_q_NKT = shared(k_NKT, H // G), shared(v_NKT, H // G)
        o_AM, weights = x_DM.new_empty(A, B * T), []
        o_BHKT = o_AM.view(H, K, B, T).permute(2, 0, 1, 3)
        for start, end in blocks(T):
            p_NSU = torch.baddbmm(mask_TT[start:end, :end], q_NKT[:, :, start:end].mT, k_of_q_NKT[:, :, :end], alpha=K**-0.5).softmax(-1)
            o_BHKT[..., start:end] = torch.bmm(v_of_q_NKT[:, :, :end], p_NSU.mT).view(B, H, K, -1)
            weights.append(p_NSU)
        ctx.save_for_backward(h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_NKT, k_NKT, v_NKT, o_AM, rotation_XCT, *weights)
        ctx.heads = H, G
        return torch.addmm(x_DM, out_DA, o_AM)

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_NKT, k_NKT, v_NKT, o_AM, rotation_XCT, *weights = ctx.saved_tensors
        (N, K, T), (H, G), A = q_NKT.shape, ctx.heads, out_DA.shape[1]
        B, R = N // H, H // G
        dout_DA = dx_DM @ o_AM.t()
        do_NKT = (out_DA.t() @ dx_DM).view(H, K, B, T).permute(2, 0, 1, 3).reshape(N, K, T)
        dqkv_AM = dx_DM.new_empty(A + 2 * G * K, B * T)
        dqk_S = dx_DM.new_empty((H + G) * B * K * T)
        dq_NKT, dk_NKT = dqk_S[: N * K * T].view(-1, K, T), dqk_S[N * K * T :].view(-1, K, T)
        k_of_q_NKT, v_of_q_NKT = shared(k_NKT, R), shared(v_NKT, R)
        dk_of_q_NKT, dv_of_q_NKT = torch.zeros_like(k_of_q_NKT), torch.zeros_like(v_of_q_NKT)
        for (start, end), p_NSU in zip(blocks(T), weights, strict=True):
            do_NKS = do_NKT[:, :, start:end]
            ds_NSU = torch._softmax_backward_data(torch.bmm(do_NKS.mT, v_of_q_NKT[:, :, :end]), p_NSU, -1, p_NSU.dtype)  # noqa: SLF001 -- autograd's own
            dq_NKT[:, :, start:end] = torch.bmm(k_of_q_NKT[:, :, :end], ds_NSU.mT)
            dk_of_q_NKT[:, :, :end] += torch.bmm(q_NKT[:, :, start:end], ds_NSU)
            dv_of_q_NKT[:, :, :end] += torch.bmm(do_NKS, p_NSU)
        dk_NKT.copy_(gathered(dk_of_q_NKT, R))
        dqkv_AM[A + G * K :].view(G, K, B, T).permute(2, 0, 1, 3).copy_(gathered(dv_of_q_NKT, R).view(B, G, K, T))
        dqk_S *= K**-0.5
        for rows_PBHXCT, turned_PBHXCT in _queries_and_keys(dqkv_AM, dqk_S, (B, H, G)):
            _rotate(turned_PBHXCT, rotation_XCT, sign=-1, out=rows_PBHXCT)
        dgained_AD = (h_DM @ dqkv_AM.t()).t()  # not dqkv @ h.t(): 4 times slower at 8 wide, MKL's worst case
        dx_DM = features_norm_backward(dx_DM, gained_AD.t() @ dqkv_AM, h_DM, scale_M)
        return dx_DM, (dgained_AD * qkv_AD).sum(0), dgained_AD * gain_D, dout_DA, None, None


class FeedForward(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))) as one autograd node (Shazeer 2020, Eq. 6)."""

    @staticmethod
    def forward(ctx: Any, x_DM: Tensor, gain_D: Tensor, in_FD: Tensor, out_DF: Tensor, _: Tables) -> Tensor:
        h_DM, scale_M = features_normed(x_DM)
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
        dx_DM = features_norm_backward(dx_DM, gained_FD.t() @ din_FM, h_DM, scale_M)
        return dx_DM, (dgained_FD * in_FD).sum(0), dgained_FD * gain_D, dout_DF, None


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
