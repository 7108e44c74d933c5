"""PLE: experts of each task and experts that all share, level over level (Tang et al. 2020); CGC is its single level.

Shape letters: B examples, I width of a level's input, E experts, N examples as the experts name them, D width of an
expert's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

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
from moerec.nn.experts import mix
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig, TaskStatistics


class CGCConfig(MixtureConfig):
    """Customised gate control: each task mixes experts of its own with shared ones."""

    own_experts: int = Field(default=2, ge=1)
    """Experts of each task alone, in each level."""
    shared_experts: int = Field(default=2, ge=1)
    """Experts that all tasks share, in each level."""

    @property
    def depth(self) -> int:
        """Number of levels."""
        return 1

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> PLE:
        """See `RankerConfig`.

        Raises:
            ConfigError: a task is called as the shared experts are.
        """
        check_shared_is_free(tasks)
        return PLE(self, schema, tasks, statistics)


class PLEConfig(CGCConfig):
    """Progressive layered extraction: levels of CGC, in which the shared part has a gate over all experts."""

    levels: int = Field(default=2, ge=1)
    """Number of levels."""

    @property
    def depth(self) -> int:
        """Number of levels."""
        return self.levels


class PLE(SharedInputRanker):
    """See the module's docstring."""

    config: CGCConfig

    def __init__(
        self,
        config: CGCConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        names, width = [task.name for task in tasks], self.inputs.output_width
        made: list[ExtractionLevel] = []
        for level in range(config.depth):
            made.append(ExtractionLevel(config, names, width, last=level == config.depth - 1))
            width = made[-1].experts.output_width
        self.levels = nn.ModuleList(made)
        self.add_heads(width)

    def _named_levels(self) -> list[tuple[ExtractionLevel, str]]:
        """The levels, and what is appended to the names of their gates; those of the last are the tasks' own."""
        last = len(self.levels)
        return [
            (cast(ExtractionLevel, level), "" if number == last else f", level {number}")
            for number, level in enumerate(self.levels, start=1)
        ]

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """For each task what the last level's gate made of its own and the shared experts: [B, D]."""
        x = self.inputs(batch)  # [B, I]
        vectors: dict[str, Tensor] = dict.fromkeys((*(task.name for task in self.tasks), SHARED), x)
        gatings: dict[str, Gating] = {}
        for level, suffix in self._named_levels():
            vectors, found = level(vectors)
            gatings |= {f"{name}{suffix}": gating for name, gating in found.items()}
        return vectors, gatings

    def expert_names(self) -> dict[str, tuple[str, ...]]:
        """See `Ranker`."""
        return {
            f"{name}{suffix}": level.expert_names(name)
            for level, suffix in self._named_levels()
            for name in level.groups
        }

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Ranker`."""
        return self._named_levels()[-1][0].experts.last_layer()


class ExtractionLevel(nn.Module):
    """One level: the experts of all groups, and a gate for each group that is asked for."""

    def __init__(self, config: CGCConfig, tasks: list[str], width_in: int, *, last: bool) -> None:
        super().__init__()
        self.tasks, self.own, self.shared = tasks, config.own_experts, config.shared_experts
        self.count = len(tasks) * self.own + self.shared
        # What the shared part would hand on after the last level nobody reads.
        self.groups = tasks if last else [*tasks, SHARED]
        self.experts = config.expert.build(self.count, width_in, config.dropout)
        self.gates = nn.ModuleDict(
            {task_key(name): config.gate.build(width_in, len(self.expert_names(name))) for name in self.groups}
        )

    def expert_names(self, group: str) -> tuple[str, ...]:
        """The experts that a group's gate weighs: its own and the shared ones; all of them for the shared part."""
        own = [name for name in self.tasks if group in (name, SHARED)]
        return sum((numbered(name, self.own) for name in own), ()) + numbered(SHARED, self.shared)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """Vectors [B, D] and gatings by group, of the inputs [B, I] of each task and of the shared part."""
        outputs = self.experts(self._rows(inputs))  # [B, E, D]
        shared = outputs[:, -self.shared :]
        vectors, gatings = {}, {}
        for name in self.groups:
            gatings[name] = self.gates[task_key(name)](inputs[name])
            first = 0 if name == SHARED else self.tasks.index(name) * self.own
            seen = outputs if name == SHARED else torch.cat([outputs[:, first : first + self.own], shared], dim=1)
            vectors[name] = mix(gatings[name].weights, seen)
        return vectors, gatings

    def _rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the experts read: [B, I] if it is the same for all, else [E, N, I]."""
        parts = [inputs[name] for name in (*self.tasks, SHARED)]
        if all(part is parts[0] for part in parts):
            return parts[0]
        counts = [self.own] * len(self.tasks) + [self.shared]
        return torch.stack([part for part, count in zip(parts, counts, strict=True) for _ in range(count)])
