"""What rankers share: one input layer, something between, and a head for each task.

Shape letters: B examples, I width of the flat input, D width of what a head reads, E experts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, PositiveInt, SerializeAsAny
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.config import Discovered
from moerec.errors import ConfigError
from moerec.models.roles import Ranker
from moerec.nn.example_inputs import ExampleInputs, ExampleInputsConfig
from moerec.nn.experts import ExpertConfig, MLPExpertConfig
from moerec.nn.gates import DenseGateConfig, GateConfig, Gating
from moerec.nn.heads import TaskHead
from moerec.tasks import TaskConfig, TaskStatistics, check_tasks

SHARED = "shared"
"""What experts are called that belong to no task, and what stands for them among the tasks' names."""


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


class MixtureConfig(RankerConfig):
    """Base of the configurations of rankers with experts and gates."""

    expert: Annotated[SerializeAsAny[ExpertConfig], Discovered("expert", "ranker.expert")] = MLPExpertConfig()
    """What each expert is."""
    gate: Annotated[SerializeAsAny[GateConfig], Discovered("gate", "ranker.gate")] = DenseGateConfig()
    """How experts are weighed, and how their use is kept even."""


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
    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """What each task's head reads, {task: [B, D]}, and what the gates said."""

    def forward(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """See `Ranker`."""
        return self.forward_with_gates(batch)[0]

    def forward_with_gates(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """See `Ranker`."""
        vectors, gatings = self.task_vectors(batch)
        return {task.name: self.heads[task_key(task.name)](vectors[task.name]) for task in self.tasks}, gatings


def check_shared_is_free(tasks: Sequence[TaskConfig]) -> None:
    """Refuse a task that has the name of the experts which all tasks share.

    Raises:
        ConfigError: there is one.
    """
    if any(task.name == SHARED for task in tasks):
        raise ConfigError(
            f"ranker.tasks: '{SHARED}' is what this kind of ranker calls the experts of all tasks; give the task "
            "another name, such as share"
        )


def task_key(name: str) -> str:
    """The key of a task in a module: `type` or `items` are good names of tasks and taken in modules."""
    return f"task_{name}"


def numbered(what: str, count: int) -> tuple[str, ...]:
    """Names of experts, for instance `shared 1`, `shared 2`."""
    return tuple(f"{what} {number + 1}" for number in range(count))
