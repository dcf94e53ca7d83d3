"""Published fits: what papers say of the best size for a budget, each with where it was printed, how it counted and how far its data went.

One file a paper; `get("hoffmann")` is all of a paper, `get("hoffmann2")` one of its fits. Where the paper's main fit has the paper's name, that name is the
fit: `get("kaplan")` is the frontier alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from isoflop import _registry
from isoflop.laws import Law

if TYPE_CHECKING:  # a name for types only; shapes are slow to load
    from isoflop.arch import Convention


# Assumption: Hoffmann et al. 2022 went 44 times beyond their largest run, and the model they trained there is within a factor of two of what each of their
# approaches and its critics say. On public sweeps N_opt is off by up to two over one or two decades (Kempner, Llama 3, Marin).
REACH = 50.0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A printed interval of one quantity: "a", "b", "alpha", "params" ..."""

    quantity: str
    low: float
    high: float
    level: float  # 0.8: from the 10th to the 90th percentile


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published fit, as its authors counted."""

    name: str  # what is typed: "hoffmann2"; begins with its file's name
    title: str  # "Hoffmann et al. 2022, Approach 2"
    source: str  # where it is printed: table or equation, and the arXiv number
    law: Law | None  # None where exponents alone are printed: then no budget can be planned
    a: float  # of N_opt ~ C**a as printed; NaN where none is
    b: float  # of D_opt ~ C**b as printed
    corpus: str
    convention: str  # how params and FLOPs are counted, in words
    fitted_flops: tuple[float, float]  # smallest and largest run or budget fitted; NaN where not printed
    counts: "Convention" = "total"  # the nearest of our conventions for params
    confirmed_flops: float = math.nan  # the largest run that was trained as the law says and came out so
    intervals: tuple[Interval, ...] = ()
    cautions: tuple[str, ...] = ()  # known traps, a sentence each
    spread: Callable[[float], tuple[Interval, ...]] | None = None  # of params, tokens and loss at a budget, by a fit's own resamples; no paper prints those
    refusals: Callable[[float], tuple[str, ...]] | None = None  # reasons why there is no answer at a budget; for a person's own fits

    @property
    def reach_flops(self) -> float:
        """The largest budget at which the law is backed by a run; NaN where none is known."""
        return max((c for c in (self.fitted_flops[1], self.confirmed_flops) if math.isfinite(c)), default=math.nan)


ALIASES = {  # what people call a paper or a fit of it
    **dict.fromkeys(("chinchilla", "gopher", "deepmind", "hoffmann2022", "hoffmannetal"), "hoffmann"),
    **{word: f"hoffmann{number}" for number in "123" for word in (number, f"approach{number}", f"method{number}", f"chinchilla{number}")},
    **dict.fromkeys(("openai", "kaplan2020", "gpt3"), "kaplan"),
    **dict.fromkeys(("epoch", "epochai", "replication", "chinchillareplication"), "besiroglu"),
    **dict.fromkeys(("llama", "meta", "llama31", "dubey"), "llama3"),
    **dict.fromkeys(("cerebrasgpt", "dey"), "cerebras"),
    **dict.fromkeys(("dclm", "overtraining", "openlm"), "gadre"),
    **dict.fromkeys(("dataconstrained", "repeat", "datablations"), "muennighoff"),
    **dict.fromkeys(("karpathy", "nanogpt"), "nanochat"),
}


def papers() -> tuple[str, ...]:
    """Names of the papers, which are the files of this folder."""
    return _registry.names(__name__)


def every() -> tuple[Published, ...]:
    """All published fits, by paper."""
    return tuple(fit for paper in papers() for fit in _of(paper))


def get(name: str) -> tuple[Published, ...]:
    """A paper's fits, or one of them by its own name.

    Raises:
        UnknownNameError: Neither; the message names the nearest.
    """
    name = name.lower()
    if name in papers():
        fits = _of(name)
        return tuple(fit for fit in fits if fit.name == name) or fits
    found = tuple(fit for paper in papers() if name.startswith(paper) for fit in _of(paper) if fit.name == name)
    if not found:
        every_name = tuple(dict.fromkeys((*papers(), *(fit.name for fit in every()))))
        _registry.check(name, every_name, noun="published law", aliases=ALIASES, lister="isoflop laws")
    return found


def _of(paper: str) -> tuple[Published, ...]:
    return cast("tuple[Published, ...]", _registry.load(__name__, paper, noun="paper").FITS)
