"""User and item means: shrunk offsets of every user and item, fixed after the train rows.

Shape letters: K train rows, R rows to predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from moerec.batches.examples import ExampleTable
from moerec.models.baselines.base import Choice, Range
from moerec.models.ranking_baselines.base import Floats, Ints, RankingBaselineConfig, RankingPredictor
from moerec.tasks import TaskConfig, TaskStatistics

MOST_CURVATURE = 0.25
"""The second derivative of the logistic loss is at most this (Boehning and Lindsay 1988)."""


@dataclass(frozen=True, eq=False)
class MeansPredictor(RankingPredictor):
    """Global mean + item's offset + user's offset; for a binary task these are log-odds."""

    start: float
    """What an unknown user with an unknown item gets."""
    users: Floats
    """Offset of each user index."""
    items: Floats
    """Offset of each item index."""
    binary: bool
    """Whether the sum is log-odds."""

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """The sum, as a probability for a binary task, [R]."""
        total = self.start + _look_up(self.users, table.users[rows]) + _look_up(self.items, table.items[rows])  # [R]
        return expit(total) if self.binary else total


class MeansConfig(RankingBaselineConfig):
    """Mean label of the train rows, shrunk towards the global mean: of the item, then of the user on what is left.

    Regression: `b_i = sum(y - mean) / (n_i + item_shrinkage)`, then the user's offset on the residuals in the same way
    (Koren 2010). Binary: the offsets are log-odds, so that predictions stay probabilities; each step is the same
    shrunk sum of residuals over `n / 4 + shrinkage`, which never lowers the penalised likelihood (Boehning and
    Lindsay 1988). The offsets stay as they are after the train rows; users and items without train rows have none.
    """

    offsets: Literal["both", "items", "users"] = "both"
    """Whose offsets to use."""
    item_shrinkage: float = Field(default=5.0, gt=0)
    """Added to the number of an item's rows: the fewer it has, the nearer it stays to the global mean."""
    user_shrinkage: float = Field(default=10.0, gt=0)
    """The same for users."""
    rounds: int = Field(default=3, ge=1)
    """Times to fit items and users in turn: the second round sees items without the severity of their users."""

    def fit_labels(
        self,
        table: ExampleTable,
        rows: Ints,
        labels: Floats,
        task: TaskConfig,
        statistics: TaskStatistics,
        seed: int,
    ) -> MeansPredictor:
        """Offsets in turn; see `RankingBaselineConfig.fit`."""
        binary = task.type == "binary"
        mean = float(labels.mean())
        start = float(logit(mean)) if binary else mean
        sides = {"items": (table.items[rows], self.item_shrinkage), "users": (table.users[rows], self.user_shrinkage)}
        offsets = {side: np.zeros(int(indices.max(initial=-1)) + 1) for side, (indices, _) in sides.items()}
        total = np.full(len(rows), start)  # [K]
        for _ in range(self.rounds):
            for side, (indices, shrinkage) in sides.items():
                if self.offsets not in ("both", side):
                    continue
                size, known = len(offsets[side]), indices >= 0
                residuals = labels - (expit(total) if binary else total)  # [K]
                sums = np.bincount(indices[known], weights=residuals[known], minlength=size)
                counts = np.bincount(indices[known], minlength=size) * (MOST_CURVATURE if binary else 1.0)
                step = (sums - shrinkage * offsets[side]) / (counts + shrinkage)
                offsets[side] += step
                total += _look_up(step, indices)
        return MeansPredictor(start, offsets["users"], offsets["items"], binary)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Mostly both sides, hardly any to heavy shrinkage, one pass to convergence."""
        return {
            "offsets": Choice(("both", "both", "both", "both", "items", "users")),
            "item_shrinkage": Range(0.3, 100, log=True),
            "user_shrinkage": Range(0.3, 100, log=True),
            "rounds": Range(1, 10, integer=True),
        }


def _look_up(offsets: Floats, indices: Ints) -> Floats:
    """The offset of each index, 0 for one that the train rows do not have."""
    known = (indices >= 0) & (indices < len(offsets))
    found = np.zeros(len(indices))
    found[known] = offsets[indices[known]]
    return found
