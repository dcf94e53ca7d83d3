"""Validate: train the predicted optimum against a baseline at equal compute, and score the prediction."""

from isoflop.validate.contest import KAPLAN, OPTIMUM, OVERSIZED, Contender, Validation, chosen, judge, specs

__all__ = ["KAPLAN", "OPTIMUM", "OVERSIZED", "Contender", "Validation", "chosen", "judge", "specs"]
