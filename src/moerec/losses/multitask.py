"""Losses of several tasks; a row counts for a task only where the task's label is known.

Shape letters: B examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from moerec.batches.examples import ExampleBatch
from moerec.tasks import TaskConfig, TaskStatistics


def task_losses(
    outputs: Mapping[str, Tensor],
    batch: ExampleBatch,
    tasks: Sequence[TaskConfig],
    statistics: Mapping[str, TaskStatistics],
) -> dict[str, Tensor]:
    """The summed loss of each task over the rows that count for it; 0, with gradients of 0, if none does.

    Args:
        outputs: per task [B], as a ranker gives them.
        batch: labels and masks of the tasks.
        tasks: the tasks.
        statistics: the labels' deviations, which put the tasks on one scale.
    """
    return {
        task.name: _loss(
            outputs[task.name], batch.labels[task.name], batch.masks[task.name], task, statistics[task.name]
        )
        for task in tasks
    }


def weighted_total(losses: Mapping[str, Tensor], tasks: Sequence[TaskConfig]) -> Tensor:
    """The sum of the losses, each times the weight of its task."""
    return torch.stack([task.weight * losses[task.name] for task in tasks]).sum()


def _loss(output: Tensor, label: Tensor, mask: Tensor, task: TaskConfig, statistics: TaskStatistics) -> Tensor:
    label = torch.log1p(label) if task.transform == "log1p" else label
    # A masked row's output is left out before the loss, so that even one that is not finite gives no gradient.
    output = torch.where(mask, output, label)  # [B]
    if task.type == "binary":
        return F.binary_cross_entropy_with_logits(output, label, weight=mask.to(output.dtype), reduction="sum")
    # In deviations of the label: predicting the mean costs about 1 for a row, whatever the label's unit.
    error = (output - label) / statistics.learned(task)[1]  # [B] 0 where masked
    if task.loss == "huber":
        return F.huber_loss(error, torch.zeros_like(error), reduction="sum")
    return error.square().sum()
