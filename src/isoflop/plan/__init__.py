"""Plan: fits and a budget -> how big a model, on how many tokens, at what loss."""

from isoflop.plan.allocation import REACH, Plan, plan, plan_all

__all__ = ["REACH", "Plan", "plan", "plan_all"]
