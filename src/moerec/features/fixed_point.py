"""Labels as whole multiples of a small unit, so that their sums are exact in any order.

With b bits for a value, a sum of squares of n values is below n * 2**(2 b), which is kept under 2**62: 20 bits, a
relative precision of one millionth, for up to four million events of one user or item, fewer bits beyond. Ratings in
steps of 1/2 lose nothing.

Shape letters: N events, E examples.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.config import Config
from moerec.errors import ConfigError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MOST_BITS = 20
# The largest value is rounded up to 16, 256, 4096, ..., so that the unit hardly ever depends on single events.
_EXPONENT_STEP = 4


class FixedPoint(Config):
    """How the values of one label become whole numbers."""

    exponent: int = _EXPONENT_STEP
    """Values are below 2 ** exponent; larger ones, which the train events do not have, are cut there."""
    bits: int = _MOST_BITS
    """The unit is 2 ** (exponent - bits)."""

    @classmethod
    def fitted(cls, values: Floats, rows: int) -> FixedPoint:
        """For a label of the train events.

        Args:
            values: [N] numbers; those that are not finite do not count.
            rows: the most values in one sum.
        """
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        exponent = max(1, math.ceil(math.frexp(largest)[1] / _EXPONENT_STEP)) * _EXPONENT_STEP
        return cls(exponent=exponent, bits=min(_MOST_BITS, (62 - rows.bit_length()) // 2))

    @property
    def unit(self) -> float:
        """The value of 1."""
        return math.ldexp(1.0, self.exponent - self.bits)

    def whole(self, values: Floats) -> tuple[Ints, Bools]:
        """[N] multiples of the unit, 0 where there is no number; [N] whether there is one."""
        known = np.isfinite(values)  # [N]
        limit = 2.0**self.bits
        scaled = np.ldexp(np.where(known, values, 0.0), self.bits - self.exponent)  # [N]
        return np.clip(np.rint(scaled), -limit, limit).astype(np.int64), known


def label_values(events: pl.DataFrame, label: str, where: str) -> Floats:
    """A label column as numbers [N], NaN where it is null.

    Raises:
        ConfigError: there is no such column, or it holds no numbers.
    """
    if label not in events.columns:
        known = ", ".join(name for name in events.columns if name not in ("user", "item", "position", "timestamp"))
        raise ConfigError(f"{where}.labels: the events have no label column '{label}'; they have: {known or 'none'}")
    column = events[label]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise ConfigError(f"{where}.labels: column '{label}' has type {column.dtype}; a label must be a number")
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def mean(counts: Ints, sums: Ints) -> Floats:
    """[E] sums / counts; NaN where the count is 0."""
    return np.divide(sums, counts, out=np.full(len(counts), math.nan), where=counts > 0)


def shrunk_mean(counts: Ints, sums: Ints, centre: Floats | float, shrinkage: float) -> Floats:
    """[E] the mean as if `shrinkage` more numbers, all equal to `centre`, were among them."""
    return (sums + shrinkage * centre) / (counts + shrinkage)


def sample_deviation(counts: Ints, sums: Ints, squares: Ints) -> Floats:
    """[E] sample standard deviation of whole numbers; NaN for fewer than two.

    Deviations are taken from the whole number next to the mean, in exact arithmetic, so that nothing cancels: equal
    values have the deviation 0.
    """
    centre = np.rint(sums / np.maximum(counts, 1)).astype(np.int64)  # [E]
    remainder = sums - counts * centre  # [E] at most half the count
    about_centre = squares - centre * (sums + remainder)  # [E] the sum of (value - centre)**2
    variance = (about_centre - remainder * (remainder / np.maximum(counts, 1))) / np.maximum(counts - 1, 1)
    return np.where(counts > 1, np.sqrt(np.maximum(variance, 0.0)), math.nan)
