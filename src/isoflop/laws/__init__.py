"""Laws: loss as a function of params and tokens, one file a form; and the questions that all of them answer.

A law knows the loss of a model and the optimum of a budget. What is asked the other way round (the budget for a loss, the tokens for a model and a loss)
is asked here, of any law: `frontier`, `tokens_for`, `params_for`, `exponents`. Loss with tokens capped but any model is `law.loss(math.inf, tokens)`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isoflop.errors import FitError, UsageError
from isoflop.laws import _checks, _solve

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training FLOPs of params and tokens: C = scale * N**power * D.

    6ND is Cost(). At small scale logits and attention scores cost as much as the rest, so a fit takes scale and power from its runs.
    """

    scale: float = 6.0
    power: float = 1.0

    def __post_init__(self) -> None:
        _checks.constants(self, positive=("scale", "power"))

    @_checks.to_its_limits
    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Training FLOPs; broadcasts."""
        return np.asarray(self.scale * np.asarray(params, dtype=float) ** self.power * np.asarray(tokens, dtype=float))

    @_checks.to_its_limits
    def tokens(self, params: ArrayLike, flops: ArrayLike) -> Floats:
        """Tokens that a budget pays for at a size; broadcasts."""
        return np.asarray(np.asarray(flops, dtype=float) / (self.scale * np.asarray(params, dtype=float) ** self.power))


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a budget is best spent; every field broadcasts with `flops`."""

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats  # nats per token; NaN where the law says nothing of loss


class Law(Protocol):
    """What every law offers. `a` and `b` are the exponents of N_opt ~ C**a and D_opt ~ C**b, NaN where they change along the frontier."""

    @property
    def a(self) -> float: ...

    @property
    def b(self) -> float: ...

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token of a model of so many params after so many tokens; broadcasts; either may be infinite.

        Raises:
            UsageError: A negative one.
            FitError: The law describes its frontier and no other model.
        """

    def optimum(self, flops: ArrayLike) -> Allocation:
        """The params and tokens of least loss at a training budget in FLOPs; broadcasts.

        Raises:
            UsageError: A budget that is not finite and positive.
            FitError: The law has no optimum there.
        """


MOST = 1e30  # params or tokens that are looked for; a law that needs more says "never" (assumption: a factor 1e14 above all that was ever asked)
_SPAN = (1.0, 1e120)  # FLOPs that are looked at; at the upper end an additive law is at its floor to the last bit
_MIDDLE = 1e21  # FLOPs at which every law is expected to have an optimum
_POINTS = 241  # budgets looked at: two a decade


def frontier(law: Law, *, params: ArrayLike | None = None, tokens: ArrayLike | None = None, loss: ArrayLike | None = None) -> Allocation:
    """The optimum that has so many params, or so many tokens, or such a loss, with the budget that it takes; broadcasts.

    Args:
        law: Any; of one that says nothing of loss, params or tokens can be asked.
        params: Of the optimal model.
        tokens: That it is trained on.
        loss: In nats per token.

    Raises:
        UsageError: Not exactly one of the three, or an amount that is not finite and positive.
        FitError: No budget from 1 to 1e120 FLOPs has such an optimum: the loss lies below the law's floor, the size beyond its bend.

    Example:
        >>> frontier(law, params=1e12).flops  # the budget at which a trillion params are optimal  # doctest: +SKIP
    """
    asked = [(name, value) for name, value in (("params", params), ("tokens", tokens), ("loss", loss)) if value is not None]
    if len(asked) != 1:
        given = " and ".join(name for name, _ in asked) or "nothing"
        raise UsageError(f"the frontier was asked for by {given}, but one of params, tokens or loss is what picks its point. Give exactly one.")
    name, value = asked[0]
    wanted = _checks.amount(value, "an optimum with " + name)
    log_flops = np.linspace(*_span(law), _POINTS)
    found = getattr(law.optimum(np.exp(log_flops)), name)
    _reachable(name, wanted, found)
    floor = found.min() if name == "loss" else 0.0  # taken off, a loss is nearly a line in logs too

    def short(log_flops: Floats) -> Floats:
        found = getattr(law.optimum(np.exp(log_flops)), name)
        return np.asarray(np.log(found - floor) - np.log(wanted - floor))

    at = _crossing(found, wanted, log_flops)
    return law.optimum(np.exp(_solve.root(short, log_flops[at], log_flops[at + 1])))


def tokens_for(law: Law, params: ArrayLike, loss: ArrayLike) -> Floats:
    """Tokens after which a model of so many params has such a loss, at least 1; infinite where it never has; broadcasts.

    Raises:
        UsageError: A loss or params that are not positive.
        FitError: The law describes its frontier and no other model.
    """
    N, L = np.broadcast_arrays(_checks.amount(params, "a model with params"), _checks.amount(loss, "a model with a loss"))
    floor = law.loss(N, math.inf)
    enough = _first(lambda log_D: _above(law.loss(N, np.exp(log_D)), L, floor), N.shape)
    return np.asarray(np.where(floor < L, enough, math.inf))  # the floor itself is met by rounding only


def params_for(law: Law, tokens: ArrayLike, loss: ArrayLike) -> Floats:
    """Params of the smallest model that has such a loss after so many tokens, at least 1; infinite where none has; broadcasts.

    Raises:
        UsageError: A loss or tokens that are not positive.
        FitError: The law describes its frontier and no other model.
    """
    D, L = np.broadcast_arrays(_checks.amount(tokens, "a model with tokens"), _checks.amount(loss, "a model with a loss"))
    floor = law.loss(math.inf, D)
    return _first(lambda log_N: _above(law.loss(np.exp(log_N), D), L, floor), D.shape)


@_checks.to_its_limits
def exponents(law: Law, flops: ArrayLike) -> tuple[Floats, Floats]:
    """The exponents a and b at a budget: slopes of log N_opt and log D_opt in log C, to nine digits; broadcasts.

    Where the law has a kink (a data-constrained law where tokens begin to repeat) they are the mean of both sides.
    """
    C, step = _checks.amount(flops, "a budget in FLOPs"), 1e-3  # rounding leaves 1e-11 and the bend of a frontier 1e-8 of its own curvature
    below, above = law.optimum(C * math.exp(-step)), law.optimum(C * math.exp(step))
    a, b = (np.log(high / low) / (2 * step) for low, high in ((below.params, above.params), (below.tokens, above.tokens)))
    return np.asarray(a), np.asarray(b)


def _above(found: Floats, wanted: Floats, floor: Floats) -> Floats:
    """Log of how far a loss is above what is wanted, each less the floor: a line in logs for an additive law. Plain where the floor is not below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(np.maximum(found - floor, 0.0)) - np.log(wanted - floor)
        return np.asarray(np.where(wanted > floor, log_ratio, found - wanted))


