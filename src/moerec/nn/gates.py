"""Gates: how much each expert speaks for each row, and what that says about the experts' use.

Shape letters: N rows, E experts, I input width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class DenseGate(nn.Module):
    """Softmax over all experts: every expert speaks, with a weight that depends on the row."""

    def __init__(self, width_in: int, experts: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.logits = nn.Linear(width_in, experts)
        # A gate that starts uniform lets every expert learn before any is preferred.
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Weights [N, E] of rows [N, I]; they are positive and sum to 1."""
        return torch.softmax(self.logits(x) / self.temperature, dim=-1)


@dataclass(frozen=True)
class Utilisation:
    """How the experts are used over a set of rows."""

    mean_weight: list[float]
    """Mean gate weight of each expert."""
    load: list[float]
    """Share of rows in which the expert has the largest weight."""
    entropy: float
    """Mean entropy of a row's weights in nats; log(E) for a uniform gate, 0 when one expert speaks alone."""
    max_over_mean_load: float
    """Largest load divided by the mean load 1 / E; 1 is perfect balance, E is collapse."""
    dead: int
    """Number of experts whose mean weight is under a tenth of the uniform 1 / E."""


def utilisation(weights: Tensor) -> Utilisation:
    """Summarise gate weights [N, E]; rows must sum to 1."""
    weights = weights.detach()
    experts = weights.shape[1]
    mean_weight = weights.mean(0)  # [E]
    load = torch.bincount(weights.argmax(-1), minlength=experts) / len(weights)  # [E]
    entropy = torch.special.entr(weights).sum(-1).mean()  # scalar
    return Utilisation(
        mean_weight=mean_weight.tolist(),
        load=load.tolist(),
        entropy=float(entropy),
        max_over_mean_load=float(load.max() * experts),
        dead=int((mean_weight < 0.1 / experts).sum()),
    )
