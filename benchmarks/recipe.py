"""Sweep a recipe's settings at some budgets and widths, and print the final losses: a whole run each, with a cosine of its own length.

    python benchmarks/recipe.py --budgets 4e11 --widths 24 56 --lr 0.35 0.5 0.7 1 1.4 2 --seeds 0 1
    python benchmarks/recipe.py --budgets 4e11 --widths 32 --beta2 0.95 0.99 --warmup 0.05 0.2 --heads 1 2 4
    python benchmarks/recipe.py --budgets 4e11 --widths 24 56 --muon 0.5 1 2 --lr 0.5 1 2 --seeds 0 1

`--lr` and `--batch` multiply what the recipe says; the others replace it. `--muon` takes Muon for the matrices of the blocks, at so many times that
rate. What was found is written down in recipe.md.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

from isoflop import arch, data, design, train
from isoflop.data import Corpus
from isoflop.runs import Muon, RunSpec
from isoflop.study import Study

AXES = ("budgets", "widths", "lr", "batch", "warmup", "beta2", "heads", "muon", "seeds")


def main() -> None:
    a = arguments()
    corpus = data.prepare(tuple(a.corpus), folder=a.data, tokenizer="bytes", validation=0.05, seed=0)
    cells = [dict(zip(AXES, cell, strict=True)) for cell in itertools.product(*(getattr(a, axis) for axis in AXES))]
    with concurrent.futures.ProcessPoolExecutor(a.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        specs = [spec_of(cell, corpus, a) for cell in cells]
        for cell, spec, (loss, seconds) in zip(cells, specs, pool.map(one, specs, [a.data] * len(specs)), strict=True):
            shown = cell | {"params": spec.shape.params.total, "tokens": spec.tokens, "batch": spec.batch, "peak_lr": spec.lr, "loss": loss, "seconds": seconds}
            print(" ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in shown.items() if v is not None), flush=True)
            if a.out:
                with a.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(shown) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=["python"])
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--budgets", type=float, nargs="+", required=True)
    parser.add_argument("--widths", type=int, nargs="+", required=True)
    parser.add_argument("--lr", type=float, nargs="+", default=[1.0])
    parser.add_argument("--batch", type=float, nargs="+", default=[1.0])
    parser.add_argument("--warmup", type=float, nargs="+", default=[None])
    parser.add_argument("--beta2", type=float, nargs="+", default=[None])
    parser.add_argument("--heads", type=int, nargs="+", default=[None])
    parser.add_argument("--muon", type=float, nargs="+", default=[None])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("studies/_recipe_data"), help="where the tokens are kept; one folder a corpus")
    parser.add_argument("--out", type=Path, help="append one JSON line a run")
    return parser.parse_args()


def spec_of(cell: dict[str, Any], corpus: Corpus, a: argparse.Namespace) -> RunSpec:
    text = design.Text(digest=corpus.digest, vocab=corpus.vocab, train_tokens=corpus.train_tokens, val_tokens=corpus.val_tokens)
    budget = cell["budgets"]
    study = Study(name="recipe", budgets=(budget,), target=3 * budget, lr_scale=cell["lr"], batch_scale=cell["batch"], context=a.context, arch=a.arch)
    shape = arch.get(a.arch).at(cell["widths"], vocab=corpus.vocab, context=a.context)
    if cell["heads"]:
        shape = shape.model_copy(update={"n_heads": cell["heads"], "kv_size": shape.d_model // cell["heads"]})
    spec = design.spec(study, text, shape=shape, budget=budget, group="isoflop", seed=cell["seeds"])
    if cell["warmup"] is not None:
        spec = spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"warmup": cell["warmup"]})})
    if cell["beta2"] is not None:
        spec = spec.model_copy(update={"optimizer": spec.optimizer.model_copy(update={"beta2": cell["beta2"]})})
    if cell["muon"] is not None:
        spec = spec.model_copy(update={"optimizer": Muon(name="muon", lr=cell["muon"], adamw=spec.optimizer)})
    return spec


def one(spec: RunSpec, folder: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as scratch:
        record = train.train(spec, data.load(folder), folder=Path(scratch))
    return (float("nan") if record.loss is None else record.loss, record.clock.seconds)


if __name__ == "__main__":
    main()
