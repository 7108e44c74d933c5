"""HoME: groups of tasks over two levels of normalised experts, with feature gates and self gates (Wang et al. 2024).

The first level makes one vector for each group of tasks and a shared one. The second level has experts of each task,
of each group and shared ones; a task's gate mixes the three kinds, and its self gate adds its own experts once more, so
that they keep a gradient of their own however loud the shared ones are. Each expert reads its input through a feature
gate, a low-rank map that weighs the values, so that experts of one input do not fight over it.

What differs from the paper (arXiv 2408.05430):

- Experts are normalised by LayerNorm and not by BatchNorm: an output does not hang on the company in the batch, and
  small batches do not move it. It stands before each activation (SiLU, which the paper calls Swish).
- A feature gate is one low-rank map of each expert, the same rank for all. The paper mixes maps of several ranks.
- Self gates belong to the tasks, in the second level alone.
- A task's gate reads what its group made in the first level, without what the shared part made.
- How tasks fall into groups is said by `groups`, in any number; the paper has two, interactions and watching time.

Shape letters: B examples, I width of an input, E experts, R rank of a feature gate, D width of an expert's output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.config import Discovered
from moerec.errors import ConfigError
from moerec.models.rankers.base import (
    SHARED,
    MixtureConfig,
    SharedInputRanker,
    check_shared_is_free,
    numbered,
    task_key,
)
from moerec.nn.experts import ExpertConfig, MLPExpertConfig, mix
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig, TaskStatistics

GroupName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class HoMEConfig(MixtureConfig):
    """Hierarchy of multi-gate experts."""

    expert: Annotated[SerializeAsAny[ExpertConfig], Discovered("expert", "ranker.expert")] = MLPExpertConfig(
        activation="silu", normalize=True, activate_output=True
    )
    """What each expert is; by default normalised, so that experts of all kinds speak equally loud."""
    groups: dict[GroupName, tuple[str, ...]] = Field(default={})
    """Tasks that have much in common, by name of the group; empty for one group of all tasks."""
    own_experts: int = Field(default=1, ge=1)
    """Experts of each task alone."""
    group_experts: int = Field(default=1, ge=1)
    """Experts of each group, in each level."""
    shared_experts: int = Field(default=2, ge=1)
    """Experts that all tasks share, in each level."""
    feature_rank: int = Field(default=8, ge=0)
    """Rank of the feature gates; 0 for none."""
    self_gate: bool = True
    """Add each task's own experts once more, weighed by a gate of theirs."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> HoME:
        """See `RankerConfig`.

        Raises:
            ConfigError: the groups are no partition of the tasks, one is empty, or a task is called as shared experts.
        """
        check_shared_is_free(tasks)
        names = [task.name for task in tasks]
        listed = [name for members in self.groups.values() for name in members]
        empty = [group for group, members in self.groups.items() if not members]
        if empty:
            raise ConfigError(f"ranker.groups.{empty[0]}: it holds no task; remove it")
        if self.groups and sorted(listed) != sorted(names):
            raise ConfigError(
                f"ranker.groups: they must hold each task once; tasks are {', '.join(names)}, "
                f"groups hold {', '.join(listed)}"
            )
        return HoME(self, schema, tasks, statistics)


