"""Refusals: reasons why a prediction is no answer. Every path to an answer asks here, so that none prints an absurd one."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from isoflop import units
from isoflop.fit.forecast import Prediction
from isoflop.published import REACH
from isoflop.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Interval = tuple[float, float]
Kind = Literal["budget", "extrapolation", "interval", "loss", "optimum", "ratio", "runs", "size", "tokens", "trend"]

# Tokens for each parameter. Known models have from 0.5 (MT-NLG 530B) to 6,500 (SmolLM2 1.7B): isoflop.compare. Kaplan et al. 2020, the published law with
# the fewest, says 0.16 at 50 times its largest run. Models of 3,000 parameters are best with 1,800. The bounds are two orders of magnitude beyond these.
TOKENS_PER_PARAM = (1e-3, 1e6)
LEAST_PARAMS = 100.0  # assumption: an embedding of 256 bytes is larger at any width
LEAST_TOKENS = 1000.0  # assumption: one batch of one context; the smallest best batch measured here has 256 tokens, and a run has many
# The longest run of a table has more tokens than this: known models have at most 18T, so a table that counts billions holds no larger number (assumption).
LEAST_LONGEST = 20_000.0
LEAST_FLOPS = 6 * LEAST_PARAMS * LEAST_TOKENS  # of one step of such a model
MOST_PARAMS, MOST_TOKENS = 1e20, 1e22  # assumption: all human computing to 2030 is well below 1e33 FLOPs
LEVEL = 0.8  # of an interval, the default
WIDEST = 100.0  # two decades, high over low; assumption: an interval of the size that is wider does not say what to train
WIDEST_LOSS = 10.0  # assumption: losses of language models, from untrained bytes to the best, lie within 5.5 and 0.5 nats
OUTSIDE = 10.0  # times the sizes or tokens trained, over what the budget is beyond the runs; assumption: no law of compute grows faster than compute
LEAST_LOSS = 0.1  # of the best loss trained; assumption: Kaplan et al. 2020 expect 0.82 at 50 times the compute
SHRUNK = 0.5  # size or tokens at the budget over those at the nearest run; assumption: a small negative exponent may be noise
LEAST_COST = 0.01  # FLOPs over 6ND; assumption: of a mixture of experts 1 in 18 parameters works for a token (DeepSeek-V3)
ONE_BUDGET = 2.0  # largest over smallest FLOPs, below which runs show one budget (assumption)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One reason why there is no answer, and what would help."""

    kind: Kind
    reason: str  # a sentence or two, with the value and the bound
    advice: str  # a sentence

    def __str__(self) -> str:
        return f"{self.reason} {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Ranges of the runs that a fit saw, from the least to the greatest."""

    params: Interval
    tokens: Interval
    flops: Interval
    loss: Interval
    params_median: float
    tokens_median: float
    cost_median: float  # FLOPs over 6ND
    least_tokens: float = 0.0  # one batch or one context, whichever is more; 0 where neither is known

    @classmethod
    def of(cls, runs: Runs) -> Self:
        """Return the ranges of some runs."""
        ends = {name: (float(column.min()), float(column.max())) for name in ("params", "tokens", "flops", "loss") for column in (getattr(runs, name),)}
        return cls(
            **ends,
            params_median=float(np.median(runs.params)),
            tokens_median=float(np.median(runs.tokens)),
            cost_median=float(np.median(runs.flops / (6 * runs.params * runs.tokens))),
            least_tokens=runs.least_tokens,
        )


def within_limit(flops: float, trained: Trained | None) -> float:
    """Return the budget, or the farthest one that is taken without --extrapolate, if it lies beyond."""
    return flops if trained is None else min(max(flops, trained.flops[0] / REACH), trained.flops[1] * REACH)


