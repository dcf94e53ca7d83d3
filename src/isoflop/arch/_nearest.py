"""From a parameter count back to a shape that someone would build."""

import math
from typing import TYPE_CHECKING

from isoflop import units
from isoflop.arch._grid import depth, widths
from isoflop.errors import UnitError, UsageError

if TYPE_CHECKING:
    from isoflop.arch import Convention, Kind, Shape

LARGE = 512  # narrowest row of Hoffmann et al. 2022, Table A9: from there on sizes are those that hardware likes
DEEPEST = 128  # assumption: Llama 3 405B has 126 layers, the 1T model of Narayanan et al. 2021 has 128; larger models grow wider
LEEWAY = 1 / 6  # assumption: of the depth; Table A9 itself has 8 to 16 layers at 640 wide. See PULL for why so much is harmless
PULL = 0.1  # assumption: one layer in ten away from the rule must bring the count a percent nearer. Kaplan et al. 2020, Fig. 5: aspect ratios
# over a factor of 40 cost 3 % of the loss, so that a sixth costs nothing that can be seen; the pull only breaks near ties for the rule
_STEPS = ((64, 1024), (128, 4096), (512, 8192), (1024, 10**9))  # up to which width; released models from 7B up are on these
RUNGS = 3  # widths tried on either side: of 72 targets from 50M to 5T none had a better shape within 30 rungs that was not within two


def search(kind: "Kind", params: float, convention: "Convention") -> "Shape":
    """As `isoflop.arch.nearest`."""
    try:
        units.read(params)
    except UnitError:
        raise UsageError(f"a model cannot have {params!r} parameters. Give a positive finite count, like 70M or 7e10.") from None
    small = _on_the_ladder(kind, params, convention)
    if small.d_model < LARGE:
        return small
    middle = _rung_of(kind, params, convention)
    tried = [
        kind.large(d_model, n_layers)
        for d_model in map(_width, range(max(0, middle - RUNGS), middle + RUNGS + 1))
        for n_layers in _depths(kind, d_model, params, convention)
    ]
    return min(tried, key=lambda shape: _misfit(kind, shape, params, convention))


def _on_the_ladder(kind: "Kind", params: float, convention: "Convention") -> "Shape":
    """The nearest, in log params, of the widths of sweeps; of those from 512 up, some shape that wide."""
    below: Shape | None = None
    for d_model in widths():
        shape = kind.at(d_model)
        if d_model >= LARGE or shape.params.count(convention) >= params:
            break
        below = shape
    if below is None or shape.params.count(convention) < params:
        return shape
    over = math.log(shape.params.count(convention) / params)
    under = math.log(params / below.params.count(convention))
    return shape if over < under else below


def _rung_of(kind: "Kind", params: float, convention: "Convention") -> int:
    """The first large width that has the params at its rule's depth, by doubling and halving."""

    def enough(rung: int) -> bool:
        d_model = _width(rung)
        return kind.large(d_model, _rule(d_model)).params.count(convention) >= params

    low, high = -1, 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _depths(kind: "Kind", d_model: int, params: float, convention: "Convention") -> set[int]:
    """The rule's depth, and the two about the one that would meet the count, within the leeway: between these the misfit has no minimum."""
    rule = _rule(d_model)
    least, most = math.ceil((1 - LEEWAY) * rule), math.floor((1 + LEEWAY) * rule)
    one, two = (kind.large(d_model, n).params.count(convention) for n in (1, 2))
    exact = 1 + (params - one) / (two - one)  # params are linear in layers
    return {rule} | {min(max(n, least), most, DEEPEST) for n in (math.floor(exact), math.ceil(exact))}


def _misfit(kind: "Kind", shape: "Shape", params: float, convention: "Convention") -> tuple[float, int]:
    off = abs(math.log(shape.params.count(convention)) - math.log(params))
    shared = math.log(min(kind.kv_heads or shape.n_heads, shape.n_heads) / shape.kv_heads)  # heads that as many keys as wanted do not divide
    return off + PULL * (abs(math.log(shape.n_layers / _rule(shape.d_model))) + shared), shape.d_model


def _rule(d_model: int) -> int:
    return min(depth(d_model), DEEPEST)


def _width(rung: int) -> int:
    """The large widths in order, in steps that keep heads of 128 in fours from 4096 and in eights from 8192, as devices that share them want."""
    width = LARGE
    for step, end in _STEPS:
        rungs = (end - width) // step
        if rung <= rungs:
            break
        rung, width = rung - rungs, end
    return width + step * rung
