"""A whole question and its answer: a goal, the laws asked, and what else is to be known of the run."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop.errors import FitError
from isoflop.plan import data_limits, hardware, inference, overtraining, recipe
from isoflop.plan.budget import Goal
from isoflop.plan.data_limits import DataLimited
from isoflop.plan.estimate import Estimate, Estimates, estimates
from isoflop.plan.hardware import Bill, Cluster, Fewest
from isoflop.plan.inference import Lifetime
from isoflop.plan.overtraining import Smaller
from isoflop.plan.recipe import Recommendation
from isoflop.published import Published

NATS = "nats per token"  # as isoflop.runs says it, which is slow to load

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Activations, Kind, Memory, Shape

LeftOut = tuple[str, str, str]  # of what, which law, why


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a plan. What is None is not asked."""

    goal: Goal
    fits: tuple[Published, ...]
    extrapolate: bool = False
    cluster: Cluster | None = None
    inference_tokens: float | None = None
    inference_mfu: float | None = None  # share of the peak rate that inference reaches; None: as training does
    unique_tokens: float | None = None
    smaller: bool = False
    kind: "Kind | None" = None  # of the model; needed for a shape, and for the memory of one
    shape: bool = False
    recipe: str = recipe.DEFAULT
    unit: str = NATS  # of the losses of a person's own fits


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What else was asked, for one law's recommendation; None where it was not asked or the law cannot say."""

    estimate: Estimate
    bill: Bill | None = None
    training: "Memory | None" = None  # with one sequence in flight
    activations: "Activations | None" = None  # of one sequence, by how much is computed anew
    serving: "Memory | None" = None  # with one whole context in the cache
    to_train: Fewest | None = None
    to_serve: Fewest | None = None
    lifetime: Lifetime | None = None
    data: DataLimited | None = None
    smaller: tuple[Smaller, ...] = ()
    shape: "Shape | None" = None
    recommendation: Recommendation | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The estimates of all laws, and the details of each."""

    question: Question
    estimates: Estimates
    details: tuple[Detail, ...]
    notes: tuple[str, ...]  # what a law could not say, and why


def answer(question: Question) -> Answer:
    """Ask every law, and work out what was asked besides.

    Raises:
        FitError: No law can say anything of the goal.
        ExtrapolationError: The goal is far outside the data of every law; the estimates are on the error.
        UsageError: A family, recipe or number that cannot be meant.
    """
    found = estimates(question.fits, question.goal, extrapolate=question.extrapolate)
    left_out = [("the plan", name, reason) for name, reason in found.left_out]
    details = tuple(_detail(question, estimate, left_out) for estimate in found.rows)
    return Answer(question=question, estimates=found, details=details, notes=_notes(left_out))


def _notes(left_out: list[LeftOut]) -> tuple[str, ...]:
    """A sentence for each reason, however many laws and questions it stands for."""
    by_reason: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for what, name, reason in left_out:
        whats, names = by_reason.setdefault(reason, ({}, {}))
        whats[what], names[name] = None, None
    return tuple(f"left out of {', '.join(whats)}: {', '.join(names)}, for {reason}" for reason, (whats, names) in by_reason.items())


def _detail(question: Question, estimate: Estimate, left_out: list[LeftOut]) -> Detail:
    detail, fit, law, flops = Detail(estimate=estimate), estimate.fit, estimate.fit.law, estimate.flops
    assert law is not None  # an estimate was made of it
    if question.kind is not None:
        detail = _built(question, question.kind, detail)
    if question.inference_tokens is not None:
        with _noted(left_out, "inference", fit):
            detail = dataclasses.replace(detail, lifetime=inference.lifetime(law, flops, question.inference_tokens, price=_price(question)))
    if question.smaller:
        with _noted(left_out, "smaller models", fit):
            detail = dataclasses.replace(detail, smaller=overtraining.overhead(law, flops))
    if question.unique_tokens is not None:
        with _noted(left_out, "unique tokens", fit):
            detail = dataclasses.replace(detail, data=data_limits.limited(data_limits.repeating(law, question.unique_tokens), flops))
    return detail


def _price(question: Question) -> float:
    """What an inference FLOP costs, in FLOPs of training: on the same hardware, as many times more as it is used worse."""
    if question.inference_mfu is None:
        return 1.0
    return (question.cluster.mfu if question.cluster else hardware.MFU) / question.inference_mfu


@contextlib.contextmanager
def _noted(left_out: list[LeftOut], what: str, fit: Published) -> Iterator[None]:
    """What a law cannot say is noted, not raised: others may."""
    try:
        yield
    except FitError as error:
        left_out.append((what, fit.name, str(error)))


def _built(question: Question, kind: "Kind", detail: Detail) -> Detail:
    """The real shape, and what it takes to train and to serve it."""
    from isoflop import arch

    estimate = detail.estimate
    shape = kind.nearest(estimate.params, estimate.fit.counts)
    if question.shape:
        advice = recipe.recommend(shape, tokens=estimate.flops / shape.flops_per_token.training, flops=estimate.flops, recipe=question.recipe)
        detail = dataclasses.replace(detail, shape=shape, recommendation=advice)
    training, serving = arch.training_memory(shape, recompute="full"), arch.serving_memory(shape)
    detail = dataclasses.replace(detail, training=training, activations=arch.activations(shape), serving=serving)
    if question.cluster is None:
        return detail
    chip, states = question.cluster.accelerator, training.total - training.activations
    return dataclasses.replace(
        detail,
        bill=hardware.bill(estimate.flops, question.cluster),
        to_train=hardware.fewest_for_training(chip, state_bytes=states, activation_bytes=training.activations),
        to_serve=hardware.fewest_for_inference(chip, weight_bytes=serving.weights, cache_bytes=serving.kv_cache),
    )