def check(found: Prediction, near: Prediction, trained: Trained | None, *, unit: str, extrapolate: bool = False) -> tuple[Refusal, ...]:
    """Return the reasons why a prediction is no answer; empty if it is one.

    Args:
        found: The prediction for a budget.
        near: The prediction within the limit: its intervals are judged, for beyond it they are wide for the distance, which --extrapolate accepts.
        trained: Ranges of the runs; None where they are not known.
        unit: Unit of the loss.
        extrapolate: Accept a budget more than 50 times outside the runs.
    """
    reasons: list[Refusal] = []
    if trained is not None:
        reasons += [] if trained.least_tokens else _runs(trained)  # a study counts its own tokens: they cannot be misread
        reasons += [] if extrapolate else _extrapolation(found, trained)
    reasons += _budget(found, trained)
    if not (math.isfinite(found.params) and math.isfinite(found.tokens)):
        return (*reasons, _no_optimum(found))
    reasons += [*_sizes(found, trained), *_intervals(near)]
    return (*reasons, *_loss(found, trained, unit))


def shrinking(flops: float, nearest: float, sizes: Interval, lengths: Interval) -> tuple[Refusal, ...]:
    """Return a refusal where the best size or the best number of tokens falls as compute grows.

    Args:
        flops: The budget.
        nearest: The largest run, in FLOPs.
        sizes: The best params at the largest run, and at the budget.
        lengths: The best tokens at both.
    """
    found = []
    for (here, there), what in ((sizes, "parameters"), (lengths, "tokens")):
        if flops > nearest and there < SHRUNK * here:
            reason = (
                f"The best model would shrink from {units.count(here)} {what} at {units.flops(nearest)} FLOPs to {units.count(there)} at "
                f"{units.flops(flops)}. More compute pays for more of both."
            )
            found.append(Refusal(kind="trend", reason=reason, advice="Look at the minimum of each budget: noise or a bad run moved one. Add sizes or budgets."))
    return tuple(found)


def _runs(trained: Trained) -> "Iterator[Refusal]":
    """Yield a refusal of runs that cannot be training runs: a column was misread, or its unit."""
    params, tokens = units.count(trained.params_median), units.count(trained.tokens_median)
    scale = "If params are in millions and tokens in billions, scale them: --map 'params=COLUMN*1e6' --map 'tokens=COLUMN*1e9'."
    each = trained.tokens_median / trained.params_median
    if trained.params_median < LEAST_PARAMS or trained.tokens_median < LEAST_TOKENS:
        reason = f"The runs have {params} parameters and {tokens} tokens (medians). No language model is trained with fewer than {LEAST_PARAMS:g} parameters "
        yield Refusal(kind="runs", reason=f"{reason}or {LEAST_TOKENS:,.0f} tokens.", advice=scale)
    elif trained.tokens[1] < LEAST_LONGEST:
        reason = f"The longest run has {units.count(trained.tokens[1])} tokens, and isoflop takes tables with runs of {LEAST_LONGEST:,.0f} or more."
        yield Refusal(kind="runs", reason=reason, advice=scale)
    elif not TOKENS_PER_PARAM[0] <= each <= TOKENS_PER_PARAM[1]:
        advice = f"Check which columns were read as params and tokens, in the table of runs. {scale}"
        yield Refusal(kind="runs", reason=f"The runs have {params} parameters on {tokens} tokens (medians): {_ratio(each)}", advice=advice)
    elif trained.cost_median < LEAST_COST:
        reason = f"The runs took {trained.cost_median:.2g} times 6ND FLOPs (median), and training costs about 6ND."
        yield Refusal(kind="runs", reason=reason, advice="Give the FLOPs in their unit, such as --map 'flops=COLUMN*1e18', or leave that column out for 6ND.")


