"""Claim: the forecast of a proof as it stands on record before the proof is trained. It alone is judged, whatever is fitted later."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict
from pydantic import ValidationError as Invalid

from isoflop.arch import Shape
from isoflop.errors import StoreError
from isoflop.plan import Plan
from isoflop.plan.allocation import By
from isoflop.validate.contest import chosen

Edges = tuple[float | None, float | None]  # null where there is no interval


class Claim(BaseModel):
    """A forecast for one budget, with the sweep that it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    isoflop: str  # version that made it
    runs_digest: str  # of the sweep
    approach: By
    flops: float
    params: float
    params_interval: Edges
    tokens: float
    tokens_interval: Edges
    loss: float | None
    loss_interval: Edges
    loss_by: By
    shape: Shape  # that is trained for it
    shape_tokens: float
    reach: float

    @classmethod
    def of(cls, plans: Sequence[Plan], *, runs_digest: str, version: str) -> Self:
        """Return the claim that a proof of some plans is to show.

        Raises:
            ValidationError: There is no plan.
        """
        plan = chosen(plans)
        known = {name: _known(getattr(plan, name)) for name in _NUMBERS}
        return cls(
            isoflop=version,
            runs_digest=runs_digest,
            approach=plan.approach,
            loss_by=plan.loss_by,
            shape=plan.shape,
            **known,
        )

    def stands_for(self, *, runs_digest: str, flops: float) -> bool:
        """Return whether it was made from this very sweep, for this budget."""
        return (self.runs_digest, self.flops) == (runs_digest, flops)

    def plan(self, plans: Sequence[Plan]) -> Plan:
        """Return what was claimed, as a plan in place of the one that the same fits give now."""
        known = {name: _number(getattr(self, name)) for name in _NUMBERS}
        return dataclasses.replace(chosen(plans), approach=self.approach, loss_by=self.loss_by, shape=self.shape, **known)  # type: ignore[arg-type]

    def dumps(self) -> str:
        """Return the text of its file, with a digest."""
        fields = self.model_dump(mode="json")
        return json.dumps({"sha256": _digest(fields), "claim": fields}, indent=1) + "\n"


def loads(text: str, *, name: str) -> Claim:
    """Return the claim that `Claim.dumps` wrote.

    Args:
        text: Content of the file.
        name: The file, for an error.

    Raises:
        StoreError: Anything else.
    """
    try:
        found = json.loads(text)
        fields = found.get("claim") if isinstance(found, dict) else None
        if fields is not None and found.get("sha256") == _digest(fields):
            return Claim.model_validate_json(json.dumps(fields))
        why = "its digest does not match"
    except Invalid:
        why = "it has other fields than this isoflop knows"
    except (ValueError, RecursionError) as error:
        why = f"it is not JSON ({error})"
    raise StoreError(f"{name}, the forecast claimed before the proof, is damaged: {why}. Restore it, or remove it to judge a forecast made now.")


_NUMBERS = ("flops", "params", "params_interval", "tokens", "tokens_interval", "loss", "loss_interval", "shape_tokens", "reach")


def _known(value: float | tuple[float, ...]) -> float | tuple[float | None, ...] | None:
    if isinstance(value, tuple):
        return tuple(end if math.isfinite(end) else None for end in value)
    return value if math.isfinite(value) else None


def _number(value: float | Edges | None) -> float | tuple[float, ...]:
    if isinstance(value, tuple):
        return tuple(math.nan if end is None else end for end in value)
    return math.nan if value is None else value


def _digest(fields: object) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
