"""A person's own fits, asked as published laws are: with the intervals that their resamples give."""

import math
from typing import TYPE_CHECKING

from isoflop.published import Interval, Published

if TYPE_CHECKING:  # planning with published laws needs no fits
    from isoflop.fit.result import Fit

LEVEL = 0.8  # of every interval: from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2


def published(fit: "Fit", *, title: str, source: str, smallest: float) -> Published:
    """A fit as a published law.

    Args:
        fit: Of any approach.
        title: What the approach is called.
        source: Of its runs: a study, a file.
        smallest: FLOPs of the smallest run.
    """
    low, high = fit.interval(lambda law: law.a, level=LEVEL)
    return Published(
        name=fit.approach,
        title=f"{title}, {source}",
        source=f"{fit.n_runs} runs of {source}",
        law=fit.law,
        a=fit.law.a,
        b=fit.law.b,
        corpus=source,
        convention=f"{fit.convention} parameters, FLOPs of the runs",
        counts=fit.convention,
        fitted_flops=(smallest, fit.reach_flops),
        intervals=(Interval(quantity="a", low=low, high=high, level=LEVEL),) if math.isfinite(low) and math.isfinite(high) else (),
        spread=lambda flops: _spread(fit, flops),
    )


def _spread(fit: "Fit", flops: float) -> tuple[Interval, ...]:
    """Intervals of a fit at a budget; of the loss for one new run."""
    edges = {
        "params": fit.interval(lambda law: float(law.optimum(flops).params), level=LEVEL),
        "tokens": fit.interval(lambda law: float(law.optimum(flops).tokens), level=LEVEL),
        "loss": fit.prediction_interval(flops, level=LEVEL),
    }
    return tuple(Interval(quantity=name, low=low, high=high, level=LEVEL) for name, (low, high) in edges.items() if math.isfinite(low) and math.isfinite(high))
