"""Plan: fits and a budget -> how big a model, on how many tokens, at what loss."""

from isoflop.plan.allocation import Plan, plan, plan_all

__all__ = ["Plan", "plan", "plan_all"]
