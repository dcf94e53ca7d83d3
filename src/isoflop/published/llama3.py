"""Llama Team 2024 (arXiv 2407.21783): the IsoFLOP profiles that sized Llama 3 405B."""

import math

from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Published

FLAGSHIP = 3.8e25  # FLOPs of Llama 3 405B
PARAMS = 402e9  # printed as optimal there
TOKENS = 16.55e12  # the same
A_FIGURE = 0.299  # of tokens* = A C**alpha in the legend of Figure 3, where alpha is 0.537; the text cuts them off at 0.29 and 0.53
# the exponent that takes A to the printed extrapolation: 0.53727, which is the legend's 0.537 with more digits
_TOKENS_EXPONENT = math.log(TOKENS / A_FIGURE) / math.log(FLAGSHIP)

FITS: tuple[Published, ...] = (
    Published(
        name="llama3",
        title="Llama 3 2024",
        source="Sec. 3.2.1 and Figure 3, arXiv 2407.21783",
        law=PowerLaw(c0=FLAGSHIP, n0=PARAMS, d0=TOKENS, a=1 - _TOKENS_EXPONENT, b=_TOKENS_EXPONENT),
        a=math.nan,
        b=0.53,
        corpus="Llama 3's data",
        convention="all params; the paper's own FLOPs, by which 402B params on 16.55T tokens cost 3.8e25 (6ND: 3.99e25)",
        fitted_flops=(6e18, 1e22),
        confirmed_flops=FLAGSHIP,  # 405B params on 15.6T tokens
        cautions=(
            "The text's constants (0.53, 0.29) give 10.5T tokens at 3.8e25 FLOPs, not the 16.55T printed beside them: they are cut off, not rounded.",
            "The power law is of training tokens, though it is written N*(C); params here are what the budget leaves.",
            "The estimator alone moves its answer: the same runs give 393B by parabolas, 622B by least squares and 894B by Huber's loss at 3.8e25 FLOPs.",
        ),
    ),
)
