"""Fixed weights: the plain sum of all rows' losses, each task's by the weight that the recipe gives it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moerec.losses.weighting.base import LossWeighting, LossWeightingConfig, TaskLosses, Update
from moerec.tasks import TaskConfig


class FixedConfig(LossWeightingConfig):
    """The sum of all rows' losses by the tasks' `weight`: a task counts as often as it has a label."""

    def build(self, tasks: Sequence[TaskConfig]) -> Fixed:
        """See `WeightingConfig`."""
        return Fixed(tasks, self.log_cosines)


class Fixed(LossWeighting):
    """See the configuration."""

    balances = False

    def __init__(self, tasks: Sequence[TaskConfig], log_cosines: bool = False) -> None:
        super().__init__(tasks, log_cosines)
        self.every = tuple(tasks)

    def factors(self) -> Tensor:
        """Ones [T]: the weights of the recipe are all there is."""
        return torch.ones_like(self.loss_sums)

    def loss(self, losses: TaskLosses, update: Update) -> Tensor:
        """The sum over rows and tasks, for each row of the update."""
        return losses.total(self.every) / update.rows
