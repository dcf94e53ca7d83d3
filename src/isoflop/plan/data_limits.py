"""What a limit on text does to a plan: how often to repeat it, what a repeated token is still worth, and where more compute buys no more."""

import math
from dataclasses import dataclass

from isoflop.laws import Allocation, Law
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.plan._checks import fraction, positive
from isoflop.plan.inference import cost_of

FREE_EPOCHS = 4.0  # Muennighoff et al. 2023, Sec. 6: 8.7B params for four epochs end 0.5 % above the loss of one epoch of four times the text
FUTILE = 0.01  # nats per token: assumption; three times the noise between seeds of the example study, and half a per cent of a large model's loss
_BUDGETS = (1e6, 1e40)  # FLOPs, between which a limit is looked for; as the planner's own bounds


@dataclass(frozen=True, kw_only=True)
class DataLimited:
    """The best model of a budget where only so much text exists, repeated as often as pays."""

    flops: float
    unique_tokens: float
    params: float
    tokens: float  # processed, repetitions included
    epochs: float  # below 1: not all of the text is used
    effective_tokens: float  # new tokens that would do as much
    token_worth: float  # of one more token at this many epochs, of a new one
    loss: float  # nats per token
    unlimited: Allocation  # the same budget with as much new text as it likes
    penalty: float  # nats per token above that
    exhausted_flops: float  # up to here the best model needs each token once at most, and the limit costs nothing
    half_worth_epochs: float  # after so many a repeated token is worth half a new one
    futile_flops: float  # from here doubling the budget lowers the loss by less than FUTILE


def limited(law: DataConstrained, flops: float) -> DataLimited:
    """The best allocation of a training budget under a law that knows how much text there is.

    Source: Muennighoff et al. 2023 (arXiv 2305.16264), Sec. 3.1 and 5.
    """
    best = law.optimum(positive(flops, "the budget in FLOPs"))
    free = unlimited(law).optimum(flops)
    tokens, epochs = float(best.tokens), float(best.tokens) / law.unique_tokens
    return DataLimited(
        flops=flops,
        unique_tokens=law.unique_tokens,
        params=float(best.params),
        tokens=tokens,
        epochs=epochs,
        effective_tokens=effective_tokens(law, tokens),
        token_worth=worth(law, epochs),
        loss=float(best.loss),
        unlimited=free,
        penalty=max(0.0, float(best.loss) - float(free.loss)) if epochs > 1 else 0.0,
        exhausted_flops=exhausted_flops(law),
        half_worth_epochs=epochs_at(law),
        futile_flops=futile_flops(law),
    )


def unlimited(law: DataConstrained) -> Chinchilla:
    """The same law with as much new text as a model wants."""
    return Chinchilla(E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta, cost=law.cost)


def effective_tokens(law: DataConstrained, tokens: float) -> float:
    """New tokens that would do as much as so many processed ones; never more than 1 + R_D times the text there is.

    Source: Muennighoff et al. 2023, Eq. 5: D' = U + U R_D (1 - exp(-R / R_D)), R the epochs after the first.
    """
    U = min(law.unique_tokens, tokens)
    repeats = tokens / U - 1
    return U - U * law.R_D * math.expm1(-repeats / law.R_D)


def worth(law: DataConstrained, epochs: float) -> float:
    """What one more token is worth after so many epochs, of a new one: 1 in the first, exp(-(epochs - 1) / R_D) after it."""
    return math.exp(-max(0.0, epochs - 1) / law.R_D)


def epochs_at(law: DataConstrained, worth: float = 0.5) -> float:
    """Epochs after which one more token is worth so much of a new one.

    Raises:
        UsageError: A worth that is not above 0 and at most 1.
    """
    return 1 - law.R_D * math.log(fraction(worth, "the worth of a token", advice="0.5 is half a new token."))


def exhausted_flops(law: DataConstrained) -> float:
    """The budget whose best model, without repeating any, would use all the text there is: up to here the limit costs nothing.

    Source: D_opt of Hoffmann et al. 2022, Eq. 4, solved for the budget; D_opt is a power law in it.
    """
    free = unlimited(law)
    at = free.optimum(1e21)  # any budget on the line
    return float(at.flops) * math.pow(law.unique_tokens / float(at.tokens), 1 / free.b)


def futile_flops(law: DataConstrained, gain: float = FUTILE) -> float:
    """The budget from which doubling it lowers the loss by less than `gain` nats; the lowest considered, 1e6 FLOPs, where it never does more.

    A bisection: under the law each doubling buys less than the one before.

    Raises:
        UsageError: A gain that is not positive.
    """
    positive(gain, "the gain in loss", advice="Give nats per token, such as 0.01.")
    low, high = (math.log(flops) for flops in _BUDGETS)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _doubling(law, math.exp(middle)) > gain else (low, middle)
    return math.exp(low) if low > math.log(_BUDGETS[0]) else _BUDGETS[0]


def _doubling(law: Law, flops: float) -> float:
    return float(law.optimum(flops).loss) - float(law.optimum(2 * flops).loss)


@dataclass(frozen=True, kw_only=True)
class Capped:
    """The best model of a budget where tokens may not exceed a number of epochs of the text there is."""

    flops: float
    unique_tokens: float
    max_epochs: float
    params: float
    tokens: float
    epochs: float
    loss: float  # nats per token, repeated tokens counted as new ones: too low by what repeating costs
    unlimited: Allocation
    binds: bool  # whether the cap changed anything


def capped(law: Law, flops: float, *, unique_tokens: float, max_epochs: float = FREE_EPOCHS) -> Capped:
    """The best model under a hard cap, by any law: where the cap binds, all of the budget that tokens cannot take goes into size.

    Args:
        law: Any law that knows the loss of every model.
        flops: Training budget.
        unique_tokens: Text there is.
        max_epochs: How often it may be seen; up to four are nearly as good as new.

    Raises:
        UsageError: A number that is not positive and finite.
        FitError: The cap binds and the law knows no loss away from its frontier.
    """
    free = law.optimum(positive(flops, "the budget in FLOPs"))
    most = positive(unique_tokens, "the number of unique tokens") * positive(max_epochs, "the most epochs")
    binds = float(free.tokens) > most
    tokens = most if binds else float(free.tokens)
    cost = cost_of(law)
    params = math.pow(flops / (cost.scale * tokens), 1 / cost.power) if binds else float(free.params)
    return Capped(
        flops=flops,
        unique_tokens=unique_tokens,
        max_epochs=max_epochs,
        params=params,
        tokens=tokens,
        epochs=tokens / unique_tokens,
        loss=float(law.loss(params, tokens)) if binds else float(free.loss),
        unlimited=free,
        binds=binds,
    )
