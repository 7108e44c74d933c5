"""What every sequence encoder can be told, whatever its block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from moerec.nn.attention_bias import AttentionBias
from moerec.nn.dropout import Dropout
from moerec.nn.norms import Norm
from moerec.nn.residual import ResidualBranch

Positions = Literal["learned", "rope", "none"]


@dataclass(frozen=True)
class EncoderOptions:
    """Options of an encoder; see the configuration of the models for what each means."""

    width: int
    blocks: int
    heads: int
    query_width: int
    """Width of a query in one head."""
    max_length: int
    dropout: float = 0.0
    norm: Norm = "layer"
    positions: Positions = "learned"
    relative_bias: bool = False
    time_bias: bool = False
    stochastic_depth: float = 0.0
    checkpoint_activations: bool = False
    packed: bool = False

    def __post_init__(self) -> None:
        if self.positions == "rope" and self.query_width % 2:
            raise ValueError(f"rope turns pairs of values, but a head is {self.query_width} wide; take an even width")

    def make_dropout(self) -> nn.Module:
        """Packed rows take the quick dropout; padded ones that of torch, whose draws older trainings are made of."""
        return Dropout(self.dropout) if self.packed else nn.Dropout(self.dropout)

    def attention_bias(self) -> AttentionBias | None:
        """The bias of one block; None if nothing is added to the logits."""
        if not (self.relative_bias or self.time_bias):
            return None
        return AttentionBias(self.heads, self.max_length, relative=self.relative_bias, time=self.time_bias)

    def branch(self, depth: int) -> ResidualBranch:
        """The end of the residual branches of block `depth`, 1 for the first; deeper ones are dropped more often."""
        return ResidualBranch(self.make_dropout(), self.stochastic_depth * depth / self.blocks)
