"""Uncertainty weighting: each task's noise is learned, and weighs its loss (Kendall, Gal and Cipolla 2018).

The loss is the negative log-likelihood of a model with noise of variance v_t = exp(s_t) in task t:

    squared error      L / (2 v) + log(v) / 2      a normal distribution of variance v
    Huber loss         L / v     + log(v) / 2      the same: the loss is half the square where errors are small
    cross-entropy      L / v     + log(v) / 2      the softmax with its logits divided by v, as the paper approximates

For a loss L that stays, the best factor of it is 1 / (2 L) in all three.

Shape letters: T tasks of a weight above 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from moerec.losses.weighting.base import LossWeighting, LossWeightingConfig, TaskLosses, Update
from moerec.tasks import TaskConfig


class UncertaintyConfig(LossWeightingConfig):
    """A learned noise for each task; the noisier a task is, the less its mean loss counts."""

    learning_rate: float = Field(default=0.01, gt=0)
    """Peak learning rate of the logarithms of the variances; it follows the stage's schedule."""

    def build(self, tasks: Sequence[TaskConfig]) -> Uncertainty:
        """See `WeightingConfig`."""
        return Uncertainty(tasks, self)


class Uncertainty(LossWeighting):
    """See the module's docstring."""

    def __init__(self, tasks: Sequence[TaskConfig], config: UncertaintyConfig) -> None:
        super().__init__(tasks, config.log_cosines)
        self.learning_rate = config.learning_rate
        # Logarithms: a variance stays positive without a clamp, behind which no gradient would come through.
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))  # [T]
        halves = [0.5 if task.type == "regression" and task.loss == "auto" else 1.0 for task in self.tasks]
        self.halves: Tensor
        self.register_buffer("halves", torch.tensor(halves), persistent=False)  # [T]

    def factors(self) -> Tensor:
        """1 / v or 1 / (2 v) of each task, [T]."""
        return self.halves * torch.exp(-self.log_variances)

    def distribute(self, passes: Iterable[TaskLosses], update: Update) -> None:
        """The weighted losses of all micro-batches, and once the logarithms that keep the variances small."""
        super().distribute(passes, update)
        normaliser = self.log_variances[self.present(update)].sum() / 2
        update.scale(normaliser).backward()  # type: ignore[no-untyped-call]
