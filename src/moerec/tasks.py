"""Tasks: what a ranker predicts of an example, on which rows, and how its error counts.

Shape letters: N examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.errors import ConfigError

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

Population = Literal["reviews", "reviews+negatives"]
"""reviews: rows of the events; reviews+negatives: drawn items that the user never met as well. Never mixed."""


class TaskConfig(Config):
    """One thing to predict."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the task; its metrics are called `<name>/auc` and so on."""
    type: Literal["binary", "regression"] = "binary"
    """binary: a probability; regression: a number in the label's own unit."""
    label: str | None = None
    """Label column of the events; null for whether the user met the item at all (1 for events, 0 for negatives)."""
    at_least: float | None = None
    """For binary tasks on a number: the label is 1 where the column is at least this."""
    mask: str | None = None
    """Label column that is 0 where this task's label is not known; such rows count nowhere."""
    population: Population = "reviews"
    """reviews: real rows only; reviews+negatives: drawn negatives too, with label 0."""
    weight: float = Field(default=1.0, ge=0)
    """Factor of the task's loss."""
    loss: Literal["auto", "huber"] = "auto"
    """auto: cross-entropy for binary, squared error for regression; huber: less weight to large errors."""
    transform: Literal["none", "log1p"] = "none"
    """For regression: log1p learns log(1 + label), for labels of a heavy tail such as a dwell time. Predictions and
    metrics stay in the label's own unit. A mean of logarithms lies near the median, so sums are underestimated."""

    @model_validator(mode="after")
    def _check(self) -> TaskConfig:
        if self.label is None and (self.type != "binary" or self.population != "reviews+negatives"):
            raise ValueError(
                "without a label a task is whether the user met the item: type: binary, population: reviews+negatives"
            )
        if self.at_least is not None and (self.type != "binary" or self.label is None):
            raise ValueError("at_least makes a binary label of a number; it needs type: binary and a label")
        if self.type == "regression" and self.population != "reviews":
            raise ValueError("a drawn negative has no number to predict; use population: reviews for regression")
        if self.loss == "huber" and self.type != "regression":
            raise ValueError("huber is a loss for regression")
        if self.transform == "log1p" and self.type != "regression":
            raise ValueError("transform: log1p is for regression; a class has no logarithm")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns that the task reads."""
        return tuple(name for name in (self.label, self.mask) if name is not None)

    def describe(self) -> str:
        """The task in words."""
        rows = "events" if self.population == "reviews" else "events and drawn negatives"
        if self.label is None:
            return f"whether the user met the item, over {rows}"
        what = self.label if self.at_least is None else f"{self.label} of at least {self.at_least:g}"
        learned = "" if self.transform == "none" else ", learned as log(1 + label)"
        return f"{what} ({self.type}{learned}), over {rows}"


@dataclass(frozen=True)
class Target:
    """The labels of one task."""

    values: Floats
    """[N] label; 0 where masked."""
    mask: Bools
    """[N] rows that count."""


def make_target(task: TaskConfig, labels: Mapping[str, NDArray[np.floating]], negative: Bools) -> Target:
    """The labels of a task from label columns.

    Args:
        task: the task.
        labels: {column: [N] numbers, NaN where missing}; rows of negatives are not read.
        negative: [N] drawn rows.

    Raises:
        ConfigError: a column is missing, a binary label is neither 0 nor 1, or a label for log1p is negative.
    """
    for column in task.columns:
        if column not in labels:
            known = ", ".join(labels) or "none"
            raise ConfigError(f"task '{task.name}': the events have no label column '{column}'; they have: {known}")
    if task.label is None:
        return Target((~negative).astype(np.float32), np.ones(len(negative), np.bool_))
    numbers = np.asarray(labels[task.label], dtype=np.float64)
    known_rows = np.isfinite(numbers) & ~negative
    if task.mask is not None:
        known_rows &= np.nan_to_num(np.asarray(labels[task.mask], dtype=np.float64)) != 0
    values = np.where(known_rows, numbers, 0.0)
    if task.at_least is not None:
        values = np.where(known_rows, values >= task.at_least, 0.0)
    elif task.type == "binary" and not np.isin(values, (0.0, 1.0)).all():
        wrong = values[~np.isin(values, (0.0, 1.0))][0]
        raise ConfigError(f"task '{task.name}': label '{task.label}' has the value {wrong:g}; give at_least: NUMBER")
    elif task.transform == "log1p" and values.min(initial=0.0) < 0:
        raise ConfigError(
            f"task '{task.name}': label '{task.label}' has the value {values.min():g}, and transform: log1p is for "
            "labels from 0 on; remove transform"
        )
    mask = known_rows | negative if task.population == "reviews+negatives" else known_rows
    return Target(values.astype(np.float32), mask)


@dataclass(frozen=True)
class TaskStatistics:
    """What the train rows say of a task before any feature is seen; a head starts there."""

    mean: float
    """Mean label; for binary tasks the share of positives."""
    deviation: float
    """Standard deviation of the label; 1 if it has none."""
    log_mean: float = 0.0
    """Mean of log(1 + label), where the task learns that."""
    log_deviation: float = 1.0
    """Its standard deviation."""

    @classmethod
    def of(cls, target: Target, transform: str = "none") -> TaskStatistics:
        """Statistics of the rows that count; (0.5, 1) if there are none; with the transform log1p those of logarithms
        too."""
        values = target.values[target.mask].astype(np.float64)
        if len(values) == 0:
            return cls(0.5, 1.0)
        own = float(values.mean()), float(values.std()) or 1.0
        if transform == "none":
            return cls(*own)
        logs = np.log1p(values)
        return cls(*own, float(logs.mean()), float(logs.std()) or 1.0)

    def learned(self, task: TaskConfig) -> tuple[float, float]:
        """Mean and deviation of what the task learns: of its label, or of log(1 + label)."""
        return (self.log_mean, self.log_deviation) if task.transform == "log1p" else (self.mean, self.deviation)


def check_tasks(tasks: Sequence[TaskConfig]) -> None:
    """Raises ValueError when there is no task, or two share a name or predict the same thing."""
    names = [task.name for task in tasks]
    if not names:
        raise ValueError("name at least one task")
    if len(set(names)) != len(names):
        raise ValueError(f"tasks need different names, got {', '.join(names)}")
    # The same label twice looks like two tasks learned together, and is one task learned twice.
    first_with: dict[tuple[object, ...], str] = {}
    for task in tasks:
        what = (task.label, task.at_least, task.type, task.mask, task.population)
        if what in first_with:
            raise ValueError(f"tasks {first_with[what]} and {task.name} have the same label; remove one")
        first_with[what] = task.name
