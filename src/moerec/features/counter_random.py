"""Random numbers by counting: each is a function of its keys alone, so partition, order and workers change nothing.

Shape letters: N keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)


def keys_of(*words: NDArray[np.integer] | Words) -> Words:
    """One key [N] for each row of whole numbers, each [N] or [1]; well spread even for neighbouring numbers."""
    key = np.zeros(1, np.uint64)
    for word in words:
        key = _mix((key ^ word.astype(np.uint64)) + _STEP)
    return key


def stream(keys: Words, number: int) -> Words:
    """The output with a number, from 0 on, of the generator splitmix64 that starts at each key, [N]."""
    # An array of one, since arrays wrap around without a warning.
    return _mix(keys + np.array([number + 1], np.uint64) * _STEP)


def share(words: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) of the 53 highest bits, [N]."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words: Words) -> Words:
    """The output function of splitmix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
