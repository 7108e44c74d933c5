"""Dynamic weight average: tasks whose loss falls slowly get more weight (Liu, Johns and Davison 2019).

In epoch e the factor of task t is T softmax_t(r_t / temperature), where r_t is its mean loss in epoch e - 1 over that
in epoch e - 2. In the first two epochs all factors are 1.

Shape letters: T tasks of a weight above 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from moerec.losses.weighting.base import LossWeighting, LossWeightingConfig
from moerec.tasks import TaskConfig


class DWAConfig(LossWeightingConfig):
    """Factors from how fast each task's mean loss fell between the last two epochs; nothing is learned."""

    temperature: float = Field(default=2.0, gt=0)
    """Higher makes the factors more equal."""

    def build(self, tasks: Sequence[TaskConfig]) -> DWA:
        """See `WeightingConfig`."""
        return DWA(tasks, self)


class DWA(LossWeighting):
    """See the module's docstring."""

    def __init__(self, tasks: Sequence[TaskConfig], config: DWAConfig) -> None:
        super().__init__(tasks, config.log_cosines)
        self.temperature = config.temperature
        self.epoch_sums: Tensor  # [T] summed losses of the epoch so far
        self.epoch_counts: Tensor  # [T] rows that they are over
        self.last: Tensor  # [T] mean loss of the last epoch; NaN before there is one
        self.before_last: Tensor  # [T] and of the epoch before
        for name, start in (
            ("epoch_sums", 0.0),
            ("epoch_counts", 0.0),
            ("last", torch.nan),
            ("before_last", torch.nan),
        ):
            self.register_buffer(name, torch.full((len(self.tasks),), start))

    def factors(self) -> Tensor:
        """T softmax(r / temperature), [T]."""
        ratios = self.last / self.before_last  # [T]
        # Unknown before there are two epochs; a loss of 0 has nowhere to fall.
        ratios = torch.where(torch.isfinite(ratios), ratios, 1.0)
        return len(self.tasks) * torch.softmax(ratios / self.temperature, dim=0)

    def observe(self, sums: Tensor, counts: Tensor) -> None:
        """Add an update to the epoch."""
        super().observe(sums, counts)
        self.epoch_sums += sums
        self.epoch_counts += counts

    def end_of_epoch(self) -> None:
        """The epoch becomes the last one; a task that had no row in it keeps what it had."""
        seen = self.epoch_counts > 0  # [T]
        self.before_last.copy_(torch.where(seen, self.last, self.before_last))
        self.last.copy_(torch.where(seen, self.epoch_sums / self.epoch_counts, self.last))
        self.epoch_sums.zero_()
        self.epoch_counts.zero_()
