"""What happens to the output of a residual branch before it is added.

Shape letters: B sequences, S rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moerec.nn.attention_context import AttentionContext


class ResidualBranch(nn.Module):
    """Dropout of values, and stochastic depth: whole sequences do without the branch (Huang et al. 2016)."""

    def __init__(self, dropout: nn.Module, drop_share: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.drop_share = drop_share

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[S, D] -> [S, D]; in training the branch is 0 for a share of the sequences, and larger for the others."""
        x = self.dropout(x)
        if not self.training or self.drop_share == 0:
            return x
        kept = torch.rand(context.layout.lengths.shape[0], device=x.device) >= self.drop_share  # [B]
        scale = kept.to(x.dtype) / (1 - self.drop_share)  # [B]
        return x * scale[context.sequences, None]
