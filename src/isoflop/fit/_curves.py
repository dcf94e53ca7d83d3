"""Training curves as functions of compute: smoothed where they are noisy, made to end at the run's final loss, interpolated in log tokens."""

import math

import numpy as np
from numpy.typing import NDArray

from isoflop.runs import Runs

Floats = NDArray[np.float64]

SMOOTHING_STEPS = 10.0  # Gaussian: Hoffmann et al. 2022, Sec. 3.1
SMOOTHING_SHARE = 0.03  # of the run, if that is more. Assumption: a step of a small sweep is 256 tokens, not a million; at 0.01 lucky dips win the envelope
SMOOTH = 0.002  # of the loss: scatter between neighbouring points below which a curve is smooth already, or an average, and is left as it is (assumption)
FEWEST_TO_JUDGE = 4  # points in the later half of a curve; of fewer nobody can tell noise from trend, and they are left as they are
KERNEL = 4.0  # widths; what is left out is 1e-4 of the weight
SHORT = 0.99  # share of the run that its curve must reach


def lacking(runs: Runs, i: int) -> str:
    """Why the curve of a run cannot be used; empty if it can."""
    tokens, loss = runs.curves[i].tokens, runs.curves[i].loss
    if not tokens.size:
        return "no curve"
    if not (np.isfinite(loss).all() and (loss > 0).all()):
        return "a curve that is not finite"
    if tokens[-1] < SHORT * runs.tokens[i]:
        return "a curve that stops before the run"
    return ""


def at(runs: Runs, grid: Floats) -> Floats:
    """(runs, len(grid)) loss of each run when it had spent so many FLOPs; inf before its first smoothing width and after its end."""
    table = np.full((len(runs), grid.size), np.inf)
    for i in range(len(runs)):
        tokens, loss = along(runs, i)
        spent = grid / runs.flops[i] * runs.tokens[i]  # FLOPs a token do not change along a run
        covered = (spent >= tokens[0]) & (spent <= runs.tokens[i] * (1 + 1e-9))
        table[i, covered] = np.interp(np.log(spent[covered]), np.log(tokens), loss)
    return table


def along(runs: Runs, i: int) -> tuple[Floats, Floats]:
    """Tokens and loss along the curve of a run, smoothed if it is noisy; what comes before the first smoothing width is left out."""
    tokens, loss = runs.curves[i].tokens, runs.curves[i].loss
    width = _width(tokens.size) if scatter(loss) > SMOOTH else 0.0
    smooth = _smooth(loss, width) if width else loss
    first = min(tokens.size - 1, max(math.ceil(width), int(np.searchsorted(tokens, 0.0, side="right"))))  # a loss before training has no log of compute
    # one batch is a noisy measure of a model, the validation set a good one: the end of the curve is set to it
    return tokens[first:], smooth[first:] * (runs.loss[i] / smooth[-1])


def scatter(loss: Floats) -> float:
    """Noise of a point relative to its loss, from second differences in the later half, where the trend has hardly any; 0 where points are too few."""
    late = np.log(loss[loss.size // 2 :])
    if late.size < FEWEST_TO_JUDGE:
        return 0.0
    bends = np.diff(late, 2)
    return 1.4826 * float(np.median(np.abs(bends))) / math.sqrt(6.0)  # 1.4826: the deviation of a normal; 1, -2, 1 have squares of 6


def _width(steps: int) -> float:
    return max(SMOOTHING_STEPS, SMOOTHING_SHARE * steps)


def _smooth(loss: Floats, width: float) -> Floats:
    """Gaussian mean of so many steps' width; at the ends, of the part of the kernel that is there."""
    reach = min(int(KERNEL * width), loss.size - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    inner = slice(reach, reach + loss.size)
    return np.asarray(np.convolve(loss, kernel)[inner] / np.convolve(np.ones(loss.size), kernel)[inner])
