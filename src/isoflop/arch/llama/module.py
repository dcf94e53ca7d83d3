"""The llama family as a module: RMSNorm, rotary positions, SwiGLU, no biases (Touvron et al. 2023); grouped queries and an own head by choice.

A block is computed in one of four ways, of equal results:

- plain: ordinary torch operations, for accelerators, autocast and compilers;
- fused, narrow and wide: one autograd node for attention and one for the feed-forward, their backward passes written out. They are for one CPU core,
  where plain PyTorch spends much of a step outside its matrix products (`benchmarks/step_speed.py` measures it): fused ones are kernels in C, for
  float32 where there is a compiler; the others are few and large operations of PyTorch's.

Axes: B sequences, T positions, M = B x T tokens, D d_model, H heads, G key-value heads, R = H / G queries each, K kv_size,
C = K / 2 rotated pairs, X = 2 for the cosine and the sine of their angle, A = H x K (A + 2 x G x K in the joint matrix), F ffw_size, V vocab,
N = B x H (B x G of keys and values).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape, _kernels, _module
from isoflop.arch._fused import answer
from isoflop.arch._module import Precision, Reduction
from isoflop.arch._written import EPS, Turned
from isoflop.arch.llama import _fused, _narrow, _wide

WIDE = 48  # d_model; `benchmarks/step_speed.md`: narrow nodes win up to 32, wide ones from 64
ROPE_BASE = 10_000.0  # Su et al. 2021, Sec. 3.3

Tables = _fused.Tables | _wide.Tables | _narrow.Tables


def build(shape: Shape, *, seed: int) -> nn.Module:
    """A float32 model with weights drawn from its own generator, so that the seed alone decides them."""
    return Llama(shape, torch.Generator().manual_seed(seed))


class Llama(nn.Module):
    """Tokens to logits, or with targets to their cross-entropy in nats."""

    head_VD: nn.Parameter | None
    rotation_TCX: Tensor
    mask_TT: Tensor

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.plain: bool | None = None  # None: as the tensors are; see `_module.takes_plain`
        self.precision: Precision = "float32"
        self.kernels: _kernels.Kernels | None = None  # those of a training run; see `_kernels.load`
        self.wide = shape.d_model >= WIDE  # and wherever products are in bfloat16
        D, V, T, K = shape.d_model, shape.vocab, shape.context, shape.kv_size
        # Assumption: with a normed final stream the logits have variance D x std^2 = 0.04, so a fresh model's loss is ln V + 0.02.
        self.embedding_VD = _normal(V, D, std=0.2 / math.sqrt(D), generator=generator)
        self.blocks = nn.ModuleList(Block(shape, generator) for _ in range(shape.n_layers))
        self.norm_D = nn.Parameter(torch.ones(D))
        # Drawn last, so that all else is as in the tied model; the embedding's size does not matter to a normed stream.
        self.register_parameter("head_VD", None if shape.tied else _normal(V, D, std=0.2 / math.sqrt(D), generator=generator))
        angle_TC = torch.arange(T)[:, None] * ROPE_BASE ** (-torch.arange(0, K, 2, dtype=torch.float64) / K)
        self.register_buffer("rotation_TCX", torch.stack((angle_TC.cos(), angle_TC.sin()), -1).float(), persistent=False)
        self.register_buffer("mask_TT", torch.full((T, T), -math.inf).triu(1), persistent=False)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Reduction = "mean", *, z_loss: float = 0.0) -> Tensor:
        """Logits (B, T, V) in float32; or the mean or the sum over targets of the cross-entropy in nats, with z_loss of its penalty added."""
        if _module.takes_plain(self.plain, self.embedding_VD):
            with _module.autocast(self.precision, self.embedding_VD):
                logits_BTV = self._plain_logits(tokens_BT)
            return logits_BTV if targets_BT is None else _module.loss_of(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction, z_loss)
        head = self._stream(tokens_BT), self.norm_D, self.embedding_VD if self.head_VD is None else self.head_VD
        return answer(head, tokens_BT, targets_BT, reduction, z_loss=z_loss, kernels=self.kernels)

    def _stream(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        x_MD = self.embedding_VD.index_select(0, tokens_BT.flatten())  # its backward is 4 times faster than embedding's
        if self.kernels is not None and self.precision == "float32":
            return self._through(x_MD, _fused.tables(self.rotation_TCX[:T], T, self.kernels))
        if self.wide or self.precision == "bf16":
            return self._through(x_MD, _wide.tables(self.rotation_TCX[:T], self.mask_TT[:T, :T], self.precision))
        narrow = _narrow.Tables(self.rotation_TCX[:T].permute(2, 1, 0).contiguous(), self.mask_TT[:T, :T])
        x_DM = self._through(Turned.apply(x_MD), narrow)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        stream_MD: Tensor = Turned.apply(x_DM)  # type: ignore[no-untyped-call]
        return stream_MD

    def _through(self, x: Tensor, tables: Tables) -> Tensor:
        for block in self.blocks:
            x = block(x, tables)
        return x

    def _plain_logits(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        x_BTD = functional.embedding(tokens_BT, self.embedding_VD)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.rotation_TCX[:T])
        head_VD = self.embedding_VD if self.head_VD is None else self.head_VD
        h_BTD = functional.rms_norm(x_BTD, self.norm_D.shape, self.norm_D, EPS)
        return functional.linear(h_BTD, head_VD).to(x_BTD.dtype)


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

    def forward(self, x: Tensor, tables: Tables | Tensor) -> Tensor:
        """The stream after the block, by the way that the tables are of: x_MD if fused or wide, x_DM if narrow, x_BTD if plain (its table is the rotation)."""
        if isinstance(tables, Tensor):
            x = x + self._plain_attention(x, tables)
            return x + self._plain_feed_forward(x)
        nodes = _fused if isinstance(tables, _fused.Tables) else _wide if isinstance(tables, _wide.Tables) else _narrow
        attention = self.norm_attention_D, self.attention_qkv_AD, self.attention_out_DA
        feed_forward = self.norm_feed_forward_D, self.feed_forward_in_FD, self.feed_forward_out_DF
        x = nodes.Attention.apply(x, *attention, tables, self.heads)
        out: Tensor = nodes.FeedForward.apply(x, *feed_forward, tables)
        return out

    def _plain_attention(self, x_BTD: Tensor, rotation_TCX: Tensor) -> Tensor:
        (H, G), K = self.heads, 2 * rotation_TCX.shape[1]
        h_BTD = functional.rms_norm(x_BTD, self.norm_attention_D.shape, self.norm_attention_D, EPS)
        qkv = functional.linear(h_BTD, self.attention_qkv_AD).view(*x_BTD.shape[:2], -1, K)
        q, k, v = torch.split(qkv.transpose(1, 2), [H, G, G], 1)
        o_BHTK = functional.scaled_dot_product_attention(_turned(q, rotation_TCX), _turned(k, rotation_TCX), v, is_causal=True, enable_gqa=H != G)
        return functional.linear(o_BHTK.transpose(1, 2).flatten(2), self.attention_out_DA)

    def _plain_feed_forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = functional.rms_norm(x_BTD, self.norm_feed_forward_D.shape, self.norm_feed_forward_D, EPS)
        gate_BTF, up_BTF = functional.linear(h_BTD, self.feed_forward_in_FD).chunk(2, -1)
        return functional.linear(functional.silu(gate_BTF) * up_BTF, self.feed_forward_out_DF)


def _turned(x_BHTK: Tensor, rotation_TCX: Tensor) -> Tensor:
    """Each pair (first half, second half) turned by its position's angle (Su et al. 2021, Eq. 34)."""
    cos_TC, sin_TC = rotation_TCX.to(x_BHTK.dtype).unbind(-1)
    a, b = x_BHTK.chunk(2, -1)
    return torch.cat((a * cos_TC - b * sin_TC, b * cos_TC + a * sin_TC), -1)


def _normal(rows: int, columns: int, *, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).normal_(0, std, generator=generator))
