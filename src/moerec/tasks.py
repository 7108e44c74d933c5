"""Tasks: what a ranker predicts of an example, on which rows, and how its error counts.

Labels of tasks with classes become the places of their values, 0 to C - 1; predictions of such tasks are a
probability for each class. `predicted_value` and `prediction_columns` say them in the label's own values again.

Shape letters: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.errors import ConfigError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TaskType = Literal["binary", "regression", "multiclass", "ordinal"]

Population = Literal["reviews", "reviews+negatives"]
"""reviews: rows of the events; reviews+negatives: drawn items that the user never met as well. Never mixed."""


class TaskConfig(Config):
    """One thing to predict."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the task; its metrics are called `<name>/auc` and so on."""
    type: TaskType = "binary"
    """binary: a probability; regression: a number in the label's own unit; multiclass: one of several values without
    an order; ordinal: one of several values from low to high."""
    label: str | None = None
    """Label column of the events; null for whether the user met the item at all (1 for events, 0 for negatives)."""
    at_least: float | None = None
    """For binary tasks on a number: the label is 1 where the column is at least this."""
    values: tuple[float, ...] = ()
    """For multiclass and ordinal: every value that the label can have; for ordinal from low to high."""
    mask: str | None = None
    """Label column that is 0 where this task's label is not known; such rows count nowhere."""
    population: Population = "reviews"
    """reviews: real rows only; reviews+negatives: drawn negatives too, with label 0."""
    weight: float = Field(default=1.0, ge=0)
    """Factor of the task's loss."""
    loss: Literal["auto", "huber"] = "auto"
    """auto: cross-entropy for binary and multiclass, the likelihood of proportional odds for ordinal, squared error for
    regression; huber: less weight to large errors of a regression."""
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
        if self.type != "binary" and self.population != "reviews":
            what = "number" if self.type == "regression" else "class"
            raise ValueError(f"a drawn negative has no {what} to predict; use population: reviews for {self.type}")
        if self.loss == "huber" and self.type != "regression":
            raise ValueError("huber is a loss for regression")
        self._check_values()
        if self.transform == "log1p" and self.type != "regression":
            raise ValueError("transform: log1p is for regression; a class has no logarithm")
        return self

    def _check_values(self) -> None:
        has_classes = self.type in ("multiclass", "ordinal")
        if not has_classes:
            if self.values:
                raise ValueError(f"values are the classes of a multiclass or ordinal task; a {self.type} task has none")
            return
        if len(self.values) < 2:
            raise ValueError(
                f"type: {self.type} needs every value that its label can have; write values: [1, 2, 3], for instance"
            )
        # Label columns may be float32, so values that differ less are one.
        if len({float(np.float32(value)) for value in self.values}) < len(self.values):
            raise ValueError("values: one is named twice, or two differ by less than a label column can tell apart")
        if self.type == "ordinal" and list(self.values) != sorted(self.values):
            raise ValueError("values: the order of an ordinal task is from low to high; sort them, or use multiclass")

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for a task whose prediction is one number."""
        return len(self.values)

    @property
    def output_columns(self) -> tuple[str, ...]:
        """The columns of its predictions in a table: its name, and one for each class."""
        return (self.name, *(f"{self.name}_{value_text(value)}" for value in self.values))

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
        kind = f"{self.type} of {self.num_classes} values" if self.num_classes else self.type
        kind += "" if self.transform == "none" else ", learned as log(1 + label)"
        return f"{what} ({kind}), over {rows}"


def value_text(value: float) -> str:
    """A value of a label as text: `4` and not `4.0`."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)


@dataclass(frozen=True)
class Target:
    """The labels of one task."""

    values: Floats
    """[N] label, or the place of its class; 0 where masked."""
    mask: Bools
    """[N] rows that count."""
    classes: tuple[float, ...] = ()
    """The value of each class; empty where the label is a number."""

    def take(self, rows: Ints) -> Target:
        """The labels of some rows."""
        return Target(self.values[rows], self.mask[rows], self.classes)


