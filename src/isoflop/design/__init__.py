"""Design: a study -> the runs that answer it, or a refusal that says why they would not."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from isoflop import _registry, arch, units
from isoflop.arch import Kind, Shape
from isoflop.design import _recipe
from isoflop.design._recipe import Settings
from isoflop.design._trunks import Trunks
from isoflop.errors import DesignError
from isoflop.runs import Cooldown, Cosine, Group, RunSpec, own_steps
from isoflop.study import WIDEST, Study

MANY_EPOCHS = 4.0  # Muennighoff et al. 2023: up to four epochs, repeated text is nearly as good as new
FEWEST_BUDGETS = 3  # two would make a line with nothing to judge it by
NEAREST_TARGET = 3.0  # times the largest run of the sweep
TRUNK_LR = 0.7  # times the rate of a cosine run, which is lower on the whole; benchmarks/cooldown.md
KAPLAN_WARMUP = 3000 / 250_000  # of the longest run; Kaplan et al. 2020, Sec. 2.2
FEWEST_EVALUATED = 2048  # tokens, where the study does not say; assumption: below, the choice of text moves the loss more than the size of the model
LARGEST = 1e15  # params; assumption: hundreds of times the largest model that anybody has trained
MIN_STEPS = 50  # assumption: under fifty steps a schedule has no shape, and the loss says more of warm-up than of size


@dataclass(frozen=True, kw_only=True)
class Text:
    """What a design must know of a corpus."""

    digest: str
    vocab: int
    train_tokens: int
    val_tokens: int


@dataclass(frozen=True, kw_only=True)
class Design:
    """The runs of a study, and what a person should know before training them."""

    specs: tuple[RunSpec, ...]
    warnings: tuple[str, ...]

    @property
    def flops(self) -> float:
        """Of all runs, each on its own."""
        return sum(spec.flops for spec in self.specs)

    @property
    def flops_shared(self) -> float:
        """Of all runs, of what several have in common once: the price."""
        steps = own_steps(self.specs)
        return sum(spec.flops * steps[spec.id] / spec.steps for spec in self.specs)


class Layout(Protocol):
    """What a design's file offers."""

    def cells(self, study: Study, *, vocab: int, expected: "Expected", trained: Sequence[RunSpec] = ()) -> tuple["Cell", ...]:
        """Return which shapes to train at which budgets; points that are trained stay where the design allows it."""


