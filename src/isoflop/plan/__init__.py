"""Plan: laws and a budget -> how big a model, on how many tokens, at what loss; and what that takes to train, to hold and to serve."""

from isoflop.plan.allocation import Plan, expected, plan, plan_all
from isoflop.plan.budget import Goal
from isoflop.plan.estimate import Estimate, Estimates, estimates
from isoflop.plan.question import Answer, Detail, Question, answer
from isoflop.plan.request import Request, read

__all__ = [
    "Answer",
    "Detail",
    "Estimate",
    "Estimates",
    "Goal",
    "Plan",
    "Question",
    "Request",
    "answer",
    "estimates",
    "expected",
    "plan",
    "plan_all",
    "read",
]