def one_budget(flops: float, seen: Interval) -> tuple[Refusal, ...]:
    """Return a refusal of a budget where all that is known lies at another one.

    Args:
        flops: The budget.
        seen: The least and the most compute at which the fits know the best size.
    """
    low, high = seen
    if high / low >= ONE_BUDGET or low / ONE_BUDGET <= flops <= high * ONE_BUDGET:
        return ()
    which = units.flops(low) if units.flops(low) == units.flops(high) else f"{units.flops(low)} to {units.flops(high)}"
    reason = f"The runs show the best size at one budget alone ({which} FLOPs), so nothing shows how it grows with compute."
    return (Refusal(kind="runs", reason=reason, advice="Add two budgets or more, or ask for that budget with --at."),)


def _extrapolation(found: Prediction, trained: Trained) -> "Iterator[Refusal]":
    low, high = trained.flops
    if found.flops > REACH * high:
        distance, more = f"{units.times(found.flops / high)} times the largest run ({units.flops(high)} FLOPs)", "larger"
    elif found.flops < low / REACH:
        distance, more = f"{units.times(low / found.flops)} times below the smallest run ({units.flops(low)} FLOPs)", "smaller"
    else:
        return
    would = f" The law would say {units.count(found.params)} params and {units.count(found.tokens)} tokens." if math.isfinite(found.params) else ""
    reason = f"{units.flops(found.flops)} FLOPs is {distance}, and {REACH:g} times is the limit.{would}"
    yield Refusal(kind="extrapolation", reason=reason, advice=f"Add {more} budgets, or accept it with --extrapolate.")


def _budget(found: Prediction, trained: Trained | None) -> "Iterator[Refusal]":
    step = LEAST_FLOPS if trained is None or not trained.least_tokens else max(LEAST_FLOPS, 6 * trained.params[0] * trained.least_tokens)
    if found.flops < step:
        reason = f"{units.flops(found.flops)} FLOPs is less than one training step of the smallest model costs ({units.flops(step)} FLOPs)."
        yield Refusal(kind="budget", reason=reason, advice="Check the exponent and the unit of the budget, and the FLOPs of the runs.")


def _no_optimum(found: Prediction) -> Refusal:
    reason = f"With {units.flops(found.flops)} FLOPs no best model can be named: none of these laws has an optimum there."
    return Refusal(kind="optimum", reason=reason, advice="Ask for a budget nearer to the runs, or add sizes on both sides of the minimum at each budget.")


def _sizes(found: Prediction, trained: Trained | None) -> "Iterator[Refusal]":
    known = trained.least_tokens if trained else 0.0
    least, why = max(LEAST_TOKENS, known), "one batch or one context" if known >= LEAST_TOKENS else "the fewest that isoflop takes"
    each = found.tokens / found.params if found.params > 0 else math.inf
    wrong: list[tuple[Kind, str]] = []
    if not LEAST_PARAMS <= found.params <= MOST_PARAMS:
        wrong.append(("size", f"A language model has from {LEAST_PARAMS:g} to {MOST_PARAMS:g} parameters."))
    if not least <= found.tokens <= MOST_TOKENS:
        wrong.append(("tokens", f"A model must see from {least:,.0f} tokens ({why}) to {MOST_TOKENS:g}."))
    if not TOKENS_PER_PARAM[0] <= each <= TOKENS_PER_PARAM[1]:
        wrong.append(("ratio", f"That is {_ratio(each)}"))
    if trained is not None and not wrong:
        wrong += _outside(found, trained)
    said = f"The best model would have {units.count(found.params)} parameters on {units.count(found.tokens)} tokens."
    advice = "Check which columns were read as params, tokens and FLOPs, and their units; then look at the warnings. Add sizes at more budgets."
    for i, (kind, why) in enumerate(wrong):
        yield Refusal(kind=kind, reason=why if i else f"{said} {why}", advice=advice)


def _ratio(each: float) -> str:
    low, high = TOKENS_PER_PARAM
    return f"{each:.2g} tokens for each parameter. Known models have from 0.5 to 6,500, and isoflop takes {low:g} to {high:,.0f}."


