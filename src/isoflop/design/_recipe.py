"""Learning rate, batch and warm-up of a run by named rules, each with its source."""

import math
from dataclasses import dataclass

from isoflop import _registry
from isoflop.arch import Shape
from isoflop.runs import AdamW, Schedule


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one run is trained."""

    lr: float  # peak
    batch: int  # tokens a step, whole sequences
    schedule: Schedule
    optimizer: AdamW


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A rule for how a run is trained, and where the optimum is to be expected.

    Batch: as many whole sequences as make a run of `steps` steps. Peak learning rate: lr / d_model * sqrt(batch / 1024).
    Expected optimum: params (total) = center_params * (flops / center_flops)**center_power.
    """

    source: str
    steps: float
    lr: float
    schedule: Schedule
    optimizer: AdamW
    center_flops: float
    center_params: float
    center_power: float

    def settings(self, shape: Shape, flops: float, *, lr_scale: float, batch_scale: float) -> Settings:
        """Settings for a shape and a training budget in FLOPs."""
        tokens = flops / shape.flops_per_token.training
        batch = shape.context * max(1, round(batch_scale * tokens / self.steps / shape.context))
        lr = lr_scale * self.lr / shape.d_model * math.sqrt(batch / 1024)
        return Settings(lr=lr, batch=batch, schedule=self.schedule, optimizer=self.optimizer)

    def expected_params(self, flops: float) -> float:
        """Params (total) of the optimum that the rule expects at a budget."""
        return self.center_params * math.pow(flops / self.center_flops, self.center_power)


RECIPES = {
    "small": Recipe(
        source="measured on byte-level text at 1e11 to 5e12 FLOPs: benchmarks/recipe.md",
        steps=6000,
        lr=0.3,
        schedule=Schedule(warmup=0.2),  # 0.017 nats better than 0.05 at 4e11 FLOPs; benchmarks/recipe.md
        optimizer=AdamW(beta2=0.99),  # batches of a few sequences: 0.95 costs 0.025 nats and doubles the noise; benchmarks/recipe.md
        center_flops=1e12,
        center_params=57e3,
        center_power=0.55,
    ),
}


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        UnknownNameError: No such recipe; the message lists those there are.
    """
    _registry.check(name, RECIPES, noun="recipe")
    return RECIPES[name]
