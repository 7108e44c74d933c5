"""Cutpoints of an ordinal task: where on the line of scores one class ends and the next begins.

Shape letters: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_SHARE = 1e-4
"""A class starts with at least this share, also one that no train row has."""
LEAST_STEP = 1e-4
"""Cutpoints are at least this far apart, less than the steps of the smallest shares."""


class Cutpoints(nn.Module):
    """One score and ordered cutpoints (proportional odds, McCullagh 1980): P(class > k) = sigmoid(score - cutpoint k).

    The first cutpoint and the logarithmic steps to the next ones are learned, so no update can break the order and the
    probabilities of the thresholds are always consistent (the aim of CORAL, Cao et al. 2020, whose free biases are
    ordered at the optimum alone). With a score of 0 the classes have the shares that they start from.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        given = torch.tensor(shares, dtype=torch.float64)
        kept = (given / given.sum()).clamp_min(LEAST_SHARE)  # [C]
        points = torch.logit((kept / kept.sum()).cumsum(0)[:-1])  # [C - 1]
        steps = torch.log(torch.expm1(points.diff() - LEAST_STEP))  # [C - 2] the inverse of softplus
        self.first_and_steps = nn.Parameter(torch.cat([points[:1], steps]).float())  # [C - 1]

    def values(self) -> Tensor:
        """The cutpoints from low to high, [C - 1]."""
        first, steps = self.first_and_steps[:1], self.first_and_steps[1:]
        return torch.cat([first, F.softplus(steps) + LEAST_STEP]).cumsum(0)

    def forward(self, score: Tensor) -> Tensor:
        """Cumulative logits [B, C - 1], falling in each row, of scores [B, 1]."""
        return score - self.values()
