"""Training and serving together: the model that costs least over its life at the loss that a budget buys."""

import math
from dataclasses import dataclass

import numpy as np

from isoflop.errors import FitError
from isoflop.laws import MOST, Allocation, Cost, Floats, Law, params_for, tokens_for
from isoflop.plan._checks import positive
from isoflop.plan._checks import tokens as checked_tokens

FORWARD = 1 / 3  # of training: a forward pass is 2N of the 6N FLOPs of a token (Kaplan et al. 2020, Sec. 2.1)
_POINTS, _ROUNDS = 65, 12  # each round keeps two of 64 steps, so twelve reach the rounding of a float


@dataclass(frozen=True, kw_only=True)
class Spending:
    """One model, trained and served."""

    params: float
    tokens: float  # trained on
    training_flops: float
    inference_flops: float
    total: float  # training plus inference, the latter at its price: in FLOPs of training

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The model of least lifetime cost, beside the one of least training cost; both reach the same loss."""

    loss: float  # nats per token
    inference_tokens: float
    price: float  # of an inference FLOP, in FLOPs of training
    best: Spending
    baseline: Spending  # the compute-optimal model

    @property
    def savings(self) -> float:
        """Fraction of the baseline's total that is saved; 0 or more."""
        return 1 - self.best.total / self.baseline.total


def lifetime(law: Law, flops: float, inference_tokens: float, *, price: float = 1.0) -> Lifetime:
    """The model that trains and serves at least cost, at the loss of the compute-optimal model of a training budget.

    Args:
        law: Any law that knows the loss of every model.
        flops: Training budget of the compute-optimal model.
        inference_tokens: Read and written over the model's life; 0 gives the compute-optimal model.
        price: What an inference FLOP costs, in FLOPs of training: (MFU of training / MFU of inference) times the ratio of what an hour costs. Generation
            reaches 0.01 of the peak where training reaches 0.5 (Sardana et al. 2024, Sec. 6), so 10 to 50 is usual in money; 1 counts FLOPs.

    Raises:
        UsageError: A number that cannot be meant.
        FitError: The law knows no loss away from its frontier.

    Source: Sardana et al. 2024 (arXiv 2401.00448), Eq. 3: least 6 N D_train + 2 N D_inf at L(N, D_train) = loss. Demand is taken as independent of the size.
    """
    served = 0.0 if inference_tokens == 0 else checked_tokens(inference_tokens, "tokens of inference")
    positive(price, "the price of an inference FLOP", most=1e6)
    optimum = law.optimum(positive(flops, "the budget in FLOPs"))
    loss = loss_of(optimum)
    baseline = _spending(law, float(optimum.params), float(optimum.tokens), served, price)
    params = _search(law, loss, baseline.params, served * price)
    found = _spending(law, params, float(tokens_for(law, params, loss)), served, price)
    best = found if found.total < baseline.total else baseline  # without inference the two differ by rounding
    return Lifetime(loss=loss, inference_tokens=served, price=price, best=best, baseline=baseline)


def serving_flops(law: Law, params: float) -> float:
    """FLOPs of one token through a model, forward only: 2N where a token costs 6N to train on."""
    return FORWARD * float(cost_of(law).flops(params, 1.0))


def cost_of(law: Law) -> Cost:
    """How a law counts training FLOPs; 6ND where it does not say."""
    cost: Cost = getattr(law, "cost", Cost())
    return cost


def loss_of(optimum: Allocation) -> float:
    """The loss of an optimum.

    Raises:
        FitError: The law says nothing of loss.
    """
    loss = float(optimum.loss)
    if math.isnan(loss):
        msg = "this law says nothing of loss, so no other model can be held against its optimum. Ask a law that does, such as hoffmann3 or besiroglu."
        raise FitError(msg)
    return loss


def _search(law: Law, loss: float, params_opt: float, weighed_tokens: float) -> float:
    """Params of least total between the smallest model that reaches the loss at all and the compute-optimal one.

    The total has one minimum there: training falls and serving rises with the size. A grid that closes in on it needs no derivative of the law.
    """
    cost = cost_of(law)

    def total(log_params: Floats) -> Floats:
        params = np.exp(log_params)
        return cost.flops(params, tokens_for(law, params, loss) + FORWARD * weighed_tokens)

    low, high = math.log(float(params_for(law, MOST, loss))), math.log(params_opt)
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        at = int(np.argmin(np.nan_to_num(total(grid), nan=math.inf)))
        low, high = grid[max(0, at - 1)], grid[min(_POINTS - 1, at + 1)]
    return math.exp((low + high) / 2)


def _spending(law: Law, params: float, tokens: float, inference_tokens: float, price: float) -> Spending:
    training = float(cost_of(law).flops(params, tokens))
    inference = inference_tokens * serving_flops(law, params)
    return Spending(params=params, tokens=tokens, training_flops=training, inference_flops=inference, total=training + price * inference)
