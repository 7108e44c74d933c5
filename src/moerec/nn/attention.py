"""Causal self-attention and the pre-norm transformer block.

Shape letters: B sequences, L padded length, Q queries (L, or 1 for the last event only), D width, H heads, A = D / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which an event sees itself and what came before.

    Sequences are padded on the right, so the causal mask alone keeps every real event away from padding.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: [B, L, D], padded on the right.
            last: [B] int64 index of each sequence's last event; then only that event asks, and Q = 1.

        Returns:
            [B, Q, D].
        """
        batch, length, width = x.shape
        keys, values = self.key_value(x).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, L, A]
        asking = x if last is None else x[torch.arange(batch, device=x.device), last].unsqueeze(1)  # [B, Q, D]
        queries = self.query(asking).view(batch, -1, self.heads, width // self.heads).transpose(1, 2)  # [B, H, Q, A]
        mask = None
        if last is not None:
            mask = (torch.arange(length, device=x.device) <= last[:, None])[:, None, None, :]  # [B, 1, 1, L]
        # No dropout of attention weights: it would rule out the fused kernels, and the output has its own.
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=last is None
        )  # [B, H, Q, A]
        return self.out(mixed.transpose(1, 2).flatten(2))  # [B, Q, D]


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Transform [B, L, D]; with `last` [B] only each sequence's last event is computed, giving [B, 1, D]."""
        residual = x if last is None else x[torch.arange(x.shape[0], device=x.device), last].unsqueeze(1)  # [B, Q, D]
        x = residual + self.dropout(self.attention(self.attention_norm(x), last))  # [B, Q, D]
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))  # [B, Q, D]
