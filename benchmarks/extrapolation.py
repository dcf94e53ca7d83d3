"""How far off the forecast is on public sweeps: fitted below a budget, asked for those above.

python benchmarks/extrapolation.py FOLDER > extrapolation.txt

FOLDER holds porian2024_isoflop.csv (formll/resolving-scaling-law-discrepancies) and hoffmann2022_figure4.csv (epoch-research/analyzing-chinchilla).
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isoflop import fit, readers
from isoflop.runs import Runs

SETUPS = (
    "owt2/tuned/short/const/standard/val",
    "rw/base/short/chinchilla/standard/val",
    "rw/base/long/kaplan/standard/val",
    "rw/base/long/kaplan/kaplan/train",
)
CUTS = (0.5, 0.6, 0.7, 0.8)  # of the budgets, by rank
FAR, APART, FEWEST = 50.0, 1.25, 15


def sweeps(folder: Path) -> Iterator[tuple[str, Runs]]:
    for setup in SETUPS:
        yield f"Porian et al. {setup}", readers.read(folder / "porian2024_isoflop.csv", where=f"config == '{setup}'", columns={"params": "params"})
    yield "Hoffmann et al., Figure 4", readers.read(folder / "hoffmann2022_figure4.csv", where="in_published_fit")


def asked(runs: Runs) -> list[tuple[float, ...]]:
    """For each cut and each budget above it: log errors of forecast and additive law, and whether 80 %, 90 %, and the additive law's 80 % held."""
    profiles = [p for p in fit.isoflop.fit(runs, resamples=0).profiles if p.interior]
    levels, found = np.unique(runs.budget), []
    for share in CUTS:
        cut = levels[int(share * (levels.size - 1))]
        below = runs.take(np.flatnonzero(runs.budget <= cut))
        if len(below) < FEWEST:
            continue
        made = fit.fit_all(below, resamples=200)
        additive = next(f for f in made if f.approach == "parametric")
        for p in profiles:
            if APART * cut < p.flops <= FAR * cut:
                eighty, ninety = (made.forecast.at(p.flops, level=level).loss_interval for level in (0.8, 0.9))
                own = additive.prediction_interval(p.flops, level=0.8)
                errors = [math.log(x / p.loss_opt) for x in (made.forecast.at(p.flops).loss, float(additive.law.optimum(p.flops).loss))]
                found.append((*errors, *(low < p.loss_opt < high for low, high in (eighty, ninety, own))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, runs in sweeps(folder):
        rows = np.array(asked(runs), dtype=float)
        off, additive = (100 * math.sqrt(float(np.mean(rows[:, k] ** 2))) for k in (0, 1))
        held = " | ".join(f"{100 * share:.0f} %" for share in rows[:, 2:].mean(axis=0))
        print(f"| {name} | {len(rows)} | {off:.1f} % | {additive:.1f} % | {held} |", flush=True)


if __name__ == "__main__":
    main()
