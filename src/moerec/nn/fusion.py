"""Fusion: several vectors of one thing become one vector.

Shape letters: N rows, F inputs, E experts, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moerec.nn.experts import MLPExperts
from moerec.nn.gates import DenseGateConfig


class SumFusion(nn.Module):
    """The plain sum of the inputs."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, F, D] -> [N, D]."""
        return inputs.sum(1)


class MixtureFusion(nn.Module):
    """The sum of the inputs, corrected by a gated mixture of experts that sees all inputs at once.

    The gate reads what the experts read, so that each kind of item can have its own way of joining id and content.
    """

    def __init__(self, inputs: int, width: int, experts: int, hidden: int, dropout: float, temperature: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs * width)
        self.experts = MLPExperts(experts, inputs * width, (hidden,), width, dropout)
        self.gate = DenseGateConfig(temperature=temperature).build(inputs * width, experts)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, F, D] -> [N, D]."""
        joined = self.norm(inputs.flatten(1))  # [N, F * D]
        weights = self.gate(joined).weights  # [N, E]
        mixed = torch.einsum("ne,ned->nd", weights, self.experts(joined))  # [N, D]
        return inputs.sum(1) + mixed

    def gate_weights(self, inputs: Tensor) -> Tensor:
        """The experts' weights [N, E] for inputs [N, F, D]."""
        return self.gate(self.norm(inputs.flatten(1))).weights