class Expected(Protocol):
    """Where the optimum is expected: params of a budget in FLOPs."""

    def __call__(self, flops: float) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of a grid."""

    shape: Shape
    budget: float  # FLOPs
    group: Group
    seed: int
    horizons: tuple[float, ...] = ()  # budgets whose runs of this shape begin alike; none: it shares nothing


def design(study: Study, text: Text, *, trained: Sequence[RunSpec] = ()) -> Design:
    """Return the runs that answer a study.

    Args:
        study: What to find out.
        text: Its text.
        trained: Runs of the same study with other budgets, which are trained. The noise stays where it was measured; in the cooldown design sizes stay, and
            with them their batches and rates, so that trunks resume.

    Raises:
        DesignError: The grid cannot answer, with why and what to change.
        UnknownNameError: No such design, architecture or recipe.
    """
    layout = cast("Layout", _registry.load(__name__, study.design, noun="design"))
    expected = _recipe.get(study.recipe).expected_params
    _refuse_text(study, text)
    _refuse_budgets(study, expected)
    cells = layout.cells(study, vocab=text.vocab, expected=expected, trained=trained)
    trunks = Trunks(trained)
    specs = tuple(
        trunks.run(study, shape=c.shape, budget=c.budget, group=c.group, seed=c.seed, eval_tokens=study.evaluated(text.val_tokens), fewest=MIN_STEPS)
        or spec(study, text, shape=c.shape, budget=c.budget, group=c.group, seed=c.seed, horizons=c.horizons)
        for c in cells
    )
    if study.overlong:
        specs += _overlong(specs)
    _refuse_grid(study, specs)
    return Design(specs=specs, warnings=(*_warnings(study, specs, text), *_recipe.get(study.recipe).warnings(specs)))


def spec(study: Study, text: Text, *, shape: Shape, budget: float, group: Group, seed: int, label: str = "", horizons: tuple[float, ...] = ()) -> RunSpec:
    """One run: as many whole batches as the budget pays for at the shape, trained by the study's recipe.

    Raises:
        DesignError: The budget pays for fewer than fifty steps.
    """
    settings = _settings(study, shape, horizons or (budget,))
    steps = round(budget / shape.flops_per_token.training / settings.batch)
    if steps < MIN_STEPS:
        raise DesignError(
            f"{units.flops(budget)} FLOPs pay for {steps} steps at width {shape.d_model} ({units.count(shape.params.total)} params) in batches of "
            f"{units.count(settings.batch)} tokens, as the recipe {str(study.recipe)!r} has them; under {MIN_STEPS} a run says nothing. "
            "Take larger budgets, smaller sizes, a smaller batch_scale or another recipe."
        )
    return RunSpec(
        shape=shape,
        tokens=steps * settings.batch,
        batch=settings.batch,
        lr=float(f"{settings.lr:.6g}"),  # six digits, so that a spec reads the same everywhere
        schedule=settings.schedule,
        optimizer=settings.optimizer,
        precision=study.precision,
        z_loss=study.z_loss,
        seed=seed,
        data=text.digest,
        eval_tokens=study.evaluated(text.val_tokens),
        budget=budget,
        group=group,
        label=label,
    )


def repeats(study: Study, runs: Sequence[Cell], middle: Cell, trained: Sequence[RunSpec]) -> tuple[Cell, ...]:
    """Return further seeds at one point of a grid, which show the noise: where that was measured before, or else at the middle."""
    measured = {(spec.shape, spec.budget) for spec in trained if spec.group == "noise"}
    point = next((cell for cell in runs if (cell.shape, cell.budget) in measured), middle)
    return tuple(dataclasses.replace(point, group="noise", seed=study.seed + i) for i in range(1, study.seeds))


def _settings(study: Study, shape: Shape, horizons: tuple[float, ...]) -> Settings:
    """How a run is trained whose beginning serves all of these budgets: by the recipe for their geometric middle."""
    middle = math.sqrt(min(horizons) * max(horizons))
    scales = {"lr_scale": study.lr_scale, "batch_scale": study.batch_scale}
    settings = _recipe.get(study.recipe).settings(shape, middle, **scales, muon=study.optimizer == "muon")
    if study.design != "cooldown":
        return settings
    assert isinstance(settings.schedule, Cosine), "recipes are for runs that anneal"
    shortest = min(horizons) / shape.flops_per_token.training / settings.batch
    schedule = Cooldown(name="cooldown", warmup_steps=round(settings.schedule.warmup * shortest), decay=study.cooldown)
    return dataclasses.replace(settings, lr=TRUNK_LR * settings.lr, schedule=schedule)


def _overlong(specs: tuple[RunSpec, ...]) -> tuple[RunSpec, ...]:
    """The same grid with one schedule for all lengths, as Kaplan et al. 2020 had: the rate at a token is that of the longest run there."""
    longest = max(spec.tokens for spec in specs)

    def of_the_longest(schedule: Cosine, tokens: int) -> Cosine:
        times = float(f"{longest / tokens:.6g}")
        return schedule.model_copy(update={"cycle": times, "warmup": KAPLAN_WARMUP * times})

    return tuple(
        spec.model_copy(update={"group": "overlong", "schedule": of_the_longest(spec.schedule, spec.tokens)})
        for spec in specs
        if spec.group == "isoflop" and isinstance(spec.schedule, Cosine)
    )


def proof_to_come(study: Study, text: Text) -> tuple[RunSpec, ...]:
    """Runs like those of the proof, for their price: the optimum where the recipe expects it, and the oversized model."""
    params = _recipe.get(study.recipe).expected_params(study.target)
    shapes = (study.kind(text.vocab).nearest(params * times) for times in (1.0, study.proof.oversize))
    return tuple(spec(study, text, shape=shape, budget=study.target, group="proof", seed=study.seed) for shape in shapes)


def around(kind: Kind, params: float, *, count: int, spread: float) -> tuple[Shape, ...]:
    """Shapes spread evenly in log params around an expected optimum, smallest first.

    Args:
        kind: Of the models.
        params: Middle, total parameters.
        count: How many shapes.
        spread: Largest over smallest, in params.

    Raises:
        DesignError: There are not so many widths.
    """
    ladder: list[Shape] = []
    for d_model in arch.widths():
        if d_model > WIDEST:
            raise DesignError(f"{count} sizes a budget around {units.count(params)} params need models wider than {WIDEST:,}. Lower sizes in the study.")
        ladder.append(kind.at(d_model))
        if ladder[-1].params.total > params * spread and len(ladder) >= count:
            break
    chosen: list[Shape] = []
    for i in range(count):
        target = params * spread ** (i / (count - 1) - 0.5)
        free = [shape for shape in ladder if shape not in chosen]
        chosen.append(min(free, key=lambda shape: max(shape.params.total / target, target / shape.params.total)))
    return tuple(sorted(chosen, key=lambda shape: shape.params.total))


def _refuse_text(study: Study, text: Text) -> None:
    evaluated = study.evaluated(text.val_tokens)
    there = f"the validation text has {units.count(text.val_tokens)} tokens"
    if evaluated < min(study.eval_tokens, FEWEST_EVALUATED):
        raise DesignError(
            f"{there}, and a loss measured on fewer than {units.count(FEWEST_EVALUATED)} says little. "
            "Set validation higher, add text to the corpus, or set eval_tokens to accept that."
        )
    if text.val_tokens <= evaluated:
        raise DesignError(
            f"{there}, but every run is measured on {units.count(evaluated)}. Set eval_tokens lower, validation higher, or add text to the corpus."
        )
    if evaluated < study.context:
        raise DesignError(f"eval_tokens is {evaluated}, under one sequence of {study.context} tokens, so no loss could be measured. Raise eval_tokens.")


def _refuse_budgets(study: Study, expected: "Expected") -> None:
    for budget in (*study.budgets, study.target):
        params = expected(budget) * study.spread
        if not params < LARGEST:
            raise DesignError(
                f"at {units.flops(budget)} FLOPs the recipe {str(study.recipe)!r} expects models of up to {units.count(params)} params; "
                f"isoflop designs models below {units.count(LARGEST)}. Check the number of FLOPs, or lower spread."
            )


def _refuse_grid(study: Study, specs: tuple[RunSpec, ...]) -> None:
    largest = max(s.flops for s in specs)
    if study.target < 0.99 * NEAREST_TARGET * largest:  # a run meets its budget within half a step
        raise DesignError(
            f"the target of {units.flops(study.target)} FLOPs is {study.target / largest:.2g} times the largest run; a proof needs at least "
            f"{NEAREST_TARGET:g}, since nearer the sweep there is nothing to predict. Raise target or drop the largest budget."
        )
    if study.design != "horizons" and len(study.budgets) < FEWEST_BUDGETS:
        raise DesignError(
            f"{len(study.budgets)} budgets cannot show how the optimum moves; give at least {FEWEST_BUDGETS}, better five over a decade of compute."
        )


def _warnings(study: Study, specs: tuple[RunSpec, ...], text: Text) -> tuple[str, ...]:
    worst = max(s.tokens / text.train_tokens for s in specs)
    many = sum(s.tokens / text.train_tokens > MANY_EPOCHS for s in specs)
    span = study.budgets[-1] / study.budgets[0]
    repeated = (
        f"{many} of {len(specs)} runs read the text more than {MANY_EPOCHS:.0f} times (at most {worst:.1f}); repeated text is worth less. "
        "Add text, or lower the budgets."
    )
    narrow = f"the budgets span {span:.2g}x, less than a decade of compute, so the exponents will be uncertain. Add a smaller or a larger budget."
    evaluated = study.evaluated(text.val_tokens)
    little = (
        f"the validation text has {text.val_tokens:,} tokens, so every run is measured on {evaluated:,} instead of "
        f"{study.eval_tokens:,}; losses of few tokens are noisy. Set validation higher, or add text."
    )
    few = evaluated < study.eval_tokens
    return ((repeated,) if many else ()) + ((narrow,) if span < 10 else ()) + ((little,) if few else ())
