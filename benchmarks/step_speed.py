"""How fast a training step is on one core: ours beside a nanoGPT-like one, and beside transformers and litgpt where they are installed.

    python benchmarks/step_speed.py                                  # the shapes of the comparison, context 256, 4096 tokens a step
    python benchmarks/step_speed.py --widths 8 16 32 64 --tokens 512 2048   # small shapes of the quickstart's kind, context 128
    python benchmarks/step_speed.py --compile                        # instead: our llama in float32 by kernels, by its nodes, plain, and by torch.compile
    python benchmarks/step_speed.py --limit                          # instead: products alone, below which no float32 step by these libraries can come
    python benchmarks/step_speed.py --loss TEXT --seeds 3            # instead: final losses in float32 and bf16, seed by seed

A step is forward, backward, clip and AdamW. Steps are timed in bursts, one formulation after the other, the first of each burst left out (it finds
the others' numbers in the caches); the figure is the median of CPU time, which on one thread is wall time on a free core. Other work on the machine
still shows: read ratios, within a row. All have the same batch, width, depth and heads; nanoGPT's feed-forward of 4 d_model has, to a hundredth, the FLOPs of a
llama's of 8/3 d_model, and `flops` gives the ratio. All share an allocator that keeps large blocks, as isoflop's does while it trains. "nanoGPT as it is" has
glibc's own, which hands every block above 128 KiB back to the system, so that taking it again costs a page fault each 4 KiB: what a script gets that says
nothing of it. It is timed in a process of its own, before and after the others of its row.
"""

import argparse
import ctypes
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.arch import Shape, _kernels, get
from isoflop.arch._written import blocks

# Axes: B sequences, T positions, H heads, K kv_size, D d_model, V vocab.
SHAPES = ((32, 2, 32), (64, 4, 32), (128, 4, 32), (128, 4, 64), (192, 6, 64))  # d_model, layers, kv_size
BURST = 4  # steps timed after one that is not

Step = Callable[[], None]


class NanoBlock(nn.Module):
    """A block of GPT-2 as nanoGPT writes it, without biases (its default)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        D = shape.d_model
        self.n_heads = shape.n_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(D, bias=False), nn.LayerNorm(D, bias=False)
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.up, self.down = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (y.view(B, T, self.n_heads, -1).transpose(1, 2) for y in self.qkv(self.norm_1(x_BTD)).split(D, 2))
        o_BHTK = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(o_BHTK.transpose(1, 2).contiguous().view(B, T, D))
        out_BTD: Tensor = x_BTD + self.down(functional.gelu(self.up(self.norm_2(x_BTD))))
        return out_BTD


class Nano(nn.Module):
    """GPT-2 as nanoGPT writes it: learned positions, one matrix for embedding and head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(shape.vocab, shape.d_model), nn.Embedding(shape.context, shape.d_model)
        self.blocks = nn.ModuleList(NanoBlock(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(shape.d_model, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(tokens_BT) + self.position(torch.arange(tokens_BT.shape[1]))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return loss_of(functional.linear(self.norm(x_BTD), self.embedding.weight), targets_BT)


class Peer(nn.Module):
    """A model of another package, whose logits are a field of what it returns, or are returned."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        out = self.model(tokens_BT)
        return loss_of(getattr(out, "logits", out), targets_BT)


class Autocast(nn.Module):
    """A model under PyTorch's autocast to bfloat16."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss: Tensor = self.model(tokens_BT, targets_BT)
        return loss


def loss_of(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def gpt2(shape: Shape) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": shape.d_model, "n_layer": shape.n_layers, "n_head": shape.n_heads, "vocab_size": shape.vocab, "n_positions": shape.context}
    return Peer(GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)))


def hf_llama(shape: Shape) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": shape.d_model, "intermediate_size": shape.ffw_size, "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads}
    return Peer(
        LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=shape.vocab, max_position_embeddings=shape.context, tie_word_embeddings=True, use_cache=False))
    )


def litgpt(shape: Shape) -> nn.Module:
    from litgpt import GPT, Config

    sizes = {"n_embd": shape.d_model, "n_layer": shape.n_layers, "n_head": shape.n_heads, "intermediate_size": shape.ffw_size, "block_size": shape.context}
    kind = {"norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP", "bias": False, "parallel_residual": False, "rotary_percentage": 1.0}
    return Peer(GPT(Config(**sizes, **kind, vocab_size=shape.vocab, padded_vocab_size=shape.vocab)))


