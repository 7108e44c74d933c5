"""Predictions of one task on the rows that count, their metrics by name, and the value that selects a model.

A metric is called `<task>/<metric>`, for instance `like/auc`, and is over real rows. A task whose population has
drawn negatives says so in the name, `like/auc/reviews+negatives`: telling what a user met from what it did not
is another question, and easier, than telling what it liked.

Shape letters: N rows that count, T rows of the table, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moerec.errors import ConfigError, DatasetError
from moerec.evaluation import class_metrics
from moerec.evaluation import prediction_metrics as metrics
from moerec.tasks import Target, TaskConfig, TaskStatistics, TaskType

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HIGHER_IS_BETTER = {
    "auc": True,
    "gauc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "ece_mass": False,
    "accuracy": True,
    "f1": True,
    "macro_f1": True,
    "kappa": True,
    "rmse": False,
    "mae": False,
    "r2": True,
}
"""Every metric and its direction."""
METRICS: dict[TaskType, tuple[str, ...]] = {
    "binary": ("auc", "gauc", "average_precision", "log_loss", "brier", "ece", "ece_mass", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
    "multiclass": ("auc", "accuracy", "macro_f1", "log_loss", "ece"),
    "ordinal": ("rmse", "mae", "kappa", "accuracy", "log_loss"),
}
"""The metrics of each type of task; the first one selects and sums up."""
MAIN_METRIC: dict[TaskType, str] = {kind: names[0] for kind, names in METRICS.items()}
"""The metric that selects and sums up, by type of task."""
SUM_TOLERANCE = 1e-3
"""How far the sum of a row's class probabilities may be from 1."""


def metric_name(task: TaskConfig, metric: str) -> str:
    """The full name of a metric; it names every population but `reviews`."""
    return f"{task.name}/{metric}" + ("" if task.population == "reviews" else f"/{task.population}")


def is_higher_better(name: str) -> bool:
    """The direction of a metric, with or without its task.

    Raises:
        ConfigError: there is no such metric.
    """
    parts = name.split("/")
    metric = parts[0] if len(parts) == 1 else parts[1]
    if metric not in HIGHER_IS_BETTER:
        raise ConfigError(
            f"metric '{name}' is not known; the part after the task is one of {', '.join(HIGHER_IS_BETTER)}"
        )
    return HIGHER_IS_BETTER[metric]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of one task, on the rows that count."""

    task: TaskConfig
    """The task."""
    users: Ints  # [N]
    """User of each row."""
    labels: Floats  # [N]
    """What is true: 0 or 1, a number, or the place of a class."""
    scores: Floats  # [N], or [N, C]
    """What the model says: a probability, a number in the label's unit, or the probability of each class."""
    negative: Bools  # [N]
    """Drawn rows; none in the population `reviews`."""
    model: str = "model"
    """Name of the model, for messages."""

    def __post_init__(self) -> None:
        where = f"{self.model}, task '{self.task.name}'"
        lengths = {len(self.users), len(self.labels), len(self.scores), len(self.negative)}
        if len(lengths) > 1 or self.labels.ndim != 1:
            raise ValueError(f"{where}: users, labels, scores and negative must be vectors of one length")
        classes = self.task.num_classes
        if self.scores.shape[1:] != ((classes,) if classes else ()):
            shape = f"rows of {classes} probabilities" if classes else "a vector"
            raise ValueError(f"{where}: the predictions must be {shape}, not an array of shape {self.scores.shape}")
        if self.task.population == "reviews" and self.negative.any():
            raise ValueError(f"{where}: drawn negatives among the rows of the population reviews; use Predictions.of")
        broken = _rows_with(~np.isfinite(self.scores))
        if broken:
            raise DatasetError(
                f"{where}: {broken:,} of {len(self):,} predictions are NaN or infinite; "
                "look for them in the training's history and lower the learning rate"
            )
        if self.task.type != "regression":
            self._check_probabilities(where)

    def _check_probabilities(self, where: str) -> None:
        classes = self.task.num_classes
        if not np.isin(self.labels, np.arange(classes or 2)).all():
            known = f"places of classes, 0 to {classes - 1}" if classes else "0 or 1"
            raise ValueError(f"{where}: labels of type {self.task.type} must be {known}")
        outside = (self.scores < 0) | (self.scores > 1)
        if outside.any():
            raise DatasetError(
                f"{where}: {_rows_with(outside):,} of {len(self):,} predictions lie "
                f"outside [0, 1], one is {self.scores[outside][0]:.4g}; type {self.task.type} needs probabilities, "
                "not logits"
            )
        if classes and len(self):
            sums = self.scores.sum(1)
            worst = sums[np.abs(sums - 1).argmax()]
            if abs(worst - 1) > SUM_TOLERANCE:
                raise DatasetError(
                    f"{where}: the class probabilities of a row sum to {worst:.4g}, not to 1; divide them by their sum"
                )

    @classmethod
    def of(
        cls,
        task: TaskConfig,
        users: NDArray[np.integer],
        target: Target,
        scores: NDArray[np.floating],
        negative: Bools,
        model: str = "model",
    ) -> Predictions:
        """Keep the rows of a table that count for the task.

        Args:
            task: the task.
            users: [T] user of each row.
            target: [T] labels, and the mask of the rows that count.
            scores: [T] predictions, or [T, C]; those of the other rows are not looked at.
            negative: [T] drawn rows.
            model: name of the model, for messages.

        Raises:
            DatasetError: a prediction is NaN or infinite, or no probability where one is needed.
        """
        kept = target.mask if task.population == "reviews+negatives" else target.mask & ~negative
        return cls(
            task,
            np.asarray(users, dtype=np.int64)[kept],
            np.asarray(target.values, dtype=np.float64)[kept],
            np.asarray(scores, dtype=np.float64)[kept],
            negative[kept],
            model,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Bools) -> Predictions:
        """Some of the rows [N]."""
        return Predictions(
            self.task, self.users[chosen], self.labels[chosen], self.scores[chosen], self.negative[chosen], self.model
        )

    def reviews(self) -> Predictions:
        """The real rows, as the population `reviews` of the same label.

        Raises:
            ValueError: the task has no label; its real rows are all 1.
        """
        if self.task.label is None:
            raise ValueError(f"task '{self.task.name}' has no label of its own among the real rows")
        task = self.task.model_copy(update={"population": "reviews"})
        real = ~self.negative
        return Predictions(
            task, self.users[real], self.labels[real], self.scores[real], self.negative[real], self.model
        )


