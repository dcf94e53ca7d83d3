"""Hoffmann et al. 2022 (arXiv 2203.15556): what the paper prints of its sweep, of its head-to-head and of Chinchilla."""

import math

from isoflop.recipes import Rule, Run, outside, steps

_SIZES, _RATES = (70e6, 16e9, 70e9), (2e-4, 1.25e-4, 1e-4)


def _lr(run: Run, _batch: float) -> float:
    """2e-4 at 70M to 1.25e-4 at 16B, as App. D.1 has it of the sweep; 1e-4 at 70B, as Table 4.

    Between them straight in log size: an assumption, which gives 1.49e-4 and 1.42e-4 for the 2.8B and 4.74B of App. D.4, printed 1.5e-4.
    """
    if run.params <= _SIZES[0]:
        return _RATES[0]
    for low, high, first, last in zip(_SIZES, _SIZES[1:], _RATES, _RATES[1:], strict=False):
        if run.params <= high:
            return first + (last - first) * math.log(run.params / low) / math.log(high / low)
    return _RATES[-1]


def _reach(run: Run) -> tuple[str, ...]:
    size = outside(run.params, 70e6, 70e9, what="params")
    small = "The batch is printed for 2.8B, 4.7B and 70B only; a model this small learns more from a smaller one (see steplaw)."
    return (*size, *((small,) if run.params < 2.8e9 else ()))


RULE = Rule(
    title="Hoffmann et al. 2022 (arXiv 2203.15556)",
    lr=_lr,
    lr_source="Hoffmann et al. 2022: 2e-4 for the smallest of its sweep to 1.25e-4 for 16B, 1e-4 for Chinchilla; straight in log size between (assumption)",
    batch=lambda run: 0.5e6 if run.params < 16e9 else 1.5e6,
    batch_source="Hoffmann et al. 2022: 0.5M tokens at 2.8B and 4.7B (App. D.4), 1.5M, twice that from midway on, at 70B (Table 4); change at 16B (assumption)",
    warmup=steps(2000),
    warmup_source="assumption: as Bi et al. 2024; not printed",
    schedule="cosine to a tenth of the peak over exactly this run",
    schedule_source="Hoffmann et al. 2022, App. B: a cycle 25 % too long already costs loss",
    reach=_reach,
)