def ours(arch: str, precision: str, *, kernels: bool = True) -> Callable[[Shape], nn.Module]:
    """As isoflop trains it, or as it does without a C compiler."""

    def build(shape: Shape) -> nn.Module:
        ffw_size = shape.ffw_size if arch == "llama" else 4 * shape.d_model
        model: nn.Module = importlib.import_module(f"isoflop.arch.{arch}.module").build(shape.model_copy(update={"arch": arch, "ffw_size": ffw_size}), seed=0)
        model.precision, model.kernels = precision, _kernels.load() if kernels else None
        return model

    return build


PEERS: dict[str, Callable[[Shape], nn.Module]] = {
    "nanoGPT": Nano,
    "nanoGPT autocast": lambda shape: Autocast(Nano(shape)),
    "transformers GPT-2": gpt2,
    "transformers llama": hf_llama,
    "litgpt llama": litgpt,
}
OURS = {
    "ours, llama float32": ours("llama", "float32"),
    "ours, no compiler": ours("llama", "float32", kernels=False),
    "ours, llama bf16": ours("llama", "bf16"),
    "ours, gopher float32": ours("gopher", "float32"),
    "ours, gopher bf16": ours("gopher", "bf16"),
}


def usual_step(model: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Step:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1}, {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step() -> None:
        model(tokens_BT, targets_BT).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def flat_step(model: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Step:
    """With all parameters views of one buffer, as `isoflop.train` has them."""
    from isoflop.runs import AdamW
    from isoflop.train.optim import FlatAdamW

    optimiser = FlatAdamW(list(model.parameters()), AdamW())

    def step() -> None:
        model(tokens_BT, targets_BT).backward()
        optimiser.step(1e-4)

    return step


def medians(steps: list[Step], rounds: int) -> list[float]:
    """Median CPU seconds of each step, timed in bursts."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, times in zip(steps, seconds, strict=True):
            step()
            for _ in range(BURST):
                start = time.process_time()
                step()
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def nano_flops(shape: Shape) -> float:
    """Of training, a token, counted as `Shape.flops_per_token` counts."""
    D, L = shape.d_model, shape.n_layers
    return 3.0 * 2 * (12 * L * D * D + 2 * L * shape.context * D + shape.vocab * D)


def batch_of(shape: Shape, tokens: int) -> tuple[Tensor, ...]:
    return torch.randint(shape.vocab, (2, tokens // shape.context, shape.context), generator=torch.Generator().manual_seed(0)).unbind()


def as_it_is(shape: Shape, tokens: int, rounds: int) -> float:
    """Median CPU seconds of nanoGPT's step in a process with glibc's allocator as it comes."""
    command = [sys.executable, __file__, "--as-it-is", shape.model_dump_json(), "--tokens", str(tokens), "--rounds", str(rounds)]
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=usual).stdout)


def row(shape: Shape, tokens: int, rounds: int) -> str:
    batch = batch_of(shape, tokens)
    steps: dict[str, Step] = {}
    for name, build in PEERS.items():
        try:
            steps[name] = usual_step(build(shape), *batch)
        except ImportError:
            print(f"{name}: not installed")
    steps |= {name: flat_step(build(shape), *batch) for name, build in OURS.items()}
    before = as_it_is(shape, tokens, rounds)
    times = dict(zip(steps, medians(list(steps.values()), rounds), strict=True))
    times = {"nanoGPT as it is": (before + as_it_is(shape, tokens, rounds)) / 2} | times
    gflops = shape.flops_per_token.training * tokens / 1e9
    head = f"d_model {shape.d_model}, layers {shape.n_layers}, kv_size {shape.kv_size}, context {shape.context}, {tokens} tokens a step"
    ratio = shape.flops_per_token.training / nano_flops(shape)
    lines = [f"{head}; flops llama / nanoGPT {ratio:.3f}; over nanoGPT and over nanoGPT as it is:"]
    for name, seconds in times.items():
        rate = "" if "gopher" in name else f"{gflops / seconds:6.1f} GFLOP/s"  # gopher has more FLOPs, for its positions
        over = f"x{times['nanoGPT'] / seconds:.2f} x{times['nanoGPT as it is'] / seconds:.2f}"
        lines.append(f"  {name:22} {seconds * 1e3:8.1f} ms {tokens / seconds:9.0f} tokens/s {over} {rate}")
    return "\n".join(lines)


def compiled_row(shape: Shape, tokens: int, rounds: int) -> str:
    """Our step by kernels, by nodes, by plain operations and by torch.compile of these, in turn; and what that took, on one thread and with nothing kept."""
    from torch._inductor import config

    config.compile_threads, config.force_disable_caches = 1, True
    batch = batch_of(shape, tokens)
    fused = ours("llama", "float32")(shape)
    nodes, plain, compiled = (ours("llama", "float32", kernels=False)(shape) for _ in range(3))
    plain.plain = True
    step = flat_step(torch.compile(compiled, dynamic=False), *batch)
    began = sum(os.times()[:4])  # with those of the C++ compiler
    step()
    seconds = sum(os.times()[:4]) - began
    *others, time = medians([flat_step(model, *batch) for model in (fused, nodes, plain)] + [step], rounds)
    ratios = ", ".join(f"x{other / time:.2f} of {name}" for other, name in zip(others, ("the kernels", "the nodes", "plain"), strict=True))
    over = f"compiled {ratios}; {seconds:.0f} CPU seconds to compile"
    return f"d_model {shape.d_model}, layers {shape.n_layers}: {over}"


FMA = """
#include <immintrin.h>
#include <stdio.h>
#include <time.h>
int main(void) {
    __m512 sums[12], x = _mm512_set1_ps(1.0000001f), y = _mm512_set1_ps(1e-9f);
    for (int i = 0; i < 12; i++) sums[i] = _mm512_set1_ps(i);
    double most = 0;
    for (int burst = 0; burst < 8; burst++) {
        clock_t began = clock();
        for (long n = 0; n < 20000000; n++)
            for (int i = 0; i < 12; i++) sums[i] = _mm512_fmadd_ps(sums[i], x, y);
        double rate = 20e6 * 12 * 32 / ((double)(clock() - began) / CLOCKS_PER_SEC);
        if (rate > most) most = rate;
    }
    for (int i = 1; i < 12; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
    printf("%g %g", most, _mm512_reduce_add_ps(sums[0]));  // which keeps the sums
}
"""  # 12 independent multiply-adds of 16 numbers, in registers: nothing is loaded, nothing waits


def peak() -> float:
    """Float32 FLOP/s of one core's multipliers, by a C compiler; nan without one or without AVX-512."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "fma")
        try:
            subprocess.run(
                ["cc", "-O2", "-funroll-loops", "-march=native", "-x", "c", "-", "-o", program], input=FMA, text=True, check=True, capture_output=True
            )
            return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()[0])
        except (OSError, subprocess.CalledProcessError):
            return float("nan")


def products(shape: Shape, tokens: int) -> Iterator[tuple[int, list[Step]]]:
    """Every kind of matrix product in a llama's step: how many, and one by each library. Attention in blocks of 64 queries, keys after a block left out."""
    onednn, (D, F, L) = torch.ops.mkldnn._linear_pointwise, (shape.d_model, shape.ffw_size, shape.n_layers)  # noqa: SLF001 -- no public name
    for count, E, into in ((L, 3 * D, D), (L, D, D), (2 * L, F, D), (L, D, F), (1, shape.vocab, D)):
        x, w, dy = torch.randn(tokens, into), torch.randn(E, into), torch.randn(tokens, E)
        for a, b in ((x, w.t()), (dy, w), (dy.t(), x)):  # the value, its input's gradient, its matrix's
            out = torch.empty(a.shape[0], b.shape[1])
            both: list[Step] = [lambda a=a, b=b, out=out: torch.mm(a, b, out=out), lambda a=a, b=b: onednn(a, b.t(), None, "none", [], "")]  # type: ignore[misc]
            yield count, both
    T, K, N = shape.context, shape.kv_size, tokens // shape.context * shape.n_heads
    q = torch.randn(N, T, K)
    for start, end in blocks(T):
        p, block, keys = torch.randn(N, end - start, end), q[:, start:end], q[:, :end]
        for a, b in ((block, keys.mT), (p, keys), (p.mT, block)):  # two of each: scores and their gradient; values and queries' gradient; keys' and values'
            yield 2 * L, [lambda a=a, b=b: torch.bmm(a, b)]  # type: ignore[misc]


def limit_row(shape: Shape, tokens: int, rounds: int, most: float) -> str:
    """How far the products of a step, alone and each by its faster library, are below nanoGPT's step; and what 1.5 times that step asks of the core."""
    batch = batch_of(shape, tokens)
    models = [ours("llama", "float32")(shape), ours("llama", "float32", kernels=False)(shape)]
    nano, mine, nodes = medians([usual_step(Nano(shape), *batch), *(flat_step(model, *batch) for model in models)], rounds)
    alone = sum(count * min(medians(ways, rounds)) for count, ways in products(shape, tokens))
    needed = needed_flops(shape) * tokens
    times = f"nanoGPT {nano * 1e3:.1f} ms, ours {mine * 1e3:.1f} (x{nano / mine:.2f}), without kernels {nodes * 1e3:.1f}"
    libraries = f"products alone by the libraries {alone * 1e3:.1f}"
    limit = f"at {most / 1e9:.1f} GFLOP/s {needed / most * 1e3:.1f} (x{nano * most / needed:.2f}), of which ours reaches {needed / most / mine:.0%}"
    return f"d_model {shape.d_model}, layers {shape.n_layers}, kv_size {shape.kv_size}: {times}; {libraries}; {limit}"


def needed_flops(shape: Shape) -> float:
    """Of the products of a training step that no exact step can do without, a token: of scores, only those of keys up to the query itself."""
    flops, seen = shape.flops_per_token, (shape.context + 1) / (2 * shape.context)
    return flops.training - 3 * flops.scores * (1 - seen)


def llama(d_model: int, n_layers: int, kv_size: int) -> Shape:
    sizes = {"d_model": d_model, "n_layers": n_layers, "n_heads": d_model // kv_size, "kv_size": kv_size, "ffw_size": 8 * round(d_model / 3)}
    return Shape(arch="llama", **sizes, vocab=256, context=256)


def trained(shape: Shape, text: Tensor, *, precision: str, seed: int, steps: int, batch: int = 8) -> float:
    """Validation loss after a short run: AdamW, cosine to a tenth, the last twentieth of the text held out."""
    from isoflop.runs import AdamW, Cosine
    from isoflop.train.optim import FlatAdamW
    from isoflop.train.schedule import factor

    model = importlib.import_module("isoflop.arch.llama.module").build(shape, seed=seed)
    model.precision = precision
    optimiser, T, held_out = FlatAdamW(list(model.parameters()), AdamW()), shape.context, len(text) // 20
    generator = torch.Generator().manual_seed(seed)

    def windows(starts: Tensor) -> tuple[Tensor, Tensor]:
        rows = text[starts[:, None] + torch.arange(T + 1)]
        return rows[:, :-1], rows[:, 1:]

    for step in range(steps):
        model(*windows(torch.randint(len(text) - held_out - T - 1, (batch,), generator=generator))).backward()
        optimiser.step(0.1 / shape.d_model * (batch * T / 1024) ** 0.5 * factor(Cosine(), step, steps))
    with torch.no_grad():
        return float(model(*windows(torch.arange(len(text) - held_out, len(text) - T - 1, max(1, held_out // 64)))))


def losses(path: Path, shapes: Iterable[tuple[int, int, int]], seeds: int, steps: int) -> None:
    text = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).long()
    for sizes in shapes:
        shape = llama(*sizes)
        for seed in range(seeds):
            found = {precision: trained(shape, text, precision=precision, seed=seed, steps=steps) for precision in ("float32", "bf16")}
            shown = ", ".join(f"{precision} {loss:.4f}" for precision, loss in found.items())
            print(f"d_model {shape.d_model} layers {shape.n_layers} steps {steps} seed {seed}: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--widths", type=int, nargs="*", default=[], help="llamas of the width's own shape at context 128, instead; with --loss, of the shapes compared"
    )
    parser.add_argument("--tokens", type=int, nargs="*", default=[512, 2048], help="tokens a step, for --widths")
    parser.add_argument("--rounds", type=int, default=6, help=f"bursts of {BURST} steps a formulation")
    parser.add_argument("--as-it-is", metavar="SHAPE", help=argparse.SUPPRESS)
    parser.add_argument("--loss", type=Path, metavar="TEXT", help="train on a text in float32 and bf16, instead")
    parser.add_argument("--compile", action="store_true", help="our llama by its nodes, plain and compiled, at the first two shapes, instead")
    parser.add_argument("--limit", action="store_true", help="the products of a step alone, and what the core's multipliers give, instead")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.as_it_is:
        shape = Shape.model_validate_json(a.as_it_is)
        print(*medians([usual_step(Nano(shape), *batch_of(shape, a.tokens[0]))], a.rounds))
        return
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: no block straight from the system
    libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: nothing handed back to it
    if a.loss:
        losses(a.loss, [sizes for sizes in SHAPES if sizes[0] in (a.widths or (32, 64))], a.seeds, a.steps)
        return
    if a.limit:
        most = peak()
        for sizes in SHAPES:
            print(limit_row(llama(*sizes), 4096, a.rounds, most), flush=True)
        return
    if a.compile:
        for sizes in SHAPES[:2]:
            print(compiled_row(llama(*sizes), 4096, a.rounds), flush=True)
        return
    small = [(get("llama").at(width, vocab=256, context=128), tokens) for width in a.widths for tokens in a.tokens]
    for shape, tokens in small or [(llama(*sizes), 4096) for sizes in SHAPES]:
        print(row(shape, tokens, a.rounds), flush=True)


if __name__ == "__main__":
    main()
