"""Item transitions: which items follow which within a few steps, a Markov chain over gaps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field
from scipy import sparse

from moerec.batches.histories import TrainHistories
from moerec.models.baselines.base import BaselineConfig, Choice, Range
from moerec.models.baselines.item_to_item import ItemToItemScorer


class ItemTransitionsConfig(BaselineConfig):
    """Score of j = sum over the last items i, the latest heaviest, of the smoothed share of i's successors."""

    gap: int = Field(default=5, ge=1)
    """An event counts as a successor of the so many events before it."""
    gap_half_life: float = Field(default=2.0, gt=0)
    """A successor's weight halves with every so many steps between."""
    backward: float = Field(default=0.3, ge=0)
    """Weight of predecessors, which count as successors too; 0 for none."""
    smoothing: float = Field(default=10.0, ge=0)
    """Added to the number of an item's successors: rarely seen items say less."""
    popularity_exponent: float = Field(default=0.2, ge=0, le=1)
    """Successors are divided by their own popularity to this power; 0 leaves them, 1 takes it out wholly."""
    last: int = Field(default=10, ge=1)
    """So many of the latest events are used in scoring."""
    half_life: float = Field(default=2.0, gt=0)
    """In scoring, an event's weight halves with every so many later events of the user."""

    def fit(self, train: TrainHistories) -> ItemToItemScorer:
        """Count and normalise; see `BaselineConfig.fit`."""
        counts = transition_counts(train, self.gap, self.gap_half_life)
        if self.backward > 0:
            counts = sparse.csr_array(counts + self.backward * counts.T)
        successors = counts.sum(axis=1) + self.smoothing  # [num_indices]
        popularity = np.maximum(train.counts, 1.0) ** self.popularity_exponent
        rows = np.repeat(np.arange(train.num_indices), np.diff(counts.indptr))
        values = counts.data / successors[rows] / popularity[counts.indices]
        weights = sparse.csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
        return ItemToItemScorer(weights, train, half_life=self.half_life, last=self.last, repeats=True)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """From the pure next item to a window of many, both in counting and in scoring."""
        return {
            "gap": Range(1, 10, log=True, integer=True),
            "gap_half_life": Range(0.5, 10, log=True),
            "backward": Choice((0.0, 0.25, 0.5, 0.75, 1.0)),
            "smoothing": Range(1, 300, log=True),
            "popularity_exponent": Range(0.0, 0.8),
            "last": Range(2, 50, log=True, integer=True),
            "half_life": Range(0.5, 20, log=True),
        }


def transition_counts(train: TrainHistories, gap: int, half_life: float) -> sparse.csr_array:
    """Weighted number of times that j follows i, [num_indices, num_indices] float32.

    Args:
        train: train events.
        gap: largest distance in positions.
        half_life: distance d counts 0.5 ** ((d - 1) / half_life).
    """
    shape = (train.num_indices, train.num_indices)
    counts = sparse.csr_array(shape, dtype=np.float32)
    for distance in range(1, gap + 1):
        same = train.rows[:-distance] == train.rows[distance:]
        pairs = (train.items[:-distance][same], train.items[distance:][same])
        weights = np.full(len(pairs[0]), 0.5 ** ((distance - 1) / half_life), dtype=np.float32)
        counts = counts + sparse.csr_array((weights, pairs), shape=shape)
    return sparse.csr_array(counts)
