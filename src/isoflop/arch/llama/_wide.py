"""The llama family's block in two autograd nodes, token-major: for one CPU core from widths of 48 up, in float32 or with bfloat16 products.

Products of x_MD are oneDNN's best, and its bfloat16 ones twice as fast as float32's. So that all else costs little:

1. the two numbers of a rotated pair lie side by side, as a complex number does: the joint matrix's rows are put so, which changes no product of
   queries and keys;
2. queries attend in blocks, and keys after a block's last query are left out: of a context of 256 three eighths of the scores;
3. a norm's gain is multiplied into the matrix after it, and 1 / sqrt(K) into the queries' rotation.

Axes: as in module.py; C = K / 2 rotated pairs; S queries of a block, U keys up to its last.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from isoflop.arch._module import Precision
from isoflop.arch._written import blocks, gathered, norm_backward, normed, product, rounded, shared


class Tables(NamedTuple):
    """What the nodes need of positions: turns of queries, scaled by 1 / sqrt(K), and of keys; 0 where a query may look, else -inf."""

    query_TC: Tensor
    key_TC: Tensor
    mask_TT: Tensor
    precision: Precision


def tables(rotation_TCX: Tensor, mask_TT: Tensor, precision: Precision) -> Tables:
    """For as many positions as the rotation has."""
    turn_TC = torch.view_as_complex(rotation_TCX)
    return Tables(turn_TC * (2 * turn_TC.shape[1]) ** -0.5, turn_TC, rounded(mask_TT, precision), precision)


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_MD: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, tables: Tables, heads: tuple[int, int]
    ) -> Tensor:
        (T, (H, G)), A = (tables.mask_TT.shape[0], heads), out_DA.shape[1]
        B, K = x_MD.shape[0] // T, A // H
        h_MD, scale_M1 = normed(x_MD)
        h_MD = rounded(h_MD, tables.precision)
        gained_AD = rounded(_paired(qkv_AD, H + G, K) * gain_D, tables.precision)
        qkv_BTGK = product(h_MD, gained_AD).view(B, T, H + 2 * G, K)
        q_NTK, k_NTK = h_MD.new_empty(B * H, T, K), h_MD.new_empty(B * G, T, K)
        _rotate(qkv_BTGK[:, :, :H].transpose(1, 2), tables.query_TC, q_NTK.view(B, H, T, K))
        _rotate(qkv_BTGK[:, :, H : H + G].transpose(1, 2), tables.key_TC, k_NTK.view(B, G, T, K))
        k_NTK, v_NTK = shared(k_NTK, H // G), shared(qkv_BTGK[:, :, H + G :].transpose(1, 2).reshape(B * G, T, K), H // G)
        o_MA, weights = h_MD.new_empty(B * T, A), []
        o_BHTK = o_MA.view(B, T, H, K).transpose(1, 2)
        for start, end in blocks(T):
            p_NSU = torch.baddbmm(tables.mask_TT[start:end, :end], q_NTK[:, start:end], k_NTK[:, :end].mT).softmax(-1)
            o_BHTK[:, :, start:end] = torch.bmm(p_NSU, v_NTK[:, :end]).view(B, H, -1, K)
            weights.append(p_NSU)
        rounded_DA = rounded(out_DA, tables.precision)
        ctx.save_for_backward(h_MD, scale_M1, gain_D, qkv_AD, gained_AD, rounded_DA, q_NTK, k_NTK, v_NTK, o_MA, *weights)
        ctx.tables, ctx.heads = tables, heads
        return product(o_MA, rounded_DA).add(x_MD)

    @staticmethod
    def backward(ctx: Any, dx_MD: Tensor) -> tuple[Tensor | None, ...]:
        h_MD, scale_M1, gain_D, qkv_AD, gained_AD, out_DA, q_NTK, k_NTK, v_NTK, o_MA, *weights = ctx.saved_tensors
        (N, T, K), (H, G) = q_NTK.shape, ctx.heads
        B = N // H
        dout_MD = dx_MD.to(h_MD.dtype)
        dout_DA = (dout_MD.t() @ o_MA).to(dx_MD.dtype)
        do_NTK = product(dout_MD, out_DA.t()).view(B, T, H, K).transpose(1, 2).reshape(N, T, K)
        dqkv_BTGK = h_MD.new_empty(B, T, H + 2 * G, K)
        dk_NTK, dv_NTK = torch.zeros_like(k_NTK), torch.zeros_like(v_NTK)
        for (start, end), p_NSU in zip(blocks(T), weights, strict=True):
            do_NSK = do_NTK[:, start:end]
            ds_NSU = torch._softmax_backward_data(torch.bmm(do_NSK, v_NTK[:, :end].mT), p_NSU, -1, p_NSU.dtype)  # noqa: SLF001 -- autograd's own, one pass
            dq_NSK = torch.bmm(ds_NSU, k_NTK[:, :end])
            _rotate(dq_NSK.view(B, H, -1, K), ctx.tables.query_TC[start:end].conj(), dqkv_BTGK[:, start:end, :H].transpose(1, 2))
            dk_NTK[:, :end] += torch.bmm(ds_NSU.mT, q_NTK[:, start:end])
            dv_NTK[:, :end] += torch.bmm(p_NSU.mT, do_NSK)
        _rotate(gathered(dk_NTK, H // G).view(B, G, T, K), ctx.tables.key_TC.conj(), dqkv_BTGK[:, :, H : H + G].transpose(1, 2))
        dqkv_BTGK[:, :, H + G :].transpose(1, 2).copy_(gathered(dv_NTK, H // G).view(B, G, T, K))
        dqkv_MA = dqkv_BTGK.view(B * T, -1)
        dgained_AD = _unpaired(dqkv_MA.t() @ h_MD, H + G, K).to(dx_MD.dtype)
        dx_MD = norm_backward(product(dqkv_MA, gained_AD.t()), h_MD, scale_M1).add_(dx_MD)
        return dx_MD, (dgained_AD * qkv_AD).sum(0), dgained_AD * gain_D, dout_DA, None, None


class FeedForward(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))) as one autograd node (Shazeer 2020, Eq. 6)."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, gain_D: Tensor, in_FD: Tensor, out_DF: Tensor, tables: Tables) -> Tensor:  # noqa: PLR0917 -- autograd passes by position
        h_MD, scale_M1 = normed(x_MD)
        h_MD = rounded(h_MD, tables.precision)
        gained_FD = rounded(in_FD * gain_D, tables.precision)
        gate_FD, up_FD = gained_FD.chunk(2)  # two products: on halves of long rows a unit takes three times as long
        gate_MF, up_MF = product(h_MD, gate_FD), product(h_MD, up_FD)
        silu_MF = functional.silu(gate_MF)
        act_MF = silu_MF * up_MF
        rounded_DF = rounded(out_DF, tables.precision)
        ctx.save_for_backward(h_MD, scale_M1, gain_D, in_FD, gained_FD, rounded_DF, gate_MF, up_MF, silu_MF, act_MF)
        return product(act_MF, rounded_DF).add(x_MD)

    @staticmethod
    def backward(ctx: Any, dx_MD: Tensor) -> tuple[Tensor | None, ...]:
        h_MD, scale_M1, gain_D, in_FD, gained_FD, out_DF, gate_MF, up_MF, silu_MF, act_MF = ctx.saved_tensors
        gate_FD, up_FD = gained_FD.chunk(2)
        dout_MD = dx_MD.to(h_MD.dtype)
        dout_DF = (dout_MD.t() @ act_MF).to(dx_MD.dtype)
        dact_MF = product(dout_MD, out_DF.t())
        dup_MF = dact_MF * silu_MF
        dgate_MF = torch.ops.aten.silu_backward(dact_MF.mul_(up_MF), gate_MF)
        dgained_FD = torch.cat((dgate_MF.t() @ h_MD, dup_MF.t() @ h_MD)).to(dx_MD.dtype)
        dh_MD = product(dgate_MF, gate_FD.t()).add_(product(dup_MF, up_FD.t()))
        dx_MD = norm_backward(dh_MD, h_MD, scale_M1).add_(dx_MD)
        return dx_MD, (dgained_FD * in_FD).sum(0), dgained_FD * gain_D, dout_DF, None


def _paired(qkv_AD: Tensor, turned: int, K: int) -> Tensor:
    """Rows of the joint matrix with the two of a rotated pair side by side, as complex numbers are; those of values as they are."""
    rows, D = turned * K, qkv_AD.shape[1]
    return torch.cat((qkv_AD[:rows].view(turned, 2, K // 2, D).transpose(1, 2).reshape(rows, D), qkv_AD[rows:]))


def _unpaired(qkv_AD: Tensor, turned: int, K: int) -> Tensor:
    """The rows as the parameter has them."""
    rows, D = turned * K, qkv_AD.shape[1]
    return torch.cat((qkv_AD[:rows].view(turned, K // 2, 2, D).transpose(1, 2).reshape(rows, D), qkv_AD[rows:]))


def _rotate(x_BHTK: Tensor, turn_TC: Tensor, out_BHTK: Tensor) -> None:
    """Pairs as complex numbers, times e^(i angle) of their position (Su et al. 2021, Eq. 34)."""
    if x_BHTK.dtype == torch.bfloat16:  # which is no part of a complex number
        out_BHTK.copy_(torch.view_as_real(_complex(x_BHTK.float()) * turn_TC).flatten(-2))
    else:
        torch.mul(_complex(x_BHTK), turn_TC, out=_complex(out_BHTK))


def _complex(x_BHTK: Tensor) -> Tensor:
    return torch.view_as_complex(x_BHTK.view(*x_BHTK.shape[:3], -1, 2))
