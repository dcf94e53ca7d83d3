"""Runs that went wrong: far off the law that the others follow, by a stated rule, found before any approach is made."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import FitError
from isoflop.fit import _student
from isoflop.fit._problem import Problem, problem, refit, solve, without
from isoflop.runs import Dropped, Runs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NINE_IN_TEN = 1.6449  # standard deviations that nine in ten of a normal keep within
GROSS = 9.5  # deviations. Assumption: no noise does that (normal: 1 in 1e21), and the ragged edge of Hoffmann et al.'s Figure 4 reaches 8.8
FALSE_ALARM = 0.01  # chance a sweep, for the cut of sweeps so small that the deviation itself is uncertain
LEAST = 0.02  # of the loss; assumption: an untuned learning rate costs that, and Huber's loss bears it
MOST = 0.1  # share of the runs; assumption: beyond it the law is wrong and not the runs
WHOLE = 3  # runs of one size or one budget that are all found on one side are the law's failure and not theirs
FEWEST = 10  # runs; assumption: below it five constants bend to any run
EDGE = 0.1  # of the runs at either end of tokens per param; a run that is better there has found the law's edge, not a fault (assumption)
ROUNDS = 10  # of fitting the others and looking again
THINNED = 2_000  # runs that are asked one by one at most, the furthest off first


class Found(NamedTuple):
    """Which runs to keep, and the others by name."""

    keep: Mask  # (runs,)
    set_aside: tuple[Dropped, ...]


def find(runs: Runs) -> Found:
    """Runs whose loss is far from what the law fitted to the others says, worse or better.

    Far is 9.5 times the deviation that nine in ten runs keep (their 90 % quantile over a normal's, with the constants' share of the freedom put back), and
    2 % of the loss at least. The law is the additive one by Huber's loss; each run that is half as far is left out and the law fitted anew to judge it, and
    all is repeated until nothing changes. Nothing is found where it would be a tenth of the runs, or all runs (three or more) of a size or a budget: there the
    law is wrong, and not the runs; nor for a better loss among the tenth of fewest or of most tokens per param, where laws end; nor below ten runs.
    """
    nobody = Found(np.ones(len(runs), dtype=bool), ())
    if len(runs) < FEWEST:
        return nobody
    try:
        asked = problem(runs)
    except FitError:  # runs that determine no law accuse nobody
        return nobody
    off, limit = _far(asked)
    out = np.zeros(len(runs), dtype=bool)
    out[asked.order] = np.abs(off) > limit
    deviation = np.empty(len(runs))
    deviation[asked.order] = off
    rank = np.argsort(np.argsort(runs.tokens / runs.params, kind="stable"), kind="stable") / (len(runs) - 1)
    out &= (deviation > 0) | ((rank > EDGE) & (rank < 1 - EDGE))
    if out.sum() > MOST * len(runs):
        return nobody
    for column in (runs.params, runs.budget):
        out &= ~_whole(column, out, deviation)
    return Found(~out, tuple(Dropped(runs.ids[i], _reason(runs, int(i), float(deviation[i]), limit)) for i in np.flatnonzero(out)))


def _far(asked: Problem) -> tuple[Floats, float]:
    """(runs,) log of each run's loss over what the law of the others says, and how much of that is far."""
    y, count = asked.points.log_loss, asked.points.x.size
    theta, out = solve(asked).theta, np.zeros(count, dtype=bool)
    for _ in range(ROUNDS):
        off = y - asked.predict(theta)[0]
        limit = _limit(off[~out], len(theta))
        near = np.flatnonzero(~out & (np.abs(off) > limit / 2))
        near = near[np.argsort(-np.abs(off[near]), kind="stable")][:THINNED]
        if near.size:
            others = without(asked, theta, near, weights=(~out).astype(float))
            off[near] = y[near] - np.diagonal(asked.form.fitted(asked.points.part(near), others))
        before, out = out, np.abs(off) > limit
        if (before == out).all() or out.sum() > count - len(theta) - 1:
            break
        theta = refit(asked, theta, weights=(~out).astype(float)[None])[0]
    return off, limit


def _limit(off: Floats, unknowns: int) -> float:
    freedom = off.size - unknowns
    deviation = float(np.quantile(np.abs(off), 0.9)) / NINE_IN_TEN * math.sqrt(off.size / freedom)
    return max(LEAST, deviation * max(GROSS, _student.quantile(1 - FALSE_ALARM / off.size, freedom)))


def _whole(column: Floats, out: Mask, off: Floats) -> Mask:
    """(runs,) members of a size or budget of which every run, of three or more, is out on one side."""
    _, group = np.unique(column, return_inverse=True)
    sides = [np.bincount(group, weights=out & (off * side > 0)) for side in (1, -1)]
    size = np.bincount(group)
    whole = (size >= WHOLE) & (np.maximum(*sides) == size)
    return np.asarray(whole[group])


def _reason(runs: Runs, i: int, off: float, limit: float) -> str:
    side = "worse" if off > 0 else "better"
    where = f"{units.count(float(runs.params[i]))} params, {units.flops(float(runs.flops[i]))} FLOPs"
    return f"{100 * abs(math.expm1(off)):.1f} % {side} than the law of the other runs ({where}); beyond {100 * limit:.1f} % no noise of theirs goes"
