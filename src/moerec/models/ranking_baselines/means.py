"""User and item means: shrunk offsets of every user and item, fixed after the train rows.

Shape letters: K train rows, R rows to predict, W offsets of a user or item: the classes of a multiclass task, else 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from moerec.batches.examples import ExampleTable
from moerec.models.baselines.base import Choice, Range
from moerec.models.ranking_baselines.base import Floats, Ints, RankingBaselineConfig, RankingPredictor
from moerec.models.ranking_baselines.links import Link, link_of
from moerec.tasks import TaskConfig, TaskStatistics


@dataclass(frozen=True, eq=False)
class MeansPredictor(RankingPredictor):
    """Start + item's offset + user's offset, read by the task's link."""

    link: Link
    """Where the sum starts, and what it means."""
    users: Floats
    """Offsets of each user index, [users, W]."""
    items: Floats
    """Offsets of each item index, [items, W]."""
    num_classes: int = 0

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """The prediction of each sum, [R] or [R, C]."""
        offsets = _look_up(self.users, table.users[rows]) + _look_up(self.items, table.items[rows])  # [R, W]
        return self.link.predict(self.link.start + offsets)


class MeansConfig(RankingBaselineConfig):
    """Mean label of the train rows, shrunk towards the global mean: of the item, then of the user on what is left.

    Regression: `b_i = sum(y - mean) / (n_i + item_shrinkage)`, then the user's offset on the residuals in the same way
    (Koren 2010). Binary: the offsets are log-odds, so that predictions stay probabilities; each step is the same
    shrunk sum of residuals over `n / 4 + shrinkage`, which never lowers the penalised likelihood (Boehning and
    Lindsay 1988). Multiclass: an offset for each class, added to the logarithm of its share. Ordinal: one offset, which
    moves the user or item along the cutpoints of the train shares. Both take steps over `n / 2 + shrinkage`. The
    offsets stay as they are after the train rows; users and items without train rows have none.
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
        link = link_of(task, labels)
        sides = {"items": (table.items[rows], self.item_shrinkage), "users": (table.users[rows], self.user_shrinkage)}
        offsets = {
            side: np.zeros((int(indices.max(initial=-1)) + 1, len(link.start))) for side, (indices, _) in sides.items()
        }
        totals = np.tile(link.start, (len(rows), 1))  # [K, W]
        for _ in range(self.rounds):
            for side, (indices, shrinkage) in sides.items():
                if self.offsets not in ("both", side):
                    continue
                known = indices >= 0
                sums = _sum_by(indices[known], link.residuals(totals, labels)[known], len(offsets[side]))
                weights = link.curvature * np.bincount(indices[known], minlength=len(offsets[side])) + shrinkage
                step = (sums - shrinkage * offsets[side]) / weights[:, None]
                offsets[side] += step
                totals += _look_up(step, indices)
        return MeansPredictor(link, offsets["users"], offsets["items"], task.num_classes)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Mostly both sides, hardly any to heavy shrinkage, one pass to convergence."""
        return {
            "offsets": Choice(("both", "both", "both", "both", "items", "users")),
            "item_shrinkage": Range(0.3, 100, log=True),
            "user_shrinkage": Range(0.3, 100, log=True),
            "rounds": Range(1, 10, integer=True),
        }


def _sum_by(indices: Ints, values: Floats, size: int) -> Floats:
    """Sums of the rows of values [K, W] that share an index, [size, W]."""
    return np.stack([np.bincount(indices, weights=column, minlength=size) for column in values.T], axis=1)


def _look_up(offsets: Floats, indices: Ints) -> Floats:
    """The offsets of each index [R, W], 0 for one that the train rows do not have."""
    known = (indices >= 0) & (indices < len(offsets))
    found = np.zeros((len(indices), offsets.shape[1]))
    found[known] = offsets[indices[known]]
    return found
