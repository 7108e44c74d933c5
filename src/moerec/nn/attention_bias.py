"""A learned addition to attention logits, by the distance of two events in places and in time.

An event is compared with itself and with earlier ones alone, so nothing of what follows is read.

Shape letters: B sequences, L the longest sequence, Q queries of each sequence (L, or 1 for the last event only),
H heads, K entries of a table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moerec.nn.attention_context import AttentionContext
from moerec.nn.positions import TIME_BUCKETS


class AttentionBias(nn.Module):
    """One number for each head and distance in places, and for each head and bucket of time; zeros at the start."""

    def __init__(self, heads: int, max_length: int, *, relative: bool, time: bool) -> None:
        super().__init__()
        self.by_distance = nn.Parameter(torch.zeros(max_length, heads)) if relative else None
        self.by_time = nn.Parameter(torch.zeros(TIME_BUCKETS, heads)) if time else None

    def forward(self, context: AttentionContext) -> Tensor:
        """[1 or B, H, Q, L]; what stands at events that a query does not see means nothing."""
        layout = context.layout
        newest = (layout.lengths - 1).clamp(min=0)  # [B]
        parts = []
        if self.by_distance is not None:
            places = torch.arange(layout.longest, device=newest.device)  # [L]
            asking = newest[:, None, None] if context.last else places[None, :, None]  # [B, 1, 1] or [1, L, 1]
            parts.append(_looked_up(self.by_distance, (asking - places).clamp(min=0)))
        if self.by_time is not None:
            assert context.buckets is not None  # a model refuses histories without times
            buckets = context.buckets  # [B, L, L]
            if context.last:
                buckets = buckets[torch.arange(newest.shape[0], device=newest.device), newest].unsqueeze(1)
            parts.append(_looked_up(self.by_time, buckets))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """The numbers [B, H, Q, L] that stand in a table [K, H] at an index [B, Q, L].

    By gather, whose backward is many times quicker than that of an embedding where few rows are met very often.
    """
    batch, asking, seen = index.shape
    heads = table.shape[1]
    flat = index.flatten(1).unsqueeze(1).expand(batch, heads, asking * seen)  # [B, H, Q * L]
    return table.T.expand(batch, heads, -1).gather(2, flat).view(batch, heads, asking, seen)
