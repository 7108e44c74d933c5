"""Target attention: a history read with the candidate in mind.

Shape letters: B examples, L places of a history, D width, H hidden width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TargetAttention(nn.Module):
    """Pools a history by how each event bears on a query (the activation unit of DIN, Zhou et al. 2018).

    A small network reads event, query and their product, and gives the event's logit; the softmax runs over the
    events alone. DIN's difference of event and query is a linear map of both, so the first layer has it already.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.event = nn.Linear(width, hidden)
        self.query = nn.Linear(width, hidden, bias=False)
        self.product = nn.Parameter(torch.empty(width, hidden))  # [D, H]
        # No bias: it would shift all logits of a row alike, which the softmax takes back.
        self.logit = nn.Linear(hidden, 1, bias=False)
        self.empty = nn.Parameter(torch.randn(width) * 0.02)  # [D]
        nn.init.normal_(self.product, std=1 / math.sqrt(width))

    def forward(self, events: Tensor, query: Tensor, real: Tensor) -> Tensor:
        """Pool.

        Args:
            events: [B, L, D]; what stands in padded places does not matter, as long as it is finite.
            query: [B, D] the candidate.
            real: [B, L] bool, False for padding.

        Returns:
            [B, D]; the learned vector `empty` for a row without any event.
        """
        # event @ W + (event * query) @ P  =  event @ (W + query * P), which needs no second [B, L, D].
        weight = self.event.weight.T + query.unsqueeze(2) * self.product  # [B, D, H]
        shift = (self.query(query) + self.event.bias).unsqueeze(1)  # [B, 1, H]
        hidden = F.relu(torch.baddbmm(shift, events, weight))  # [B, L, H]
        logits = self.logit(hidden).squeeze(2)  # [B, L]
        return pooled(events, masked_softmax(logits, real), real, self.empty)


class MeanPooling(nn.Module):
    """The mean of a history's events, whatever the candidate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.randn(width) * 0.02)  # [D]

    def forward(self, events: Tensor, query: Tensor | None, real: Tensor) -> Tensor:
        """See `TargetAttention`; the query is not read."""
        return pooled(events, masked_softmax(torch.zeros_like(events[:, :, 0]), real), real, self.empty)


def masked_softmax(logits: Tensor, real: Tensor) -> Tensor:
    """Softmax of [B, L] over the real places; the others get exactly 0, and a row without any stays finite."""
    lowest = torch.finfo(logits.dtype).min
    return torch.softmax(torch.where(real, logits, lowest), dim=1)


def pooled(events: Tensor, weights: Tensor, real: Tensor, empty: Tensor) -> Tensor:
    """Weighted sum of [B, L, D] by [B, L], and the vector [D] of an empty history where nothing is real: [B, D]."""
    # Quicker, forward and backward, than one small matrix product per row.
    mixed = (events * weights.unsqueeze(2)).sum(1)  # [B, D]
    return torch.where(real.any(1, keepdim=True), mixed, empty)
