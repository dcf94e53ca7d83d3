"""Karpathy 2026 (github.com/karpathy/nanochat, dev/LOG.md): one sweep, three ways to count params, three exponents."""

from typing import TYPE_CHECKING

from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Published

if TYPE_CHECKING:
    from isoflop.arch import Convention

BUDGETS = (1e18, 1e19)
_MIDDLE = 1e18 * 100**0.25  # FLOPs, geometric mean of the four budgets 1e18, 2e18, 5e18 and 1e19


def _counted(name: str, short: str, convention: str, counts: "Convention", *, params: float, tokens: float, a: float, b: float) -> Published:
    """The log's exponents through the geometric means of its four optima."""
    return Published(
        name=name,
        title=f"nanochat 2026, {short}",
        source="dev/LOG.md of 2026-01-27, github.com/karpathy/nanochat",
        law=PowerLaw(c0=_MIDDLE, n0=params, d0=tokens, a=a, b=b),
        a=a,
        b=b,
        corpus="FineWeb-Edu",
        convention=f"{convention}; the code's own FLOPs",
        fitted_flops=BUDGETS,
        counts=counts,
        cautions=(
            "The same runs give a = 0.37, 0.54 or 0.70 by what is counted as a param: most params of these models are embeddings.",
            "Four budgets over one decade; loss is in bits per byte and not given here.",
        ),
    )


FITS: tuple[Published, ...] = (
    _counted("nanochat-kaplan", "with head", "projections with the output head, no embedding", "with_head", params=205.3e6, tokens=2.173e9, a=0.54, b=0.49),
    _counted("nanochat-all", "all params", "all params", "total", params=643.0e6, tokens=2.171e9, a=0.37, b=0.50),
    _counted("nanochat-transformer", "layers", "projections within the layers", "nonembedding", params=174.9e6, tokens=2.145e9, a=0.70, b=0.41),
)
