"""Learning rate at a step, as a fraction of the peak."""

import math

from isoflop.runs import Schedule


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Fraction of the peak learning rate at a step (from 0) of a run: linear warm-up, then a cosine that ends with the run.

    Source: Hoffmann et al. 2022, App. B: the cycle must match the run, and ends at a tenth of the peak.
    """
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))
