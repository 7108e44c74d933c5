"""The optimizer of a stage: what decays, what does not, and the learning rate of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from moerec.losses.criterion import Criterion
from moerec.training.stages import StageConfig


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], stage: StageConfig, criterion: Criterion | None
) -> torch.optim.AdamW:
    """AdamW over the parameters of the model and of the criterion; `peak` of each group is its highest learning rate.

    Only matrices of the model decay: a weight of a task that decayed would drift towards its start.
    """
    matrices = [parameter for parameter in parameters.values() if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters.values() if parameter.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": stage.weight_decay, "peak": stage.learning_rate},
        {"params": vectors, "weight_decay": 0.0, "peak": stage.learning_rate},
    ]
    if criterion is not None:
        peak = stage.learning_rate if criterion.learning_rate is None else criterion.learning_rate
        groups.append({"params": list(criterion.parameters()), "weight_decay": 0.0, "peak": peak})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=stage.learning_rate, betas=stage.betas, fused=True
    )
