"""Tables of runs of a known law, in the shapes that people have them in."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from isoflop.laws.chinchilla import Chinchilla

LAW = Chinchilla(E=1.82, A=478.0, B=2143.0, alpha=0.347, beta=0.367)  # Besiroglu et al. 2024, rounded
BUDGETS = (1e19, 3e19, 1e20, 3e20, 1e21)
Row = dict[str, object]


def grid(*, budgets: Iterable[float] = BUDGETS, sizes: int = 7, seed: int = 0, noise: float = 0.0005) -> list[Row]:
    """Rows of an IsoFLOP sweep: params, tokens, flops, loss."""
    draw, rows = np.random.default_rng(seed), []
    for budget in budgets:
        for params in float(LAW.optimum(budget).params) * np.geomspace(0.25, 4.0, sizes):
            n = round(float(params))
            d = round(budget / (6 * n))
            rows.append({"params": n, "tokens": d, "flops": 6.0 * n * d, "loss": round(float(LAW.loss(n, d)) * math.exp(draw.normal(scale=noise)), 5)})
    return rows


def curve(params: float, tokens: float, *, points: int = 20, geometric: bool = False) -> list[Row]:
    """Points along one run, with a cosine schedule."""
    shares = np.geomspace(0.01, 1.0, points) if geometric else np.arange(1, points + 1) / points
    return [
        {
            "params": params,
            "tokens": round(float(share * tokens)),
            "step": round(float(1000 * share)),
            "lr": round(1e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * share))), 7),
            "loss": round(float(LAW.loss(params, share * tokens)) * (1 + 0.15 * (1 - share)), 5),
        }
        for share in shares
    ]


def write(path: Path, rows: Iterable[Mapping[str, object]], *, delimiter: str = ",") -> Path:
    """Write rows as CSV, with the columns of the first."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def renamed(rows: Iterable[Row], **names: str) -> list[Row]:
    """Rows with only some columns, under other names: params="Model Size"."""
    return [{names[key]: value for key, value in row.items() if key in names} for row in rows]
