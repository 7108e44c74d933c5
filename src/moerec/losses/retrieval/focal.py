"""Focal modulation (Lin et al. 2017) of a cross-entropy, with its derivative.

Shape letters: C events.
"""

from __future__ import annotations

import torch
from torch import Tensor


def focal(cross_entropy: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """(1 - p)^gamma times the cross-entropy -log p of [C] events, and the derivative of that by the cross-entropy."""
    wrong = -torch.expm1(-cross_entropy)  # [C] 1 - p
    factor = wrong.clamp(min=0).pow(gamma)  # [C]
    # Where p is 1 the quotient has the limit 1.
    quotient = torch.where(wrong > 0, cross_entropy / wrong, 1.0)  # [C]
    return factor * cross_entropy, factor * (1 + gamma * (1 - wrong) * quotient)
