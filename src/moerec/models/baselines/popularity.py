"""Popularity: the same list for everyone, from all train events or from the latest.

Shape letters: B sequences, N candidates of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import FIRST_ITEM
from moerec.models.baselines.base import BaselineConfig, Choice, Range
from moerec.models.roles import Scorer

MILLISECONDS_PER_DAY = 86_400_000


class PopularityScorer(Scorer):
    """One score for each item, whoever asks."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores  # [num_indices]

    @property
    def num_indices(self) -> int:
        """Size of the item index."""
        return len(self.scores)

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """The same scores for every user; see `Scorer.score`."""
        if candidates is None:
            return self.scores.expand(len(batch), -1)  # [B, num_indices]
        return self.scores[candidates]  # [B, N]


class PopularityConfig(BaselineConfig):
    """Number of train events of an item."""

    def fit(self, train: TrainHistories) -> PopularityScorer:
        """Count; see `BaselineConfig.fit`."""
        scores = torch.from_numpy(train.counts).to(torch.float32)
        return PopularityScorer(rule_out(scores, torch.from_numpy(train.counts > 0)))

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Nothing to tune."""
        return {}


class RecentPopularityConfig(BaselineConfig):
    """Train events of an item, the later the heavier."""

    half_life_days: float = Field(default=30.0, gt=0)
    """An event's weight halves with every so many days before the last train event."""
    half_life_events: float = Field(default=30.0, gt=0)
    """Where the source has no times: it halves with every so many later events of the same user."""

    def fit(self, train: TrainHistories) -> PopularityScorer:
        """Add up the weights; see `BaselineConfig.fit`."""
        if train.timestamps is None:
            half_lives = train.ages / self.half_life_events
        else:
            days = (train.timestamps.max() - train.timestamps) / MILLISECONDS_PER_DAY
            half_lives = days / self.half_life_days
        # The logarithm keeps the order of weights that are too small for a 32-bit number.
        totals = np.bincount(train.items, weights=0.5**half_lives, minlength=train.num_indices)
        scores = torch.from_numpy(np.log(np.maximum(totals, np.finfo(np.float64).tiny))).to(torch.float32)
        return PopularityScorer(rule_out(scores, torch.from_numpy(train.counts > 0)))

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Half-lives from a day to years, and from the last event alone to a long history."""
        return {"half_life_days": Range(1, 1000, log=True), "half_life_events": Range(0.3, 300, log=True)}


def rule_out(scores: Tensor, trained: Tensor) -> Tensor:
    """Give items without train events the lowest finite score and the reserved indices -inf, in place.

    Args:
        scores: [..., num_indices].
        trained: [num_indices] bool.
    """
    scores.masked_fill_(~trained, torch.finfo(scores.dtype).min)
    scores[..., :FIRST_ITEM] = -torch.inf
    return scores
