"""ESMM: conversion learned over all impressions and not over clicks alone (Ma et al. 2018, "Entire Space").

p(purchase) = p(click) * p(conversion | click). Labels are known for the left side and for the first factor wherever an
item was shown; the second factor is learned through the product, so every impression teaches it.

What it learns is the conversion of those who click, p(purchase) / p(click), for every impression. Where something that
no input shows drives clicks and purchases alike, that stays above the conversion which everybody would have, if all
clicked; no product of two factors can tell (Wang et al. 2022, ESCM2).

Shape letters: B examples, I width of the flat input, D width of what a head reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.errors import ConfigError
from moerec.models.rankers.base import SharedInputRanker, task_key
from moerec.models.rankers.shared_bottom import SharedBottomConfig
from moerec.nn.gates import Gating
from moerec.nn.heads import TaskHead
from moerec.nn.perceptron import perceptron
from moerec.tasks import TaskConfig, TaskStatistics

LARGEST_LOG = -1e-6
"""Logarithm of the largest probability of a product; its logit stays finite."""


class ESMMConfig(SharedBottomConfig):
    """Entire space multi-task model; each factor has a network of its own on shared embeddings."""

    click: str = "click"
    """The task of the first step, known for all rows."""
    purchase: str = "purchase"
    """The task of both steps, known for all rows: 1 only where `click` is 1 too."""
    conversion: str | None = None
    """A task of weight 0 that shows the second step alone, usually with mask: the click; null for none."""

    def build(
        self, schema: ExampleSchema, tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
    ) -> ESMM:
        """See `RankerConfig`.

        Raises:
            ConfigError: a task is missing, is not binary or named twice, a step has no weight, conversion has one, or
                the second step is more frequent than the first.
        """
        by_name = {task.name: task for task in tasks}
        for key in ("click", "purchase", "conversion"):
            name = getattr(self, key)
            if name is None:
                continue
            if name not in by_name:
                raise ConfigError(
                    f"ranker.{key}: it is '{name}', and there is no such task; name one of {', '.join(by_name)}"
                )
            if by_name[name].type != "binary":
                raise ConfigError(f"ranker.{key}: the task '{name}' must be binary, for it is a step of a funnel")
        if self.conversion is not None and by_name[self.conversion].weight > 0:
            raise ConfigError(
                f"ranker.conversion: the task '{self.conversion}' must have weight: 0; it is learned through the "
                "product, and a loss on clicks alone would bring back their bias"
            )
        self._check_steps(by_name, statistics)
        return ESMM(self, schema, tasks, statistics)

    def _check_steps(self, tasks: Mapping[str, TaskConfig], statistics: Mapping[str, TaskStatistics]) -> None:
        if self.click == self.purchase:
            raise ConfigError(f"ranker: click and purchase are both the task '{self.click}'; a funnel has two steps")
        for key, name in (("click", self.click), ("purchase", self.purchase)):
            if tasks[name].weight == 0:
                raise ConfigError(
                    f"ranker.{key}: the task '{name}' must have a weight above 0, for the factors are learned by the "
                    "losses of both steps"
                )
        first, second = statistics[self.click].mean, statistics[self.purchase].mean
        if second > first:
            raise ConfigError(
                f"ranker.purchase: '{self.purchase}' is 1 in {second:.2g} of the train rows, '{self.click}' in "
                f"{first:.2g}; a second step cannot be more frequent than the first, so swap click and purchase"
            )


class ESMM(SharedInputRanker):
    """See the module's docstring."""

    config: ESMMConfig

    def __init__(
        self,
        config: ESMMConfig,
        schema: ExampleSchema,
        tasks: tuple[TaskConfig, ...],
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        super().__init__(config, schema, tasks, statistics)
        width = self.inputs.output_width
        above = config.hidden[-1] if config.hidden else width
        # Every task but the factor `conversion`, whose network and head stand under `purchase`.
        own = [task for task in tasks if task.name != config.conversion]
        self.networks = nn.ModuleDict(
            {task_key(task.name): perceptron(width, config.hidden, config.dropout) for task in own}
        )
        click, purchase = self.statistics[config.click].mean, self.statistics[config.purchase].mean
        starts = {config.purchase: TaskStatistics(min(purchase / max(click, 1e-6), 1.0), 1.0)}
        for task in own:
            statistics_of_task = starts.get(task.name, self.statistics[task.name])
            self.heads[task_key(task.name)] = TaskHead(
                task, statistics_of_task, above, config.head_hidden, config.dropout
            )

    def task_vectors(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """What the head of each task, or of each factor, reads: [B, D]."""
        x = self.inputs(batch)  # [B, I]
        names = [task.name for task in self.tasks if task.name != self.config.conversion]
        return {name: self.networks[task_key(name)](x) for name in names}, {}

    def forward_with_gates(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """See `Ranker`; the output of `purchase` is the logit of the product."""
        vectors, gatings = self.task_vectors(batch)
        outputs = {name: self.heads[task_key(name)](vector) for name, vector in vectors.items()}  # each [B]
        conversion = outputs[self.config.purchase]
        outputs[self.config.purchase] = logit_of_product(outputs[self.config.click], conversion)
        if self.config.conversion is not None:
            outputs[self.config.conversion] = conversion
        return {task.name: outputs[task.name] for task in self.tasks}, gatings

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """The embeddings and projections, all that the tasks share."""
        return tuple(parameter for parameter in self.inputs.parameters() if parameter.dim() > 1)


def logit_of_product(one: Tensor, other: Tensor) -> Tensor:
    """The logit of the product of two probabilities given by their logits; all [B]."""
    # A product that rounds to 1 would have an infinite logit.
    logarithm = (F.logsigmoid(one) + F.logsigmoid(other)).clamp(max=LARGEST_LOG)
    return logarithm - torch.log(-torch.expm1(logarithm))
