"""What a person typed, read into a question; whatever cannot be meant is refused here."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop import _registry, published, units
from isoflop.errors import UnitError, UsageError
from isoflop.plan import hardware
from isoflop.plan import recipe as recipes
from isoflop.plan.budget import Goal
from isoflop.plan.hardware import Cluster
from isoflop.plan.question import NATS, Question
from isoflop.published import Published

if TYPE_CHECKING:  # a plan that asks for no shape loads none
    from isoflop.arch import Kind

GOPHER = 5.76e23  # FLOPs: what a figure is drawn for where no budget is said, as Hoffmann et al. 2022, Figure 1
VOCAB, CONTEXT = 32_000, 2048  # Hoffmann et al. 2022: Table A9's embedding, and App. D.1
LAWS = ("hoffmann1", "hoffmann2", "hoffmann3", "besiroglu", "kaplan")  # asked where none are named

_COUNT_AND_KIND = re.compile(r"(\d+)\s*[xX*\s]\s*([a-zA-Z].*)")  # 8xh100


@dataclass(frozen=True, kw_only=True)
class Request:
    """The words of `isoflop plan`, as typed; None is what was not said."""

    flops: str | None = None
    laws: tuple[str, ...] = ()
    gpus: str | None = None
    gpu: str | None = None
    mfu: str | None = None
    price: str | None = None
    watts: str | None = None
    pue: str | None = None
    kg_co2: str | None = None
    days: str | None = None
    time: str | None = None
    dollars: str | None = None
    params: str | None = None
    tokens: str | None = None
    loss: str | None = None
    inference_tokens: str | None = None
    inference_mfu: str | None = None
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
    def plain(self) -> bool:
        """Whether nothing is asked but a budget."""
        return dataclasses.replace(self, flops=None, extrapolate=False) == Request()


def read(request: Request, fits: Iterable[Published] = (), *, kind: "Kind | None" = None, target: float | None = None, unit: str = NATS) -> Question:
    """Read a request.

    Args:
        request: As typed.
        fits: A person's own, of a study or saved, asked beside the published laws that were named.
        kind: The study's models.
        target: A budget in FLOPs, planned for where no goal is typed: the study's.
        unit: Of the losses of those fits.

    Raises:
        UsageError: Nothing to plan for, words that contradict each other, or a value that cannot be meant.
        UnknownNameError: No such law, accelerator, family or recipe.
    """
    own = tuple(fits)
    names = request.laws or (() if own else LAWS)
    laws = dict.fromkeys(fit for name in names for fit in published.get(name))
    if laws and unit != NATS and request.loss is not None:
        msg = f"--loss {request.loss} would be {unit} for the saved fits and {NATS} for published laws. Ask them one after the other."
        raise UsageError(msg)
    cluster = _cluster(request)
    return Question(
        goal=_goal(request, cluster, target),
        fits=(*own, *laws),
        extrapolate=request.extrapolate,
        cluster=cluster,
        inference_tokens=_number(request.inference_tokens),
        inference_mfu=_inference_mfu(request),
        unique_tokens=_number(request.unique_tokens),
        smaller=request.smaller,
        kind=_kind(request, kind),
        shape=request.shape,
        recipe=request.recipe or recipes.DEFAULT,
        unit=unit,
    )


def _inference_mfu(request: Request) -> float | None:
    if request.inference_mfu is not None and request.inference_tokens is None:
        msg = "--inference-mfu says how well inference uses the hardware, and no inference is asked for. Add --inference-tokens."
        raise UsageError(msg)
    return _share(request.inference_mfu)


def _kind(request: Request, kind: "Kind | None") -> "Kind | None":
    said = {"family": request.arch, "vocab": request.vocab, "context": request.context, "kv_heads": request.kv_heads, "tied": False if request.untied else None}
    given = {name: value for name, value in said.items() if value is not None}
    if request.recipe is not None and not request.shape:
        msg = "--recipe says how to train a shape, and none is asked for. Add --shape."
        raise UsageError(msg)
    if not (request.shape or request.gpus is not None):
        if given:
            msg = "--arch, --vocab, --context, --untied and --kv-heads are of shapes, and a law knows only sizes. Add --shape (or --gpus and --gpu)."
            raise UsageError(msg)
        return None
    from isoflop.arch import Kind

    return dataclasses.replace(kind or Kind(family="llama", vocab=VOCAB, context=CONTEXT), **given)  # type: ignore[arg-type]


def _cluster(request: Request) -> Cluster | None:
    said = {
        "--gpus": request.gpus, "--gpu": request.gpu, "--mfu": request.mfu, "--price": request.price, "--watts": request.watts, "--pue": request.pue,
        "--kg-co2": request.kg_co2,
    }  # fmt: skip
    given = [name for name, value in said.items() if value is not None]
    if not given:
        return None
    _check_gpus(request)
    if request.gpus is None or request.gpu is None:
        missing = [name for name in ("--gpus", "--gpu") if said[name] is None]
        msg = f"{' and '.join(given)} without {' and '.join(missing)}: say how many accelerators, and which, such as --gpus 1024 --gpu h100."
        raise UsageError(msg)
    count = units.read(request.gpus)
    if count != int(count):
        msg = f"{request.gpus} accelerators cannot be meant: give a whole number."
        raise UsageError(msg)
    default = Cluster(accelerator=hardware.accelerator(request.gpu), count=int(count))
    said_of = {"mfu": _share(request.mfu), "price": _price(request.price), "watts": _number(request.watts), "pue": _number(request.pue)}
    carbon = {"kg_co2_per_kwh": None if request.kg_co2 is None else _from_zero(request.kg_co2)}
    return dataclasses.replace(default, **{name: value for name, value in (said_of | carbon).items() if value is not None})  # type: ignore[arg-type]


def _check_gpus(request: Request) -> None:
    """Refuse a count and a kind in one word, such as 8xh100."""
    both = _COUNT_AND_KIND.fullmatch(request.gpus or "")
    if both and (near := _registry.nearest(both[2], tuple(hardware.ACCELERATORS), aliases=hardware.ALIASES)):
        raise UsageError(f"--gpus {request.gpus} is a count and a kind. Did you mean --gpus {both[1]} --gpu {near[0]}?")


def _number(text: str | None) -> float | None:
    return None if text is None else units.read(text)


def _share(text: str | None) -> float | None:
    """A share as 0.4 or as 40%."""
    if text is None:
        return None
    return units.read(text.strip().removesuffix("%")) / 100 if text.strip().endswith("%") else units.read(text)


def _price(text: str | None) -> float | None:
    """Dollars, or nothing for one's own machine."""
    if text is None:
        return None
    return 0.0 if text.strip().removeprefix("$") in {"0", "0.0", "0.00"} else units.read_dollars(text)


def _from_zero(text: str) -> float:
    return 0.0 if text.strip() in {"0", "0.0"} else units.read(text)


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
        return Goal(quantity="flops", value=units.read_flops(request.flops))
    if request.params is not None:
        return Goal(quantity="params", value=units.read(request.params))
    if request.tokens is not None:
        return Goal(quantity="tokens", value=units.read(request.tokens))
    if request.loss is not None:
        return Goal(quantity="loss", value=units.read(request.loss))
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
    return hardware.flops_for_time(_days(request.days or "") * 86400, cluster)


def _days(text: str) -> float:
    """Return a number of days; a time with its unit belongs to --time."""
    try:
        return units.read(text)
    except UnitError:
        days = units.read_duration(text) / 86400
    raise UsageError(f"--days {text} is not a number of days. Did you mean --days {days:g}, or --time {text.replace(' ', '')}?")
