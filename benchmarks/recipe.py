"""Sweep learning rate and batch around a recipe, at some budgets and widths, and print the final losses.

    python benchmarks/recipe.py --corpus python --budgets 3e11 1.2e12 --widths 24 48 --lr 0.5 1 2 --batch 0.5 1 2

Every cell is a whole run with a cosine of its own length. What was found is written down in recipe.md.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import tempfile
from pathlib import Path

from isoflop import arch, data, design, train
from isoflop.runs import RunSpec
from isoflop.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=["python"])
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--budgets", type=float, nargs="+", required=True)
    parser.add_argument("--widths", type=int, nargs="+", required=True)
    parser.add_argument("--lr", type=float, nargs="+", default=[1.0], help="times the recipe's")
    parser.add_argument("--batch", type=float, nargs="+", default=[1.0], help="times the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("studies/_recipe_data"))
    parser.add_argument("--out", type=Path, help="append one JSON line a run")
    a = parser.parse_args()
    corpus = data.prepare(tuple(a.corpus), folder=a.data, tokenizer="bytes", validation=0.05, seed=0)
    text = design.Text(digest=corpus.digest, vocab=corpus.vocab, train_tokens=corpus.train_tokens, val_tokens=corpus.val_tokens)
    cells = list(itertools.product(a.budgets, a.widths, a.lr, a.batch))
    specs = []
    for budget, width, lr, batch in cells:
        study = Study(name="recipe", budgets=(budget,), target=3 * budget, lr_scale=lr, batch_scale=batch, context=a.context, arch=a.arch)
        shape = arch.get(a.arch).at(width, vocab=corpus.vocab, context=a.context)
        specs.append(design.spec(study, text, shape=shape, budget=budget, group="isoflop", seed=a.seed))
    with concurrent.futures.ProcessPoolExecutor(a.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(one, spec, a.data): (spec, cell) for spec, cell in zip(specs, cells, strict=True)}
        for future in concurrent.futures.as_completed(futures):
            spec, (budget, width, lr, batch) = futures[future]
            loss, seconds = future.result()
            row = {
                "budget": budget,
                "width": width,
                "lr_scale": lr,
                "batch_scale": batch,
                "params": spec.shape.params.total,
                "tokens": spec.tokens,
                "batch": spec.batch,
                "lr": spec.lr,
                "loss": loss,
                "seconds": round(seconds, 1),
                "gflops": round(spec.flops / seconds / 1e9, 1),
            }
            print(" ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
            if a.out:
                with a.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row | {"corpus": a.corpus, "arch": a.arch, "context": a.context, "seed": a.seed}) + "\n")


def one(spec: RunSpec, folder: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as scratch:
        record = train.train(spec, data.load(folder), folder=Path(scratch))
    return (float("nan") if record.loss is None else record.loss, record.clock.seconds)


if __name__ == "__main__":
    main()
