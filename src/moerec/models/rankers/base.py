"""What rankers share: one input layer, something between, and a head for each task.

Shape letters: B examples, I width of the flat input, D width of what a head reads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.roles import Ranker
from moerec.nn.example_inputs import ExampleInputs, ExampleInputsConfig
from moerec.nn.heads import TaskHead
from moerec.tasks import TaskConfig, TaskStatistics, check_tasks


class RankerConfig(ExampleInputsConfig):
    """Base of the rankers' configurations."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of hidden layers."""
    head_hidden: tuple[PositiveInt, ...] = (32,)
    """Hidden widths of each task's head; [] for a linear one."""

    @abstractmethod
    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> Ranker:
        """Make the model.

        Args:
            schema: the inputs.
            tasks: what to predict.
            statistics: what the train rows say of each task; the heads start there.
        """


class SharedInputRanker(Ranker):
    """A ranker whose tasks read the same inputs; a subclass says what lies between inputs and heads."""

    config: RankerConfig

    def __init__(
        self,
        config: RankerConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__()
        check_tasks(tasks)
        self.config, self.schema, self.tasks = config, schema, tasks
        self.statistics = {task.name: statistics[task.name] for task in tasks}
        self.inputs = ExampleInputs(schema, config)

        self.heads = nn.ModuleDict()

    def add_heads(self, width: int) -> None:
        """Give each task a head of the configured shape that reads vectors [B, D] of this width."""
        config = self.config
        for task in self.tasks:
            statistics = self.statistics[task.name]
            self.heads[task_key(task.name)] = TaskHead(task, statistics, width, config.head_hidden, config.dropout)

    @abstractmethod
    def task_vectors(self, x: Tensor) -> dict[str, Tensor]:
        """What each task's head reads, {task: [B, D]}, of flat inputs [B, I]."""

    def forward(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """See `Ranker`."""
        vectors = self.task_vectors(self.inputs(batch))
        return {task.name: self.heads[task_key(task.name)](vectors[task.name]) for task in self.tasks}

    def gate_weights(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """See `Ranker`; there are no gates unless a subclass has some."""
        return {}


def task_key(name: str) -> str:
    """The key of a task in a module: `type` or `items` are good names of tasks and taken in modules."""
    return f"task_{name}"
