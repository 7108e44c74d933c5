"""The losses of several tasks as one, weighed by uncertainties that are learned (Kendall, Gal and Cipolla 2018).

With s the logarithm of a task's variance and L its mean loss, a classification adds exp(-s) L + s / 2 and a regression
exp(-s) L / 2 + s / 2: the logarithm of a normal density has a factor 1/2, that of a softmax has none. Where the losses
stay as they are, the best s are log(2 L) and log(L).

Shape letters: B rows, T tasks, O outputs or classes of a task.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.errors import ConfigError
from moerec.models.mmoe.batches import Targets, TaskKind, TaskRows, Tasks, named_tasks, targets_by_task

PATIENCE = 200
"""Calls in training after which weights that never moved are told of."""


class MultiTaskLoss(nn.Module):
    """Cross-entropy or squared error of each task, over the rows whose target is known, weighed by uncertainty.

    The weights are parameters of this module, so an optimizer must see them:
    `AdamW(criterion.parameter_groups(model), lr=0.001)`.

    Args:
        num_tasks: T.
        tasks: kind of each task, "classification" or "regression", as a list or by name. A classification with one
            output is a yes or no (labels 0 and 1), with O outputs a choice of O classes (labels 0 to O - 1).

    Raises:
        ConfigError: the kinds are missing, unknown, or not as many as there are tasks.
    """

    def __init__(self, num_tasks: int, tasks: Tasks | None = None) -> None:
        super().__init__()
        if tasks is None:
            raise ConfigError(
                "MultiTaskLoss: the loss of a task hangs on its kind; say it, for instance "
                "MultiTaskLoss(2, ['classification', 'regression'])"
            )
        self.tasks: dict[str, TaskKind] = named_tasks(tasks)
        if len(self.tasks) != num_tasks:
            raise ConfigError(
                f"MultiTaskLoss: num_tasks is {num_tasks}, and {len(self.tasks)} kinds of tasks are given"
            )
        self.log_vars = nn.Parameter(torch.zeros(num_tasks))  # [T] s
        factors = [1.0 if kind == "classification" else 0.5 for kind in self.tasks.values()]
        self.factors: Tensor
        self.register_buffer("factors", torch.tensor(factors), persistent=False)  # [T]
        self._calls, self._start = 0, self.log_vars._version

    def forward(self, predictions: Sequence[Tensor], targets: Targets) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            predictions: for each task [B, O], as the model gives them: logits or numbers.
            targets: [B, T], or for each task [B] as a list or by name; NaN where unknown.

        Raises:
            ConfigError: shapes or numbers do not fit.
            DatasetError: a label is no class.
        """
        self._tell_if_unmoved()
        return self.combine(*self.task_losses(predictions, targets))

    def task_losses(self, predictions: Sequence[Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """The mean loss of each task over its known targets [T], and which tasks have any, [T] bool."""
        if len(predictions) != len(self.tasks):
            raise ConfigError(f"predictions: they are of {len(predictions)} tasks, and there are {len(self.tasks)}")
        losses, known = [], []
        found = targets_by_task(targets, list(self.tasks))
        for (name, kind), prediction, target in zip(self.tasks.items(), predictions, found, strict=True):
            rows = TaskRows.of(name, kind, prediction, target.to(prediction.device))
            losses.append((_losses(kind, rows) * rows.known).sum() / rows.known.sum().clamp(min=1))
            known.append(rows.known.any())
        return torch.stack(losses), torch.stack(known)

    def combine(self, losses: Tensor, known: Tensor | None = None) -> Tensor:
        """The weighed sum of mean losses [T], also of ones that were computed elsewhere.

        Args:
            losses: [T].
            known: [T] bool; a task without any target says nothing, and its weight stays where it is. None for all.
        """
        terms = self.factors * torch.exp(-self.log_vars) * losses + self.log_vars / 2  # [T]
        return (terms if known is None else torch.where(known, terms, 0)).sum()

    @property
    def weights(self) -> dict[str, float]:
        """What each task's mean loss is multiplied with now."""
        now = self.factors * torch.exp(-self.log_vars.detach())
        return dict(zip(self.tasks, now.tolist(), strict=True))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameters of the model and these, for an optimizer; decay would pull the weights towards 1."""
        return [{"params": list(model.parameters())}, {"params": [self.log_vars], "weight_decay": 0.0}]

    def _tell_if_unmoved(self) -> None:
        if torch.compiler.is_compiling() or not (self.training and torch.is_grad_enabled()):
            return
        self._calls += 1
        if self._calls == PATIENCE and self.log_vars.requires_grad and self.log_vars._version == self._start:
            warnings.warn(
                f"the weights of MultiTaskLoss have not moved in {PATIENCE} batches; make the optimizer with "
                "criterion.parameter_groups(model), so that it sees them",
                stacklevel=4,
            )


def _losses(kind: TaskKind, rows: TaskRows) -> Tensor:
    """The loss of each target, of the target's shape."""
    if kind == "regression":
        return (rows.prediction - rows.target).square()
    if rows.prediction.dim() == 2:
        return F.cross_entropy(rows.prediction, rows.target, reduction="none")
    return F.binary_cross_entropy_with_logits(rows.prediction, rows.target, reduction="none")
