"""What the training of a ranker minimises: examples in batches, one loss over all tasks.

Shape letters: N examples of the table, R train rows, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moerec.batches.example_loader import ExampleLoader
from moerec.batches.examples import ExampleBatch, ExampleTable
from moerec.config import kind_of
from moerec.errors import ConfigError
from moerec.losses.criterion import Criterion
from moerec.losses.multitask import task_losses
from moerec.losses.weighting import TaskLosses, Update, Weighting
from moerec.models.rankers.sharing import tasks_reaching
from moerec.models.roles import Ranker
from moerec.tasks import Target
from moerec.training.objective import Objective, Passes
from moerec.training.stages import RankerStageConfig, StageConfig

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankingObjective(Objective):
    """Every train row once an epoch, in an order that (seed, epoch) decide."""

    model: Ranker
    """The ranker in training."""
    table: ExampleTable
    """All examples."""
    rows: Ints  # [R]
    """The rows to train on."""
    labels: Mapping[str, Target]
    """The labels of each task over all N rows of the table."""
    seed: int
    """Seed of the order of data."""

    @cached_property
    def counted(self) -> Ints:
        """The rows that count for a task of a weight above 0; the others would only take time."""
        counts = np.zeros(len(self.rows), np.bool_)  # [R]
        for task in self.model.tasks:
            if task.weight > 0:
                counts |= self.labels[task.name].mask[self.rows]
        return self.rows[counts]

    def source(self, stage: RankerStageConfig) -> ExampleLoader:
        """See `Objective`."""
        labels = {task.name: self.labels[task.name] for task in self.model.tasks}
        return ExampleLoader(
            table=self.table,
            rows=self.counted,
            values={name: target.values for name, target in labels.items()},
            masks={name: target.mask for name, target in labels.items()},
            batch_size=stage.batch_size,
            seed=self.seed,
        )

    def targets(self, batch: ExampleBatch) -> int:
        """See `Objective`: the rows."""
        return len(batch)

    def loss(self, stage: StageConfig, batch: ExampleBatch) -> Tensor:
        """Summed loss over rows and tasks, by the tasks' weights, and what the gates add to keep experts in use."""
        return self._losses(batch).total(self.model.tasks)

    def criterion(self, stage: RankerStageConfig) -> Weighting:
        """The weighting of the tasks, as it is at the beginning of the stage.

        Raises:
            ConfigError: there is nothing that this weighting could balance.
        """
        weighting = stage.weighting.build(self.model.tasks)
        kind, where = kind_of("weighting", stage.weighting), f"stage '{stage.name}'"
        if weighting.balances and len(weighting.tasks) < 2:
            raise ConfigError(
                f"{where}: weighting {kind} balances several tasks, and only '{weighting.tasks[0].name}' has a weight "
                "above 0; use weighting: {kind: fixed}"
            )
        if weighting.balances and not self.shares():
            raise ConfigError(
                f"{where}: weighting {kind} needs a model with parameters that tasks share and that train, and "
                f"{type(self.model).__name__} has none here; use weighting: {{kind: fixed}}"
            )
        if weighting.needs_layer and not self._shared_layer():
            raise ConfigError(
                f"{where}: weighting {kind} looks at the last layer that all tasks share, and "
                f"{type(self.model).__name__} names none that trains here; use another weighting, without log_cosines"
            )
        return weighting

    def shares(self) -> bool:
        """Whether two tasks of a weight above 0 reach the same parameter that trains."""
        learned = {task.name for task in self.model.tasks if task.weight > 0}
        device = next(self.model.parameters()).device
        reached = tasks_reaching(self.model, self.table.batch(self.counted[:2]).to(device))
        return any(len(tasks & learned) > 1 for tasks in reached.values())

    def backward(
        self, stage: StageConfig, batches: Sequence[ExampleBatch], criterion: Criterion | None, passes: Passes
    ) -> Tensor:
        """See `Objective`; the weighting makes the update of the losses of the tasks."""
        assert isinstance(criterion, Weighting)

        def losses() -> Iterator[TaskLosses]:
            for batch in batches:
                with passes.autocast():
                    found = self._losses(batch)
                yield found

        counts = {
            task.name: sum((batch.masks[task.name].sum() for batch in batches[1:]), batches[0].masks[task.name].sum())
            for task in criterion.tasks
        }
        return criterion.backward(
            Update(
                passes=losses(),
                counts=counts,
                rows=sum(len(batch) for batch in batches),
                parameters=tuple(parameter for parameter in self.model.parameters() if parameter.requires_grad),
                shared_layer=self._shared_layer(),
                scale=passes.scale,
                is_logged=passes.is_logged,
            )
        )

    def _losses(self, batch: ExampleBatch) -> TaskLosses:
        """The losses of a micro-batch."""
        outputs, gatings = self.model.forward_with_gates(batch)
        balance = [gating.balance_loss for gating in gatings.values() if gating.balance_loss is not None]
        return TaskLosses(
            task_losses(outputs, batch, self.model.tasks, self.model.statistics),
            extra=len(batch) * torch.stack(balance).sum() if balance else None,
        )

    def _shared_layer(self) -> tuple[nn.Parameter, ...]:
        return tuple(parameter for parameter in self.model.shared_layer() if parameter.requires_grad)
