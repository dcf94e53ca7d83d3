"""Validate: train the predicted optimum against a baseline at equal compute, and score the prediction."""

from isoflop.validate.claim import Claim
from isoflop.validate.contest import KAPLAN, OPTIMUM, OVERSIZED, Contender, Validation, chance, chosen, judge, specs, spread

__all__ = ["KAPLAN", "OPTIMUM", "OVERSIZED", "Claim", "Contender", "Validation", "chance", "chosen", "judge", "specs", "spread"]
