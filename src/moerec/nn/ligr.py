"""The LiGR block: residual branches behind learned gates (Borisyuk et al. 2025; the block of eSASRec).

Shape letters: R rows of events, S rows that a block gives (R, or B for the last event only), D width, F hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.nn.attention import CausalSelfAttention
from moerec.nn.attention_context import AttentionContext
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.norms import make_norm


class SwiGLU(nn.Module):
    """(SiLU(x W) * x V) U (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[S, D] -> [S, D]."""
        gate, value = self.hidden(x).chunk(2, dim=-1)  # [S, F] each
        return self.out(F.silu(gate) * value)


class LiGRBlock(nn.Module):
    """Pre-norm block: x + sigmoid(x W) * attention(norm(x)), then the same with a SwiGLU feed-forward."""

    def __init__(self, options: EncoderOptions, depth: int, hidden: int) -> None:
        super().__init__()
        width = options.width
        self.attention_norm = make_norm(options.norm, width)
        self.attention = CausalSelfAttention(options)
        self.attention_gate = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = make_norm(options.norm, width)
        self.feed_forward = SwiGLU(width, hidden)
        self.feed_forward_gate = nn.Linear(width, width, bias=False)
        self.branch = options.branch(depth)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[R, D] -> [S, D]."""
        attended = self.attention(self.attention_norm(x), context)  # [S, D]
        x = context.asking(x)  # [S, D]
        x = x + self.branch(torch.sigmoid(self.attention_gate(x)) * attended, context)
        changed = self.feed_forward(self.feed_forward_norm(x))  # [S, D]
        return x + self.branch(torch.sigmoid(self.feed_forward_gate(x)) * changed, context)
