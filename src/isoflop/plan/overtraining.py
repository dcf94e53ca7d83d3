"""The price of a model smaller than optimal: what it takes in training to reach the same loss, and when serving it has paid that back."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from isoflop.laws import Allocation, Law, tokens_for
from isoflop.plan._checks import positive
from isoflop.plan.inference import cost_of, loss_of, serving_flops

SCALES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.125)


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """A model of a fraction of the optimal size, trained to the optimal model's loss. Infinite tokens: it never gets there."""

    scale: float  # of the optimal params
    params: float
    tokens: float
    flops: float
    overhead: float  # of training, as a fraction of the budget: 0.2 is 20 % more
    serving: float  # FLOPs of a token served, or of a token fine-tuned on, over the optimal model's
    break_even_tokens: float  # inference tokens from which the smaller model has cost less in all; inf: never
    loss: float  # nats per token

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    @property
    def reachable(self) -> bool:
        return math.isfinite(self.tokens)


def overhead(law: Law, flops: float, scales: Iterable[float] = SCALES) -> tuple[Smaller, ...]:
    """What models of these fractions of the optimal size take to reach the loss that the budget buys.

    Args:
        law: Any law that knows the loss of every model.
        flops: Training budget of the optimal model.
        scales: Fractions of the optimal params, each > 0; above 1 for a larger model.

    Raises:
        UsageError: A budget or a fraction that is not positive and finite.
        FitError: The law knows no loss away from its frontier.

    Source: de Vries 2023, "Go smol or go home"; in FLOPs, every budget has the same curve under a Chinchilla law.
    """
    best = law.optimum(positive(flops, "the budget in FLOPs"))
    return tuple(_smaller(law, best, positive(scale, "a fraction of the optimal size")) for scale in scales)


def _smaller(law: Law, best: Allocation, scale: float) -> Smaller:
    params_opt, loss = float(best.params), loss_of(best)
    params = scale * params_opt
    tokens = float(best.tokens) if scale == 1 else float(tokens_for(law, params, loss))
    budget, flops = (float(cost_of(law).flops(*model)) for model in ((params_opt, best.tokens), (params, tokens)))
    extra = max(0.0, flops - budget)  # below zero only by rounding: the optimum is the least
    saved = serving_flops(law, params_opt) - serving_flops(law, params)
    paid_back = extra / saved if saved > 0 else 0.0 if scale == 1 else math.inf
    return Smaller(
        scale=scale,
        params=params,
        tokens=tokens,
        flops=flops,
        overhead=extra / budget,
        serving=serving_flops(law, params) / serving_flops(law, params_opt),
        break_even_tokens=paid_back,
        loss=loss,
    )
