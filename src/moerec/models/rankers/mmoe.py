"""MMoE: experts that all tasks share, and a gate for each task that mixes them (Ma et al. 2018).

Shape letters: B examples, I width of the flat input, E experts, T tasks, D width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.rankers.base import RankerConfig, SharedInputRanker, task_key
from moerec.nn.experts import MLPExperts
from moerec.nn.gates import DenseGate
from moerec.tasks import TaskConfig, TaskStatistics


class MMoEConfig(RankerConfig):
    """Multi-gate mixture of experts."""

    experts: int = Field(default=4, ge=1)
    """Number of experts."""
    expert_hidden: int = Field(default=64, ge=1)
    """Hidden width of each expert."""
    expert_width: int = Field(default=32, ge=1)
    """Output width of each expert."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the gates; lower is sharper."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> MMoE:
        """See `RankerConfig`."""
        return MMoE(self, schema, tasks, statistics)


class MMoE(SharedInputRanker):
    """See the module's docstring."""

    def __init__(
        self,
        config: MMoEConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        width = self.inputs.output_width
        self.experts = MLPExperts(config.experts, width, config.expert_hidden, config.expert_width, config.dropout)
        self.gates = nn.ModuleDict(
            {task_key(task.name): DenseGate(width, config.experts, config.temperature) for task in tasks}
        )
        self.add_heads(config.expert_width)

    def task_vectors(self, x: Tensor) -> dict[str, Tensor]:
        """For each task the experts' outputs, mixed by its gate: [B, D]."""
        weights = torch.stack(list(self._weights(x).values()), dim=1)  # [B, T, E]
        mixed = torch.bmm(weights, self.experts(x))  # [B, T, D]
        return {task.name: vector for task, vector in zip(self.tasks, mixed.unbind(1), strict=True)}

    def gate_weights(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """See `Ranker`."""
        return self._weights(self.inputs(batch))

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """The output weights of the experts; the gates above them belong to one task each."""
        return (self.experts.weight_out,)

    def _weights(self, x: Tensor) -> dict[str, Tensor]:
        """Per task the experts' weights [B, E]."""
        return {task.name: self.gates[task_key(task.name)](x) for task in self.tasks}