def _outside(found: Prediction, trained: Trained) -> "Iterator[tuple[Kind, str]]":
    """Yield what lies farther from the sizes and lengths trained than compute can explain."""
    above, below = max(1.0, found.flops / trained.flops[1]), max(1.0, trained.flops[0] / found.flops)
    columns: tuple[tuple[Kind, float, Interval], ...] = (("size", found.params, trained.params), ("tokens", found.tokens, trained.tokens))
    for kind, value, (low, high) in columns:
        what = "parameters" if kind == "size" else "tokens"
        if value > OUTSIDE * above * high:
            more = f"{units.times(value / high)} times as many {what} as any run had ({units.count(high)})"
            yield kind, f"That is {more}, with {units.times(above)} times the compute." if above > 1 else f"That is {more}, with no more compute."
        elif value < low / (OUTSIDE * below):
            yield kind, f"That is {units.times(low / value)} times fewer {what} than any run had ({units.count(low)})."


def _intervals(found: Prediction) -> "Iterator[Refusal]":
    advice = "Add sizes near the minimum of each budget, exclude badly tuned runs (--where), repeat seeds, or ask for a budget nearer to the runs (--at)."
    if found.level > LEVEL:
        advice += f" At a lower --level, such as {LEVEL}, the interval is narrower."
    level, at = f"{found.level * 100:g} % interval", f"at {units.flops(found.flops)} FLOPs"
    ends = {"params": found.params_interval, "tokens": found.tokens_interval}
    wide = [f"{units.count(low)} to {units.count(high)} {what} ({_decades(low, high)})" for what, (low, high) in ends.items() if _wider(low, high, WIDEST)]
    if wide:
        reason = f"The {level} of the best model {at} is {' and '.join(wide)}. An interval over two decades does not say what to train."
        yield Refusal(kind="interval", reason=reason, advice=advice)
    if _wider(*found.loss_interval, WIDEST_LOSS):
        low, high = found.loss_interval
        reason = f"The {level} of the loss {at} is {low:.3g} to {high:.3g}. Over a factor of {WIDEST_LOSS:g} it says nothing of the loss."
        yield Refusal(kind="interval", reason=reason, advice=advice)


def _wider(low: float, high: float, most: float) -> bool:
    """Return whether an interval is wider than a factor; one that is not known (NaN) is not: it was not asked for, or has a warning."""
    return not (math.isnan(low) or math.isnan(high)) and not (low > 0 and high / low <= most)


def _decades(low: float, high: float) -> str:
    return f"{math.log10(high) - math.log10(low):.1f} decades" if low > 0 and math.isfinite(high) else "infinitely many decades"


def _loss(found: Prediction, trained: Trained | None, unit: str) -> "Iterator[Refusal]":
    """Yield a refusal of a loss that no model can have; a loss that is not known (NaN) is said to be unknown, and is no refusal."""
    if math.isnan(found.loss):
        return
    advice = "Look at the losses of the runs and their unit, and at the warnings."
    if not 0 < found.loss < math.inf:
        yield Refusal(kind="loss", reason=f"The loss would be {found.loss:.3g} {unit}; it must be finite and above zero.", advice=advice)
    elif trained is not None and found.flops >= trained.flops[0] and found.loss > trained.loss[1]:
        reason = f"The best model would have a loss of {found.loss:.3f} {unit}, above that of the worst run ({trained.loss[1]:.3f}), with no less compute."
        yield Refusal(kind="loss", reason=reason, advice=advice)
    elif trained is not None and found.loss < LEAST_LOSS * trained.loss[0]:
        reason = f"The best model would have a loss of {found.loss:.3g} {unit}, less than a tenth of the best loss trained ({trained.loss[0]:.3f})."
        yield Refusal(kind="loss", reason=reason, advice=advice)


def sentences(refusals: "Iterable[Refusal]") -> tuple[str, ...]:
    """Return the reasons with their advice; where several give the same advice, it stands once, after the last of them."""
    found = tuple(refusals)
    return tuple(one.reason if any(later.advice == one.advice for later in found[i + 1 :]) else str(one) for i, one in enumerate(found))
