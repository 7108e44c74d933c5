"""Weightings of tasks: the losses of one update go in, the gradients of the parameters come out.

Whatever the kind, a task's loss is first multiplied by the `weight` that the recipe gives it, and tasks of weight 0
take no part. A task without a row in an update takes no part in that update.

Shape letters: T tasks of a weight above 0, K of them that have a row in the update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moerec.config import Config
from moerec.losses.criterion import Criterion
from moerec.losses.multitask import weighted_total
from moerec.losses.weighting.gradients import Floats, TaskGradients, cosines
from moerec.tasks import TaskConfig


@dataclass(frozen=True)
class TaskLosses:
    """The losses of one micro-batch, each with its graph."""

    tasks: Mapping[str, Tensor]
    """The summed loss of each task."""
    extra: Tensor | None = None
    """What belongs to no task, such as a loss on the use of experts, on the scale of a sum over rows; no weight."""

    def total(self, tasks: Sequence[TaskConfig]) -> Tensor:
        """The sum by the weights of the recipe."""
        total = weighted_total(self.tasks, tasks)
        return total if self.extra is None else total + self.extra


@dataclass(frozen=True)
class Update:
    """The losses of one update, and where their gradients go."""

    passes: Iterable[TaskLosses]
    """The losses of each micro-batch, which is computed when it is asked for; to be used once."""
    counts: Mapping[str, Tensor]
    """Rows that count for each task, in all micro-batches together."""
    rows: int
    """All rows of all micro-batches."""
    parameters: tuple[nn.Parameter, ...]
    """What trains."""
    shared_layer: tuple[nn.Parameter, ...] = ()
    """The last layer that all tasks share, as far as it trains."""
    scale: Callable[[Tensor], Tensor] = torch.clone
    """Multiplies a loss before its gradients are taken, so that 16 bits can hold them; the trainer divides again."""
    is_logged: bool = False
    """Whether the log wants to know of this update."""

    @cached_property
    def present(self) -> dict[str, int]:
        """How many rows count for each task that has one in this update."""
        counts = torch.stack(list(self.counts.values())).tolist()
        return {name: int(count) for name, count in zip(self.counts, counts, strict=True) if count > 0}


class WeightingConfig(Config, ABC):
    """Base of the weightings' configurations."""

    @abstractmethod
    def build(self, tasks: Sequence[TaskConfig]) -> Weighting:
        """Make the weighting of these tasks, as it is at the beginning of a stage."""


class LossWeightingConfig(WeightingConfig):
    """Base of the configurations of weightings that need no gradient of a single task."""

    log_cosines: bool = False
    """Log the cosines between the tasks' gradients; costs a backward pass for each task in each logged update."""


class Weighting(Criterion, ABC):
    """How the losses of several tasks become one update of the parameters."""

    balances = True
    """Whether it balances what tasks do to parameters that they share, so that it makes no sense without such."""
    needs_layer = False
    """Whether it looks at the last layer that all tasks share."""

    def __init__(self, tasks: Sequence[TaskConfig]) -> None:
        super().__init__()
        self.tasks = tuple(task for task in tasks if task.weight > 0)
        self.loss_sums: Tensor  # [T] since the last line of the log
        self.loss_counts: Tensor  # [T]
        self.register_buffer("loss_sums", torch.zeros(len(self.tasks)))
        self.register_buffer("loss_counts", torch.zeros(len(self.tasks)))
        self._weights: dict[str, Tensor | float] = {}
        self._cosines: dict[str, float] = {}

    def backward(self, update: Update) -> Tensor:
        """Leave the gradients of an update in the parameters.

        Returns:
            the sum of the losses over all rows by the weights of the recipe, the same for all weightings.
        """
        summed, total = torch.zeros_like(self.loss_sums), torch.zeros_like(self.loss_sums[0])  # [T], scalar

        def watched() -> Iterator[TaskLosses]:
            nonlocal summed, total
            for losses in update.passes:
                summed = summed + torch.stack([losses.tasks[task.name].detach() for task in self.tasks])
                total = total + losses.total(self.tasks).detach()
                yield losses

        self.distribute(watched(), update)
        counts = torch.stack([update.counts[task.name] for task in self.tasks])  # [T]
        # A loss that is not finite is no step of the training in fp16, and an error elsewhere.
        finite = torch.isfinite(summed)
        self.observe(torch.where(finite, summed, 0.0), torch.where(finite, counts, 0).to(summed.dtype))
        return total

    @abstractmethod
    def distribute(self, passes: Iterable[TaskLosses], update: Update) -> None:
        """Set the gradients of the parameters and of what is learned here; `passes` are those of the update."""

    def observe(self, sums: Tensor, counts: Tensor) -> None:
        """See the summed losses [T] of an update and the rows that they are over [T], for each task."""
        self.loss_sums += sums
        self.loss_counts += counts

    def present(self, update: Update) -> list[int]:
        """Places of the K tasks that have a row in the update."""
        return [place for place, task in enumerate(self.tasks) if task.name in update.present]

    def means(self, losses: TaskLosses, update: Update) -> list[Tensor]:
        """A micro-batch's part of the mean loss of each of the K present tasks, by the weights of the recipe."""
        tasks = [self.tasks[place] for place in self.present(update)]
        return [task.weight * losses.tasks[task.name] / update.present[task.name] for task in tasks]

    def keep_weights(self, weights: Sequence[float] | Tensor, places: Iterable[int]) -> None:
        """Remember the factors of this update, of the tasks at some places, for the log."""
        chosen = [self.tasks[place] for place in places]
        self._weights = {task.name: task.weight * weight for task, weight in zip(chosen, weights, strict=True)}

    def keep_cosines(self, inner_products: Floats, places: Sequence[int]) -> None:
        """Remember the cosines between the gradients of the tasks at some places, for the log."""
        found = cosines(inner_products)
        self._cosines = {
            f"{self.tasks[places[one]].name}/{self.tasks[places[other]].name}": float(found[one, other])
            for one, other in combinations(range(len(places)), 2)
            if not np.isnan(found[one, other])
        }

    def record(self) -> dict[str, Any]:
        """Mean losses since the last record, weights (with those of the recipe) and cosines of the logged update."""
        means = (self.loss_sums / self.loss_counts).tolist()
        losses = {task.name: mean for task, mean in zip(self.tasks, means, strict=True) if np.isfinite(mean)}
        weights = {name: float(weight) for name, weight in self._weights.items()}
        found = {"losses": losses, "weights": weights, "cosines": self._cosines}
        self.loss_sums.zero_()
        self.loss_counts.zero_()
        self._weights, self._cosines = {}, {}
        return {
            key: {name: float(f"{value:.6g}") for name, value in part.items()} for key, part in found.items() if part
        }


