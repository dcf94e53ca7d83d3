"""DeepSeek-AI 2024 (arXiv 2401.02954): the size of a model is its FLOPs per token, and better data ask for larger models."""

import math

from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Published

_MIDDLE = 5e18  # FLOPs, in the middle of the eight budgets
COUNTED = "size is M, training FLOPs a token without the vocabulary and with attention, so C = M D"
BUDGETS = (1e17, 3e20)


def _exponents(name: str, corpus: str, a: float, b: float) -> Published:
    return Published(
        name=name,
        title=f"DeepSeek LLM 2024, {corpus}",
        source="Table 4, arXiv 2401.02954",
        law=None,
        a=a,
        b=b,
        corpus=corpus,
        convention=COUNTED,
        fitted_flops=(math.nan, math.nan),
        counts="nonembedding",
        cautions=("Exponents alone are printed, so it says how sizes grow with the budget and not how big they are.",),
    )


FITS: tuple[Published, ...] = (
    Published(
        name="deepseek",
        title="DeepSeek LLM 2024",
        source="Eq. 4, arXiv 2401.02954",
        law=PowerLaw(c0=_MIDDLE, n0=0.1715 / 6 * _MIDDLE**0.5243, d0=5.8316 * _MIDDLE**0.4757, a=0.5243, b=0.4757),
        a=0.5243,
        b=0.4757,
        corpus="DeepSeek's data",
        convention=f"{COUNTED}; params here are M / 6",
        fitted_flops=BUDGETS,
        counts="nonembedding",
        cautions=(
            "M / 6 counts attention scores as params: at 8 layers of width 512 the params without embedding are 0.43 of it, at 80 layers of 8192 0.92.",
            "The exponent is the data's: 0.450 with earlier in-house data, 0.578 on OpenWebText2 (deepseek-early, deepseek-openwebtext2).",
        ),
    ),
    _exponents("deepseek-early", "earlier data", 0.450, 0.550),
    _exponents("deepseek-openwebtext2", "OpenWebText2", 0.578, 0.422),
)
