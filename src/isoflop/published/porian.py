"""Porian et al. 2024 (arXiv 2406.19146): what lies between Kaplan and Hoffmann, put right one thing after the other."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Interval, Published

if TYPE_CHECKING:
    from isoflop.arch import Convention

CHINCHILLA = 5.88e23  # FLOPs, 6ND of 70B params and 1.4T tokens, where the paper reads its sizes off
GRID = (1.25e16, 2.56e19)  # twelve budgets, each twice the last
WITH_HEAD = "params without input embedding, with the output head; 6ND"


def _law(params: float, a: float) -> PowerLaw:
    """The paper's exponent through its optimum at Chinchilla's budget."""
    return PowerLaw(c0=CHINCHILLA, n0=params, d0=CHINCHILLA / (6 * params), a=a, b=1 - a)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A line of Table 1 with its size."""

    name: str
    what: str
    a: float
    low: float
    high: float
    params: float | None = None  # at Chinchilla's budget
    corpus: str = "RefinedWeb"
    convention: str = WITH_HEAD
    counts: "Convention" = "with_head"
    cautions: tuple[str, ...] = ()


def _published(row: _Row) -> Published:
    return Published(
        name=row.name,
        title=f"Porian et al. 2024, {row.what}",
        source="Table 1; optimum at 5.88e23 FLOPs from its comparison with Hoffmann et al. 2022, arXiv 2406.19146",
        law=None if row.params is None else _law(row.params, row.a),
        a=row.a,
        b=math.nan,
        corpus=row.corpus,
        convention=row.convention,
        fitted_flops=GRID,
        counts=row.counts,
        intervals=(Interval(quantity="a", low=row.low, high=row.high, level=0.95),),
        cautions=row.cautions,
    )


_STEP = "A step of an argument, not advice: from Kaplan's set-up the head is counted, then the warm-up shortened, a cosine decay added, all settings tuned."
_NO_SIZE = "Its size at Chinchilla's budget is printed with one digit or not at all, so it plans no budget."

_ROWS = (
    _Row(
        name="porian-tuned",
        what="tuned",
        a=0.497,
        low=0.49,
        high=0.50,
        params=77e9,
        cautions=(
            "The last of the paper's steps: learning rate, batch and beta2 tuned for each size; the learning rate is constant, with no decay.",
            "Its largest budget is 2.56e19 FLOPs, 23,000 times below the 5.88e23 at which its size is read.",
        ),
    ),
    _Row(name="porian-cosine", what="cosine", a=0.571, low=0.56, high=0.59, params=183e9, cautions=(_STEP,)),
    _Row(name="porian-warmup", what="short warm-up", a=0.602, low=0.59, high=0.62, params=292e9, cautions=(_STEP,)),
    _Row(name="porian-head", what="head counted", a=0.706, low=0.69, high=0.72, params=787e9, cautions=(_STEP,)),
    _Row(
        name="porian-kaplan",
        what="Kaplan reproduced",
        a=0.835,
        low=0.82,
        high=0.85,
        convention="params and FLOPs without embedding and without the output head",
        counts="nonembedding",
        cautions=(_STEP, _NO_SIZE),
    ),
    _Row(name="porian-openwebtext2", what="tuned, on OpenWebText2", a=0.518, low=0.49, high=0.54, corpus="OpenWebText2", cautions=(_NO_SIZE,)),
)

FITS: tuple[Published, ...] = tuple(_published(row) for row in _ROWS)
