"""The single blocks of a mixture: one expert, one gate, one tower.

Shape letters: B rows, I input width, E experts, D width of an expert's output, O outputs of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from moerec.errors import ConfigError
from moerec.nn.experts import ExpertConfig, MLPExpertConfig
from moerec.nn.gates import DenseGateConfig
from moerec.nn.perceptron import perceptron


def perceptron_experts(hidden_dims: Sequence[int]) -> ExpertConfig:
    """Experts of these hidden widths, the last of which is their output.

    Raises:
        ConfigError: there is no width.
    """
    if not hidden_dims:
        raise ConfigError("an expert's hidden widths are empty; give at least one, the last is the expert's output")
    return MLPExpertConfig(
        hidden=tuple(hidden_dims[:-1]), width=hidden_dims[-1], activation="relu", activate_output=True
    )


class ExpertNetwork(nn.Module):
    """One expert: hidden layers with ReLU and dropout, the last of which is the output."""

    def __init__(self, input_dim: int, hidden_dims: Sequence[int] = (128, 64), dropout_rate: float = 0.1) -> None:
        super().__init__()
        self.experts = perceptron_experts(hidden_dims).build(1, input_dim, dropout_rate)
        self.output_width = self.experts.output_width
        """D."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [B, D]."""
        return self.experts(x).squeeze(1)


class GateNetwork(nn.Module):
    """One gate: the weight of each expert for each row, a softmax over all of them."""

    def __init__(self, input_dim: int, num_experts: int, hidden_dims: Sequence[int] | None = None) -> None:
        super().__init__()
        self.gate = DenseGateConfig(hidden=tuple(hidden_dims or ())).build(input_dim, num_experts)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [B, E]; a row sums to 1."""
        return self.gate(x).weights


class TowerNetwork(nn.Module):
    """The tower of one task: hidden layers on the mixed experts, then the task's outputs without an activation."""

    def __init__(
        self, input_dim: int, hidden_dims: Sequence[int] = (64, 32), output_dim: int = 1, dropout_rate: float = 0.1
    ) -> None:
        super().__init__()
        self.hidden = perceptron(input_dim, hidden_dims, dropout_rate)
        self.out = nn.Linear(hidden_dims[-1] if hidden_dims else input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, O]: logits of a classification, the numbers of a regression."""
        return self.out(self.hidden(x))
