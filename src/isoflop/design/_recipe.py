"""How the runs of a study are trained: by a recipe's rule, in the trainer's terms."""

from dataclasses import dataclass

from isoflop import recipes, units
from isoflop.arch import Shape
from isoflop.errors import DesignError
from isoflop.recipes import Rule
from isoflop.runs import AdamW, Cosine, Muon, RunSpec, Schedule
from isoflop.study import Tuned

LARGEST_RATE = 1e6  # assumption: every optimizer here diverges far below
LARGEST_BATCH = 1e15  # tokens; assumption: more than any model has been trained on


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one run is trained."""

    lr: float  # peak
    batch: int  # tokens a step, whole sequences
    schedule: Schedule
    optimizer: AdamW | Muon


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A rule, and what `isoflop tune` found of its learning rate on the study's own text."""

    name: str
    rule: Rule
    tuned: Tuned | None

    def settings(self, shape: Shape, flops: float, *, lr_scale: float, batch_scale: float, muon: bool) -> Settings:
        """Settings for a shape and a training budget in FLOPs, with Muon for the matrices of the blocks or AdamW for all.

        Raises:
            DesignError: The rule gives a learning rate or a batch that no run can have.
        """
        run = recipes.read(shape, flops / shape.flops_per_token.training)
        wanted = batch_scale * self.rule.batch(run)
        if wanted > LARGEST_BATCH:
            raise DesignError(f"a batch of {units.flops(wanted)} tokens is beyond any memory. Lower batch_scale, which is {batch_scale:g}, or the budgets.")
        batch = shape.context * max(1, round(wanted / shape.context))
        lr = lr_scale * self._correction(shape) * self.rule.lr(run, batch) * (self.rule.muon if muon else 1.0)
        if lr <= 0:
            raise DesignError(
                f"the recipe {self.name!r} gives no positive learning rate at {units.count(run.body)} params without embeddings. Take another recipe."
            )
        if lr > LARGEST_RATE:
            raise DesignError(f"a learning rate of {lr:g} trains nothing. Lower lr_scale, which is {lr_scale:g}, or run `isoflop tune`.")
        adamw = AdamW(beta1=self.rule.beta1, beta2=self.rule.beta2, weight_decay=self.rule.weight_decay, clip=self.rule.clip)
        return Settings(
            lr=lr,
            batch=batch,
            schedule=Cosine(warmup=float(f"{recipes.warmup(self.rule, run, batch):.6g}"), final=float(f"{self.rule.final(lr):.6g}")),
            optimizer=Muon(name="muon", adamw=adamw) if muon else adamw,
        )

    def expected_params(self, flops: float) -> float:
        """Params (total) of the optimum that the rule expects at a budget."""
        return self.rule.expected_params(flops)

    def warnings(self, specs: tuple[RunSpec, ...]) -> tuple[str, ...]:
        """What of these runs lies outside the data behind the rule: one sentence, with an example."""
        said = [caution for spec in specs for caution in self.rule.reach(recipes.read(spec.shape, spec.tokens))[:1]]
        if not said or self.tuned is not None:  # a rate that was tuned on this very text needs no rule's data behind it
            return ()
        return (f"{len(said)} of {len(specs)} runs lie outside what backs the recipe {self.name!r}. The first: {said[0]} `isoflop tune` finds the rate.",)

    def _correction(self, shape: Shape) -> float:
        """Over the rule's own rate."""
        return 1.0 if self.tuned is None else self.tuned.correction(shape.d_model)


def get(recipe: str | Tuned) -> Recipe:
    """The recipe of a name, or of a table that `isoflop tune` wrote.

    Raises:
        UnknownNameError: No such recipe; the message lists those there are.
    """
    tuned = recipe if isinstance(recipe, Tuned) else None
    name = tuned.base if tuned else str(recipe)
    return Recipe(name=name, rule=recipes.get(name), tuned=tuned)
