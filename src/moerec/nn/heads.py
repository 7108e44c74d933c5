"""Heads: what turns a vector into the prediction of one task.

Shape letters: B rows, D input width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moerec.nn.dropout import Dropout
from moerec.tasks import TaskConfig, TaskStatistics


def perceptron(width_in: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Hidden layers, each with an activation and dropout; the output has the width of the last one."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(width_in, width), nn.GELU(), Dropout(dropout)]
        width_in = width
    return nn.Sequential(*layers)


class TaskHead(nn.Module):
    """A small network whose output starts near what the train rows say before any feature is seen.

    Binary: a logit, whose bias starts at the logit of the share of positives. Regression: the number
    `mean + deviation * network(x)` in the label's own unit, or log(1 + label) of a task with the transform log1p.
    """

    def __init__(
        self, task: TaskConfig, statistics: TaskStatistics, width_in: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.hidden = perceptron(width_in, hidden, dropout)
        self.out = nn.Linear(hidden[-1] if hidden else width_in, 1)
        nn.init.zeros_(self.out.bias)
        self.is_regression = task.type == "regression"
        self.mean: Tensor
        self.deviation: Tensor
        if self.is_regression:
            mean, deviation = statistics.learned(task)
            self.register_buffer("mean", torch.tensor(mean))
            self.register_buffer("deviation", torch.tensor(deviation))
        else:
            share = min(max(statistics.mean, 1e-4), 1 - 1e-4)
            nn.init.constant_(self.out.bias, math.log(share / (1 - share)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B]."""
        out = self.out(self.hidden(x)).squeeze(1)  # [B]
        return self.mean + self.deviation * out if self.is_regression else out
