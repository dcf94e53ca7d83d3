"""The order in which windows are seen: a permutation for each epoch, computed where it is needed and stored nowhere.

A Feistel network over pairs of digits to the base ceil(sqrt(n)) is a bijection on the next square above n whatever its round function; walking
on from the few results that are n or more makes it one on range(n) (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", Sec. 3 and 4).
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6  # assumption: four already make a strong pseudorandom permutation (Luby and Rackoff 1988); two more for a weak round function
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # increment and mixers of SplitMix64 (Steele et al. 2014)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

Indices = NDArray[np.int64]
_Words = NDArray[np.uint64]


def windows(positions: Indices, *, n: int, seed: int) -> Indices:
    """Return the windows at the given positions of an endless reading that sees each of n windows once an epoch.

    Args:
        positions: Shape (any,), from 0; position p is in epoch p // n.
        n: Windows, >= 1.
        seed: Any integer.

    Returns:
        Shape (any,), in range(n).
    """
    epochs, places = np.divmod(np.asarray(positions, dtype=np.uint64), np.uint64(n))
    key = np.uint64(int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "little"))
    keys = _mix(epochs * _GOLDEN + key)
    base = np.uint64(math.isqrt(n - 1) + 1)  # ceil(sqrt(n))
    outside = np.arange(places.size)
    while outside.size:
        places[outside] = _feistel(places[outside], keys[outside], base)
        outside = outside[places[outside] >= n]
    return places.astype(np.int64)


def _feistel(places: _Words, keys: _Words, base: np.uint64) -> _Words:
    left, right = np.divmod(places, base)
    for _ in range(_ROUNDS):
        keys = keys + _GOLDEN
        left, right = right, (left + _mix(keys ^ right)) % base
    return left * base + right


def _mix(words: _Words) -> _Words:
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))
