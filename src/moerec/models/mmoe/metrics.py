"""How good the predictions of each task are, over all rows of a data loader at once.

Metrics are no means over batches: neither an AUC nor a root is the mean of its parts, and the last batch is smaller.

Shape letters: N known targets, B rows of a batch, O classes of a task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.errors import ConfigError, DatasetError
from moerec.models.mmoe.batches import TaskRows, Tasks, evaluated, named_tasks, targets_by_task, targets_of


def evaluate_multitask_model(model: nn.Module, dataloader: Iterable[Any], tasks: Tasks) -> dict[str, float]:
    """Metrics of each task over the rows whose target is known.

    Args:
        model: called with a batch's inputs; gives a list of [B, O].
        dataloader: batches `(x, targets)`, `(user_ids, item_ids, targets)` or
            `(user_ids, item_ids, dense_features, targets)`, where targets are [B, T], or [B] for each task as a list
            or by name; NaN where unknown.
        tasks: kind of each task, "classification" or "regression", as a list or by name.

    Returns:
        For a list of tasks keys such as `task_0_acc`, else `<name>_acc`. Classification: `acc`, `auc` (of several
        classes the mean over one against the rest), `log_loss` in nats. Regression: `mse`, `rmse`, `mae`. All: `rows`,
        the number of known targets. What the rows do not define is NaN.

    Raises:
        ConfigError: there is no batch, or shapes do not fit.
        DatasetError: a label is no class, or a prediction is not finite.
    """
    named = named_tasks(tasks)
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in named}
    with evaluated(model, dataloader) as batches:
        for batch, inputs in batches:
            predictions = model(*inputs)
            targets = targets_by_task(targets_of(batch), list(named))
            if len(predictions) != len(named):
                raise ConfigError(f"tasks: they are {len(named)}, and the model predicts {len(predictions)}")
            for (name, kind), prediction, target in zip(named.items(), predictions, targets, strict=True):
                rows = TaskRows.of(name, kind, prediction, target.to(prediction.device))
                known = rows.prediction[rows.known], rows.target[rows.known]
                kept[name].append((known[0].double().cpu(), known[1].cpu()))
    metrics: dict[str, float] = {}
    for name, kind in named.items():
        if not kept[name]:
            raise ConfigError("the data loader gives no batch; there is nothing to judge")
        prediction, target = (torch.cat(parts) for parts in zip(*kept[name], strict=True))  # [N] or [N, O], [N]
        if not prediction.isfinite().all():
            raise DatasetError(f"{name}: predictions are NaN or infinite; lower the learning rate, or clip gradients")
        found = _of_classes(name, prediction, target) if kind == "classification" else _of_numbers(prediction, target)
        metrics |= {f"{name}_{metric}": value for metric, value in found.items()} | {f"{name}_rows": len(target)}
    return metrics


def _of_numbers(prediction: Tensor, target: Tensor) -> dict[str, float]:
    error = prediction - target.double()
    mse = float(error.square().mean())
    return {"mse": mse, "rmse": math.sqrt(mse), "mae": float(error.abs().mean())}


def _of_classes(name: str, prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Metrics of logits [N] or [N, O] against classes [N]."""
    if prediction.dim() == 2:
        classes = range(prediction.shape[1])
        shares = prediction.softmax(1)
        areas = [area for value in classes if not math.isnan(area := _auc(target == value, shares[:, value]))]
        right = prediction.argmax(1) == target
        loss = F.cross_entropy(prediction, target)
        area = sum(areas) / len(areas) if areas else math.nan
    else:
        if not ((target == 0) | (target == 1)).all():
            raise DatasetError(f"{name}: metrics need labels 0 and 1, got shares between them")
        right = (prediction >= 0) == (target == 1)
        loss = F.binary_cross_entropy_with_logits(prediction, target.double())
        area = _auc(target == 1, prediction)
    return {"acc": float(right.double().mean()), "auc": area, "log_loss": float(loss)}


def _auc(positive: Tensor, score: Tensor) -> float:
    """The chance that a positive row [N] scores above a negative one, ties half; NaN with one class only."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return math.nan
    return float(roc_auc_score(positive.numpy(), score.numpy()))
