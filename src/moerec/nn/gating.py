"""What a gate says of some rows.

Shape letters: N rows, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gating:
    """What a gate says of some rows."""

    weights: Tensor
    """[N, E] weight of each expert; a row sums to 1, experts that are not selected have 0."""
    balance_loss: Tensor | None = None
    """The loss that keeps the use of the experts even, a mean over the rows; None if there is none."""
