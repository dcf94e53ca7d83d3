"""Validate: train the predicted optimum against a baseline at equal compute, and score the prediction."""

from isoflop.validate.contest import Contender, Validation, chosen, judge, specs

__all__ = ["Contender", "Validation", "chosen", "judge", "specs"]
