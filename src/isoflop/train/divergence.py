"""When a run has diverged: decided from its losses at fixed steps alone, so that where it is said does not depend on the clock."""

import math

import torch
from torch import Tensor

LOOK = 20  # steps between looks, and the window the loss is averaged over
LASTING = 0.1  # of the run: assumption: spikes that runs recover from are over in far less (Chowdhery et al. 2022, Sec. 5.1: hundreds of steps of 10^5)
# Of all that was learned until then: a run that lost this much for that long is no point of a scaling law. At its last step, after which nothing can come
# back, one window is enough: in 609 finished runs (nine texts, batches of 16 to 2688 tokens, 20 to 20 845 steps) the last window had lost 0.15 at most, and no
# 20 steps after the warm-up, wherever they ended, over 0.23; of 42 short ones at one to a hundred times the usual rate, some held to the end, the last 0.24.
LOST = 0.5


def trouble(losses: Tensor, *, step: int, steps: int, warmup: int) -> str:
    """Why the run has diverged after `step` of `steps` steps, or nothing.

    Args:
        losses: Of shape (at least step,), nats per token.
        step: Steps done.
        steps: Of the whole run.
        warmup: Of the learning rate, in steps.
    """
    means = _means(losses[:step])
    recent, first = float(means[-1]), float(losses[0])
    if not math.isfinite(recent):
        return f"the loss is {recent} by step {step} of {steps}"
    if step > warmup + LOOK and recent > first:
        return f"the loss is {recent:.3f} at step {step} of {steps}, above the {first:.3f} it began with"
    lowest = float(means.min())
    last = means[-1:] if step == steps else means[-max(2, math.ceil(LASTING * steps / LOOK)) :]
    if step > warmup + len(last) * LOOK and float(last.min()) > lowest + LOST * (first - lowest):
        lasted = "by its end" if step == steps else "for a tenth of the run"
        return f"the loss rose from {lowest:.3f} to {recent:.3f} and has not come back {lasted}, by step {step} of {steps}"
    return ""


def _means(losses: Tensor) -> Tensor:
    """Over windows that end at the last loss, oldest first; the first window may be shorter, and is left out."""
    whole = len(losses) // LOOK
    return losses[len(losses) - whole * LOOK :].view(whole, LOOK).mean(1) if whole else torch.stack([losses.mean()])
