"""STEM: embeddings of each task and shared ones (Su et al. 2024).

Every task reads what the experts of all tasks make, and teaches only its own and the shared ones: the outputs of other
tasks' experts come without a gradient. So a user can be near an item for one task and far from it for another.

Shape letters: B examples, I width of the flat input, E experts, D width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.rankers.base import (
    SHARED,
    MixtureConfig,
    SharedInputRanker,
    check_shared_is_free,
    numbered,
    task_key,
)
from moerec.nn.example_inputs import ExampleInputs
from moerec.nn.experts import mix
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig, TaskStatistics


class STEMConfig(MixtureConfig):
    """Shared and task-specific embeddings, with experts of each."""

    own_experts: int = Field(default=2, ge=1)
    """Experts of each task alone."""
    shared_experts: int = Field(default=2, ge=1)
    """Experts that all tasks share."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> STEM:
        """See `RankerConfig`.

        Raises:
            ConfigError: a task is called as the shared experts are.
        """
        check_shared_is_free(tasks)
        return STEM(self, schema, tasks, statistics)


class STEM(SharedInputRanker):
    """See the module's docstring; `inputs` are the shared embeddings."""

    config: STEMConfig

    def __init__(
        self,
        config: STEMConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        names, width = [task.name for task in tasks], self.inputs.output_width
        self.own_inputs = nn.ModuleDict({task_key(name): ExampleInputs(schema, config) for name in names})
        self.counts = dict.fromkeys(names, config.own_experts) | {SHARED: config.shared_experts}
        count = sum(self.counts.values())
        self.experts = config.expert.build(count, width, config.dropout)
        self.gates = nn.ModuleDict({task_key(name): config.gate.build(width, count) for name in names})
        self.add_heads(self.experts.output_width)

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """For each task the outputs of all experts, mixed by its gate: [B, D]."""
        inputs = {task.name: self.own_inputs[task_key(task.name)](batch) for task in self.tasks}
        inputs[SHARED] = self.inputs(batch)
        rows = torch.stack([inputs[kind] for kind, count in self.counts.items() for _ in range(count)])  # [E, B, I]
        parts = self.experts(rows).split(list(self.counts.values()), dim=1)
        outputs = dict(zip(self.counts, parts, strict=True))  # each [B, E, D]
        vectors, gatings = {}, {}
        for task in self.tasks:
            name = task.name
            gatings[name] = gating = self.gates[task_key(name)](inputs[name])
            seen = [out if kind in (name, SHARED) else out.detach() for kind, out in outputs.items()]
            vectors[name] = mix(gating.weights, torch.cat(seen, dim=1))
        return vectors, gatings

    def expert_names(self) -> dict[str, tuple[str, ...]]:
        """See `Ranker`."""
        names = sum((numbered(kind, count) for kind, count in self.counts.items()), ())
        return {task.name: names for task in self.tasks}

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Ranker`."""
        return self.experts.last_layer()
