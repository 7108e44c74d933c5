"""Causal attention over rows of events, for every block that attends, and the pre-norm transformer block.

Shape letters: B sequences, L the longest sequence, R rows of events, Q queries of each sequence (L, or 1 for the last
event only), D width, H heads, A and V widths of a query and of a value in one head, S rows that a block gives
(R, or B for the last event only).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.nn.attention_context import AttentionContext
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.norms import make_norm


def softmax_attention(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, context: AttentionContext
) -> Tensor:
    """softmax(Q K^T / sqrt(A) + bias) V over what each query sees, [B, H, Q, V].

    Sequences are padded on the right, so the causal mask alone keeps every event away from padding.
    """
    if queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # In 16 bits the fused kernel of the CPU takes three times as long backwards.
        with torch.autocast("cpu", enabled=False):
            return softmax_attention(queries.float(), keys.float(), values.float(), bias, context)
    # No dropout of attention weights: it would rule out the fused kernels, and the output has its own.
    if bias is None and not context.last:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    mask = context.visible()  # [1 or B, 1, Q, L]
    if bias is not None:
        mask = bias.to(queries.dtype).masked_fill(~mask, -torch.inf)  # [1 or B, H, Q, L]
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


class CausalSelfAttention(nn.Module):
    """Multi-head softmax attention in which an event sees itself and what came before."""

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        width, heads = options.width, options.heads
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.bias = options.attention_bias()

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[R, D] -> [S, D]."""
        queries = context.queries(self.query(context.asking(x)), self.heads)  # [B, H, Q, A]
        keys, values = self.key_value(x).chunk(2, dim=-1)  # [R, D] each
        keys, values = context.keys_values(keys, values, self.heads)  # [B, H, L, A] each
        bias = None if self.bias is None else self.bias(context)  # [1 or B, H, Q, L]
        mixed = softmax_attention(queries, keys, values, bias, context)  # [B, H, Q, A]
        return self.out(context.rows(mixed))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, options: EncoderOptions, depth: int, hidden: int) -> None:
        super().__init__()
        width = options.width
        self.attention_norm = make_norm(options.norm, width)
        self.attention = CausalSelfAttention(options)
        self.feed_forward_norm = make_norm(options.norm, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.branch = options.branch(depth)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[R, D] -> [S, D]."""
        attended = self.attention(self.attention_norm(x), context)  # [S, D]
        x = context.asking(x) + self.branch(attended, context)  # [S, D]
        return x + self.branch(self.feed_forward(self.feed_forward_norm(x)), context)
