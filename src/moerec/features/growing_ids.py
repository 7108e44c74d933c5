"""Ids that arrive over time, each with a number that it keeps.

Numbers follow the order of first appearance, so whoever reads the same stream from its start finds the same ones; ids
and position in the stream together are what a training must remember.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.schema import FIRST_ITEM, UNKNOWN


class GrowingIds:
    """A vocabulary that is appended to: the first id has the number 2, 0 is padding, and 1 an id not met yet."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(ids), FIRST_ITEM)}

    @property
    def ids(self) -> list[str]:
        """In the order of their numbers; what a checkpoint keeps."""
        return list(self._numbers)

    @property
    def num_indices(self) -> int:
        """Rows of a table that has one for each number."""
        return FIRST_ITEM + len(self._numbers)

    def add(self, ids: Iterable[str]) -> int:
        """Give new ids a number; how many were new."""
        before = len(self._numbers)
        for name in ids:
            self._numbers.setdefault(name, FIRST_ITEM + len(self._numbers))
        return len(self._numbers) - before

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """[N] the number of each id."""
        return np.fromiter((self._numbers.get(name, UNKNOWN) for name in ids), np.int64, len(ids))
