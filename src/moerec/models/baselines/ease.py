"""EASE: a linear item-item model in closed form (Steck 2019), plain and with recency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.linalg import lapack

from moerec.batches.histories import TrainHistories
from moerec.errors import ConfigError
from moerec.models.baselines.base import BaselineConfig, Choice, Range
from moerec.models.baselines.item_to_item import ItemToItemScorer

MOST_ITEMS = 20_000
"""EASE inverts a dense matrix of this order at most (3 GiB)."""
USERS_AT_ONCE = 2048


class EASEConfig(BaselineConfig):
    """Every item is predicted from the user's other items by ridge regression."""

    l2: float = Field(default=300.0, gt=0)
    """Ridge penalty; more for more users."""

    def fit(self, train: TrainHistories) -> ItemToItemScorer:
        """Closed form; see `BaselineConfig.fit`. Raises a `ConfigError` for too large a catalogue."""
        return ItemToItemScorer(ease_weights(train, self.l2, None), train)

    @classmethod
    def refusal(cls, num_indices: int) -> str | None:
        """Too large a catalogue for a dense matrix; see `BaselineConfig.refusal`."""
        return too_many_items(num_indices)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Hardly any to heavy regularisation."""
        return {"l2": Range(10, 5000, log=True)}


class EASERecencyConfig(BaselineConfig):
    """EASE in which the later events of a history weigh more."""

    l2: float = Field(default=300.0, gt=0)
    """Ridge penalty; more for more users."""
    half_life: float = Field(default=10.0, gt=0)
    """In scoring, an event's weight halves with every so many later events of the user."""
    train_half_life: float | None = Field(default=None, gt=0)
    """The same in fitting; None weighs all train events alike."""

    def fit(self, train: TrainHistories) -> ItemToItemScorer:
        """Closed form; see `BaselineConfig.fit`. Raises a `ConfigError` for too large a catalogue."""
        weights = ease_weights(train, self.l2, self.train_half_life)
        return ItemToItemScorer(weights, train, half_life=self.half_life)

    @classmethod
    def refusal(cls, num_indices: int) -> str | None:
        """Too large a catalogue for a dense matrix; see `BaselineConfig.refusal`."""
        return too_many_items(num_indices)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """As EASE; half-lives from the last events to the whole history."""
        return {
            "l2": Range(10, 5000, log=True),
            "half_life": Range(1, 200, log=True),
            "train_half_life": Choice((None, 200.0, 100.0, 50.0, 25.0)),
        }


def too_many_items(num_indices: int) -> str | None:
    """Why a catalogue is too large for a dense matrix; None if it is not."""
    if num_indices <= MOST_ITEMS:
        return None
    needed = num_indices**2 * 8 / 2**30
    return f"{num_indices:,} items need a dense matrix of {needed:.1f} GiB and the limit is {MOST_ITEMS:,} items"


def ease_weights(train: TrainHistories, l2: float, half_life: float | None) -> NDArray[np.float32]:
    """B = I - P / diag(P) with P = (X'X + l2 I)^-1 and X the users' (weighted) items.

    Args:
        train: train events.
        l2: ridge penalty.
        half_life: of the weights in X, in positions from the end of a history; None for equal weights.

    Returns:
        [num_indices, num_indices], 0 on the diagonal.

    Raises:
        ConfigError: more than 20,000 items.
    """
    reason = too_many_items(train.num_indices)
    if reason:
        raise ConfigError(f"ease: {reason}; leave EASE out and use item_knn and item_transitions")
    matrix = train.cooccurrences.toarray() if half_life is None else _dense_gram(train.interactions(half_life))
    matrix = matrix.astype(np.float64)
    matrix[np.diag_indices_from(matrix)] += l2
    # The matrix is symmetric, so Fortran's order is the same matrix and nothing needs to be copied.
    factor, failed = lapack.dpotrf(matrix.T, lower=1, overwrite_a=1)
    inverse, failed_too = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise ConfigError(f"ease: the matrix is not positive definite with l2 = {l2}; raise l2")
    lower = np.tril(inverse, -1)
    diagonal = inverse.diagonal()
    return ((lower + lower.T) / -diagonal).astype(np.float32)  # column j is divided by P[j, j]


def _dense_gram(interactions: sparse.csr_array) -> NDArray[np.float32]:
    """X'X, dense; a block of users at a time."""
    gram = np.zeros((interactions.shape[1],) * 2, dtype=np.float32)
    for start in range(0, interactions.shape[0], USERS_AT_ONCE):
        block = interactions[start : start + USERS_AT_ONCE].toarray()
        gram += block.T @ block
    return gram
