"""IdIndex: from the source's ids to positions and back, for many ids at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import DatasetError


class IdIndex:
    """Distinct ids (strings) numbered from `first` in their order."""

    def __init__(self, ids: pl.Series, first: int) -> None:
        self._ids = ids
        self._first = first

    @cached_property
    def _sorted(self) -> tuple[pl.Series, NDArray[np.int64]]:
        # The order of the ids may be by number; a binary search wants them by code points.
        order = self._ids.arg_sort()
        return self._ids.gather(order), order.to_numpy().astype(np.int64)

    def find(self, ids: pl.Series, missing: int) -> NDArray[np.int64]:
        """The number of each id, `missing` for one that is not here or null."""
        ordered, order = self._sorted
        places = ordered.search_sorted(ids.fill_null("")).clip(upper_bound=len(ordered) - 1)
        found = (ordered.gather(places) == ids).fill_null(False).to_numpy()
        return np.where(found, order[places.to_numpy()] + self._first, missing)

    def ids_of(self, numbers: Any) -> pl.Series:
        """The id of each number; null for numbers from -1 up to the first one.

        Raises:
            DatasetError: a number outside the index.
        """
        positions = np.asarray(numbers, dtype=np.int64).reshape(-1) - self._first
        outside = (positions >= len(self._ids)) | (positions + self._first < -1)
        if outside.any():
            number = int(positions[outside][0]) + self._first
            raise DatasetError(
                f"index {number} is outside this data set, which ends at {self._first + len(self._ids) - 1}"
            )
        rows = pl.Series(np.maximum(positions, 0))
        known = pl.Series(positions >= 0)
        ids = self._ids.gather(rows)
        return ids.to_frame("id").select(pl.when(known).then("id").alias(self._ids.name)).to_series()