class LossWeighting(Weighting):
    """A weighting that multiplies the mean losses by factors, so that one backward pass is enough."""

    def __init__(self, tasks: Sequence[TaskConfig], log_cosines: bool) -> None:
        super().__init__(tasks)
        self.log_cosines = log_cosines
        self.needs_layer = log_cosines

    @abstractmethod
    def factors(self) -> Tensor:
        """The factors [T] of the mean losses."""

    def loss(self, losses: TaskLosses, update: Update) -> Tensor:
        """What a micro-batch adds to the loss of the update."""
        total = (self.factors()[self.present(update)] * torch.stack(self.means(losses, update))).sum()
        return total if losses.extra is None else total + losses.extra / update.rows

    def distribute(self, passes: Iterable[TaskLosses], update: Update) -> None:
        """One backward pass for each micro-batch; where cosines are wanted, also one for each task."""
        self.backpropagate(passes, update, watch=self.log_cosines and update.is_logged)

    def backpropagate(self, passes: Iterable[TaskLosses], update: Update, *, watch: bool) -> Floats | None:
        """Take the gradients of all micro-batches.

        Returns:
            with `watch` the inner products [K, K] of the present tasks' gradients on the shared layer.
        """
        if update.is_logged:
            self.keep_weights(self.factors().detach(), range(len(self.tasks)))
        present = self.present(update) if watch else []
        gradients = TaskGradients(update.shared_layer, len(present))
        for losses in passes:
            if watch:
                gradients.add([update.scale(mean) for mean in self.means(losses, update)], keep_graph=True)
            update.scale(self.loss(losses, update)).backward()  # type: ignore[no-untyped-call]
        if not watch:
            return None
        found = gradients.inner_products(update.shared_layer)
        if update.is_logged:
            self.keep_cosines(found, present)
        return found


class GradientWeighting(Weighting):
    """A weighting of gradients instead of losses: one backward pass and one gradient in memory for each task.

    Parameters that more than one task reaches get a combination of the tasks' gradients; all others get the plain
    gradient of their task.
    """

    @abstractmethod
    def coefficients(self, inner_products: Floats) -> Floats:
        """The coefficients [K] of the tasks' gradients, from their inner products [K, K] over shared parameters."""

    def distribute(self, passes: Iterable[TaskLosses], update: Update) -> None:
        """Collect the gradients of all micro-batches, then combine them."""
        present = self.present(update)
        gradients = TaskGradients(update.parameters, len(present))
        for losses in passes:
            means = self.means(losses, update)
            gradients.add([update.scale(mean) for mean in means], keep_graph=losses.extra is not None)
            if losses.extra is not None:
                update.scale(losses.extra / update.rows).backward()  # type: ignore[no-untyped-call]
        products = gradients.inner_products()
        # What is not finite must reach the trainer, which skips the update in fp16 and reports it elsewhere.
        solvable = len(present) > 1 and bool(np.isfinite(products).all())
        coefficients = self.coefficients(products) if solvable else np.ones(len(present))
        gradients.add_to_parameters(coefficients)
        if update.is_logged:
            self.keep_weights(coefficients.tolist(), present)
        if update.is_logged and update.shared_layer:
            self.keep_cosines(gradients.inner_products(update.shared_layer), present)
