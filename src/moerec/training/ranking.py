"""What the training of a ranker minimises: examples in batches, one loss over all tasks.

Shape letters: N examples of the table, R train rows, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moerec.batches.examples import ExampleBatch, ExampleTable
from moerec.losses.multitask import task_losses, weighted_total
from moerec.models.roles import Ranker
from moerec.tasks import Target
from moerec.training.stages import StageConfig

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankingObjective:
    """Every train row once an epoch, in an order that (seed, epoch) decide."""

    model: Ranker
    """The ranker in training."""
    table: ExampleTable
    """All examples."""
    rows: Ints  # [R]
    """The rows to train on."""
    labels: Mapping[str, Target]
    """The labels of each task over all N rows of the table."""
    seed: int
    """Seed of the order of data."""

    @cached_property
    def counted(self) -> Ints:
        """The rows that count for a task of a weight above 0; the others would only take time."""
        counts = np.zeros(len(self.rows), np.bool_)  # [R]
        for task in self.model.tasks:
            if task.weight > 0:
                counts |= self.labels[task.name].mask[self.rows]
        return self.rows[counts]

    def batches_per_epoch(self, stage: StageConfig, epoch: int) -> int:
        """See `Objective`."""
        return -(-len(self.counted) // stage.batch_size)

    def epoch(self, stage: StageConfig, epoch: int, start: int) -> Iterator[ExampleBatch]:
        """See `Objective`."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.counted)
        values = {task.name: self.labels[task.name].values for task in self.model.tasks}
        masks = {task.name: self.labels[task.name].mask for task in self.model.tasks}
        for first in range(start * stage.batch_size, len(order), stage.batch_size):
            yield self.table.batch(order[first : first + stage.batch_size], values, masks)

    def targets(self, batch: ExampleBatch) -> int:
        """See `Objective`: the rows."""
        return len(batch)

    def loss(self, stage: StageConfig, batch: ExampleBatch) -> Tensor:
        """Summed loss over rows and tasks, by the tasks' weights, and what the gates add to keep experts in use."""
        tasks = self.model.tasks
        outputs, gatings = self.model.forward_with_gates(batch)
        total = weighted_total(task_losses(outputs, batch, tasks, self.model.statistics), tasks)
        balance = [gating.balance_loss for gating in gatings.values() if gating.balance_loss is not None]
        return total + len(batch) * torch.stack(balance).sum() if balance else total