def _first(curve: _solve.Curve, shape: tuple[int, ...]) -> Floats:
    """The least amount, from 1 to MOST, at which a curve of its log is zero or below; infinite where there is none."""
    low, high = np.zeros(shape), np.full(shape, math.log(MOST))
    log_amount, falls = _solve.first_fall(curve, (low, high), points=121)  # four a decade
    with np.errstate(over="ignore"):
        return np.asarray(np.where(curve(low) <= 0, 1.0, np.where(falls, np.exp(log_amount), math.inf)))


def _span(law: Law) -> tuple[float, float]:
    """Logs of the smallest and largest budgets at which the law has an optimum."""
    return _furthest(law, _SPAN[0]), _furthest(law, _SPAN[1])


def _furthest(law: Law, end: float) -> float:
    """Log of the budget furthest from the middle, towards an end, with an optimum."""
    good, bad = math.log(_MIDDLE), math.log(end)
    if _has_optimum(law, bad):
        return bad
    for _ in range(40):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if _has_optimum(law, middle) else (good, middle)
    return good


def _has_optimum(law: Law, log_flops: float) -> bool:
    try:
        law.optimum(math.exp(log_flops))
    except FitError:
        return False
    return True


def _reachable(name: str, wanted: Floats, found: Floats) -> None:
    """Raise FitError unless all that is wanted lies between the least and the most that the law has on its frontier."""
    if np.isnan(found).any():
        raise FitError(f"this law says nothing of {name}, so no budget can be found for it. Ask by params or tokens, or take a law with a loss.")
    least, most = float(found.min()), float(found.max())
    if not least < most:
        raise FitError(f"{name} of this law's optimum does not change with compute, so no budget can be found for it. Ask for something else.")
    out = wanted[~((wanted > least) & (wanted < most))]
    if not out.size:
        return
    asked = f"a loss of {out.flat[0]:.6g}" if name == "loss" else f"{out.flat[0]:.6g} {name}"
    msg = f"no budget from {_SPAN[0]:g} to {_SPAN[1]:g} FLOPs has an optimum with {asked}"
    if name == "loss" and out.flat[0] <= least:
        raise FitError(f"{msg}: the floor of this law is {least:.6g}. Ask for a loss above it.")
    raise FitError(f"{msg}: by this law what is optimal lies between {least:.6g} and {most:.6g}. Ask within that.")


def _crossing(found: Floats, wanted: Floats, log_flops: Floats) -> NDArray[np.intp]:
    """Index of the last budget before what is found crosses what is wanted; of several crossings, the one nearest to the middle."""
    above = found.reshape(-1, *[1] * wanted.ndim) > wanted  # (budgets, ...)
    distance = np.abs(log_flops[:-1] - math.log(_MIDDLE)).reshape(-1, *[1] * wanted.ndim)
    return np.asarray(np.argmin(np.where(above[:-1] != above[1:], distance, np.inf), axis=0))
