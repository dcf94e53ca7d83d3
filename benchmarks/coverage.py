"""How often intervals hold the truth: 1000 simulated studies of each kind, each fitted as by default.

python benchmarks/coverage.py [--studies 1000] [--only parametric] [--law chinchilla] > coverage.txt
"""

import argparse
import itertools
import math
import multiprocessing
import os
import sys
import time
from dataclasses import replace
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from isoflop import fit
from isoflop.errors import FitError
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Curve, Runs

LEVEL, NOISE, RESAMPLES = 0.9, 0.003, 199  # 0.3 %: between seeds of small models (docs/example); 199: the 5th percentile is the tenth of them
FIRST, SPAN = 3e11, 33.0  # FLOPs of the smallest budget, and the largest over it
POINTS, BATCH_NOISE = 60, 0.005  # of a training curve; the latter of each loss on it, whose run's own noise is in all of them (assumption)
HIGH_RATE = 0.06  # what the loss is worse by while the learning rate is at its peak (assumption); it falls with the rate, a cosine to zero at the run's end


def lopsided() -> Chinchilla:
    """An alpha of 0.2 and a beta of 0.6, with the optimum among the others' at 3e12 FLOPs."""
    A, N, D = 5.0, 2e5, 3e12 / (6 * 2e5)
    return Chinchilla(E=1.0, A=A, B=0.2 * A * N**-0.2 / (0.6 * D**-0.6), alpha=0.2, beta=0.6)


LAWS = {
    "symmetric": Chinchilla(E=1.0, A=20.0, B=60.0, alpha=0.35, beta=0.35),
    "chinchilla": Chinchilla(E=1.0, A=20.0, B=30.0, alpha=0.34, beta=0.28),
    "lopsided": lopsided(),
}


class Kind(NamedTuple):
    """Of study."""

    budgets: int = 6
    sizes: int = 7
    shift: float = 1.3  # of the middle size over the best
    outliers: float = 0.0  # share of runs that are 5 to 35 % worse


KINDS = {"42 runs": Kind(), "25 runs": Kind(budgets=5, sizes=5), "off-centre": Kind(shift=2.5), "outliers": Kind(outliers=0.05)}


def study(law: Chinchilla, kind: Kind, seed: int) -> Runs:
    """Budgets x sizes over 20-fold params about the best, with noise."""
    rng = np.random.default_rng(seed)
    budgets = np.geomspace(FIRST, FIRST * SPAN, kind.budgets)
    params = (law.optimum(budgets).params[:, None] * kind.shift * np.geomspace(20**-0.5, 20**0.5, kind.sizes)).ravel()
    budget = np.repeat(budgets, kind.sizes)
    tokens = budget / (6 * params)
    loss = law.loss(params, tokens) * np.exp(NOISE * rng.standard_normal(params.size))
    worse = rng.choice(params.size, round(kind.outliers * params.size), replace=False)
    loss[worse] *= np.exp(rng.uniform(0.05, 0.3, worse.size))
    return Runs.from_columns(params=params, tokens=tokens, loss=loss, flops=budget, budget=budget)


def with_curves(runs: Runs, law: Chinchilla, seed: int) -> Runs:
    """The runs with training curves as of a cosine schedule: a run that has not ended is worse than one that ended there."""
    rng = np.random.default_rng([2, seed])
    share = np.arange(1, POINTS + 1) / POINTS
    high = np.exp(HIGH_RATE * 0.5 * (1 + np.cos(np.pi * share)))
    curves = []
    for params, tokens, loss in zip(runs.params, runs.tokens, runs.loss, strict=True):
        own = law.loss(params, share * tokens) * high * (loss / law.loss(params, tokens))
        curves.append(Curve(share * tokens, own * np.exp(BATCH_NOISE * rng.standard_normal(POINTS))))
    return replace(runs, curves=tuple(curves))


def one(job: tuple[str, str, str, int]) -> tuple[bool, bool, bool] | None:
    """Whether the intervals of a, of the best loss at 10x, and of a new run there hold."""
    who, law_name, kind, seed = job
    law, flops = LAWS[law_name], 10 * FIRST * SPAN
    runs = study(law, KINDS[kind], seed)
    runs = with_curves(runs, law, seed) if who == "envelope" else runs
    best = float(law.optimum(flops).loss)
    observed = best * math.exp(NOISE * np.random.default_rng([1, seed]).standard_normal())
    try:
        if who == "forecast":
            made = fit.fit_all(runs, resamples=RESAMPLES, seed=seed).forecast.at(flops, level=LEVEL)
            params = float(law.optimum(flops).params)
            low, high = made.params_interval
            return low < params < high, made.loss_interval[0] < best < made.loss_interval[1], made.loss_interval[0] < observed < made.loss_interval[1]
        approach, _, choice = who.partition(" ")
        choices = fit.Choices(method=choice if approach == "isoflop" and choice else None)
        found = fit.fit(runs, approach=approach, choices=choices, resamples=RESAMPLES, seed=seed)
    except FitError:
        return None
    low, high = found.interval(lambda one: one.a, level=LEVEL)
    loss_low, loss_high = found.interval(lambda one: float(one.optimum(flops).loss), level=LEVEL)
    new_low, new_high = found.prediction_interval(flops, level=LEVEL)
    return low < law.a < high, loss_low < best < loss_high, new_low < observed < new_high


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", default="parametric,isoflop,envelope,forecast")
    parser.add_argument("--law", default=",".join(LAWS))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    print("| fit | law | studies of | a (forecast: best size) | best loss at 10x | a new run there | could not be fitted |\n|---|---|---|---|---|---|---|")
    with multiprocessing.Pool(asked.processes) as pool:
        for who, law, kind in itertools.product(asked.only.split(","), asked.law.split(","), KINDS):
            began = time.monotonic()
            held = pool.map(one, [(who, law, kind, seed) for seed in range(asked.studies)], chunksize=10)
            rows = np.array([each for each in held if each is not None], dtype=float)
            said = " | ".join(f"{100 * share:.1f} %" for share in rows.mean(axis=0)) if rows.size else " | | "
            print(f"| {who} | {law} | {kind} | {said} | {sum(each is None for each in held)} |", flush=True)
            print(f"{who} {law} {kind}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
