"""Laws, plans and standings as values for JSON; what is not known is null."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from isoflop.report.laws import constants_of, form

if TYPE_CHECKING:  # a question about models loads no planner
    from isoflop.compare import Comparison, Standing
    from isoflop.plan.estimate import Estimate
    from isoflop.plan.question import Answer, Detail
    from isoflop.published import Published


def laws(fits: "Iterable[Published]") -> list[dict[str, object]]:
    """Published laws with all that is known of them."""
    return [
        {**{k: v for k, v in values(fit).items() if k != "law"}, "form": form(fit), "constants": constants_of(fit.law)}  # type: ignore[attr-defined]
        for fit in fits
    ]


def plan(answer: "Answer") -> list[dict[str, object]]:
    """One object a law; what was asked besides is in `training`, `memory`, `shape`, `recipe`, `inference`, `smaller` and `data`."""
    return [_estimate(d.estimate) | _detail(answer, d) for d in answer.details]


def _estimate(e: "Estimate") -> dict[str, object]:
    own = {f"{i.quantity}_interval": [i.low, i.high] for i in e.intervals}
    return {
        "law": e.fit.name,
        "flops": e.flops,
        "params": e.params,
        "tokens": e.tokens,
        "tokens_per_param": e.tokens_per_param,
        "loss": values(e.loss),
        **own,
        "interval": values(e.interval),
        "reach": values(e.reach),
        "outside": e.outside,
        "source": e.fit.source,
    }


def _detail(answer: "Answer", d: "Detail") -> dict[str, object]:
    asked = answer.question
    found: dict[str, object] = {}
    if asked.cluster is not None:
        found["training"] = {"bill": values(d.bill), "fewest_to_train": values(d.to_train), "fewest_to_serve": values(d.to_serve)}
    if d.training is not None:
        found["memory"] = {"training": values(d.training), "activations": values(d.activations), "serving": values(d.serving)}
    if d.shape is not None:
        found["shape"] = d.shape.model_dump() | {"params": d.shape.params.total}
        found["recipe"] = values(d.recommendation)
    if asked.inference_tokens is not None:
        found["inference"] = values(d.lifetime)
    if asked.smaller:
        found["smaller"] = values(d.smaller)
    if asked.unique_tokens is not None:
        found["data"] = values(d.data)
    return found


def values(value: object) -> object:
    """Nested frozen values as JSON has them; what is not finite is null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case Mapping():
            return {key: values(v) for key, v in value.items()}
        case Sequence():
            return [values(v) for v in value]
        case _ if dataclasses.is_dataclass(value):
            return {f.name: values(getattr(value, f.name)) for f in dataclasses.fields(value)}
        case _:
            return float(value) if hasattr(value, "__float__") else str(value)


def standings(comparison: "Comparison") -> list[dict[str, object]]:
    """One object a model and law; null is not known."""
    return [_standing(s) for s in comparison.rows]


def _standing(s: "Standing") -> dict[str, object]:
    numbers = {
        "flops": s.flops,
        "params": s.model.params,
        "tokens": s.model.tokens,
        "tokens_per_param": s.model.tokens_per_param,
        "optimal_params": s.params,
        "optimal_tokens": s.tokens,
        "size_factor": s.size_factor,
        "tokens_factor": s.tokens_factor,
        "loss": s.model_loss,
        "optimal_loss": s.loss,
        "excess_loss": s.excess_loss,
        "matched_flops": s.matched_flops,
        "matched_params": s.matched_params,
        "compute_factor": s.compute_factor,
        "serving_factor": s.serving_factor,
        "reach": s.reach,
    }
    plain = {name: values(float(value)) for name, value in numbers.items()}
    return {"model": s.model.name, "law": s.fit.name, **plain, "beyond": s.beyond, "verdict": s.verdict, "source": s.model.source}
