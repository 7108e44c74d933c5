"""The scorer that item-kNN, EASE and item transitions share: a weighted sum of the history items' rows.

Shape letters: B sequences, T events of all sequences together, N candidates of each.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import SequenceBatch
from moerec.models.baselines.popularity import rule_out
from moerec.models.roles import Scorer

DENSE_ITEMS = 8192
"""Up to this many indices a sparse matrix is laid out densely for scoring (at most 256 MiB), which is faster."""


class ItemToItemScorer(Scorer):
    """Score of j = sum over the history of weight(age) * weights[i, j]; popularity where nothing is known."""

    def __init__(
        self,
        weights: NDArray[np.float32] | sparse.csr_array,
        train: TrainHistories,
        half_life: float | None = None,
        last: int | None = None,
        repeats: bool = False,
    ) -> None:
        """Make the scorer.

        Args:
            weights: [num_indices, num_indices] what an item of the history (row) adds to each item's score.
            train: what the weights were fitted on.
            half_life: an event's weight halves every so many positions; None for equal weights.
            last: only so many of the latest events count; None for all.
            repeats: whether several events of an item count; otherwise the latest alone.
        """
        if not isinstance(weights, np.ndarray) and train.num_indices <= DENSE_ITEMS:
            weights = weights.toarray()
        self.weights = torch.from_numpy(weights) if isinstance(weights, np.ndarray) else weights
        self.popularity = torch.from_numpy(train.counts).to(torch.float32)  # [num_indices]
        self.half_life = half_life
        self.last = last
        self.repeats = repeats

    @property
    def num_indices(self) -> int:
        """Size of the item index."""
        return len(self.popularity)

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """See `Scorer.score`; histories without a single trained item are scored by popularity."""
        batch = batch if self.last is None else batch.last(self.last)
        weights = self._event_weights(batch)  # [T]
        if isinstance(self.weights, Tensor):
            scores = torch.nn.functional.embedding_bag(
                batch.items,
                self.weights,
                batch.offsets,
                mode="sum",
                per_sample_weights=weights,
                include_last_offset=True,
            )  # [B, num_indices]
        else:
            shape = (len(batch), self.num_indices)
            histories = sparse.csr_array((weights.numpy(), batch.items.numpy(), batch.offsets.numpy()), shape=shape)
            scores = torch.from_numpy((histories @ self.weights).toarray())
        trained = self.popularity > 0
        rows, _ = batch.padded_index()
        known = torch.zeros(len(batch), dtype=torch.int64).index_add_(0, rows, trained[batch.items].long())
        scores[known == 0] = self.popularity
        rule_out(scores, trained)
        return scores if candidates is None else scores.gather(1, candidates)

    def _event_weights(self, batch: SequenceBatch) -> Tensor:
        """Weight of each event, [T]."""
        rows, columns = batch.padded_index()
        if self.half_life is None:
            weights = torch.ones(len(rows))
        else:
            ages = batch.lengths[rows] - 1 - columns
            weights = 0.5 ** (ages / self.half_life)
        if not self.repeats:
            keys, inverse = torch.unique(rows * self.num_indices + batch.items, return_inverse=True)
            if len(keys) < len(rows):
                latest = torch.full((len(keys),), -1).scatter_reduce_(0, inverse, columns, "amax")
                weights = weights.where(latest[inverse] == columns, 0.0)
        return weights
