"""How to train a planned model: peak learning rate, batch, steps, warm-up, schedule and optimiser by named published rules, each with its source."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop import _registry, units
from isoflop.errors import UsageError
from isoflop.plan._checks import positive

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Shape

DEFAULT = "deepseek"  # the only rule here by which large models (7B, 67B) were then trained
_BI = "DeepSeek LLM (Bi et al. 2024, arXiv 2401.02954)"
_LI = "Step Law (Li et al. 2025, arXiv 2503.04715)"
_KAPLAN = "Kaplan et al. 2020 (arXiv 2001.08361)"
_HOFFMANN = "Hoffmann et al. 2022 (arXiv 2203.15556)"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice and who says so."""

    value: float | str
    source: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """How to train one model. Numbers are the rule's own, also outside the range it was fitted on: then a caution says so."""

    recipe: str
    source: str  # in full; those of the settings are short
    lr: Setting  # at the peak
    batch: Setting  # tokens a step, whole sequences
    steps: Setting
    warmup: Setting  # steps, linear
    schedule: Setting  # in words
    beta1: Setting
    beta2: Setting
    weight_decay: Setting
    clip: Setting  # of the gradient's norm
    cautions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the rules read of a run."""

    params: float  # total
    body: float  # params without embedding and head
    tokens: float
    body_flops: float  # of training, without the logits


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published rule."""

    title: str
    lr: Callable[[Run], float]
    lr_source: str
    batch: Callable[[Run], float]  # tokens
    batch_source: str
    warmup: float  # steps
    warmup_source: str
    schedule: str
    schedule_source: str
    reach: Callable[[Run], tuple[str, ...]]  # what of the run lies outside the rule's data
    beta2: float = 0.95
    weight_decay: float = 0.1
    optimizer_source: str = f"AdamW of {_BI}, Sec. 2.3; not part of the rule"


def _hoffmann_lr(run: Run) -> float:
    """2e-4 at 70M to 1.25e-4 at 16B, as the sweep of App. B; 1e-4 at 70B, as Table 4. Between them straight in log size: an assumption."""
    sizes, rates = (70e6, 16e9, 70e9), (2e-4, 1.25e-4, 1e-4)
    if run.params <= sizes[0]:
        return rates[0]
    for low, high, first, last in zip(sizes, sizes[1:], rates, rates[1:], strict=False):
        if run.params <= high:
            return first + (last - first) * math.log(run.params / low) / math.log(high / low)
    return rates[-1]


def _outside(value: float, low: float, high: float, *, what: str, show: Callable[[float], str]) -> tuple[str, ...]:
    if low <= value <= high:
        return ()
    return (f"This run's {show(value)} {what} are outside what backs the rule ({show(low)} to {show(high)}): tune the learning rate and the batch.",)


def _reach_steplaw(run: Run) -> tuple[str, ...]:
    size = _outside(run.body, 59e6, 1e9, what="params without embeddings", show=units.count)
    many = (
        (f"This run's {units.count(run.tokens)} tokens are more than the longest runs behind the rule had (100B): tune the learning rate.",)
        if run.tokens > 1e11
        else ()
    )
    return (*size, *many)


