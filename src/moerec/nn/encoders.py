"""Sequence encoders: event vectors in, contextual vectors out.

Shape letters: B sequences, L the longest sequence, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moerec.nn.attention import TransformerBlock


class TransformerEncoder(nn.Module):
    """Stack of pre-norm causal blocks with learned positions and a final norm (Kang & McAuley 2018, pre-norm form)."""

    def __init__(self, width: int, blocks: int, heads: int, hidden: int, dropout: float, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions = nn.Parameter(torch.empty(max_length, width))
        nn.init.normal_(self.positions, std=0.02)
        self.input_dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, hidden, dropout) for _ in range(blocks))
        self.final_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Contextual vector of every event.

        Args:
            x: [B, L, D] event vectors, padded on the right with anything.
            lengths: [B] int64, each at most `max_length`.

        Returns:
            [B, L, D]; an event has seen the events of its sequence up to and including itself, and no padding.
        """
        x = self._with_positions(x, lengths)  # [B, L, D]
        for block in self.blocks:
            x = block(x)  # [B, L, D]
        return self.final_norm(x)

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Contextual vector of each sequence's last event only, [B, D]; the last block skips all other queries.

        A sequence without events gives a finite vector that means nothing.
        """
        x = self._with_positions(x, lengths)  # [B, L, D]
        for block in self.blocks[:-1]:
            x = block(x)  # [B, L, D]
        return self.final_norm(self.blocks[-1](x, (lengths - 1).clamp(min=0))).squeeze(1)  # [B, D]

    def _with_positions(self, x: Tensor, lengths: Tensor) -> Tensor:
        # Positions count back from the newest event of the window, so that the newest is always position 0.
        from_end = lengths[:, None] - 1 - torch.arange(x.shape[1], device=x.device)  # [B, L]
        return self.input_dropout(x + self.positions[from_end.clamp(min=0)])
