"""How fast a training step is on one core: the usual formulation against ours.

Run: `python benchmarks/step_speed.py [--plain-malloc]`

Prints, for both families, milliseconds a step (forward, backward, clip, AdamW) and GFLOP/s as `shape.flops_per_token` counts them.
Steps are timed in turn, so that a busy machine slows all alike; the figure is the median of CPU time, which on one thread is wall time on
a free core. Other work on the machine still shows (caches, clock): compare within a row, and run it alone for the GFLOP/s.

- usual: llama as most trainers write it (token-major, separate q, k, v, gate and up, SDPA, `clip_grad_norm_`, fused AdamW);
- ours: `module.build` with the same optimiser;
- flat: `module.build` with all parameters views of one tensor, so that clip and AdamW are single operations.

`--plain-malloc` leaves glibc's allocator as it is. It hands every block above 128 KiB back to the system, and taking it again costs a
page fault each 4 KiB: 250 faults and about 0.4 ms for a matrix of 1 MiB on a virtual machine, against 0.02 ms to fill it.
"""

import argparse
import ctypes
import importlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape, get

# Axes: B sequences, T positions, H heads, K kv_size, D d_model, V vocab.
WIDTHS = (8, 16, 32, 64, 128)
TOKENS = (256, 512, 1024, 2048)
CONTEXTS = (64, 128)
SECONDS = 0.5  # a cell
STEPS = 9  # a cell at least

Step = Callable[[], None]


class UsualBlock(nn.Module):
    """A llama block as most trainers write it."""

    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        D, F, T, K = shape.d_model, shape.ffw_size, shape.context, shape.kv_size
        self.n_heads = shape.n_heads
        self.norm_1, self.norm_2 = nn.RMSNorm(D), nn.RMSNorm(D)
        self.q, self.k, self.v, self.out = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(D, F, bias=False), nn.Linear(D, F, bias=False), nn.Linear(F, D, bias=False)
        angle_TK = (torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(0, K, 2) / K)).repeat(1, 2)
        self.register_buffer("cos_TK", angle_TK.cos())
        self.register_buffer("sin_TK", angle_TK.sin())

    def rotated(self, x_BHTK: Tensor) -> Tensor:
        a, b = x_BHTK.chunk(2, -1)
        return x_BHTK * self.cos_TK + torch.cat((-b, a), -1) * self.sin_TK

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        h_BTD = self.norm_1(x_BTD)
        q, k, v = (layer(h_BTD).view(B, T, self.n_heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        o_BHTK = functional.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, is_causal=True)
        x_BTD = x_BTD + self.out(o_BHTK.transpose(1, 2).reshape(B, T, D))
        h_BTD = self.norm_2(x_BTD)
        out_BTD: Tensor = x_BTD + self.down(functional.silu(self.gate(h_BTD)) * self.up(h_BTD))
        return out_BTD


class Usual(nn.Module):
    """Llama as most trainers write it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.d_model)
        self.blocks = nn.Sequential(*(UsualBlock(shape) for _ in range(shape.n_layers)))
        self.norm = nn.RMSNorm(shape.d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        logits_BTV = functional.linear(self.norm(self.blocks(self.embedding(tokens_BT))), self.embedding.weight)
        return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def usual_step(model: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Step:
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        model(tokens_BT, targets_BT).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step


def flat_step(model: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Step:
    """One tensor of all parameters and one of all gradients; the model's are views of them."""
    parameters = list(model.parameters())
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    for p, value, slope in zip(parameters, torch.split(flat.detach(), sizes), torch.split(grad, sizes), strict=True):
        p.data, p.grad = value.view_as(p), slope.view_as(p)
    optimiser = torch.optim.AdamW([flat], lr=1e-4, fused=True)

    def step() -> None:
        grad.zero_()
        model(tokens_BT, targets_BT).backward()
        grad.mul_((1.0 / (torch.linalg.vector_norm(grad) + 1e-6)).clamp_(max=1.0))
        optimiser.step()

    return step


def medians(steps: list[Step]) -> list[float]:
    """Median CPU seconds of each step, timed in turn."""
    seconds: list[list[float]] = [[] for _ in steps]
    for step in steps * 3:
        step()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(seconds[0]) < STEPS:
        for step, times in zip(steps, seconds, strict=True):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def cell(context: int, d_model: int, tokens: int) -> str:
    """One row of the table."""
    shapes = {arch: get(arch).at(d_model, vocab=256, context=context) for arch in ("llama", "gopher")}
    batch = torch.randint(256, (2, tokens // context, context), generator=torch.Generator().manual_seed(0)).unbind()
    models = {arch: [importlib.import_module(f"isoflop.arch.{arch}.module").build(shape, seed=0) for _ in range(2)] for arch, shape in shapes.items()}
    ours = [make(model, *batch) for arch in shapes for make, model in zip((usual_step, flat_step), models[arch], strict=True)]
    usual, *rest = medians([usual_step(Usual(shapes["llama"]), *batch), *ours])
    gflops = {arch: shape.flops_per_token.training * tokens / 1e9 for arch, shape in shapes.items()}
    row = f"{context:7} {d_model:7} {tokens:6} | {usual * 1e3:8.2f} {gflops['llama'] / usual:5.1f}"
    for arch, (plain, flat) in zip(shapes, (rest[:2], rest[2:]), strict=True):
        row += f" | {plain * 1e3:8.2f} {gflops[arch] / plain:5.1f} | {flat * 1e3:8.2f} {gflops[arch] / flat:5.1f}"
    return f"{row} | {usual / rest[1]:5.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain-malloc", action="store_true", help="leave glibc's allocator as it is")
    if not parser.parse_args().plain_malloc:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: no block straight from the system
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: nothing handed back to it
    torch.set_num_threads(1)
    print("                       | usual llama    | ours llama     | flat llama     | ours gopher    | flat gopher    | usual / flat")
    print("context d_model tokens | ms/step GFLOP/s" + " | ms/step GFLOP/s" * 4 + " | llama")
    for context in CONTEXTS:
        for d_model in WIDTHS:
            for tokens in TOKENS:
                print(cell(context, d_model, tokens), flush=True)


if __name__ == "__main__":
    main()
