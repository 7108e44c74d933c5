"""The HSTU block: one linear map makes gate, values, queries and keys; what is gathered is gated (Zhai et al. 2024).

Shape letters: B sequences, L the longest sequence, R rows of events, Q queries of each sequence (L, or 1 for the last
event only), S rows that a block gives (R, or B for the last event only), D width, H heads, A and V widths of a query
and of a value in one head.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.nn.attention import softmax_attention
from moerec.nn.attention_context import AttentionContext
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.norms import make_norm

HSTUAttention = Literal["silu", "softmax"]


class HSTUBlock(nn.Module):
    """x + f2(norm(attention(Q, K) V) * U) with U, V, Q, K = SiLU(f1(norm(x))).

    `silu` is the paper's pointwise attention, SiLU(Q K^T + bias) / n with n the longest window of the model, so that
    the company in a batch changes nothing; `softmax` is softmax(Q K^T / sqrt(A) + bias).
    """

    def __init__(self, options: EncoderOptions, depth: int, attention: HSTUAttention, value_width: int) -> None:
        super().__init__()
        self.heads = options.heads
        self.is_pointwise = attention == "silu"
        self.max_length = options.max_length
        self.gate_width = options.heads * value_width  # H * V
        self.query_width = options.heads * options.query_width  # H * A
        self.norm = make_norm(options.norm, options.width)
        # In the order gate, query, value, key: the first two are of the rows that ask, the others of all rows.
        self.gate_query_value_key = nn.Linear(options.width, 2 * (self.gate_width + self.query_width), bias=False)
        self.bias = options.attention_bias()
        self.mixed_norm = make_norm(options.norm, self.gate_width)
        self.out = nn.Linear(self.gate_width, options.width)
        self.branch = options.branch(depth)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[R, D] -> [S, D]."""
        gate, queries, values, keys = self._projections(self.norm(x), context)
        bias = None if self.bias is None else self.bias(context)  # [1 or B, H, Q, L]
        queries = context.queries(queries, self.heads)  # [B, H, Q, A]
        keys, values = context.keys_values(keys, values, self.heads)  # [B, H, L, A], [B, H, L, V]
        attend = self._pointwise if self.is_pointwise else softmax_attention
        mixed = context.rows(attend(queries, keys, values, bias, context))  # [S, H * V]
        return context.asking(x) + self.branch(self.out(self.mixed_norm(mixed) * gate), context)

    def _projections(self, x: Tensor, context: AttentionContext) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gate [S, H * V], queries [S, H * A], values [R, H * V] and keys [R, H * A]."""
        widths = [self.gate_width, self.query_width]
        if not context.last:
            gate, queries, values, keys = torch.split(F.silu(self.gate_query_value_key(x)), widths * 2, dim=-1)
            return gate, queries, values, keys
        asking, seen = self.gate_query_value_key.weight.chunk(2)
        gate, queries = torch.split(F.silu(F.linear(context.asking(x), asking)), widths, dim=-1)
        values, keys = torch.split(F.silu(F.linear(x, seen)), widths, dim=-1)
        return gate, queries, values, keys

    def _pointwise(
        self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, context: AttentionContext
    ) -> Tensor:
        """SiLU(Q K^T + bias) V / n over what each query sees, [B, H, Q, V]."""
        scores = queries @ keys.transpose(-1, -2)  # [B, H, Q, L]
        if bias is not None:
            scores = scores + bias
        # SiLU(0) is 0, so an event that is not seen has no weight at all.
        scores = scores.masked_fill(~context.visible(), 0.0) if context.last else scores.tril()
        return F.silu(scores) @ (values / self.max_length)
