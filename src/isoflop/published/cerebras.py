"""Dey et al. 2023 (arXiv 2304.03208): the loss along a frontier of 20 tokens a param, on a public corpus."""

import math

from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Published

_LARGEST = 2.3e22  # FLOPs of the 13B model, by the paper's count
_UNIT = 5.984e22  # FLOPs, Eq. 1
_EXPONENT = 0.0737  # Eq. 1

FITS: tuple[Published, ...] = (
    Published(
        name="cerebras",
        title="Cerebras-GPT 2023",
        source="Sec. 3.1, Eq. 1; sizes from Table 1, arXiv 2304.03208",
        law=PowerLaw(c0=_LARGEST, n0=13e9, d0=257e9, a=0.5, b=0.5, E=0.5066, k=(_LARGEST / _UNIT) ** -_EXPONENT, g=_EXPONENT),
        a=math.nan,
        b=math.nan,
        corpus="the Pile",
        convention="all params; the paper's own FLOPs, attention and logits included: 1.15 times 6ND at 13B, 1.8 times at 111M",
        fitted_flops=(2.6e18, _LARGEST),
        confirmed_flops=_LARGEST,
        cautions=(
            "Sizes are not fitted: every model was given 20 tokens a param, after Hoffmann et al. 2022; what is fitted is the loss.",
            "Sizes are taken from the 13B model on, so smaller ones come out up to a quarter too large: their FLOPs hold more than 6ND.",
        ),
    ),
)
