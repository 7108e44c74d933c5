"""The train events as the baselines read them, and what several of them derive from it.

Shape letters: E events, U users, T train events of all users together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.errors import DatasetError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainHistories:
    """Train events of every user, oldest first, one user after another."""

    items: Ints  # [T]
    """Item index of each event."""
    offsets: Ints  # [U + 1]
    """User u holds the events offsets[u] to offsets[u + 1] - 1; there may be none."""
    timestamps: Ints | None  # [T]
    """Milliseconds since 1970; None if the source has no times."""
    num_indices: int
    """Size of the item index: the catalogue and the two reserved indices."""
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # each [T]
    """Label columns of the events, if they were asked for; NaN where an event has none."""
    weights: NDArray[np.float32] | None = None  # [T]
    """How much each event counts as a target; None for 1."""

    @classmethod
    def of(cls, dataset: Dataset, split: str, *, labels: bool = False) -> TrainHistories:
        """The train part of one of the data set's splits; see `from_events`. Labels are read where asked for."""
        codes = dataset.split(split)
        histories = cls.from_events(
            dataset.event_users, dataset.event_items, dataset.timestamps, codes, dataset.num_indices
        )
        if not labels:
            return histories
        columns = dataset.events.filter(codes == Part.TRAIN).select(dataset.info.labels)
        return replace(
            histories, labels={column.name: column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in columns}
        )

    @classmethod
    def from_events(
        cls,
        event_users: NDArray[np.integer],
        event_items: NDArray[np.integer],
        timestamps: NDArray[np.integer] | None,
        codes: NDArray[np.integer],
        num_indices: int,
    ) -> TrainHistories:
        """The train part of a split.

        Args:
            event_users: [E] user of each event; events are sorted by user, then by position.
            event_items: [E] item of each event.
            timestamps: [E] milliseconds, or None.
            codes: [E] part of each event (`Part`).
            num_indices: size of the item index.

        Raises:
            DatasetError: there is no train event.
        """
        train = np.flatnonzero(codes == Part.TRAIN)
        if train.size == 0:
            raise DatasetError("the split has no train event; choose another split or a bigger data set")
        counts = np.bincount(event_users[train], minlength=int(event_users.max()) + 1)
        return cls(
            items=event_items[train].astype(np.int64),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            timestamps=None if timestamps is None else timestamps[train].astype(np.int64),
            num_indices=num_indices,
        )

    @cached_property
    def rows(self) -> Ints:
        """The user of each event, [T]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @cached_property
    def ages(self) -> Ints:
        """Events of the same user that follow each event, [T]."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - 1 - np.arange(len(self.items))

    @cached_property
    def counts(self) -> Ints:
        """Train events of each item, [num_indices]."""
        return np.bincount(self.items, minlength=self.num_indices)

    @cached_property
    def cooccurrences(self) -> sparse.csr_array:
        """Users who have both items, [num_indices, num_indices] float32; on the diagonal, users of the item."""
        interactions = self.interactions(None)
        return sparse.csr_array(interactions.T @ interactions)

    def interactions(self, half_life: float | None) -> sparse.csr_array:
        """Users by items, [U, num_indices] float32: 1, or a weight that halves every `half_life` positions.

        Of repeated events of an item the latest counts.
        """
        # The latest of equal (user, item) pairs is the first one seen from the end.
        keys = self.rows * self.num_indices + self.items
        latest = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        weights = np.ones(len(latest)) if half_life is None else 0.5 ** (self.ages[latest] / half_life)
        return sparse.csr_array(
            (weights.astype(np.float32), (self.rows[latest], self.items[latest])),
            shape=(len(self.offsets) - 1, self.num_indices),
        )