def _rows_with(flags: Bools) -> int:
    """Rows of [N] or [N, C] that hold a flag."""
    return int(flags.any(axis=tuple(range(1, flags.ndim))).sum())


def evaluate_predictions(predictions: Predictions) -> dict[str, float]:
    """All metrics of a task by full name; one that the rows do not define is left out."""
    users, labels, scores = predictions.users, predictions.labels, predictions.scores
    task = predictions.task
    if task.type == "multiclass":
        values = class_metrics.multiclass_metrics(labels, scores)
    elif task.type == "ordinal":
        values = class_metrics.ordinal_metrics(labels, scores, np.asarray(task.values))
    elif task.type == "regression":
        values = {
            "rmse": metrics.rmse(labels, scores),
            "mae": metrics.mae(labels, scores),
            "r2": metrics.r2(labels, scores),
        }
    else:
        values = {
            "auc": metrics.auc(labels, scores),
            "gauc": metrics.gauc(users, labels, scores),
            "average_precision": metrics.average_precision(labels, scores),
            "log_loss": metrics.log_loss(labels, scores),
            "brier": metrics.brier(labels, scores),
            "ece": metrics.ece(labels, scores),
            "ece_mass": metrics.ece_mass(labels, scores),
            "accuracy": metrics.accuracy(labels, scores),
            "f1": metrics.f1(labels, scores),
        }
    return {metric_name(task, name): value for name, value in values.items() if not math.isnan(value)}


def describe_rows(predictions: Predictions) -> dict[str, float]:
    """What the metrics must be read against, by full name; these have no direction.

    `rows` and `users`; binary: `positive_share`, `majority_accuracy` (of always saying the commonest class), and the
    shares of users and rows that GAUC leaves out; regression and ordinal: `label_mean` and `label_deviation` (the RMSE
    of always saying the mean); multiclass and ordinal: `majority_accuracy`, and `label_entropy` (the log loss of always
    saying the classes' shares).
    """
    task, labels = predictions.task, predictions.labels
    values = {"rows": float(len(labels)), "users": float(len(np.unique(predictions.users)))}
    if not len(labels):
        return {metric_name(task, name): value for name, value in values.items()}
    if task.type == "binary":
        by_user = metrics.auc_by_user(predictions.users, labels, predictions.scores)
        share = float(labels.mean())
        values |= {
            "positive_share": share,
            "majority_accuracy": max(share, 1 - share),
            "gauc_users_left_out": by_user.users_left_out,
            "gauc_rows_left_out": by_user.rows_left_out,
        }
    if task.num_classes:
        most = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
        values |= {"majority_accuracy": most, "label_entropy": class_metrics.label_entropy(labels)}
        labels = np.asarray(task.values)[labels.astype(np.int64)]
    if task.type in ("regression", "ordinal"):
        values |= {"label_mean": float(labels.mean()), "label_deviation": float(labels.std())}
    return {metric_name(task, name): value for name, value in values.items()}


def selection_value(
    values: Mapping[str, float], tasks: Sequence[TaskConfig], statistics: Mapping[str, TaskStatistics]
) -> float:
    """One number to select a model by, higher is better: the mean over the tasks.

    A binary or multiclass task gives its AUC; a regression or an ordinal task 1 - RMSE / the deviation of the train
    labels, which is about 0 for always saying their mean and 1 for no error.

    Args:
        values: metrics by full name.
        tasks: the tasks.
        statistics: of the train rows, by task.

    Raises:
        DatasetError: a metric is not defined, because a task has no rows or rows of one class only.
    """
    parts = []
    for task in tasks:
        name = metric_name(task, MAIN_METRIC[task.type])
        if name not in values:
            raise DatasetError(
                f"task '{task.name}': {name} is not defined on the rows that select the model: there are none, or all "
                "have the same label; make the validation part larger"
            )
        value = values[name]
        parts.append(value if is_higher_better(name) else 1 - value / statistics[task.name].deviation)
    return float(np.mean(parts))


SELECTION = "selection"
"""Name of `selection_value` among the metrics."""


def metric_names(tasks: Sequence[TaskConfig]) -> list[str]:
    """Every name by which a model can be selected."""
    return [SELECTION, *(metric_name(task, metric) for task in tasks for metric in METRICS[task.type])]
