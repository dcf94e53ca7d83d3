"""The paper's family as a module: Transformer-XL relative positions, RMSNorm, GELU, tied embedding (Rae et al. 2021; Dai et al. 2019).

A block is computed plainly, by ordinary torch operations, for accelerators, autocast and compilers; or, with equal results, by one autograd node for
attention and one for the feed-forward, their backward passes written out. These are for one CPU core, where plain PyTorch spends much of a step
outside its matrix products (`benchmarks/step_speed.py` measures it):

1. activations are feature-major (x_DM, not x_MD): sums over features and biases are then over long contiguous rows;
2. few and large operations remain; queries attend in blocks, and keys after a block's last query are left out;
3. a norm's gain is multiplied into the matrix after it: the matrix is smaller than the activations;
4. the relative shift is a view: of S queries that see U distances, the next one's score at a distance lies U - 1 numbers after its
   neighbour's, so a stride of U - 1 lines the keys up. What the view reads for keys after the query is masked.

Axes: B sequences, T positions, M = B x T tokens, D d_model, H heads, K kv_size, A = H x K, F ffw_size, V vocab, N = B x H,
P = 2 for queries with (content, position) bias,
S queries of a block, U keys up to its last. Distances run from T - 1 down to 0, as keys do for the last query.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape, _kernels, _module
from isoflop.arch._fused import answer
from isoflop.arch._module import Precision, Reduction
from isoflop.arch._written import EPS, Turned, blocks, features_norm_backward, features_normed, onto, rounded

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
        self.plain: bool | None = None  # None: as the tensors are; see `_module.takes_plain`
        self.precision: Precision = "float32"
        self.kernels: _kernels.Kernels | None = None  # those of a training run, for the loss alone; see `_kernels.load`
        D, V, T = shape.d_model, shape.vocab, shape.context
        # Assumption: with a normed final stream the logits have variance D x std^2 = 0.04, so a fresh model's loss is ln V + 0.02.
        self.embedding_VD = _normal(V, D, std=0.2 / math.sqrt(D), generator=generator)
        self.blocks = nn.ModuleList(Block(shape, generator) for _ in range(shape.n_layers))
        self.norm_D = nn.Parameter(torch.ones(D))
        angle_CT = SINUSOID_BASE ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)[:, None] * torch.arange(T - 1, -1, -1)
        self.register_buffer("distance_DT", torch.cat((angle_CT.sin(), angle_CT.cos()))[:D].float(), persistent=False)
        self.register_buffer("mask_TT", torch.full((T, T), -math.inf).triu(1), persistent=False)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Reduction = "mean", *, z_loss: float = 0.0) -> Tensor:
        """Logits (B, T, V) in float32; or the mean or the sum over targets of the cross-entropy in nats, with z_loss of its penalty added."""
        if _module.takes_plain(self.plain, self.embedding_VD):
            with _module.autocast(self.precision, self.embedding_VD):
                logits_BTV = self._plain_logits(tokens_BT)
            return logits_BTV if targets_BT is None else _module.loss_of(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction, z_loss)
        head = self._stream(tokens_BT), self.norm_D, self.embedding_VD
        return answer(head, tokens_BT, targets_BT, reduction, z_loss=z_loss, kernels=self.kernels)

    def _stream(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        x_MD = self.embedding_VD.index_select(0, tokens_BT.flatten())  # its backward is 4 times faster than embedding's
        x_DM = Turned.apply(x_MD)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        tables = Tables(rounded(self.mask_TT[:T, :T], self.precision), self.precision)
        for block in self.blocks:
            x_DM = block(x_DM, self.distance_DT[:, -T:], tables)
        stream_MD: Tensor = Turned.apply(x_DM)  # type: ignore[no-untyped-call]
        return stream_MD

    def _plain_logits(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        x_BTD = functional.embedding(tokens_BT, self.embedding_VD)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.distance_DT[:, -T:], self.mask_TT[:T, :T])
        h_BTD = functional.rms_norm(x_BTD, self.norm_D.shape, self.norm_D, EPS)
        return functional.linear(h_BTD, self.embedding_VD).to(x_BTD.dtype)


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

    def forward(self, x: Tensor, distance_DT: Tensor, tables: "Tables | Tensor") -> Tensor:
        """The stream after the block: x_DM through the nodes, with their tables; x_BTD through plain operations, with the mask."""
        if isinstance(tables, Tensor):
            x = x + self._plain_attention(x, distance_DT, tables)
            return x + self._plain_feed_forward(x)
        r_AT = self.position_key_AD @ distance_DT
        attention = self.norm_attention_D, self.attention_qkv_AD, self.attention_out_DA, self.attention_out_bias_D, self.position_biases_PHK
        feed_forward = self.feed_forward_in_FD, self.feed_forward_in_bias_F, self.feed_forward_out_DF, self.feed_forward_out_bias_D
        x = Attention.apply(x, r_AT, *attention, tables)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        out_DM: Tensor = FeedForward.apply(x, self.norm_feed_forward_D, *feed_forward, tables)  # type: ignore[no-untyped-call]
        return out_DM

    def _plain_attention(self, x_BTD: Tensor, distance_DT: Tensor, mask_TT: Tensor) -> Tensor:
        _, H, K = self.position_biases_PHK.shape
        h_BTD = functional.rms_norm(x_BTD, self.norm_attention_D.shape, self.norm_attention_D, EPS)
        qkv = functional.linear(h_BTD, self.attention_qkv_AD).view(*x_BTD.shape[:2], 3, H, K)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        biases_PH1K = self.position_biases_PHK.to(q.dtype).unsqueeze(2)
        r_HTK = functional.linear(distance_DT.t(), self.position_key_AD).view(-1, H, K).transpose(0, 1)
        position_BHTT = _shifted((q + biases_PH1K[1]) @ r_HTK.mT) * K**-0.5 + mask_TT.to(q.dtype)
        o_BHTK = functional.scaled_dot_product_attention(q + biases_PH1K[0], k, v, attn_mask=position_BHTT)
        return functional.linear(o_BHTK.transpose(1, 2).flatten(2), self.attention_out_DA, self.attention_out_bias_D)

    def _plain_feed_forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = functional.rms_norm(x_BTD, self.norm_feed_forward_D.shape, self.norm_feed_forward_D, EPS)
        act_BTF = functional.gelu(functional.linear(h_BTD, self.feed_forward_in_FD, self.feed_forward_in_bias_F))
        return functional.linear(act_BTF, self.feed_forward_out_DF, self.feed_forward_out_bias_D)


def _shifted(position_BHTT: Tensor) -> Tensor:
    """Scores by distance to scores by key (Dai et al. 2019, App. B); above the diagonal stand numbers of other rows."""
    B, H, T, _ = position_BHTT.shape
    return functional.pad(position_BHTT, (1, 0)).view(B, H, T + 1, T)[:, :, 1:]


class Tables(NamedTuple):
    """What the nodes need besides weights: 0 where a query may look, else -inf; and the precision of products."""

    mask_TT: Tensor
    precision: Precision


class Attention(torch.autograd.Function):
    """x + out(attention(qkv(norm(x)))) with relative positions as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_DM: Tensor, r_AT: Tensor, gain_D: Tensor, qkv_AD: Tensor, out_DA: Tensor, bias_D: Tensor, biases_PHK: Tensor, tables: Tables
    ) -> Tensor:
        (_, H, K), (A, T), (mask_TT, precision) = biases_PHK.shape, r_AT.shape, tables
        B = x_DM.shape[1] // T
        h_DM, scale_M = features_normed(x_DM)
        h_DM, gained_AD, rounded_DA = rounded(h_DM, precision), rounded(qkv_AD * gain_D, precision), rounded(out_DA, precision)
        qkv_3BHKT = (gained_AD @ h_DM).view(3, H, K, B, T).permute(0, 3, 1, 2, 4)
        q_PNKT = torch.add(qkv_3BHKT[0], rounded(biases_PHK, precision)[:, None, :, :, None]).reshape(2, B * H, K, T)
        k_NKT, v_NKT = qkv_3BHKT[1:].reshape(2, B * H, K, T).unbind()
        r_NKT = rounded(r_AT, precision).view(H, K, T).repeat(B, 1, 1)
        o_AM, weights = h_DM.new_empty(A, B * T), []
        o_BHKT = o_AM.view(H, K, B, T).permute(2, 0, 1, 3)
        for start, end in blocks(T):
            position_NSU = torch.bmm(q_PNKT[1, :, :, start:end].mT, r_NKT[:, :, -end:])
            shifted_NSU = position_NSU.as_strided((B * H, end - start, end), ((end - start) * end, end - 1, 1), end - start - 1)
            scores_NSU = torch.baddbmm(shifted_NSU, q_PNKT[0, :, :, start:end].mT, k_NKT[:, :, :end], beta=K**-0.5, alpha=K**-0.5)
            weights.append(scores_NSU.add_(mask_TT[start:end, :end]).softmax(-1))
            o_BHKT[..., start:end] = torch.bmm(v_NKT[:, :, :end], weights[-1].mT).view(B, H, K, -1)
        ctx.save_for_backward(h_DM, scale_M, gain_D, qkv_AD, gained_AD, rounded_DA, q_PNKT, k_NKT, v_NKT, r_NKT, o_AM, *weights)
        ctx.H = H
        return onto(x_DM, rounded_DA, o_AM).add_(bias_D[:, None])

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, qkv_AD, gained_AD, out_DA, q_PNKT, k_NKT, v_NKT, r_NKT, o_AM, *weights = ctx.saved_tensors
        (N, K, T), H = k_NKT.shape, ctx.H
        B, A = N // H, out_DA.shape[1]
        dout_DM = dx_DM.to(h_DM.dtype)
        dout_DA = (dout_DM @ o_AM.t()).to(dx_DM.dtype)
        do_NKT = (out_DA.t() @ dout_DM).view(H, K, B, T).permute(2, 0, 1, 3).reshape(N, K, T)
        dq_PNKT, (dk_NKT, dv_NKT, dr_NKT) = torch.empty_like(q_PNKT), h_DM.new_zeros(3, N, K, T).unbind()
        for (start, end), p_NSU in zip(blocks(T), weights, strict=True):
            do_NKS = do_NKT[:, :, start:end]
            dlogit_NSU = torch._softmax_backward_data(torch.bmm(do_NKS.mT, v_NKT[:, :, :end]), p_NSU, -1, p_NSU.dtype)  # noqa: SLF001 -- autograd's own
            ds_NSU, dposition_NSU = _scaled_and_shifted_back(dlogit_NSU, K**-0.5)
            dq_PNKT[0, :, :, start:end] = torch.bmm(k_NKT[:, :, :end], ds_NSU.mT)
            dq_PNKT[1, :, :, start:end] = torch.bmm(r_NKT[:, :, -end:], dposition_NSU.mT)
            dr_NKT[:, :, -end:] += torch.bmm(q_PNKT[1, :, :, start:end], dposition_NSU)
            dk_NKT[:, :, :end] += torch.bmm(q_PNKT[0, :, :, start:end], ds_NSU)
            dv_NKT[:, :, :end] += torch.bmm(do_NKS, p_NSU)
        dqkv_AM = h_DM.new_empty(3 * A, B * T)
        dqkv_3BHKT = dqkv_AM.view(3, H, K, B, T).permute(0, 3, 1, 2, 4)
        torch.add(dq_PNKT[0].view(B, H, K, T), dq_PNKT[1].view(B, H, K, T), out=dqkv_3BHKT[0])
        dqkv_3BHKT[1], dqkv_3BHKT[2] = dk_NKT.view(B, H, K, T), dv_NKT.view(B, H, K, T)
        dgained_AD = (h_DM @ dqkv_AM.t()).t().to(dx_DM.dtype)  # not dqkv @ h.t(): 4 times slower at 8 wide, MKL's worst case
        dr_AT, dbiases_PHK = (dr_NKT.view(B, A, T).sum(0).to(dx_DM.dtype), dq_PNKT.view(2, B, H, K, T).sum((1, 4), dtype=dx_DM.dtype))
        dnormed_DM = features_norm_backward(dx_DM, gained_AD.t() @ dqkv_AM, h_DM, scale_M)
        return dnormed_DM, dr_AT, (dgained_AD * qkv_AD).sum(0), dgained_AD * gain_D, dout_DA, dx_DM.sum(1), dbiases_PHK, None


