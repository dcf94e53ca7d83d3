"""The outlook of fits: how big, how long and at what loss for a budget, by each approach and in words, for someone who has not read the paper."""

import math

from isoflop import units
from isoflop.fit import Fits, Prediction
from isoflop.fit.answers import Answer, by_fit
from isoflop.report.fits import edges, short, title
from isoflop.report.table import Cell, Row, Table, row, shown
from isoflop.report.tables import counts

Interval = tuple[float, float]


def predictions(fits: Fits, found: Answer) -> Table:
    """Return the table of what each approach says of a budget, and what is offered of them all."""
    flops, level = found.prediction.flops, found.prediction.level
    rows = [_predicted(title(fit), by_fit(fit, flops, level=level)) for fit in fits]
    if found.fit is None:
        rows.append(_predicted("By hold-out", found.prediction))
    reach, smallest = flops / max(fit.reach_flops for fit in fits), fits.trained.flops[0] if fits.trained else 0.0
    beyond = f", {units.times(reach)} times the largest run" if reach > 1 else ", inside the runs"
    if flops < smallest:
        beyond = f", {units.times(smallest / flops)} times below the smallest run"
    heading = "The best model for" if found.given else "Refused, not an answer: what the fits say of"
    return Table(
        title=f"{heading} {units.flops(flops)} FLOPs{beyond}",
        head=("approach", "parameters", "tokens", "tokens per parameter", f"loss ({short(found.unit)})"),
        rows=tuple(one if found.given else one._replace(muted=True) for one in rows),
        note=f"Ranges: {level * 100:g} % intervals; of the loss, for one new run."
        + (" By hold-out: by what predicted held-out budgets best, widened by how far off it was." if found.fit is None else ""),
    )


def _predicted(name: str, found: Prediction) -> Row:
    return row(
        name,
        Cell(shown(units.count, found.params), counts(*found.params_interval)),
        Cell(shown(units.count, found.tokens), counts(*found.tokens_interval)),
        shown("{:.3g}".format, found.tokens / found.params),
        Cell(shown("{:.3f}".format, found.loss), edges(*found.loss_interval, "{:.3f}".format)),
    )


def words(fits: Fits, found: Answer) -> tuple[str, ...]:
    """Return the answer, a sentence or a few each: how big, how long, what loss, by what, and where the approaches disagree; empty where it is refused."""
    if not found.given:
        return ()
    provisional = (f"Provisional ({fit.approach}): {fit.status.message}" for fit in fits if not fit.status.ok)
    return (_headline(found.prediction), _expectation(found.prediction, found.unit), source(fits, found), *fits.disagreement, *provisional)


def source(fits: Fits, found: Answer) -> str:
    """Return the sentence that says by what an answer is."""
    if found.fit is None and fits.forecast is not None:
        why = fits.forecast.why
        return f"This is {why.rstrip('.')}." if why[:1].islower() else why
    shown = "no budgets could be held out" if fits.forecast is None else "what predicted held-out budgets best says nothing of this one"
    by = "" if found.fit is None else title(found.fit)
    return f"This is by Approach {by} alone, and how well it extrapolates is not known: {shown}."


def _headline(found: Prediction) -> str:
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
