"""Recipes: peak learning rate, batch, warm-up, schedule and optimiser of a run as functions of its size and length, by named rules with their sources.

One file a rule, chosen by its name: `small` (measured here), and those of papers. They are arithmetic over a few numbers of the run and
import nothing heavy, since a plan reads them too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from isoflop import _registry, units

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Shape

BI = "DeepSeek LLM (Bi et al. 2024, arXiv 2401.02954)"
BI_OPTIMIZER = f"AdamW of {BI}, Sec. 2.3; not part of the rule"
LONGEST_WARMUP = 0.1  # assumption: share of a run that a rule's warm-up may fill, where the rule is not itself a share


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the rules read of a run."""

    d_model: int
    params: float  # total
    body: float  # params without embedding and head
    with_head: float  # params without an input embedding of its own
    tokens: float
    flops: float  # of training
    body_flops: float  # of training, without the logits


def twenty_tokens_a_param(flops: float) -> float:
    """Params (total) of the optimum: 6ND FLOPs, D = 20 N (Hoffmann et al. 2022, Table 3: 400M on 8.0B tokens to 67B on 1.5T)."""
    return math.sqrt(flops / 120)


def a_tenth(_lr: float) -> float:
    """Of the peak, at the end of a cosine: Hoffmann et al. 2022, App. B."""
    return 0.1


def steps(count: float) -> Callable[[Run, float], float]:
    """A warm-up of so many steps, as a share of the run."""
    return lambda run, batch: count * batch / run.tokens


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How runs are trained, and who says so. Its numbers are its own also outside the range it was fitted on; `reach` says what lies there."""

    title: str
    batch: Callable[[Run], float]  # tokens a step, before they are whole sequences
    batch_source: str
    lr: Callable[[Run, float], float]  # at the peak, of a run and the batch it is trained with
    lr_source: str
    muon: float = 1.0  # Muon's peak rate over that, its updates scaled to the size of AdamW's: one rate for both (Liu et al. 2025, Eq. 4)
    warmup: Callable[[Run, float], float]  # share of the run, of a run and its batch; linear
    warmup_source: str
    schedule: str  # as the source has it
    schedule_source: str
    reach: Callable[[Run], tuple[str, ...]]  # sentences on what of the run lies outside the rule's data
    final: Callable[[float], float] = a_tenth  # share of the peak, given that, at which a study's cosine ends
    longest_warmup: float = LONGEST_WARMUP
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0  # of the gradient's norm
    optimizer_source: str = BI_OPTIMIZER
    expected_params: Callable[[float], float] = twenty_tokens_a_param  # total, of the optimum at a budget in FLOPs; only centres a grid


def names() -> tuple[str, ...]:
    """Of all recipes."""
    return _registry.names(__name__)


def get(name: str) -> Rule:
    """The recipe of a name.

    Raises:
        UnknownNameError: No such recipe; the message lists those there are.
    """
    return cast("Rule", _registry.load(__name__, name, noun="recipe").RULE)


def read(shape: "Shape", tokens: float) -> Run:
    """What the rules read of a shape that is trained on so many tokens."""
    parts, params = shape.flops_per_token, shape.params
    return Run(
        d_model=shape.d_model,
        params=params.total,
        body=params.count("nonembedding"),
        with_head=params.count("with_head"),
        tokens=tokens,
        flops=parts.training * tokens,
        body_flops=parts.training * (1 - parts.head / parts.forward) * tokens,
    )


def warmup(rule: Rule, run: Run, batch: float) -> float:
    """Share of a run that is its warm-up: the rule's, as far as the run is long enough for it."""
    return min(rule.warmup(run, batch), rule.longest_warmup)


def outside(value: float, low: float, high: float, *, what: str, show: Callable[[float], str] = units.count) -> tuple[str, ...]:
    """A sentence, if the value of a run lies outside what backs a rule."""
    if low <= value <= high:
        return ()
    return (f"This run's {show(value)} {what} are outside what backs the rule ({show(low)} to {show(high)}): tune the learning rate and the batch.",)
