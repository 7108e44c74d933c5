"""Class probabilities of an ordinal task from its cumulative logits, without the cancellation of their differences.

Shape letters: B examples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_GAP = 1e-6
"""Neighbouring logits are at least this far apart, also where rounding made them equal: no class is impossible."""


def ordinal_log_probabilities(logits: Tensor) -> Tensor:
    """Log-probability of each class, [B, C], of a model in which P(class > k) = sigmoid(logit k).

    The likelihood of proportional odds (McCullagh 1980). For a class between two cutpoints

        sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)),   a > b

    and each factor has an exact logarithm where the difference itself would round to 0.

    Args:
        logits: [B, C - 1], falling from left to right in each row.
    """
    above, below = F.logsigmoid(logits), F.logsigmoid(-logits)  # [B, C - 1] log P(class > k), log P(class <= k)
    gaps = (logits[:, :-1] - logits[:, 1:]).clamp_min(LEAST_GAP)  # [B, C - 2]
    between = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(-gaps))  # [B, C - 2]
    return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)  # [B, C]