class HoME(SharedInputRanker):
    """See the module's docstring."""

    config: HoMEConfig

    def __init__(
        self,
        config: HoMEConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        names = tuple(task.name for task in tasks)
        groups = config.groups or {"all": names}
        self.group_of = {name: group for group, members in groups.items() for name in members}
        kinds = {f"group {group}": config.group_experts for group in groups} | {SHARED: config.shared_experts}
        self.below = NamedExperts(config, kinds, self.inputs.output_width)
        width = self.below.experts.output_width
        self.above = NamedExperts(config, dict.fromkeys(names, config.own_experts) | kinds, width)
        self.group_gates = nn.ModuleDict()
        self.gates, self.self_gates = nn.ModuleDict(), nn.ModuleDict()
        for key in kinds:
            count = len(self.below.names(self._seen_below(key)))
            self.group_gates[task_key(key)] = config.gate.build(self.inputs.output_width, count)
        for name in names:
            count = len(self.above.names(self._seen_above(name)))
            self.gates[task_key(name)] = config.gate.build(width, count)
            if config.self_gate:
                self.self_gates[task_key(name)] = SelfGate(width, config.own_experts)
        self.add_heads(self.above.experts.output_width)

    def _seen_below(self, key: str) -> list[str]:
        """Kinds of experts that a group, or the shared part, mixes in the first level."""
        return list(self.below.counts) if key == SHARED else [key, SHARED]

    def _seen_above(self, name: str) -> list[str]:
        """Kinds of experts that a task mixes in the second level."""
        return [name, f"group {self.group_of[name]}", SHARED]

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """For each task its mix of the second level, [B, D]."""
        x = self.inputs(batch)  # [B, I]
        gatings: dict[str, Gating] = {}
        first = self.below(dict.fromkeys(self.below.counts, x))  # each [B, E, D]
        made: dict[str, Tensor] = {}
        for key in self.below.counts:
            gatings[f"{key}, level 1"] = gating = self.group_gates[task_key(key)](x)
            made[key] = mix(gating.weights, torch.cat([first[kind] for kind in self._seen_below(key)], dim=1))
        inputs = {kind: made.get(kind, made[SHARED]) for kind in self.above.counts}
        inputs |= {name: made[f"group {group}"] for name, group in self.group_of.items()}
        second = self.above(inputs)  # each [B, E, D]
        vectors = {}
        for task in self.tasks:
            name = task.name
            gatings[name] = gating = self.gates[task_key(name)](inputs[name])
            vector = mix(gating.weights, torch.cat([second[kind] for kind in self._seen_above(name)], dim=1))
            if self.config.self_gate:
                vector = vector + mix(self.self_gates[task_key(name)](inputs[name]), second[name])
            vectors[name] = vector
        return vectors, gatings

    def expert_names(self) -> dict[str, tuple[str, ...]]:
        """See `Ranker`."""
        below = {f"{key}, level 1": self.below.names(self._seen_below(key)) for key in self.below.counts}
        return below | {task.name: self.above.names(self._seen_above(task.name)) for task in self.tasks}

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Ranker`."""
        return self.above.experts.last_layer()


class NamedExperts(nn.Module):
    """Experts of several kinds, each kind with an input of its own, read through feature gates."""

    def __init__(self, config: HoMEConfig, counts: Mapping[str, int], width_in: int) -> None:
        super().__init__()
        self.counts = dict(counts)
        total = sum(counts.values())
        self.feature_gate = FeatureGate(total, width_in, config.feature_rank) if config.feature_rank else None
        self.experts = config.expert.build(total, width_in, config.dropout)

    def names(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """Names of the experts of some kinds."""
        return sum((numbered(kind, self.counts[kind]) for kind in kinds), ())

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs [B, E, D] by kind, of inputs [B, I] by kind."""
        rows = torch.stack([inputs[kind] for kind, count in self.counts.items() for _ in range(count)])  # [E, B, I]
        outputs = self.experts(rows if self.feature_gate is None else self.feature_gate(rows))  # [B, E, D]
        parts = outputs.split(list(self.counts.values()), dim=1)
        return dict(zip(self.counts, parts, strict=True))


class FeatureGate(nn.Module):
    """Weights between 0 and 2 for each value of an input, by a low-rank map of each expert; all 1 at the start."""

    def __init__(self, experts: int, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(experts, width, rank) / math.sqrt(width))  # [E, I, R]
        self.up = nn.Parameter(torch.randn(experts, rank, width) * 0.01)  # [E, R, I]

    def forward(self, x: Tensor) -> Tensor:
        """[E, B, I] -> [E, B, I]."""
        return x * 2 * torch.sigmoid(torch.bmm(torch.bmm(x, self.down), self.up))


class SelfGate(nn.Module):
    """Weights of a task's own experts: a softmax, or for a single expert a number between 0 and 1."""

    def __init__(self, width_in: int, experts: int) -> None:
        super().__init__()
        self.logits = nn.Linear(width_in, experts)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [B, E]."""
        logits = self.logits(x)
        return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=-1)
