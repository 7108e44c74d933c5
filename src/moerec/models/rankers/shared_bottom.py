"""Shared bottom: one network for all tasks, and a head for each (Caruana 1997).

Shape letters: B examples, I width of the flat input, D width of the last hidden layer.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import PositiveInt
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.models.rankers.base import RankerConfig, SharedInputRanker
from moerec.models.roles import Ranker
from moerec.nn.gates import Gating
from moerec.nn.perceptron import perceptron
from moerec.tasks import TaskConfig, TaskStatistics


class SharedBottomConfig(RankerConfig):
    """One network below the heads of all tasks."""

    hidden: tuple[PositiveInt, ...] = (128, 64)
    """Hidden widths of the network that all tasks share; [] puts the heads straight on the inputs."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> Ranker:
        """See `RankerConfig`."""
        return SharedBottom(self, schema, tasks, statistics)


class SharedBottom(SharedInputRanker):
    """See the module's docstring."""

    config: SharedBottomConfig

    def __init__(
        self,
        config: SharedBottomConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        width = self.inputs.output_width
        self.bottom = perceptron(width, config.hidden, config.dropout)
        self.add_heads(config.hidden[-1] if config.hidden else width)

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """The same vector [B, D] for all tasks."""
        shared = self.bottom(self.inputs(batch))  # [B, D]
        return {task.name: shared for task in self.tasks}, {}

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """The last matrix below the heads; the embeddings, if the heads sit straight on the inputs."""
        below = self.bottom if self.config.hidden else self.inputs
        matrices = [parameter for parameter in below.parameters() if parameter.dim() > 1]
        return (matrices[-1],) if self.config.hidden else tuple(matrices)
