"""How much memory a run takes at its peak, beside what was predicted of it before it began.

Run: `python benchmarks/memory.py [--quick]`

Each row is a fresh process that trains one run to its record, one thread, with at least one checkpoint and the evaluation, as a worker of the
pool does. The peak is of memory that only this process holds (RssAnon of Linux: pages of mapped files, such as the text and the libraries, can
be given back at any time and are no need). It is the larger of two readings: what the parent saw in /proc/PID/status, every 2 ms, and the
kernel's own high-water mark of all pages less those of files at the end.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPEED = 25e9  # FLOPs a second, about; it decides how many steps there are, so that a checkpoint comes
SECONDS = 3.5  # of training, about: a checkpoint comes after 2
MOST_STEPS = 1000  # of the smallest, whose steps are all overhead
EVAL_TOKENS = 65_536
TEXT_TOKENS = 2_000_000
SINGLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Cell(NamedTuple):
    """One row."""

    arch: str
    d_model: int
    context: int
    batch: int  # tokens a step
    vocab: int = 256
    n_layers: int = 0  # 0 for the family's own
    precision: str = "float32"
    optimizer: str = "adamw"


CELLS = (
    Cell("llama", 8, 64, 256),
    Cell("llama", 512, 64, 256),
    Cell("llama", 64, 256, 1024, vocab=32_768),
    Cell("gopher", 64, 256, 4096),
    Cell("llama", 64, 256, 4096, n_layers=16),
    Cell("llama", 256, 512, 8192),
    Cell("llama", 32, 256, 65_536),
    Cell("gopher", 32, 1024, 8192),
    Cell("llama", 128, 1024, 8192),
    Cell("gopher", 256, 64, 1024),
    Cell("llama", 64, 256, 4096),
    Cell("gopher", 64, 256, 4096, vocab=32_768),
    Cell("llama", 16, 1024, 4096),
    Cell("llama", 128, 256, 2048, vocab=32_768),
    Cell("llama", 32, 1024, 16_384),
    Cell("llama", 64, 256, 16_384),
    Cell("gopher", 8, 64, 65_536),
    Cell("llama", 256, 64, 1024),
    Cell("llama", 512, 256, 4096),
    Cell("llama", 64, 256, 4096, precision="bf16"),
    Cell("llama", 128, 1024, 8192, precision="bf16"),
    Cell("gopher", 64, 256, 4096, precision="bf16"),
    Cell("gopher", 256, 64, 1024, precision="bf16"),
    Cell("llama", 64, 256, 1024, vocab=32_768, precision="bf16"),
    Cell("llama", 512, 256, 4096, precision="bf16"),
    Cell("llama", 64, 256, 4096, optimizer="muon"),
    Cell("gopher", 256, 64, 1024, optimizer="muon"),
    Cell("llama", 512, 64, 256, optimizer="muon"),
    Cell("llama", 256, 512, 8192, optimizer="muon", precision="bf16"),
)
QUICK = CELLS[::6]


class Peak(NamedTuple):
    """One measurement, in bytes."""

    cell: Cell
    measured: float
    predicted: float
    parts: dict[str, float]

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few of the rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        _train(*json.loads(words.child))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_corpus(Path(folder))
        found = []
        print(_HEAD)
        for peak in _peaks(QUICK if words.quick else CELLS, Path(folder)):
            found.append(peak)
            print(_row(peak), flush=True)
    print(_summary(found))


_HEAD = (
    "| family | precision, optimiser | d_model | layers | context | tokens a step | vocab | parameters | measured (MB) | predicted (MB) | predicted / measured "
    "| of that base, states, checkpoint, activations, data (MB) |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
)


def _row(peak: Peak) -> str:
    from isoflop import units

    cell, shape = peak.cell, _shape(peak.cell)
    words = (
        cell.arch,
        f"{cell.precision}, {cell.optimizer}",
        cell.d_model,
        shape.n_layers,
        cell.context,
        cell.batch,
        cell.vocab,
        units.count(shape.params.total),
    )
    parts = ", ".join(f"{value / 1e6:.0f}" for value in peak.parts.values())
    return f"| {' | '.join(map(str, words))} | {peak.measured / 1e6:.0f} | {peak.predicted / 1e6:.0f} | {peak.ratio:.2f} | {parts} |"


def _summary(found: list[Peak]) -> str:
    ratios = [peak.ratio for peak in found]
    within = sum(1 / 1.3 <= ratio <= 1.3 for ratio in ratios)
    return f"\nPredicted over measured: {min(ratios):.2f} to {max(ratios):.2f}; {within} of {len(ratios)} within a factor of 1.3 either way."


def _peaks(cells: tuple[Cell, ...], folder: Path) -> Iterator[Peak]:
    from isoflop.launch import _memory  # the same prediction that admits a run

    for cell in cells:
        spec = _spec(cell, folder)
        need = _memory.need(spec)
        yield Peak(cell, _measured(cell, folder), need.total, dataclasses.asdict(need))


def _measured(cell: Cell, folder: Path) -> float:
    """Peak of the anonymous memory of a process that trains the cell, in bytes."""
    command = [sys.executable, __file__, "--child", json.dumps([cell, str(folder)])]
    process = subprocess.Popen(command, env=os.environ | SINGLE, stdout=subprocess.PIPE, text=True)
    seen = 0.0
    while process.poll() is None:
        seen = max(seen, _anonymous(process.pid))
        time.sleep(0.002)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{cell} could not be trained: {said}")
    return max(seen, float(said.split()[-1]))


def _anonymous(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0.0)


def _train(cell: list[object], folder: str) -> None:
    """In the child: train, and print the high-water mark less the pages of files."""
    from isoflop import data, train

    spec = _spec(Cell(*cell), Path(folder))  # type: ignore[arg-type]  # as it was written
    with tempfile.TemporaryDirectory() as run:
        train.train(spec, data.load(Path(folder) / "data"), folder=Path(run))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    high, files = (1024 * int(status[key].split()[0]) for key in ("VmHWM", "RssFile"))
    print(high - files)


def _spec(cell: Cell, folder: Path):  # noqa: ANN202  # imported late: the parent needs no torch
    from isoflop.runs import AdamW, Muon, RunSpec

    shape, how = _shape(cell), {"precision": cell.precision, "optimizer": Muon(name="muon") if cell.optimizer == "muon" else AdamW()}
    step_flops = cell.batch * shape.flops_per_token.training
    steps = min(MOST_STEPS, max(4, math.ceil(SECONDS * SPEED / step_flops)))
    digest = json.loads((folder / "data" / "meta.json").read_text(encoding="utf-8"))["digest"]
    fixed = {"lr": 1e-3, "seed": 0, "data": digest, "eval_tokens": EVAL_TOKENS, "budget": 1.0, "group": "isoflop"}
    return RunSpec(shape=shape, tokens=steps * cell.batch, batch=cell.batch, **how, **fixed)


def _shape(cell: Cell):  # noqa: ANN202  # as above
    from isoflop.arch import LARGE, Shape, depth, get

    family = get(cell.arch)
    if cell.d_model >= LARGE:
        shape = family.large(cell.d_model, depth(cell.d_model), vocab=max(cell.vocab, 257), context=cell.context)
    else:
        shape = family.at(cell.d_model, vocab=max(cell.vocab, 257), context=cell.context)
    return Shape(**{**shape.model_dump(), "n_layers": cell.n_layers or shape.n_layers})


def _write_corpus(folder: Path) -> None:
    """Random letters, as a study prepares its text."""
    from isoflop import data

    letters = np.random.default_rng(0).choice(np.frombuffer(b"abcdefgh  ", dtype=np.uint8), TEXT_TOKENS)
    (folder / "text.txt").write_text(letters.tobytes().decode(), encoding="utf-8")
    data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.1, seed=0)


if __name__ == "__main__":
    main()
