"""Student's t without SciPy: how many deviations hold a share of the values, where a deviation was itself measured with few degrees of freedom."""

import math

_NORMAL = 1e5  # degrees of freedom from which on t is normal to four digits: it is wider by (z**2 + 1) / 4 of one over them


def quantile(level: float, freedom: float) -> float:
    """Half-width of the central interval of Student's t that holds `level`, in deviations; bisection on the distribution function.

    Args:
        level: In (0, 1), such as 0.8.
        freedom: Degrees of freedom, > 0.
    """
    low, high = 0.0, 1.0
    while _central(high, freedom) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _central(t: float, freedom: float) -> float:
    """Share of the distribution within t deviations: the regularised incomplete beta function (Abramowitz and Stegun 26.7.1)."""
    if freedom >= _NORMAL:
        return math.erf(t / math.sqrt(2))
    return 1 - _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction = 1.0
    for m in range(200, 0, -1):  # 200 terms: x is at most (a + 1) / (a + b + 2), where the terms fall fast
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = 1 + even / fraction
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / fraction
    return math.exp(log_front) / (a * fraction)
