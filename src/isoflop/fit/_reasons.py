"""Where the approaches disagree, and why: in words."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import FitError
from isoflop.fit import _misfit, _student, isoflop
from isoflop.fit.result import Fit, fewest
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Runs

Floats = NDArray[np.float64]

LEVEL = 0.8  # of the intervals that are compared
BEND = 0.9  # confidence at which a frontier is called bent
OFF_CENTRE = math.log(1.5)  # assumption: by which the sizes of a budget must sit beside its minimum for a parabola to be moved visibly
LOPSIDED = 1.25  # alpha over beta, either way, from which on a parabola's minimum moves by more than a percent (assumption)
COST_POWER = 0.05  # from 1; assumption: it moves a by as much
SEEN = 0.005  # least difference of two exponents that is one: less is beyond the digits they are printed with (assumption)
EXPLAINED = 0.5  # of the way between two exponents, that a reason must leave at most to be one (assumption)
AWAY = 0.05  # by which parabolas' exponent differs from that of the additive valleys before it is said (assumption)


class _Line(NamedTuple):
    """A quadratic of log params in log compute."""

    bend: float  # second derivative
    error: float  # its standard error
    freedom: int


def disagreement(runs: Runs, fits: Sequence[Fit]) -> tuple[str, ...]:
    """A sentence for each pair of approaches whose intervals of a lie apart, then what there is to explain it; empty where all agree."""
    apart = [(one, other) for i, one in enumerate(fits) for other in fits[i + 1 :] if _apart(one, other)]
    if not apart:
        return ()
    why = (
        *_curved(fits), *_off_centre(runs, fits), *_form(runs, apart), *_outliers(fits), *_counting(runs, fits),
        *_coarse([each for pair in apart for each in pair]),
    )  # fmt: skip
    none = "None of the usual reasons (curvature, sizes off-centre, the form of the law, outliers, counting) shows in these runs."
    return (*(_said(*pair) for pair in apart), *(why or (none,)))


def _apart(one: Fit, other: Fit) -> bool:
    """Whether the intervals of a lie apart; not where there are none, or too few resamples to make any."""
    if min(len(one.resamples), len(other.resamples)) < fewest(LEVEL) or not abs(one.law.a - other.law.a) >= SEEN:
        return False
    (low, high), (other_low, other_high) = one.interval(lambda law: law.a, level=LEVEL), other.interval(lambda law: law.a, level=LEVEL)
    return low > other_high or other_low > high


def _said(one: Fit, other: Fit) -> str:
    (low, high), (other_low, other_high) = one.interval(lambda law: law.a, level=LEVEL), other.interval(lambda law: law.a, level=LEVEL)
    return (
        f"{one.approach} has a = {one.law.a:.3f} ({low:.3f} to {high:.3f}) and {other.approach} {other.law.a:.3f} ({other_low:.3f} to {other_high:.3f}): "
        f"their {100 * LEVEL:.0f} % intervals lie apart."
    )


def _curved(fits: Sequence[Fit]) -> tuple[str, ...]:
    """Whether the minima of Approach 2 bend, which a power law averages and an additive law cannot follow."""
    found = next((f for f in fits if f.approach == "isoflop"), None)
    if found is None or found.frontier.flops.size < 5:
        return ()
    line = _bend(np.log(found.frontier.flops), np.log(found.frontier.params))
    if abs(line.bend) <= line.error * _student.quantile(BEND, line.freedom):
        return ()
    decades = abs(line.bend) * math.log(10)
    words = (
        f"Curvature: the exponent of the best size {'rises' if line.bend > 0 else 'falls'} by {decades:.2f} each decade of compute, so what an approach "
        "finds depends on where its runs lie."
    )
    return (words,)


def _bend(x: Floats, y: Floats) -> _Line:
    x = x - x.mean()
    columns = np.vander(x, 3)
    coefficients, *_ = np.linalg.lstsq(columns, y, rcond=None)
    freedom = x.size - 3
    variance = float(((y - columns @ coefficients) ** 2).sum()) / freedom
    error = math.sqrt(variance * float(np.linalg.inv(columns.T @ columns)[0, 0]))
    return _Line(2 * float(coefficients[0]), 2 * error, freedom)


def _off_centre(runs: Runs, fits: Sequence[Fit]) -> tuple[str, ...]:
    """Whether parabolas are biased: sizes beside the minimum, or valleys that are steeper on one side; and what valleys of the law's own form say."""
    found = next((f for f in fits if f.approach == "isoflop"), None)
    if found is None:
        return ()
    inside = [p for p in found.profiles if p.interior]
    beside = float(np.median([math.log(p.params_opt) - float(np.log(p.params).mean()) for p in inside]))
    law = next((f.law for f in fits if isinstance(f.law, Chinchilla)), None)
    reasons = []
    if abs(beside) > OFF_CENTRE:
        side = "below" if beside < 0 else "above"
        reasons.append(f"the minima lie {units.times(math.exp(abs(beside)))} times {side} the middle of the sizes trained")
    if law is not None and not 1 / LOPSIDED < law.alpha / law.beta < LOPSIDED:
        reasons.append(f"alpha {law.alpha:.2f} and beta {law.beta:.2f} make one side of a valley steeper")
    other = _additive(runs) if reasons else None
    if not reasons or other is None:
        return ()
    if abs(other - found.law.a) < AWAY:
        return ()
    return (f"Off-centre: {' and '.join(reasons)}, which moves a parabola's minimum; valleys of the additive form (--method additive) give a = {other:.3f}.",)


def _additive(runs: Runs) -> float | None:
    try:
        return isoflop.fit(runs, method="additive", resamples=0).law.a
    except FitError:
        return None


def _form(runs: Runs, apart: Sequence[tuple[Fit, Fit]]) -> tuple[str, ...]:
    """Whether Approach 3's law has other valleys than the runs: its residuals along them, put back, take its a most of the way to the other approach."""
    pairs = [(one, other) if one.approach == "parametric" else (other, one) for one, other in apart if "parametric" in {one.approach, other.approach}]
    for law, other in pairs:
        seen = _misfit.along_valleys(runs, law)
        if seen is not None and abs(seen.a - other.law.a) < EXPLAINED * abs(law.law.a - other.law.a):
            words = (
                f"Form: along the sizes of a budget the loss leaves {law.form} by {100 * seen.size:.2g} % in a way that is no noise, so its valleys are not "
                f"those of these runs; with that put back, its a would be {seen.a:.3f}. Take the a of {other.approach}, or a form with more constants "
                "(--law farseer)."
            )
            return (words,)
    return ()


def _outliers(fits: Sequence[Fit]) -> tuple[str, ...]:
    named = next((f.set_aside for f in fits if f.set_aside), ())
    if not named:
        return ()
    return (f"Outliers: {len(named)} runs were set aside ({', '.join(d.id for d in named[:4])}); with them (--keep-all) the approaches differ more.",)


def _counting(runs: Runs, fits: Sequence[Fit]) -> tuple[str, ...]:
    law = next((f.law for f in fits if isinstance(f.law, Chinchilla)), None)
    if law is None or abs(law.cost.power - 1) < COST_POWER:
        return ()
    words = (
        f"Counting: FLOPs a token grow as params^{law.cost.power:.2f} by this counting ({runs.convention} parameters), not as 6N; count all parameters, or "
        "compare a with other studies only where they count alike."
    )
    return (words,)


def _coarse(fits: Sequence[Fit]) -> tuple[str, ...]:
    if not any(f.approach == "envelope" for f in fits):
        return ()
    return ("Approach 1 knows the sizes that were trained and none between, so it is the coarsest of the three.",)
