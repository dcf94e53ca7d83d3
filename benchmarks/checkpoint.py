"""What checkpoints cost: training with background writing on against off, in turn, in one process.

Run: `OMP_NUM_THREADS=1 python benchmarks/checkpoint.py`

Blocks of training alternate between no checkpoints, checkpoints as the loop writes them (at most 2 % of the time) and one after the other
without a pause. CPU time is that of the process, the writing thread included; wall time is that of the blocks, the wait for the last
checkpoint included. "Cost" is what the writer counts itself: copies in the training thread, and CPU time of the writing one.
The last two columns are the longest that a Python thread stands still while 192 MB are written: by our writer, and by the library's `save`
in a thread.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch

from isoflop import arch, data
from isoflop.data import Corpus
from isoflop.runs import RunSpec
from isoflop.train import loop
from isoflop.train.checkpoint import Checkpoint, Writer
from isoflop.train.state import State

SHAPES = (64, 128, 192)  # widths, with as many layers as the grid gives
BATCH = 4096  # tokens a step
BLOCK = 8.0  # seconds
ROUNDS = 5


class Block(NamedTuple):
    """A stretch of training."""

    cpu: float  # seconds a step
    wall: float
    cost: float  # fraction of the time
    written: int


def corpus_in(folder: Path) -> Corpus:
    lines = (f"line {i}: the quick brown fox jumps over {i * i} lazy dogs and {i % 7} hens" for i in range(40_000))
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


def begun(corpus: Corpus, d_model: int) -> State:
    shape = arch.get("llama").at(d_model, vocab=corpus.vocab, context=256)
    spec = RunSpec(shape=shape, tokens=BATCH * 10**6, batch=BATCH, lr=1e-3, seed=0, data=corpus.digest, eval_tokens=BATCH, budget=1e12, group="isoflop")
    return State.begin(spec, corpus, resume=None)


def block(state: State, writer: Writer | None) -> Block:
    first, cpu, wall, written = state.step, time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - wall < BLOCK:
        state.advance()
        if writer is not None and writer.due():
            written += writer.offer(state.checkpoint())
    if writer is not None:
        writer.close()
    cpu, wall, steps = time.process_time() - cpu, time.perf_counter() - wall, state.step - first
    return Block(cpu / steps, wall / steps, (writer.cost if writer else 0.0) / wall, written)


def row(corpus: Corpus, d_model: int, folder: Path) -> str:
    state = begun(corpus, d_model)
    for _ in range(5):
        state.advance()
    off, usual, often = [], [], []
    for n in range(ROUNDS):
        off.append(block(state, None))
        usual.append(block(state, Writer(folder / f"{n}-usual", every=loop.CHECKPOINT_SECONDS, share=loop.CHECKPOINT_SHARE)))
        often.append(block(state, Writer(folder / f"{n}-often")))
    size = sum(t.nbytes for t in state.checkpoint().tensors.values())
    cells = [f"{d_model:5} | {size / 1e6:5.1f} MB | {1e3 * statistics.median(b.cpu for b in off):7.1f}"]
    for blocks in (usual, often):
        cpu, wall = (statistics.median(getattr(b, name) / getattr(o, name) for b, o in zip(blocks, off, strict=True)) for name in ("cpu", "wall"))
        cells.append(f"{sum(b.written for b in blocks):4} | {100 * statistics.median(b.cost for b in blocks):5.2f} % | {cpu:5.3f} | {wall:5.3f}")
    return " | ".join(cells)


def longest_wait(begin: Callable[[], Callable[[], bool]]) -> float:
    """Seconds that a spinning thread stands still at most while something is done in another."""
    going = begin()
    last, longest = time.perf_counter(), 0.0
    while going():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def waits(folder: Path) -> str:
    tensors = {name: torch.randn(16_000_000) for name in ("params", "exp_avg", "exp_avg_sq")}
    found: dict[str, list[float]] = {"ours": [], "library": []}

    def ours() -> Callable[[], bool]:
        writer = Writer(folder / "ours")
        writer.offer(Checkpoint(len(found["ours"]) + 1, 0.0, tensors))
        return lambda: not writer.due()

    def library() -> Callable[[], bool]:
        thread = threading.Thread(target=lambda: safetensors.torch.save(tensors))
        thread.start()
        return thread.is_alive

    for _ in range(5):
        found["ours"].append(longest_wait(ours))
        found["library"].append(longest_wait(library))
    return " | ".join(f"{name}: {1e3 * min(times):.0f} ms at best, {1e3 * statistics.median(times):.0f} ms median" for name, times in found.items())


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("longest wait |", waits(folder), flush=True)
        corpus = corpus_in(folder)
        print("width |    state | CPU ms a step, off | usual: written | cost | CPU on/off | wall on/off | often: written | cost | CPU on/off | wall on/off")
        for d_model in SHAPES:
            print(row(corpus, d_model, folder / str(d_model)), flush=True)


if __name__ == "__main__":
    main()
