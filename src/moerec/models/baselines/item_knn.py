"""Item-kNN: cosine of the items' users, shrunk, the nearest neighbours only (Sarwar et al. 2001)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from pydantic import Field
from scipy import sparse

from moerec.batches.histories import TrainHistories
from moerec.models.baselines.base import BaselineConfig, Choice, Range
from moerec.models.baselines.item_to_item import ItemToItemScorer


class ItemKNNConfig(BaselineConfig):
    """An item's score is the sum of its similarities to those history items that are among its neighbours."""

    neighbours: int = Field(default=100, ge=1)
    """Most similar items that an item keeps, and those as similar as the last of them."""
    shrinkage: float = Field(default=10.0, ge=0)
    """Added to the cosine's denominator: the less two items are known, the less their similarity counts."""

    def fit(self, train: TrainHistories) -> ItemToItemScorer:
        """Similarities from the co-occurrences; see `BaselineConfig.fit`."""
        common = train.cooccurrences.copy()
        users = common.diagonal()
        rows = np.repeat(np.arange(train.num_indices), np.diff(common.indptr))
        common.data /= np.sqrt(users[rows] * users[common.indices]) + np.float32(self.shrinkage)
        common.data[rows == common.indices] = 0
        # The matrix is symmetric: row j holds the similarities of target j, its own neighbours among them.
        for start, end in pairwise(common.indptr):
            if end - start > self.neighbours:
                similarities = common.data[start:end]
                weakest = np.partition(similarities, -self.neighbours)[-self.neighbours]
                # Equal similarities may differ in the last bit; all of them stay.
                similarities[similarities < weakest * np.float32(1 - 1e-6)] = 0
        common.eliminate_zeros()
        weights = sparse.csr_array(common.T)  # from the history's item (row) to the target (column)
        return ItemToItemScorer(weights, train)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Few to many neighbours, hardly any to heavy shrinkage."""
        return {"neighbours": Range(3, 1000, log=True, integer=True), "shrinkage": Range(0.1, 1000, log=True)}
