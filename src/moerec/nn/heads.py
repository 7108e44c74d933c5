"""Heads: what turns a vector into the prediction of one task.

Shape letters: B rows, D input width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moerec.nn.cutpoints import LEAST_SHARE, Cutpoints
from moerec.nn.perceptron import perceptron
from moerec.tasks import TaskConfig, TaskStatistics


class TaskHead(nn.Module):
    """A small network whose output starts near what the train rows say before any feature is seen.

    Binary: a logit, whose bias starts at the logit of the share of positives. Regression: the number
    `mean + deviation * network(x)` in the label's own unit, or log(1 + label) of a task with the transform log1p.
    Multiclass: a logit for each class, whose biases start at the logarithms of the shares. Ordinal: one score and the
    cutpoints of `Cutpoints`, which start at the shares.
    """

    def __init__(
        self, task: TaskConfig, statistics: TaskStatistics, width_in: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        if len(statistics.shares) != task.num_classes:
            raise ValueError(
                f"task '{task.name}': shares of {len(statistics.shares)} classes for {task.num_classes} values"
            )
        self.task_type = task.type
        self.hidden = perceptron(width_in, hidden, dropout)
        outputs = task.num_classes if task.type == "multiclass" else 1
        # The first cutpoint is the bias of an ordinal score.
        self.out = nn.Linear(hidden[-1] if hidden else width_in, outputs, bias=task.type != "ordinal")
        self.mean: Tensor
        self.deviation: Tensor
        if task.type == "regression":
            nn.init.zeros_(self.out.bias)
            mean, deviation = statistics.learned(task)
            self.register_buffer("mean", torch.tensor(mean))
            self.register_buffer("deviation", torch.tensor(deviation))
        elif task.type == "binary":
            share = min(max(statistics.mean, LEAST_SHARE), 1 - LEAST_SHARE)
            nn.init.constant_(self.out.bias, math.log(share / (1 - share)))
        elif task.type == "multiclass":
            with torch.no_grad():
                self.out.bias.copy_(torch.tensor(statistics.shares).clamp_min(LEAST_SHARE).log())
        else:
            self.cutpoints = Cutpoints(statistics.shares)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B]; multiclass logits [B, C], ordinal cumulative logits [B, C - 1]."""
        out = self.out(self.hidden(x))  # [B, 1], or [B, C]
        if self.task_type == "multiclass":
            return out
        if self.task_type == "ordinal":
            return self.cutpoints(out)
        out = out.squeeze(1)  # [B]
        return self.mean + self.deviation * out if self.task_type == "regression" else out
