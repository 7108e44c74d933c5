"""Experts: networks of equal shape, run as one batched matrix product.

Shape letters: N rows, E experts, I input width, H hidden width, D output width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.nn.dropout import Dropout


class MLPExperts(nn.Module):
    """E two-layer perceptrons of equal shape; all of them in two batched products instead of a loop."""

    def __init__(self, experts: int, width_in: int, hidden: int, width_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(torch.empty(experts, width_in, hidden))  # [E, I, H]
        self.bias_in = nn.Parameter(torch.zeros(experts, 1, hidden))  # [E, 1, H]
        self.weight_out = nn.Parameter(torch.empty(experts, hidden, width_out))  # [E, H, D]
        self.bias_out = nn.Parameter(torch.zeros(experts, 1, width_out))  # [E, 1, D]
        self.dropout = Dropout(dropout)
        for weight in (self.weight_in, self.weight_out):
            nn.init.normal_(weight, std=1.0 / math.sqrt(weight.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all experts for all rows: [N, I] -> [N, E, D]."""
        shared = x.expand(len(self.weight_in), *x.shape)  # [E, N, I]
        hidden = F.gelu(torch.baddbmm(self.bias_in, shared, self.weight_in))  # [E, N, H]
        out = torch.baddbmm(self.bias_out, self.dropout(hidden), self.weight_out)  # [E, N, D]
        return out.transpose(0, 1)  # [N, E, D]
