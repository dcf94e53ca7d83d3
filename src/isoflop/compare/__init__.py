"""Where known models stand against the laws: how big they should have been, on how many tokens, and what it cost them that they were not.

Nothing is refused for being beyond a law's data, for the models are of the past and no money hangs on the answer; how far beyond is said with each.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from isoflop import _registry, units
from isoflop.compare._models import MODELS, Model
from isoflop.errors import FitError, UnitError, UsageError
from isoflop.laws import Law, frontier
from isoflop.published import REACH, Published

__all__ = ["LANDMARKS", "LAWS", "MODELS", "NEAR", "TABLE_1", "Comparison", "Model", "Standing", "compare", "model", "standing"]

LAWS = ("hoffmann1", "hoffmann2", "hoffmann3")  # what a comparison is by unless asked otherwise
TABLE_1 = ("lamda", "gpt-3", "jurassic-1", "gopher", "mt-nlg-530b", "chinchilla")  # Hoffmann et al. 2022
LANDMARKS = (*TABLE_1, "palm", "llama-65b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "deepseek-v3")  # for a figure
# assumption: a model within this factor of the optimum is called near it. By Approach 3 of Hoffmann et al. 2022 it then loses 0.002 nats at Gopher's
# budget, and the paper's three approaches differ from each other by more (67B to 40B there).
NEAR = 1.5


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model against one law."""

    model: Model
    fit: Published
    params: float  # optimal for what was spent on the model
    tokens: float  # the same
    loss: float  # of that optimum, nats per token; NaN where the law says nothing of loss
    model_loss: float  # of the model as it was trained, by the law; NaN where it speaks of optima only
    matched_flops: float  # the least budget with which the law reaches the model's loss; NaN where it has none
    matched_params: float  # the size of that optimum

    @property
    def flops(self) -> float:
        """What was spent: 6ND of the model."""
        return self.model.flops

    @property
    def size_factor(self) -> float:
        """The model's params over the optimal: above 1 it is over-sized."""
        return self.model.params / self.params

    @property
    def tokens_factor(self) -> float:
        """The model's tokens over the optimal: below 1 it is under-trained."""
        return self.model.tokens / self.tokens

    @property
    def excess_loss(self) -> float:
        """Nats per token that the model is worse than the optimum of its budget."""
        return self.model_loss - self.loss

    @property
    def compute_factor(self) -> float:
        """The share of what was spent that would have done for the model's loss; the rest is the price of its shape."""
        return self.matched_flops / self.flops

    @property
    def serving_factor(self) -> float:
        """How many times dearer a token of the model is than one of the optimal model of equal loss; below 1 it is cheaper."""
        return self.model.params / self.matched_params

    @property
    def reach(self) -> float:
        """What was spent over the largest budget fitted, as a plan has it; NaN where the authors do not print it."""
        return self.flops / self.fit.fitted_flops[1]

    @property
    def beyond(self) -> bool:
        """Whether what was spent is more than 50 times beyond every run that backs the law, or as far below the smallest: a plan would be refused."""
        above, below = self.flops / self.fit.reach_flops, self.fit.fitted_flops[0] / self.flops
        return above > REACH or below > REACH

    @property
    def verdict(self) -> str:
        """In words: "over-sized 4.2x and under-trained 4.2x"; what is within a factor 1.5 of the optimum is near it."""
        if not (math.isfinite(self.size_factor) and math.isfinite(self.tokens_factor)):
            return "not known"
        words = (_off(self.size_factor, "over-sized", "under-sized"), _off(self.tokens_factor, "over-trained", "under-trained"))
        return " and ".join(filter(None, words)) or "near optimal"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models against laws."""

    rows: tuple[Standing, ...]  # by model, then by law, both in the order asked
    left_out: tuple[tuple[str, str], ...]  # law and reason


_SIZES = re.compile(r"\s*(\d[\d.]*[kKmMbBtT])(?:\s*params?)?(?:\s*[/,;@x\s-]\s*(\d[\d.]*[kKmMbBtT])(?:\s*tokens?)?)?\s*")  # "8B/1T", "8B 1T", "8B"


def model(text: str) -> Model:
    """A known model by its name, or one's own as "70B:1.4T" (params:tokens) or "name=70B:1.4T".

    Raises:
        UnknownNameError: No such model; the message names the nearest.
        UnitError: Params or tokens that cannot be read.
        UsageError: Params or tokens that cannot be meant, an own model without a name or without a colon, or characters that cannot be seen.
    """
    if not text.isprintable():
        msg = f"{text!r} cannot be the name of a model: it has characters in it that cannot be seen or that end a line. Write letters, digits and spaces."
        raise UsageError(msg)
    if ":" in text or "=" in text:
        return _own(text)
    if sizes := _SIZES.fullmatch(text):
        meant = f"Did you mean {sizes[1]}:{sizes[2]}?" if sizes[2] else f"A model of one's own needs its tokens too, such as {sizes[1]}:1T."
        raise UsageError(f"{text!r} is not params:tokens. {meant}")
    asked, known = "-".join(text.lower().replace("_", " ").split()), {m.name: m for m in MODELS}
    _registry.check(asked, known, noun="model", lister="isoflop compare")
    return known[asked]


def compare(models: Iterable[Model], fits: Iterable[Published]) -> Comparison:
    """Every model against every law.

    Args:
        models: Known ones or one's own.
        fits: Published laws, one at least. Those that can say nothing of a model are left out, with the reason.

    Raises:
        FitError: No law can say anything; the message says why of each.
    """
    rows: list[Standing] = []
    left_out: dict[tuple[str, str], None] = {}  # each reason once, in order
    fits, models = tuple(fits), tuple(models)
    for one in models:
        for fit in fits:
            try:
                rows.append(standing(one, fit))
            except FitError as error:
                left_out[fit.name, str(error)] = None
    if models and not rows:
        raise FitError("; ".join(f"{name}: {reason}" for name, reason in left_out) or "no law was given to compare with. `isoflop laws` lists them.")
    return Comparison(rows=tuple(rows), left_out=tuple(left_out))


def standing(one: Model, fit: Published) -> Standing:
    """One model against one law.

    Raises:
        FitError: The law has exponents only, or no optimum at the model's budget.
    """
    law = fit.law
    if law is None:
        raise FitError(f"{fit.title} prints exponents only, so no size can be told. `isoflop laws` lists those that say one.")
    best = law.optimum(one.flops)
    loss, (flops, params) = _loss(law, one), (math.nan, math.nan)
    if math.isfinite(loss):
        flops, params = _matched(law, loss)
    return Standing(
        model=one,
        fit=fit,
        params=float(best.params),
        tokens=float(best.tokens),
        loss=float(best.loss),
        model_loss=loss,
        matched_flops=flops,
        matched_params=params,
    )


def _own(text: str) -> Model:
    name, named, counts = text.rpartition("=")
    params, colon, tokens = counts.partition(":")
    if not colon or (named and not name.strip()):
        sizes = _SIZES.fullmatch(counts)
        meant = f" Did you mean {name}{named}{sizes[1]}:{sizes[2]}?" if sizes and sizes[2] else ""
        msg = f"{text!r} is not a model.{meant} Write params and tokens with a colon between, like 70B:1.4T, or with a name, like mine=70B:1.4T."
        raise UsageError(msg)
    title = name.strip() or counts.strip()
    return Model(name=title, title=title, params=_read(text, "params", params), tokens=_read(text, "tokens", tokens), year=None, source="given by the user")


def _read(text: str, quantity: str, shown: str) -> float:
    try:
        return units.read(shown)
    except UnitError as error:
        msg = f"{text!r} is not params:tokens, for its {quantity}: {error}"
        raise UnitError(msg) from None


def _loss(law: Law, one: Model) -> float:
    try:
        return float(law.loss(one.params, one.tokens))
    except FitError:  # it speaks of optima only
        return math.nan


def _matched(law: Law, loss: float) -> tuple[float, float]:
    try:
        equal = frontier(law, loss=loss)
    except FitError:  # no optimum is that bad or that good
        return math.nan, math.nan
    return float(equal.flops), float(equal.params)


def _off(factor: float, above: str, below: str) -> str:
    if 1 / NEAR <= factor <= NEAR:
        return ""
    return f"{above} {units.times(factor)}x" if factor > 1 else f"{below} {units.times(1 / factor)}x"
