"""Trunks that are trained already: a size keeps its batch, rate and warm-up, whatever budgets are added."""

from collections.abc import Sequence

from isoflop.arch import Shape
from isoflop.runs import Cooldown, Group, RunSpec
from isoflop.study import Study

LONGEST_WARMUP = 0.5  # assumption: of a run. A shorter run does not resume from a trunk, whose warm-up is made for longer ones


class Trunks:
    """The trained runs of a cooldown study, by what they serve."""

    def __init__(self, trained: Sequence[RunSpec]) -> None:
        cooled = sorted((spec for spec in trained if isinstance(spec.schedule, Cooldown)), key=lambda spec: spec.budget)
        self._cells = {(spec.shape, spec.budget, spec.group, spec.seed): spec for spec in cooled}
        self._sizes = {spec.shape: spec for spec in cooled}  # the longest of each

    def run(self, study: Study, *, shape: Shape, budget: float, group: Group, seed: int, eval_tokens: int, fewest: int) -> RunSpec | None:
        """Return the run of a cell as its size is trained already; None if it is not, or the run would have fewer steps than that or be all warm-up."""
        same = self._cells.get((shape, budget, group, seed))
        like = same or self._sizes.get(shape)
        if like is None or not isinstance(like.schedule, Cooldown):  # the latter is never so, and the type checker cannot know
            return None
        steps = like.steps if same else round(budget / shape.flops_per_token.training / like.batch)
        if not same and (steps < fewest or like.schedule.warmup_steps > LONGEST_WARMUP * steps):
            return None
        schedule = like.schedule.model_copy(update={"decay": study.cooldown})
        values = {"tokens": steps * like.batch, "schedule": schedule, "seed": seed, "eval_tokens": eval_tokens}
        return like.model_copy(update={**values, "budget": budget, "group": group, "label": ""})
