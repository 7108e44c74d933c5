"""MMoE: experts that all tasks share, and a gate for each task that mixes them (Ma et al. 2018).

Shape letters: B examples, I width of the flat input, E experts, D width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.rankers.base import MixtureConfig, SharedInputRanker, numbered, task_key
from moerec.nn.experts import mix_all
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig, TaskStatistics


class MMoEConfig(MixtureConfig):
    """Multi-gate mixture of experts."""

    experts: int = Field(default=4, ge=1)
    """Number of experts."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> MMoE:
        """See `RankerConfig`."""
        return MMoE(self, schema, tasks, statistics)


class MMoE(SharedInputRanker):
    """See the module's docstring."""

    config: MMoEConfig

    def __init__(
        self,
        config: MMoEConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        width = self.inputs.output_width
        self.experts = config.expert.build(config.experts, width, config.dropout)
        self.gates = nn.ModuleDict({task_key(task.name): config.gate.build(width, config.experts) for task in tasks})
        self.add_heads(self.experts.output_width)

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """For each task the experts' outputs, mixed by its gate: [B, D]."""
        x = self.inputs(batch)  # [B, I]
        outputs = self.experts(x)  # [B, E, D]
        gatings: dict[str, Gating] = {task.name: self.gates[task_key(task.name)](x) for task in self.tasks}
        vectors = mix_all([gating.weights for gating in gatings.values()], outputs)
        return dict(zip(gatings, vectors, strict=True)), gatings

    def expert_names(self) -> dict[str, tuple[str, ...]]:
        """See `Ranker`."""
        return {task.name: numbered("expert", self.config.experts) for task in self.tasks}

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Ranker`."""
        return self.experts.last_layer()
