"""Ours, measured on byte-level text with models of ten thousand to a few hundred thousand parameters: benchmarks/recipe.md."""

import math

from isoflop import units
from isoflop.recipes import Rule, Run, outside

_MEASURED = "measured: benchmarks/recipe.md"
STEPS = 6000  # below about 3000 a run is short of steps, not of tokens


def _lr(run: Run, batch: float) -> float:
    return 0.3 / run.d_model * math.sqrt(batch / 1024)


def _expected(flops: float) -> float:
    """Read off the minima of a first sweep, 16k at 1e11 to 80k at 1.6e12 FLOPs."""
    return 57e3 * math.pow(flops / 1e12, 0.55)


RULE = Rule(
    title="isoflop's own, measured on byte-level text at 1e11 to 5e12 FLOPs (benchmarks/recipe.md)",
    batch=lambda run: run.tokens / STEPS,
    batch_source=f"{_MEASURED}; the batch that makes {STEPS} steps",
    lr=_lr,
    lr_source=f"{_MEASURED}; 0.3 / width x sqrt(batch / 1024)",
    muon=1.7,  # the best of three at 24 and 40 wide and 4e11 FLOPs; more is better still at 56
    warmup=lambda _run, _batch: 0.2,  # 0.017 nats better than 0.05 at 4e11 FLOPs
    warmup_source=f"{_MEASURED}; a fifth of the run",
    longest_warmup=0.2,
    schedule="cosine to a tenth of the peak over exactly this run",
    schedule_source="Hoffmann et al. 2022, App. B",
    beta2=0.99,  # batches of a few sequences: 0.95 costs 0.025 nats and doubles the noise
    optimizer_source=_MEASURED,
    # a decade further than was measured
    reach=lambda run: outside(run.flops, 1e10, 1e14, what="FLOPs", show=units.flops),
    expected_params=_expected,
)
