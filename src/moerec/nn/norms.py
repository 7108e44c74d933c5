"""The norms that a block may use.

Shape letters: R rows, D width.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["layer", "rms"]


def make_norm(kind: Norm, width: int) -> nn.Module:
    """A norm over the last axis: [R, D] -> [R, D], with a learned scale; `layer` also centres and shifts."""
    # A fixed epsilon: the default of RMSNorm depends on the number format, and a row of zeros must stay small.
    return nn.LayerNorm(width) if kind == "layer" else nn.RMSNorm(width, eps=1e-6)
