"""Permutation importance: how much worse a model gets when a feature is dealt out anew among the rows.

A model may read the same thing from two features, and then neither looks important: the value says what this model
loses, not what the feature is worth.

Shape letters: T rows, R repeats, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation.class_metrics import macro_auc
from moerec.evaluation.prediction_metrics import auc, rmse
from moerec.tasks import Target, TaskConfig

Ints = NDArray[np.int64]
Predict = Callable[[Mapping[str, Ints]], Mapping[str, NDArray[np.floating]]]
"""From {feature: [T] the row that each row takes it from}, other features unchanged, to {task: [T] or [T, C]
predictions}."""


@dataclass(frozen=True)
class Importance:
    """What a task loses without a feature."""

    drop: float
    """Mean fall of AUC (binary, multiclass) or rise of RMSE (regression, ordinal)."""
    deviation: float
    """Sample standard deviation over the repeats; 0 for one repeat."""


def permutation_importance(
    predict: Predict,
    names: Sequence[str],
    tasks: Sequence[TaskConfig],
    targets: Mapping[str, Target],
    repeats: int = 5,
    seed: int = 0,
) -> dict[str, dict[str, Importance]]:
    """Shuffle one feature at a time over the rows (Breiman 2001), all its values of a row together.

    A repeat shuffles every feature in the same way, so what a feature gets does not depend on which others are
    asked for. Rows that count for no task lend their values too: give the rows of one population.

    Args:
        predict: predicts the same T rows with some features taken from other rows.
        names: features to shuffle.
        tasks: the tasks that are predicted.
        targets: [T] labels and masks by task.
        repeats: shuffles of each feature.
        seed: of the shuffles.

    Returns:
        {feature: {task: importance}}, in the order of the names; a task whose metric is not defined is left out.
    """
    rows = len(targets[tasks[0].name].mask)
    losses = _losses(predict({}), tasks, targets)
    whole = {task: loss for task, loss in losses.items() if not math.isnan(loss)}
    drops: dict[str, dict[str, list[float]]] = {name: {task: [] for task in whole} for name in names}
    for repeat in range(repeats):
        permutation = np.random.default_rng([seed, repeat]).permutation(rows)
        for name in names:
            losses = _losses(predict({name: permutation}), tasks, targets)
            for task, values in drops[name].items():
                values.append(losses[task] - whole[task])
    return {
        name: {task: Importance(float(np.mean(values)), _deviation(values)) for task, values in of_tasks.items()}
        for name, of_tasks in drops.items()
    }


def _losses(
    scores: Mapping[str, NDArray[np.floating]], tasks: Sequence[TaskConfig], targets: Mapping[str, Target]
) -> dict[str, float]:
    """Each task's main metric, turned so that lower is better."""
    losses = {}
    for task in tasks:
        mask = targets[task.name].mask
        labels = targets[task.name].values[mask].astype(np.float64)
        predicted = np.asarray(scores[task.name], dtype=np.float64)[mask]
        losses[task.name] = _main_loss(task, labels, predicted)
    return losses


def _main_loss(task: TaskConfig, labels: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    if task.type == "ordinal":
        values = np.asarray(task.values)
        return rmse(values[labels.astype(np.int64)], predicted @ values)
    if task.type == "regression":
        return rmse(labels, predicted)
    return -(macro_auc if task.type == "multiclass" else auc)(labels, predicted)


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
