"""Losses of several tasks; a row counts for a task only where the task's label is known.

Shape letters: B examples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from moerec.batches.examples import ExampleBatch
from moerec.losses.ordinal import ordinal_log_probabilities
from moerec.tasks import TaskConfig, TaskStatistics


def task_losses(
    outputs: Mapping[str, Tensor],
    batch: ExampleBatch,
    tasks: Sequence[TaskConfig],
    statistics: Mapping[str, TaskStatistics],
) -> dict[str, Tensor]:
    """The summed loss of each task over the rows that count for it; 0, with gradients of 0, if none does.

    Binary, multiclass and ordinal tasks cost the negative log-likelihood of the label in nats; a regression costs its
    error in deviations of the label.

    Args:
        outputs: per task [B], [B, C] or [B, C - 1], as a ranker gives them.
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
    if task.num_classes:
        return _class_loss(output, label, mask, task)
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


def _class_loss(output: Tensor, label: Tensor, mask: Tensor, task: TaskConfig) -> Tensor:
    output = torch.where(mask[:, None], output, 0.0)  # [B, C] or [B, C - 1]; masked rows are left out as above
    places = torch.where(mask, label, 0.0).long()  # [B]
    is_ordinal = task.type == "ordinal"
    log_probabilities = ordinal_log_probabilities(output) if is_ordinal else F.log_softmax(output, dim=1)  # [B, C]
    chosen = log_probabilities.gather(1, places[:, None]).squeeze(1)  # [B]
    return -(chosen * mask).sum()