def _scaled_and_shifted_back(dlogit_NSU: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The gradient of scores by key, and as a view of it that by distance: S - 1 zeros before it make the shift back a view too (Dai et al. 2019, App. B)."""
    N, S, U = dlogit_NSU.shape
    padded_NX = dlogit_NSU.new_zeros(N, S - 1 + S * U)
    ds_NSU = padded_NX[:, S - 1 :].view(N, S, U)
    torch.mul(dlogit_NSU, scale, out=ds_NSU)
    return ds_NSU, padded_NX.as_strided((N, S, U), (S - 1 + S * U, U + 1, 1), 0)


class FeedForward(torch.autograd.Function):
    """x + down(gelu(up(norm(x)))) as one autograd node."""

    @staticmethod
    def forward(  # noqa: PLR0917 -- autograd passes by position
        ctx: Any, x_DM: Tensor, gain_D: Tensor, in_FD: Tensor, in_bias_F: Tensor, out_DF: Tensor, out_bias_D: Tensor, tables: Tables
    ) -> Tensor:
        h_DM, scale_M = features_normed(x_DM)
        h_DM, gained_FD, rounded_DF = (rounded(x, tables.precision) for x in (h_DM, in_FD * gain_D, out_DF))
        up_FM = torch.addmm(rounded(in_bias_F, tables.precision)[:, None], gained_FD, h_DM)
        act_FM = functional.gelu(up_FM)  # not its tanh approximation: 3 times slower on a CPU
        ctx.save_for_backward(h_DM, scale_M, gain_D, in_FD, gained_FD, rounded_DF, up_FM, act_FM)
        return onto(x_DM, rounded_DF, act_FM).add_(out_bias_D[:, None])

    @staticmethod
    def backward(ctx: Any, dx_DM: Tensor) -> tuple[Tensor | None, ...]:
        h_DM, scale_M, gain_D, in_FD, gained_FD, out_DF, up_FM, act_FM = ctx.saved_tensors
        dout_DM = dx_DM.to(h_DM.dtype)
        dout_DF = (dout_DM @ act_FM.t()).to(dx_DM.dtype)
        dup_FM = torch.ops.aten.gelu_backward(out_DF.t() @ dout_DM, up_FM)
        dgained_FD = (h_DM @ dup_FM.t()).t().to(dx_DM.dtype)
        dnormed_DM = features_norm_backward(dx_DM, gained_FD.t() @ dup_FM, h_DM, scale_M)
        dup_F = dup_FM.sum(1, dtype=dx_DM.dtype)
        return dnormed_DM, (dgained_FD * in_FD).sum(0), dgained_FD * gain_D, dup_F, dout_DF, dx_DM.sum(1), None


def _normal(rows: int, columns: int, *, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).normal_(0, std, generator=generator))
