"""How a family grows with its width: the widths it is built at, its depth, its heads."""

import math
from collections.abc import Iterator


def widths() -> Iterator[int]:
    """Widths a family is built at, smallest first: 8, 12, 16, 24, ... by eights to 128, then eight steps an octave."""
    yield from (8, 12)
    yield from range(16, 64, 8)
    octave = 64
    while True:
        yield from range(octave, 2 * octave, octave // 8)
        octave *= 2


def depth(d_model: int) -> int:
    """Layers at a width: through the smallest and the largest rows of Hoffmann et al. 2022, Table A9 (512 wide, 8 deep; 8192 wide, 80 deep), at least 2."""
    return max(2, round(8 * math.pow(d_model / 512, math.log(10) / math.log(16))))


def heads(d_model: int) -> int:
    """Return the heads at an even width: an even kv_size near 64 at 512 wide, never above 128 (Table A9: 64 to 128), and near 8 from 32 wide down.

    Small models want several narrow heads more than one wide one: benchmarks/recipe.md.
    """
    kv_size = min(128.0, max(8.0, 8 * math.pow(d_model / 32, 0.75)))
    half = d_model // 2
    divisors = {each for i in range(1, math.isqrt(half) + 1) if half % i == 0 for each in (i, half // i)}
    return min(divisors, key=lambda h: (round(abs(math.log(d_model / h / kv_size)), 6), -h))


def large_kv_size(d_model: int) -> int:
    """Size of a head from 512 wide, as in Hoffmann et al. 2022, Table A9: 64 to 1024 wide, 128 above."""
    return 64 if d_model <= 1024 else 128