def make_target(task: TaskConfig, labels: Mapping[str, NDArray[np.floating]], negative: Bools) -> Target:
    """The labels of a task from label columns.

    Args:
        task: the task.
        labels: {column: [N] numbers, NaN where missing}; rows of negatives are not read.
        negative: [N] drawn rows.

    Raises:
        ConfigError: a column is missing, a binary label is neither 0 nor 1, a class has no place among `values`, or a
            label for log1p is negative.
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
    if task.num_classes:
        return Target(_class_places(task, numbers, known_rows), known_rows, task.values)
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


def _class_places(task: TaskConfig, numbers: Doubles, known_rows: Bools) -> Floats:
    """The place of each label among the task's values, [N]; 0 where it does not count."""
    values, labels = np.asarray(task.values, np.float32), np.where(known_rows, numbers, 0.0).astype(np.float32)
    order = np.argsort(values)
    found = np.minimum(np.searchsorted(values, labels, sorter=order), len(values) - 1)
    places = order[found]
    wrong = numbers[known_rows & (values[places] != labels)]
    if len(wrong):
        known = ", ".join(value_text(value) for value in task.values)
        raise ConfigError(
            f"task '{task.name}': label '{task.label}' has the value {value_text(float(wrong[0]))} in "
            f"{int((wrong == wrong[0]).sum()):,} rows, which is not among its values ({known}); add it, or name a "
            "mask column that is 0 in such rows"
        )
    return np.where(known_rows, places, 0).astype(np.float32)


@dataclass(frozen=True)
class TaskStatistics:
    """What the train rows say of a task before any feature is seen; a head starts there."""

    mean: float
    """Mean label; for binary tasks the share of positives."""
    deviation: float
    """Standard deviation of the label; 1 if it has none."""
    shares: tuple[float, ...] = ()
    """Share of each class, in the order of the task's values; empty where the label is a number."""
    log_mean: float = 0.0
    """Mean of log(1 + label), where the task learns that."""
    log_deviation: float = 1.0
    """Its standard deviation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))  # JSON gives a list

    @classmethod
    def of(cls, target: Target, transform: str = "none") -> TaskStatistics:
        """Statistics of the rows that count; mean 0.5, deviation 1 and equal shares if there are none.

        With the transform log1p those of the logarithms too.
        """
        values, count = target.values[target.mask].astype(np.float64), len(target.classes)
        if len(values) == 0:
            return cls(0.5, 1.0, (1 / count,) * count if count else ())
        if not count:
            found = cls(float(values.mean()), float(values.std()) or 1.0)
            if transform == "none":
                return found
            logs = np.log1p(values)
            return replace(found, log_mean=float(logs.mean()), log_deviation=float(logs.std()) or 1.0)
        places = values.astype(np.int64)
        shares, values = np.bincount(places, minlength=count) / len(places), np.asarray(target.classes)[places]
        return cls(float(values.mean()), float(values.std()) or 1.0, tuple(shares.tolist()))

    def learned(self, task: TaskConfig) -> tuple[float, float]:
        """Mean and deviation of what the task learns: of its label, or of log(1 + label)."""
        return (self.log_mean, self.log_deviation) if task.transform == "log1p" else (self.mean, self.deviation)


def predicted_value(task: TaskConfig, predictions: Doubles) -> Doubles:
    """One number for each row, [N]: what a reader takes a prediction for.

    The probability of a binary task, the number of a regression, the likeliest value of a multiclass task, the
    expected value of an ordinal one.

    Args:
        task: the task.
        predictions: [N], or [N, C] probabilities of the classes.
    """
    if not task.num_classes:
        return predictions
    values = np.asarray(task.values, dtype=np.float64)
    found: Doubles = predictions @ values if task.type == "ordinal" else values[predictions.argmax(1)]
    return found


def prediction_columns(task: TaskConfig, predictions: Doubles) -> dict[str, Doubles]:
    """The predictions as columns of a table, [N] each: `predicted_value`, then the probability of each class."""
    columns = [predicted_value(task, predictions), *(predictions.T if task.num_classes else ())]
    return dict(zip(task.output_columns, columns, strict=True))


def check_tasks(tasks: Sequence[TaskConfig]) -> None:
    """Raises ValueError when there is no task, or two share a name, a column of results, or predict the same thing."""
    names = [task.name for task in tasks]
    if not names:
        raise ValueError("name at least one task")
    if len(set(names)) != len(names):
        raise ValueError(f"tasks need different names, got {', '.join(names)}")
    owners: dict[str, str] = {}
    for task in tasks:
        for column in task.output_columns:
            other = owners.setdefault(column, task.name)
            if other != task.name:
                raise ValueError(f"tasks {other} and {task.name} would both write a column '{column}'; rename one")
    # The same label twice looks like two tasks learned together, and is one task learned twice.
    first_with: dict[tuple[object, ...], str] = {}
    for task in tasks:
        what = (task.label, task.at_least, task.type, task.mask, task.population)
        if what in first_with:
            raise ValueError(f"tasks {first_with[what]} and {task.name} have the same label; remove one")
        first_with[what] = task.name
