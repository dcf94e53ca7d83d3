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
    """A rule: lr = lr_at_1 / d_model**lr_width * sqrt(batch / lr_batch); batch = batch_at_1 * flops**batch_power, rounded to a power of two.

    Also where the rule expects the optimum, which is where a design puts the middle of its sizes: params = center_params * (flops / center_flops)**0.5
    """

    source: str
    lr_at_1: float
    lr_width: float
    lr_batch: float
    batch_tokens: float  # at center_flops
    batch_power: float
    batch_range: tuple[int, int]
    center_flops: float
    center_params: float
    center_power: float

    def settings(self, shape: Shape, flops: float, *, lr_scale: float, batch_scale: float) -> Settings:
        """Settings for a shape and a training budget in FLOPs."""
        wanted = batch_scale * self.batch_tokens * (flops / self.center_flops) ** self.batch_power
        low, high = self.batch_range
        sequences = max(1, 2 ** round(math.log2(min(max(wanted, low * batch_scale), high * batch_scale) / shape.context)))
        batch = sequences * shape.context
        lr = lr_scale * self.lr_at_1 / shape.d_model**self.lr_width * math.sqrt(batch / self.lr_batch)
        return Settings(lr=lr, batch=batch, schedule=Schedule(), optimizer=AdamW())

    def expected_params(self, flops: float) -> float:
        """Params (total) of the optimum that the rule expects at a budget."""
        return self.center_params * (flops / self.center_flops) ** self.center_power


RECIPES = {
    "small": Recipe(
        source="measured on byte-level text at 1e11 to 1e13 FLOPs: benchmarks/recipe.md",
        lr_at_1=0.35,
        lr_width=1.0,
        lr_batch=1024,
        batch_tokens=1024,
        batch_power=0.5,
        batch_range=(256, 65536),
        center_flops=1e12,
        center_params=40e3,
        center_power=0.5,
    ),
}


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        UnknownNameError: No such recipe; the message lists those there are.
    """
    _registry.check(name, RECIPES, noun="recipe")
    return RECIPES[name]
