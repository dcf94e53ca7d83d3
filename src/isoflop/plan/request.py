"""What a person typed, read into a question; whatever cannot be meant is refused here."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop import published, units
from isoflop.errors import UsageError
from isoflop.plan import hardware
from isoflop.plan import recipe as recipes
from isoflop.plan.budget import Goal
from isoflop.plan.hardware import Cluster
from isoflop.plan.question import Question
from isoflop.published import Published

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Kind

VOCAB, CONTEXT = 32_000, 2048  # Hoffmann et al. 2022: Table A9's embedding, and App. D.1
LAWS = ("hoffmann1", "hoffmann2", "hoffmann3", "besiroglu", "kaplan")  # asked where none are named


@dataclass(frozen=True, kw_only=True)
class Request:
    """The words of `isoflop plan`, as typed; None is what was not said."""

    what: tuple[str, ...] = ()  # [STUDY] [FLOPS]
    laws: tuple[str, ...] = ()
    gpus: int | None = None
    gpu: str | None = None
    mfu: float | None = None
    price: float | None = None
    days: float | None = None
    time: str | None = None
    dollars: str | None = None
    params: str | None = None
    tokens: str | None = None
    loss: float | None = None
    inference_tokens: str | None = None
    unique_tokens: str | None = None
    smaller: bool = False
    shape: bool = False
    arch: str | None = None
    vocab: int | None = None
    context: int | None = None
    untied: bool = False
    kv_heads: int | None = None
    recipe: str | None = None
    extrapolate: bool = False

    @property
    def study(self) -> str | None:
        """The first word, if it is the path of a study and not a budget."""
        first = self.what[0] if self.what else ""
        return first if first.endswith(".toml") or "/" in first or "\\" in first or (first and Path(first).exists()) else None

    @property
    def flops(self) -> str | None:
        """The word that is the budget.

        Raises:
            UsageError: More than one.
        """
        words = self.what[1:] if self.study else self.what
        if len(words) > 1:
            msg = f"{' '.join(words)} are {len(words)} budgets; give one, after the study if there is one: isoflop plan [STUDY] [FLOPS]."
            raise UsageError(msg)
        return words[0] if words else None

    @property
    def plain(self) -> bool:
        """Whether nothing is asked but a budget."""
        return dataclasses.replace(self, what=(), extrapolate=False) == Request()


def read(request: Request, fits: Iterable[Published] = (), *, kind: "Kind | None" = None, target: float | None = None) -> Question:
    """Read a request.

    Args:
        request: As typed.
        fits: A study's own, asked beside the published laws that were named.
        kind: The study's models.
        target: The study's budget in FLOPs, planned for where no goal is typed.

    Raises:
        UsageError: Nothing to plan for, words that contradict each other, or a value that cannot be meant.
        UnknownNameError: No such law, accelerator, family or recipe.
    """
    own = tuple(fits)
    names = request.laws or (() if own else LAWS)
    laws = dict.fromkeys(fit for name in names for fit in published.get(name))
    cluster = _cluster(request)
    return Question(
        goal=_goal(request, cluster, target),
        fits=(*own, *laws),
        extrapolate=request.extrapolate,
        cluster=cluster,
        inference_tokens=None if request.inference_tokens is None else units.read(request.inference_tokens),
        unique_tokens=None if request.unique_tokens is None else units.read(request.unique_tokens),
        smaller=request.smaller,
        kind=_kind(request, kind),
        shape=request.shape,
        recipe=request.recipe or recipes.DEFAULT,
    )


def _kind(request: Request, kind: "Kind | None") -> "Kind | None":
    said = {"family": request.arch, "vocab": request.vocab, "context": request.context, "kv_heads": request.kv_heads, "tied": False if request.untied else None}
    given = {name: value for name, value in said.items() if value is not None}
    if not (request.shape or request.gpus is not None):
        if given or request.recipe is not None:
            msg = "--arch, --vocab, --context, --untied, --kv-heads and --recipe are of shapes, and a law knows only sizes. Add --shape (or --gpus)."
            raise UsageError(msg)
        return None
    from isoflop.arch import Kind

    return dataclasses.replace(kind or Kind(family="llama", vocab=VOCAB, context=CONTEXT), **given)  # type: ignore[arg-type]


def _cluster(request: Request) -> Cluster | None:
    said = {"--gpus": request.gpus, "--gpu": request.gpu, "--mfu": request.mfu, "--price": request.price}
    given = [name for name, value in said.items() if value is not None]
    if not given:
        return None
    if request.gpus is None or request.gpu is None:
        msg = f"{' and '.join(given)} need both --gpus and --gpu: how many, and which. For example: --gpus 1024 --gpu h100."
        raise UsageError(msg)
    accelerator = hardware.accelerator(request.gpu)
    return Cluster(accelerator=accelerator, count=request.gpus, mfu=hardware.MFU if request.mfu is None else request.mfu, price=request.price)


def _goal(request: Request, cluster: Cluster | None, target: float | None) -> Goal:
    ways = {
        "FLOPS": request.flops, "--dollars": request.dollars, "--time": request.time, "--days": request.days, "--params": request.params,
        "--tokens": request.tokens, "--loss": request.loss,
    }  # fmt: skip
    given = [name for name, value in ways.items() if value is not None]
    if not given and target is not None:
        return Goal(quantity="flops", value=target)
    if len(given) != 1:
        said = f"{' and '.join(given)} each say what to plan for: give one" if given else "nothing says what to plan for: give one"
        msg = f"{said} of FLOPs such as 5.76e23, --days or --time or --dollars with --gpus, --params, --tokens, --loss."
        raise UsageError(msg)
    if request.flops is not None:
        return Goal(quantity="flops", value=units.read(request.flops))
    if request.params is not None:
        return Goal(quantity="params", value=units.read(request.params))
    if request.tokens is not None:
        return Goal(quantity="tokens", value=units.read(request.tokens))
    if request.loss is not None:
        return Goal(quantity="loss", value=request.loss)
    if cluster is None:
        msg = f"{given[0]} needs to know the hardware. Add --gpus and --gpu, such as --gpus 1024 --gpu h100."
        raise UsageError(msg)
    return Goal(quantity="flops", value=_paid_for(request, cluster))


def _paid_for(request: Request, cluster: Cluster) -> float:
    """FLOPs that the time or the money pays for."""
    if request.dollars is not None:
        return hardware.flops_for_dollars(units.read_dollars(request.dollars), cluster)
    if request.time is not None:
        return hardware.flops_for_time(units.read_duration(request.time), cluster)
    days = request.days or 0.0
    if not (math.isfinite(days) and days > 0):
        msg = f"--days {days:g} is not a positive number of days."
        raise UsageError(msg)
    return hardware.flops_for_time(days * 86400, cluster)
