"""How to train a planned model: peak learning rate, batch, steps, warm-up, schedule and optimiser by named rules, each with its source."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop import recipes, units
from isoflop.errors import UsageError
from isoflop.plan._checks import positive
from isoflop.recipes import Rule, Run

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Shape

DEFAULT = "deepseek"  # the only rule here by which large models (7B, 67B) were then trained


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
    rule = recipes.get(recipe)
    run = recipes.read(shape, positive(tokens, "the number of tokens"))
    sequences, rounded = _sequences(rule.batch(run), shape.context, tokens)
    batch = sequences * shape.context
    lr = _positive_lr(rule, recipe, run, batch)
    steps = math.ceil(tokens / batch)
    warmup, warmup_source, warned = _warmup(rule, run, batch, steps)
    optimizer = rule.optimizer_source
    return Recommendation(
        recipe=recipe,
        source=rule.title,
        lr=Setting(value=lr, source=rule.lr_source),
        batch=Setting(value=batch, source=rule.batch_source),
        steps=Setting(value=steps, source="tokens over batch"),
        warmup=Setting(value=warmup, source=warmup_source),
        schedule=Setting(value=rule.schedule, source=rule.schedule_source),
        beta1=Setting(value=rule.beta1, source=optimizer),
        beta2=Setting(value=rule.beta2, source=optimizer),
        weight_decay=Setting(value=rule.weight_decay, source=optimizer),
        clip=Setting(value=rule.clip, source=optimizer),
        cautions=(*rule.reach(run), *rounded, *warned, *_spent(shape, tokens, positive(flops, "the budget in FLOPs"))),
    )


def _sequences(batch: float, context: int, tokens: float) -> tuple[int, tuple[str, ...]]:
    """The rule's batch in whole sequences, at least one and at most the run."""
    if batch < context / 2:
        return 1, (f"The rule's batch of {batch:.0f} tokens is less than one sequence of {context}: one is proposed instead.",)
    if batch > tokens:
        return max(1, math.ceil(tokens / context)), (f"The rule's batch of {units.count(batch)} tokens is more than the whole run: tune it by hand.",)
    return max(1, round(batch / context)), ()


def _warmup(rule: Rule, run: Run, batch: int, steps: int) -> tuple[int, str, tuple[str, ...]]:
    """The rule's warm-up in steps, or as much of a run as it may fill."""
    asked, share = rule.warmup(run, batch), recipes.warmup(rule, run, batch)
    if asked <= share:
        return max(1, round(asked * run.tokens / batch)), rule.warmup_source, ()
    short = max(1, int(share * steps))
    caution = f"The rule warms up for {asked * run.tokens / batch:.0f} steps, and this run has {steps}: a tenth of it, {short}, is proposed instead."
    return short, "assumption: at most a tenth of the run", (caution,)


def _spent(shape: "Shape", tokens: float, flops: float) -> tuple[str, ...]:
    told = shape.flops_per_token.training * tokens
    if 0.5 < told / flops < 2:
        return ()
    return (f"This shape takes {units.flops(told)} FLOPs on these tokens, not the {units.flops(flops)} planned.",)


def _positive_lr(rule: Rule, name: str, run: Run, batch: int) -> float:
    lr = rule.lr(run, batch)
    if lr <= 0:
        msg = f"the recipe {name!r} gives no positive learning rate at {units.count(run.body)} params without embeddings. Take another: --recipe {DEFAULT}."
        raise UsageError(msg)
    return lr
