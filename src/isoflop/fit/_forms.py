"""Forms of law that Approach 3 fits, by the names of `isoflop.laws`: unknowns, bounds, and the objective with its derivatives."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop.fit import _huber, _smooth
from isoflop.fit._estimators import Estimator
from isoflop.fit._huber import Points
from isoflop.fit._solver import STRAIGHT, Bounds, Chart, Derivatives
from isoflop.laws import Cost, Law
from isoflop.laws.overtraining import Overtraining

Floats = NDArray[np.float64]
Name = Literal["chinchilla", "data_constrained", "farseer", "kaplan", "overtraining"]

LAWS: tuple[Name, ...] = get_args(Name)


class Form(Protocol):
    """A law as a function of unknowns theta, each row of which is one law."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the unknowns, as a person would say them."""

    @property
    def chart(self) -> Chart:
        """Coordinates to step in."""

    def bounds(self, points: Points) -> Bounds:
        """Box of the unknowns."""

    def fitted(self, points: Points, theta: Floats) -> Floats:
        """(rows, runs) log of the law's loss."""

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        """Of the sum over runs."""

    def law(self, points: Points, theta: Floats, cost: Cost) -> Law:
        """The law of one row."""

    def priced(self, cost: Cost) -> "Form":
        """The form of runs that paid so much; the same unless what tokens are worth depends on it."""

    def widen(self, additive: Floats) -> Floats:
        """(starts, unknowns) from (starts, 5) unknowns of the additive law."""


@dataclass(frozen=True, kw_only=True)
class Additive:
    """Of Hoffmann et al. 2022, Eq. 2."""

    names: tuple[str, ...] = ("E", "the params term", "the tokens term", "alpha", "beta")
    chart: Chart = _huber.CHART

    def bounds(self, points: Points) -> Bounds:
        return points.bounds

    def fitted(self, points: Points, theta: Floats) -> Floats:
        return _huber.fitted(points, theta)[0]

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        return _huber.additive(points, theta, estimator, weights, log_loss)

    def law(self, points: Points, theta: Floats, cost: Cost) -> Law:
        return points.law(theta, cost)

    def priced(self, cost: Cost) -> Form:  # noqa: ARG002 - it does not depend on it
        return self

    def widen(self, additive: Floats) -> Floats:
        return additive


@dataclass(frozen=True, kw_only=True)
class Tied:
    """The same with one exponent for both terms: Gadre et al. 2024, whose eta is half of it."""

    names: tuple[str, ...] = ("E", "the params term", "the tokens term", "eta")
    chart: Chart = STRAIGHT

    def bounds(self, points: Points) -> Bounds:
        lower, upper = points.bounds
        return Bounds(lower[:4], upper[:4])

    def fitted(self, points: Points, theta: Floats) -> Floats:
        return _huber.fitted(points, _untied(theta))[0]

    def derivatives(self, points: Points, theta: Floats, estimator: Estimator, weights: Floats, log_loss: Floats) -> Derivatives:
        value, gradient, hessian = _huber.additive(points, _untied(theta), estimator, weights, log_loss)
        return Derivatives(value, gradient @ TIE, TIE.T @ hessian @ TIE)

    def law(self, points: Points, theta: Floats, cost: Cost) -> Law:
        e, a, b, exponent = (float(v) for v in theta)
        eta = exponent / 2
        paid = Cost(scale=cost.scale * float(np.exp((cost.power - 1) * points.log_params)))  # the same at the centre; the form has no other power
        over, under = (float(np.exp(term + exponent * middle + eta * np.log(paid.scale))) for term, middle in ((a, points.log_params), (b, points.log_tokens)))
        return Overtraining(E=float(np.exp(e)), over=over, under=under, eta=eta, cost=paid)

    def priced(self, cost: Cost) -> Form:  # noqa: ARG002 - it does not depend on it
        return self

    def widen(self, additive: Floats) -> Floats:
        return np.column_stack([additive[:, :3], additive[:, 3:].mean(axis=1)])


TIE = np.vstack([np.eye(4), [0.0, 0.0, 0.0, 1.0]])  # (5, 4) from tied unknowns to those of the additive law


def _untied(theta: Floats) -> Floats:
    return theta[:, [0, 1, 2, 3, 3]]


def form(name: str) -> Form:
    """The form of a name in LAWS."""
    match name:
        case "chinchilla":
            return Additive()
        case "overtraining":
            return Tied()
        case "kaplan":
            return _smooth.Joint()
        case "data_constrained":
            return _smooth.Repeated()
        case _:
            return _smooth.Stretched()
