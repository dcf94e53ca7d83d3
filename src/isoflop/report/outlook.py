"""The outlook of fits: how big, how long and at what loss for a budget, by each approach and in words, for someone who has not read the paper."""

import math

from isoflop import units
from isoflop.errors import FitError
from isoflop.fit import Fit, Fits, Prediction
from isoflop.report.fits import edges, short, title
from isoflop.report.table import Cell, Row, Table, row, shown
from isoflop.report.tables import counts

Interval = tuple[float, float]
LEVEL = 0.8  # from the 10th to the 90th percentile, as in Hoffmann et al. 2022, Table 2
NOWHERE: Interval = (math.nan, math.nan)


def predictions(fits: Fits, flops: float, *, level: float) -> Table:
    """What each approach says of a budget, and what is offered of them all."""
    unit = next(iter(fits)).unit
    rows = [_predicted(title(fit), prediction(fit, flops, level=level)) for fit in fits]
    best = offered(fits, flops, level=level)
    if best is not None:
        rows.append(_predicted("By hold-out", best))
    reach = flops / max(fit.reach_flops for fit in fits)
    beyond = f", {units.times(reach)} times the largest run" if reach > 1 else ", inside the runs"
    return Table(
        title=f"The best model for {units.flops(flops)} FLOPs{beyond}",
        head=("approach", "parameters", "tokens", "tokens per parameter", f"loss ({short(unit)})"),
        rows=tuple(rows),
        note=f"Ranges: {level * 100:g} % intervals; of the loss, for one new run."
        + (" By hold-out: by what predicted held-out budgets best, widened by how far off it was." if best is not None else ""),
    )


def offered(fits: Fits, flops: float, *, level: float) -> Prediction | None:
    """What is offered of all fits, by the hold-out; None where there was none, or a law that takes part has no optimum there."""
    try:
        return None if fits.forecast is None else fits.forecast.at(flops, level=level)
    except FitError:
        return None


def prediction(fit: Fit, flops: float, *, level: float) -> Prediction:
    """What a fit says by itself; NaN where its law has no optimum."""
    try:
        best = fit.law.optimum(flops)
        return Prediction(
            flops=flops,
            params=float(best.params),
            params_interval=fit.interval(lambda law: float(law.optimum(flops).params), level=level),
            tokens=float(best.tokens),
            tokens_interval=fit.interval(lambda law: float(law.optimum(flops).tokens), level=level),
            loss=float(best.loss),
            loss_interval=fit.prediction_interval(flops, level=level),
            level=level,
            reach=flops / fit.reach_flops,
        )
    except FitError:
        nan = math.nan
        return Prediction(
            flops=flops, params=nan, params_interval=NOWHERE, tokens=nan, tokens_interval=NOWHERE, loss=nan, loss_interval=NOWHERE, level=level,
            reach=flops / fit.reach_flops,
        )  # fmt: skip


def _predicted(name: str, found: Prediction) -> Row:
    return row(
        name,
        Cell(shown(units.count, found.params), counts(*found.params_interval)),
        Cell(shown(units.count, found.tokens), counts(*found.tokens_interval)),
        shown("{:.3g}".format, found.tokens / found.params),
        Cell(shown("{:.3f}".format, found.loss), edges(*found.loss_interval, "{:.3f}".format)),
    )


def words(fits: Fits, flops: float, *, level: float = LEVEL) -> tuple[str, ...]:
    """The answer, a sentence or a few each: how big, how long, what loss, by what, and where the approaches disagree."""
    best = offered(fits, flops, level=level)
    if best is not None and fits.forecast is not None:
        found, why = best, _sentence(fits.forecast.why)
    else:
        found, by = _middle(fits, flops, level=level)
        shown = "no budgets could be held out" if fits.forecast is None else "what predicted held-out budgets best says nothing of this one"
        why = f"This is by Approach {by} alone, and how well it extrapolates is not known: {shown}."
    unit = next(iter(fits)).unit
    provisional = (f"Provisional ({fit.approach}): {fit.status.message}" for fit in fits if not fit.status.ok)
    return (_headline(found), _expectation(found, unit), why, *fits.disagreement, *provisional)


def _sentence(words: str) -> str:
    return f"This is {words.rstrip('.')}." if words[:1].islower() else words


def _middle(fits: Fits, flops: float, *, level: float) -> tuple[Prediction, str]:
    """The middle one of the approaches by size, so that none that goes astray decides."""
    made = sorted(((prediction(fit, flops, level=level), title(fit)) for fit in fits), key=lambda pair: pair[0].params)
    sound = [pair for pair in made if math.isfinite(pair[0].params)] or made
    return sound[(len(sound) - 1) // 2]


def _headline(found: Prediction) -> str:
    if not math.isfinite(found.params):
        return f"With {units.flops(found.flops)} FLOPs: no best model can be told, for none of these laws has an optimum there."
    each = found.tokens / found.params
    return (
        f"With {units.flops(found.flops)} FLOPs, train a model of about {units.count(found.params)} parameters{_sure(found, found.params_interval)} "
        f"on {units.count(found.tokens)} tokens{_sure(found, found.tokens_interval)}: {each:.3g} tokens for each parameter."
    )


def _sure(found: Prediction, interval: Interval) -> str:
    ends = counts(*interval)
    return f" ({found.level * 100:g} % interval {ends})" if ends else ""


def _expectation(found: Prediction, unit: str) -> str:
    if not math.isfinite(found.loss):
        return "What loss to expect there is not known."
    ends = edges(*found.loss_interval, "{:.3f}".format)
    interval = f" ({found.level * 100:g} % interval for one new run {ends})" if ends else ""
    beyond = f"That is {units.times(found.reach)} times beyond the largest run." if found.reach > 1.05 else "That is inside the runs."
    return f"Expect a loss of {found.loss:.3f} {unit}{interval}. {beyond}"
