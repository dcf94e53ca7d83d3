"""What a limit on text does to a plan: how often to repeat it, what a repeated token is still worth, and where more compute buys no more."""

import dataclasses
import math
from dataclasses import dataclass

from isoflop import units
from isoflop.errors import FitError
from isoflop.laws import Allocation, Law
from isoflop.laws.chinchilla import Chinchilla
from isoflop.laws.data_constrained import DataConstrained
from isoflop.plan._checks import BUDGETS, fraction, positive
from isoflop.plan._checks import tokens as checked_tokens
from isoflop.published import muennighoff

MOST_EPOCHS = 1500.0  # Muennighoff et al. 2023: the most that any of their runs has
FUTILE = 0.01  # nats per token: assumption; three times the noise between seeds of the example study, and half a per cent of a large model's loss


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

    Raises:
        UsageError: A budget or unique tokens that cannot be meant; there may be infinitely many tokens.
        FitError: The best model repeats its tokens more often than was ever tried.

    Source: Muennighoff et al. 2023 (arXiv 2305.16264), Sec. 3.1 and 5.
    """
    _text(law.unique_tokens)
    best = law.optimum(positive(flops, "the budget in FLOPs"))
    free = unlimited(law).optimum(flops)
    tokens, epochs = float(best.tokens), float(best.tokens) / law.unique_tokens
    _tried(epochs, flops, law.unique_tokens)
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


def repeating(law: Law, unique_tokens: float) -> DataConstrained:
    """An additive law where only so many tokens are new; the worth of repeated ones is Muennighoff et al.'s.

    Raises:
        UsageError: Unique tokens that cannot be meant; there may be infinitely many.
        FitError: The law is not additive in params and tokens.
    """
    _text(unique_tokens)
    if isinstance(law, DataConstrained):
        return dataclasses.replace(law, unique_tokens=unique_tokens)
    if not isinstance(law, Chinchilla):
        msg = "repeated tokens are known for additive laws only (a term of params, one of tokens), and this is none. Ask hoffmann3, besiroglu or muennighoff."
        raise FitError(msg)
    worth = muennighoff.FITS[0].law
    assert isinstance(worth, DataConstrained)
    return DataConstrained(E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta, R_N=worth.R_N, R_D=worth.R_D, unique_tokens=unique_tokens, cost=law.cost)


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

    The highest considered, 1e40 FLOPs, where none up to it does.

    Source: D_opt of Hoffmann et al. 2022, Eq. 4, solved for the budget; D_opt is a power law in it.
    """
    free = unlimited(law)
    at = free.optimum(1e21)  # any budget on the line
    log_flops = math.log(float(at.flops)) + math.log(law.unique_tokens / float(at.tokens)) / free.b
    return math.exp(log_flops) if log_flops < math.log(BUDGETS[1]) else BUDGETS[1]


def futile_flops(law: DataConstrained, gain: float = FUTILE) -> float:
    """The budget from which doubling it lowers the loss by less than `gain` nats; the lowest considered, 1e6 FLOPs, where it never does more.

    A bisection: under the law each doubling buys less than the one before.

    Raises:
        UsageError: A gain that is not positive.
    """
    positive(gain, "the gain in loss", advice="Give nats per token, such as 0.01.")
    low, high = (math.log(flops) for flops in BUDGETS)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _doubling(law, math.exp(middle)) > gain else (low, middle)
    return math.exp(low) if low > math.log(BUDGETS[0]) else BUDGETS[0]


def _doubling(law: Law, flops: float) -> float:
    return float(law.optimum(flops).loss) - float(law.optimum(2 * flops).loss)


def _text(unique_tokens: float) -> None:
    """Refuse text that there cannot be; without a limit it is infinite."""
    if unique_tokens != math.inf:
        checked_tokens(unique_tokens, "unique tokens")


def _tried(epochs: float, flops: float, unique_tokens: float) -> None:
    """Refuse what nobody tried; the words are the same for every law, so that they are said once."""
    if epochs <= MOST_EPOCHS:
        return
    asked = f"the best model of {units.flops(flops)} FLOPs would see {units.count(unique_tokens)} unique tokens more than {MOST_EPOCHS:,.0f} times"
    msg = f"{asked}, far outside what was tried (Muennighoff et al. 2023): what a token is worth by then is not known. Give more unique tokens or fewer FLOPs."
    raise FitError(msg)
