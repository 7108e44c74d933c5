"""What a data loader gives: batches of inputs and targets, and which cells of the targets are known.

A batch is a tensor of inputs, or a tuple whose last member holds the targets and whose others are what the model is
called with: `(x, targets)`, `(user_ids, item_ids, targets)`, `(user_ids, item_ids, dense_features, targets)`.

Targets are a tensor [B, T], a list of T tensors, or a dict of T tensors. Each task's target is [B]; that of a
regression with several outputs is [B, O]. NaN is an unknown target; of a classification with whole numbers -100 is too.

Shape letters: B rows, T tasks, O outputs or classes of a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from moerec.errors import ConfigError, DatasetError

TaskKind = Literal["classification", "regression"]
Tasks = Sequence[TaskKind] | Mapping[str, TaskKind]
Targets = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
UNKNOWN_CLASS = -100
"""What PyTorch's own losses leave out, too."""


def named_tasks(tasks: Tasks) -> dict[str, TaskKind]:
    """The tasks by name; those of a list are called `task_0`, `task_1`, ...

    Raises:
        ConfigError: a kind is not known.
    """
    named = dict(tasks) if isinstance(tasks, Mapping) else {f"task_{n}": kind for n, kind in enumerate(tasks)}
    for name, kind in named.items():
        if kind not in get_args(TaskKind):
            raise ConfigError(f"{name}: unknown kind of task {kind!r}; write 'classification' or 'regression'")
    return named


def targets_by_task(targets: Targets, names: Sequence[str]) -> list[Tensor]:
    """The targets of each task, in the order of the names.

    Raises:
        ConfigError: their number is not that of the tasks, or a name is missing.
    """
    if isinstance(targets, Mapping):
        if set(names) <= targets.keys():
            return [targets[name] for name in names]
        # Tasks of a list have no names of their own; their targets come in the order of the dict.
        if list(names) != list(named_tasks(["regression"] * len(names))):
            missing = [name for name in names if name not in targets]
            raise ConfigError(f"targets: there is none of {', '.join(missing)}; they have {', '.join(targets)}")
        found = list(targets.values())
    elif isinstance(targets, Tensor):
        found = list(targets.unbind(1)) if targets.dim() == 2 else [targets]
    else:
        found = list(targets)
    if len(found) != len(names):
        raise ConfigError(
            f"targets: they are of {len(found)} tasks, and there are {len(names)}; give [rows, {len(names)}], or "
            "one tensor for each task"
        )
    return found


@dataclass(frozen=True)
class TaskRows:
    """Predictions and targets of one task, in one shape."""

    prediction: Tensor
    """[B], or [B, O]; at least float32. 0 where unknown."""
    target: Tensor
    """[B]; that of a regression with several outputs [B, O]. 0 where unknown."""
    known: Tensor
    """bool, of the target's shape."""

    @classmethod
    def of(cls, name: str, kind: TaskKind, prediction: Tensor, target: Tensor) -> TaskRows:
        """Bring a model's output and the targets together; what is unknown can then hurt neither value nor gradient.

        Args:
            name: the task's, for messages.
            kind: the task's.
            prediction: [B], [B, 1] or [B, O].
            target: [B] or [B, 1]; of a regression also [B, O].

        Raises:
            ConfigError: the shapes do not fit.
            DatasetError: a label is no class.
        """
        prediction = _flat(prediction).to(torch.promote_types(prediction.dtype, torch.float32))
        target = _flat(target)
        classes = kind == "classification" and prediction.dim() == 2
        # Without this, [B, 1] against [B] would be compared as [B, B], and nothing would complain.
        if prediction.shape[: target.dim() if classes else None] != target.shape or (classes and target.dim() != 1):
            raise ConfigError(
                f"{name}: predictions {list(prediction.shape)} and targets {list(target.shape)} do not fit; a "
                "regression has as many targets as outputs, a classification one class for each row"
            )
        if target.is_floating_point():
            known = ~target.isnan()
        else:
            known = target != UNKNOWN_CLASS if kind == "classification" else torch.ones_like(target, dtype=torch.bool)
        target = torch.where(known, target, 0)
        prediction = torch.where(known[:, None] if classes else known, prediction, 0)
        if kind == "classification":
            _check_classes(name, target, prediction.shape[1] if classes else None)
        return cls(prediction, target.long() if classes else target.to(prediction.dtype), known)


def inputs_of(batch: Any) -> tuple[Any, ...]:
    """What the model is called with."""
    if isinstance(batch, Sequence):
        return tuple(batch[:-1]) if len(batch) > 1 else tuple(batch)
    return (batch,)


def targets_of(batch: Any) -> Targets:
    """The targets of a batch.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise ConfigError("the data loader gives no targets; a batch must be (x, targets), the targets last")
    targets: Targets = batch[-1]
    return targets


@contextmanager
def evaluated(model: nn.Module, batches: Iterable[Any]) -> Iterator[Iterator[tuple[Any, tuple[Any, ...]]]]:
    """Batches with their inputs on the model's device, while the model is in evaluation mode and learns nothing."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def moved() -> Iterator[tuple[Any, tuple[Any, ...]]]:
        for batch in batches:
            yield batch, tuple(part.to(device) if isinstance(part, Tensor) else part for part in inputs_of(batch))

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield moved()
    finally:
        model.train(training)


def _flat(values: Tensor) -> Tensor:
    return values.squeeze(1) if values.dim() == 2 and values.shape[1] == 1 else values


def _check_classes(name: str, target: Tensor, classes: int | None) -> None:
    if classes is None:
        if bool(((target < 0) | (target > 1)).any()):
            raise DatasetError(
                f"{name}: a classification with one output needs labels 0 and 1, got {_extremes(target)}; make a "
                "yes or no of the number first, or call the task a regression"
            )
    elif bool(((target < 0) | (target >= classes) | (target != target.floor())).any()):
        raise DatasetError(
            f"{name}: with {classes} outputs the classes are 0 to {classes - 1}, got {_extremes(target)}"
        )


def _extremes(target: Tensor) -> str:
    return f"numbers from {float(target.min()):g} to {float(target.max()):g}"
