"""What is to be planned: a training budget, or the size, tokens or loss that it should reach."""

from dataclasses import dataclass
from typing import Literal

from isoflop import units
from isoflop.errors import UsageError
from isoflop.laws import Allocation, Law, frontier
from isoflop.plan._checks import BUDGETS, TOKENS

Quantity = Literal["flops", "params", "tokens", "loss"]

# Beyond these nothing is meant, and a slip of the exponent is all but certain. All human computing to 2030 is well below 1e33 FLOPs.
_BOUNDS: dict[Quantity, tuple[float, float]] = {"flops": BUDGETS, "params": (1.0, 1e20), "tokens": TOKENS, "loss": (1e-3, 100.0)}
_NAMES: dict[Quantity, str] = {"flops": "a budget of {} FLOPs", "params": "a model of {} parameters", "tokens": "training on {} tokens", "loss": "a loss of {}"}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One of: a training budget in FLOPs, a size, a number of tokens, a loss in nats per token.

    Raises:
        UsageError: A value that cannot be meant.
    """

    quantity: Quantity
    value: float

    def __post_init__(self) -> None:
        low, high = _BOUNDS[self.quantity]
        if not low <= self.value <= high:
            msg = f"{self} cannot be meant: it should be from {low:g} to {high:g}. Check the exponent or the suffix."
            raise UsageError(msg)

    def __str__(self) -> str:
        shown = units.flops if self.quantity == "flops" else units.count if self.quantity != "loss" else "{:g}".format
        return _NAMES[self.quantity].format(shown(self.value))

    def best(self, law: Law) -> Allocation:
        """The point of the law's efficient frontier that meets the goal.

        Raises:
            FitError: The law never reaches it, or says nothing of loss.
        """
        match self.quantity:
            case "flops":
                return law.optimum(self.value)
            case "params":
                return frontier(law, params=self.value)
            case "tokens":
                return frontier(law, tokens=self.value)
            case "loss":
                return frontier(law, loss=self.value)