RECIPES = {
    "steplaw": Recipe(
        title=_LI,
        lr=lambda run: 1.79 * run.body**-0.713 * run.tokens**0.307,
        lr_source="Li et al. 2025: 1.79 N^-0.713 D^0.307, N without embeddings",
        batch=lambda run: 0.58 * run.tokens**0.571,
        batch_source="Li et al. 2025: 0.58 D^0.571 tokens",
        warmup=2000,
        warmup_source="Li et al. 2025",
        schedule="cosine to 1e-5 over exactly this run",
        schedule_source="Li et al. 2025: the rule is fitted for a fixed final rate",
        reach=_reach_steplaw,
    ),
    "deepseek": Recipe(
        title=_BI,
        lr=lambda run: 0.3118 * run.body_flops**-0.1250,
        lr_source="Bi et al. 2024, Eq. 1: 0.3118 C^-0.1250, C without the logits",
        batch=lambda run: 0.2920 * run.body_flops**0.3271,
        batch_source="Bi et al. 2024, Eq. 1: 0.2920 C^0.3271 tokens",
        warmup=2000,
        warmup_source="Bi et al. 2024, Sec. 2.3",
        schedule="constant; 31.6 % of the peak from 80 % of the tokens on, 10 % from 90 %",
        schedule_source="Bi et al. 2024, Sec. 2.3: as good as cosine, and its first part serves longer runs",
        # fitted on 1e17 to 2e19 FLOPs; 7B and 67B params on 2T tokens, 9.9e23 FLOPs, were trained by it
        reach=lambda run: _outside(run.body_flops, 1e17, 1e24, what="FLOPs", show=units.flops),
        optimizer_source="AdamW of Bi et al. 2024, Sec. 2.3",
    ),
    "hoffmann": Recipe(
        title=_HOFFMANN,
        lr=_hoffmann_lr,
        lr_source="Hoffmann et al. 2022: 2e-4 for the smallest of its sweep to 1.25e-4 for 16B, 1e-4 for Chinchilla; straight in log size between (assumption)",
        batch=lambda _run: 1.5e6,
        batch_source="Hoffmann et al. 2022, Table 4: 1.5M tokens, twice that from midway on",
        warmup=2000,
        warmup_source="assumption: as Bi et al. 2024; not printed",
        schedule="cosine to a tenth of the peak over exactly this run",
        schedule_source="Hoffmann et al. 2022, App. B: a cycle 25 % too long already costs loss",
        reach=lambda run: (
            *_outside(run.params, 70e6, 70e9, what="params", show=units.count),
            *(("The batch is printed for 70B only; a model this small learns more from a smaller one (see steplaw).",) if run.params < 16e9 else ()),
        ),
    ),
    "kaplan": Recipe(
        title=_KAPLAN,
        lr=lambda run: 0.003239 - 0.0001395 * math.log(run.body),
        lr_source="Kaplan et al. 2020, Eq. D.1: 0.003239 - 0.0001395 ln N, N without embeddings",
        batch=lambda _run: 512 * 1024,
        batch_source="Kaplan et al. 2020, Sec. 2.2: 512 sequences of 1024",
        warmup=3000,
        warmup_source="Kaplan et al. 2020, Sec. 2.2",
        schedule="cosine to zero",
        schedule_source="Kaplan et al. 2020, Sec. 2.2; theirs did not end with the run (Hoffmann et al. 2022, App. B): end it there",
        reach=lambda run: ("Kaplan et al. 2020 say themselves that the rate fails above 10B params; it is meant for sweeps.",) if run.body > 1e10 else (),
    ),
}


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        UnknownNameError: No such recipe; the message lists those there are.
    """
    _registry.check(name, RECIPES, noun="recipe")
    return RECIPES[name]


def recommend(shape: "Shape", *, tokens: float, flops: float, recipe: str = DEFAULT) -> Recommendation:
    """How to train a shape on so many tokens.

    Args:
        shape: The model.
        tokens: To train on.
        flops: The planned budget; a rule that reads FLOPs counts them itself, without logits, as its authors do.
        recipe: Whose rule.

    Raises:
        UnknownNameError: No such recipe.
        UsageError: Tokens or FLOPs that are not positive and finite, or a rule that gives no positive learning rate at this size.
    """
    rule = get(recipe)
    run = _read(shape, positive(tokens, "the number of tokens"))
    lr = _positive_lr(rule, recipe, run)
    sequences, rounded = _sequences(rule.batch(run), shape.context, tokens)
    steps = math.ceil(tokens / (sequences * shape.context))
    warmup, warmup_source, warned = _warmup(rule, steps)
    optimizer = rule.optimizer_source
    return Recommendation(
        recipe=recipe,
        source=rule.title,
        lr=Setting(value=lr, source=rule.lr_source),
        batch=Setting(value=sequences * shape.context, source=rule.batch_source),
        steps=Setting(value=steps, source="tokens over batch"),
        warmup=Setting(value=warmup, source=warmup_source),
        schedule=Setting(value=rule.schedule, source=rule.schedule_source),
        beta1=Setting(value=0.9, source=optimizer),
        beta2=Setting(value=rule.beta2, source=optimizer),
        weight_decay=Setting(value=rule.weight_decay, source=optimizer),
        clip=Setting(value=1.0, source=optimizer),
        cautions=(*rule.reach(run), *rounded, *warned, *_spent(shape, tokens, positive(flops, "the budget in FLOPs"))),
    )


def _read(shape: "Shape", tokens: float) -> Run:
    parts = shape.flops_per_token
    return Run(
        params=shape.params.total,
        body=shape.params.count("nonembedding"),
        tokens=tokens,
        body_flops=parts.training * (1 - parts.head / parts.forward) * tokens,
    )


def _sequences(batch: float, context: int, tokens: float) -> tuple[int, tuple[str, ...]]:
    """The rule's batch in whole sequences, at least one and at most the run."""
    if batch < context / 2:
        return 1, (f"The rule's batch of {batch:.0f} tokens is less than one sequence of {context}: one is proposed instead.",)
    if batch > tokens:
        return max(1, math.ceil(tokens / context)), (f"The rule's batch of {units.count(batch)} tokens is more than the whole run: tune it by hand.",)
    return max(1, round(batch / context)), ()


def _warmup(rule: Recipe, steps: int) -> tuple[int, str, tuple[str, ...]]:
    """The rule's warm-up, or a tenth of a run that it would fill by more than that."""
    if rule.warmup <= 0.1 * steps:
        return int(rule.warmup), rule.warmup_source, ()
    short = max(1, steps // 10)
    caution = f"The rule warms up for {rule.warmup:.0f} steps, and this run has {steps}: a tenth of it, {short}, is proposed instead."
    return short, "assumption: at most a tenth of the run", (caution,)


def _spent(shape: "Shape", tokens: float, flops: float) -> tuple[str, ...]:
    told = shape.flops_per_token.training * tokens
    if 0.5 < told / flops < 2:
        return ()
    return (f"This shape takes {units.flops(told)} FLOPs on these tokens, not the {units.flops(flops)} planned.",)


def _positive_lr(rule: Recipe, name: str, run: Run) -> float:
    lr = rule.lr(run)
    if lr <= 0:
        msg = f"the recipe {name!r} gives no positive learning rate at {units.count(run.body)} params without embeddings. Take another: --recipe {DEFAULT}."
        raise UsageError(msg)
    return lr
