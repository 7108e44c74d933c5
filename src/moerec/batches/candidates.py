"""CandidateBatch: a fixed list of items to score for each sequence.

Shape letters: B sequences, N candidates of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CandidateBatch:
    """Candidates of each sequence, PADDING (0) where a list is shorter."""

    items: Tensor  # [B, N] int64
    """Item indices."""
    mask: Tensor  # [B, N] bool
    """True where there is a candidate."""

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device | str) -> CandidateBatch:
        """The same batch on another device."""
        return CandidateBatch(self.items.to(device), self.mask.to(device))

    def select(self, rows: Tensor) -> CandidateBatch:
        """The candidates of some sequences, by their places [R] int64."""
        return CandidateBatch(self.items[rows], self.mask[rows])
