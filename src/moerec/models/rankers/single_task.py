"""Single task: a network of its own for each task, the plain alternative to learning them together.

Shape letters: B examples.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.rankers.base import task_key
from moerec.models.rankers.shared_bottom import SharedBottom, SharedBottomConfig
from moerec.models.roles import Ranker
from moerec.tasks import TaskConfig, TaskStatistics, check_tasks


class SingleTaskConfig(SharedBottomConfig):
    """A network of its own for each task, embeddings included; `hidden` is that of each."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> Ranker:
        """See `RankerConfig`."""
        return SingleTask(self, schema, tasks, statistics)


class SingleTask(Ranker):
    """As many networks as tasks; nothing is shared but the rows of a batch."""

    def __init__(
        self,
        config: SingleTaskConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__()
        check_tasks(tasks)
        self.config, self.schema, self.tasks = config, schema, tasks
        self.statistics = {task.name: statistics[task.name] for task in tasks}
        self.networks = nn.ModuleDict(
            {task_key(task.name): SharedBottom(config, schema, (task,), statistics) for task in tasks}
        )

    def forward(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """See `Ranker`."""
        return {task.name: self.networks[task_key(task.name)](batch)[task.name] for task in self.tasks}
