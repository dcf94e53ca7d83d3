"""Tables of published laws."""

import math
from collections.abc import Iterable

from isoflop import units
from isoflop.laws import Law
from isoflop.published import Published
from isoflop.report.table import DASH, Cell, Table, row


def laws(fits: Iterable[Published]) -> Table:
    """Published laws, a row each."""
    rows = tuple(
        row(fit.name, fit.title, exponent(fit, "a"), exponent(fit, "b"), form(fit), _range(*fit.fitted_flops), _known(fit.confirmed_flops)) for fit in fits
    )
    head = ("name", "law", "a in N_opt \u221d C^a", "b in D_opt \u221d C^b", "form", "fitted on (FLOPs)", "tested at (FLOPs)")
    note = "Exponents and their intervals as printed. `isoflop laws NAME` says all of one: constants, source, counting, corpus, traps."
    return Table(title="Published laws", head=head, rows=rows, words=frozenset({0, 1, 4}), note=note)


def law(fit: Published) -> Table:
    """All of one published law."""
    constants = {name: f"{value:.8g}" for name, value in constants_of(fit.law).items()}
    said: dict[str, str] = {
        "source": fit.source,
        "form": form(fit),
        "constants": ", ".join(f"{name} {value}" for name, value in constants.items()) or "not printed: exponents only",
        "exponents as printed": f"a {exponent(fit, 'a')}, b {exponent(fit, 'b')}",
        "counting": fit.convention,
        "corpus": fit.corpus,
        "fitted on": f"{_range(*fit.fitted_flops)} FLOPs",
        "tested at": f"{_known(fit.confirmed_flops)} FLOPs",
        **{f"interval of {i.quantity}": f"{i.low:g} to {i.high:g} ({i.level:.0%})" for i in fit.intervals},
        **{f"trap {number}": words for number, words in enumerate(fit.cautions, start=1)},
    }
    rows = tuple(row(name, words) for name, words in said.items())
    return Table(title=f"{fit.name}: {fit.title}", head=("", ""), rows=rows, words=frozenset({0, 1}))


def brief(fit: Published) -> str:
    """A law's title without what comes after the colon."""
    return fit.title.partition(":")[0]


def exponent(fit: Published, name: str) -> Cell:
    """A printed exponent with its printed interval."""
    value = fit.a if name == "a" else fit.b
    found = next((i for i in fit.intervals if i.quantity == name), None)
    return Cell(_plain_number(value), f"{_plain_number(found.low)} to {_plain_number(found.high)}" if found else "")


def constants_of(law: Law | None) -> dict[str, float]:
    """The constants of a law by name, what is not set left out."""
    return {name: value for name, value in vars(law or object).items() if isinstance(value, float) and math.isfinite(value)}


def form(fit: Published) -> str:
    """The form of a law, as `laws/` names it."""
    return DASH if fit.law is None else type(fit.law).__module__.rpartition(".")[2]


def _range(low: float, high: float) -> str:
    if not (math.isfinite(low) or math.isfinite(high)):
        return "not printed"
    return f"{_known(low)} to {_known(high)}"


def _known(flops: float) -> str:
    return units.flops(flops) if math.isfinite(flops) else DASH


def _plain_number(value: float) -> str:
    """An exponent with the two or three decimals that papers print."""
    if not math.isfinite(value):
        return DASH
    short = round(value, 3) + 0.0  # no minus before a zero
    return f"{short:.2f}" if round(short, 2) == short else f"{short:.3f}"
