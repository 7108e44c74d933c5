"""Fusion: several vectors of one thing become one vector.

Every fusion but the mixture's own correction starts as the plain sum, so that none begins behind another.

Shape letters: N rows, F inputs, E experts, D width, H hidden width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.nn.experts import MLPExperts
from moerec.nn.gates import Gate, GateConfig
from moerec.nn.gating import Gating

InputGate = Literal["sigmoid", "softmax"]


class Fusion(nn.Module):
    """The plain sum of the inputs, and the base of the other fusions."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, F, D] -> [N, D]."""
        return self.forward_with_gate(inputs)[0]

    def forward_with_gate(self, inputs: Tensor) -> tuple[Tensor, Gating | None]:
        """The vectors [N, D] of inputs [N, F, D], and what the gate of experts said; None without experts."""
        weights = self.input_weights(inputs)  # [N, F]
        return (inputs.sum(1) if weights is None else torch.einsum("nf,nfd->nd", weights, inputs)), None

    def input_weights(self, inputs: Tensor) -> Tensor | None:
        """How much each input counts, [N, F]; None where all count alike."""
        return None

    def expert_weights(self, inputs: Tensor) -> Tensor | None:
        """The experts' weights [N, E]; None without experts."""
        return None


class ConcatFusion(Fusion):
    """One linear layer over all inputs side by side."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(inputs * width, width)
        with torch.no_grad():
            self.out.weight.copy_(torch.eye(width).repeat(1, inputs))
        nn.init.zeros_(self.out.bias)

    def forward_with_gate(self, inputs: Tensor) -> tuple[Tensor, Gating | None]:
        """See `Fusion`."""
        return self.out(inputs.flatten(1)), None


class SENetFusion(Fusion):
    """Squeeze and excitation (FiBiNET, Huang et al. 2019): the inputs' means decide how much each of them counts.

    The last activation is a sigmoid (as in Hu et al. 2018, times 2), not a ReLU, which can silence an input for good.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, inputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def input_weights(self, inputs: Tensor) -> Tensor:
        """See `Fusion`; a weight lies between 0 and 2."""
        squeezed = inputs.mean(-1)  # [N, F]
        return 2 * torch.sigmoid(self.out(F.relu(self.hidden(squeezed))))  # [N, F]


class GatedFusion(Fusion):
    """A gate for each input that reads all of them, then the weighted sum.

    The weights of `softmax` sum to the number of inputs, those of `sigmoid` lie between 0 and 2: both start at 1.
    """

    def __init__(self, inputs: int, width: int, activation: InputGate) -> None:
        super().__init__()
        self.activation = activation
        self.norm = nn.LayerNorm(inputs * width)
        self.logits = nn.Linear(inputs * width, inputs)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def extra_repr(self) -> str:
        """What a printed model shows."""
        return f"activation={self.activation}"

    def input_weights(self, inputs: Tensor) -> Tensor:
        """See `Fusion`."""
        logits = self.logits(self.norm(inputs.flatten(1)))  # [N, F]
        if self.activation == "sigmoid":
            return 2 * torch.sigmoid(logits)
        return inputs.shape[1] * torch.softmax(logits, dim=-1)


class MixtureFusion(Fusion):
    """The sum of the inputs, corrected by a gated mixture of experts that sees all inputs at once.

    The gate reads what the experts read, so that each kind of item can have its own way of joining id and content.
    """

    gate: Gate

    def __init__(self, inputs: int, width: int, experts: int, hidden: int, dropout: float, gate: GateConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs * width)
        self.experts = MLPExperts(experts, inputs * width, (hidden,), width, dropout)
        self.gate = gate.build(inputs * width, experts)

    def forward_with_gate(self, inputs: Tensor) -> tuple[Tensor, Gating | None]:
        """See `Fusion`."""
        joined = self.norm(inputs.flatten(1))  # [N, F * D]
        gating: Gating = self.gate(joined)
        mixed = torch.einsum("ne,ned->nd", gating.weights, self.experts(joined))  # [N, D]
        return inputs.sum(1) + mixed, gating

    def expert_weights(self, inputs: Tensor) -> Tensor:
        """See `Fusion`."""
        gating: Gating = self.gate(self.norm(inputs.flatten(1)))
        return gating.weights
