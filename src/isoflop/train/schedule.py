"""Learning rate at a step, as a fraction of the peak."""

import math

from isoflop.runs import Cooldown, Cosine, Schedule


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Fraction of the peak learning rate at a step (from 0) of a run of so many."""
    match schedule:
        case Cosine():
            return _cosine(schedule, step, steps)
        case Cooldown():
            return _cooldown(schedule, step, steps)


def _cosine(schedule: Cosine, step: int, steps: int) -> float:
    """Hoffmann et al. 2022, App. B: the cycle must match the run, and ends at a tenth of the peak."""
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, round(schedule.cycle * steps) - 1 - warmup)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))


def _cooldown(schedule: Cooldown, step: int, steps: int) -> float:
    """Haegele et al. 2024, Sec. 3: 1 - sqrt; the last step's rate is the first below it that is above nothing."""
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    start = schedule.start(steps)
    return 1.0 if step < start else 1.0 - math.sqrt((step - start) / (steps - start))
