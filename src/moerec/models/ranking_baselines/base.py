"""What every baseline of ranking offers: a configuration that fits one task, and the predictor that comes out.

Shape letters: N examples of the table, R chosen rows, K of these those that count, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.batches.examples import ExampleTable
from moerec.models.baselines.base import SearchableConfig
from moerec.tasks import Target, TaskConfig, TaskStatistics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS_AT_ONCE = 2**17
"""Rows that are turned into a matrix together, so that memory does not grow with the table."""
MOST_BYTES = 4 * 2**30
"""The largest matrix that a baseline is fitted on."""


class RankingPredictor(ABC):
    """Predicts one task of examples; a row's prediction does not depend on the rows beside it."""

    num_classes: int = 0
    """Classes that each row gets a probability for; 0 where it gets one number."""

    def predict(self, table: ExampleTable, rows: Ints) -> Floats:
        """Probabilities of a binary task, numbers in the label's unit of a regression, [R]; else of classes, [R, C].

        Args:
            table: examples with the inputs that the baseline was fitted on.
            rows: [R] rows of the table.
        """
        starts = range(0, len(rows), ROWS_AT_ONCE)
        parts = [self.predict_block(table, rows[start : start + ROWS_AT_ONCE]) for start in starts]
        nothing = np.empty((0, self.num_classes) if self.num_classes else 0)
        return np.concatenate([nothing, *parts])  # [R] or [R, C]

    @abstractmethod
    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """The predictions [R] or [R, C] of few enough rows to be held as one matrix."""


@dataclass(frozen=True, eq=False)
class ConstantPredictor(RankingPredictor):
    """The same for every example: all that can be said where the train labels do not differ."""

    value: float | Floats
    """A number, or the probability of each class [C]."""
    num_classes: int = 0

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """The value, [R] or [R, C]."""
        return np.full((len(rows), *np.shape(self.value)), self.value)


def constant_predictor(task: TaskConfig, labels: Floats) -> ConstantPredictor:
    """The mean of labels [K], or the shares of the classes."""
    if not task.num_classes:
        return ConstantPredictor(float(labels[0] if (labels == labels[0]).all() else labels.mean()))
    counts = np.bincount(labels.astype(np.int64), minlength=task.num_classes)
    return ConstantPredictor(counts / len(labels), task.num_classes)


def predictions_of(model: Any, matrix: Any, task: TaskConfig) -> Floats:
    """What a fitted model of scikit-learn says of the rows of a matrix, [R], or probabilities of the classes [R, C].

    A class that no train row has gets the probability 0.
    """
    if task.type == "regression":
        numbers: Floats = model.predict(matrix)
        return numbers
    probabilities: Floats = model.predict_proba(matrix)
    if task.type == "binary":
        return probabilities[:, 1]
    found = np.zeros((len(probabilities), task.num_classes))
    found[:, model.classes_.astype(np.int64)] = probabilities
    return found


@dataclass(frozen=True)
class LogPredictor(RankingPredictor):
    """What a predictor of log(1 + label) says of the label."""

    logs: RankingPredictor

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """The numbers in the label's own unit, [R]."""
        return np.maximum(np.expm1(self.logs.predict_block(table, rows)), 0.0)


class RankingBaselineConfig(SearchableConfig):
    """Base of the configurations of ranking baselines."""

    def fit(
        self,
        table: ExampleTable,
        rows: Ints,
        task: TaskConfig,
        target: Target,
        statistics: TaskStatistics,
        seed: int = 0,
    ) -> RankingPredictor:
        """Fit one task on train rows alone.

        Args:
            table: all examples.
            rows: the train rows; those that the task masks count nowhere.
            task: what to predict.
            target: its labels over all N rows of the table.
            statistics: of the train rows.
            seed: of everything that is drawn.

        Returns:
            A predictor; a constant one where no train label is known or all are the same.
        """
        counting = rows[target.mask[rows]]  # [K]
        labels = target.values[counting].astype(np.float64)  # [K]
        if len(labels) == 0:
            shares = np.array(statistics.shares)
            return ConstantPredictor(shares if task.num_classes else statistics.mean, task.num_classes)
        if (labels == labels[0]).all():
            return constant_predictor(task, labels)
        if task.transform == "log1p":
            return LogPredictor(self.fit_labels(table, counting, np.log1p(labels), task, statistics, seed))
        return self.fit_labels(table, counting, labels, task, statistics, seed)

    @abstractmethod
    def fit_labels(
        self,
        table: ExampleTable,
        rows: Ints,
        labels: Floats,
        task: TaskConfig,
        statistics: TaskStatistics,
        seed: int,
    ) -> RankingPredictor:
        """Fit on rows [K] with known labels [K], at least two of them different; see `fit`."""

    @classmethod
    def refusal(cls, table: ExampleTable, rows: int) -> str | None:
        """Why this baseline cannot be fitted on so many rows of a table; None if it can."""
        return None


def too_large(rows: int, columns: int, bytes_each: int) -> str | None:
    """Why a matrix does not fit into the limit; None if it does."""
    needed = rows * columns * bytes_each
    if needed <= MOST_BYTES:
        return None
    return (
        f"{rows:,} train rows of {columns:,} numbers need {needed / 2**30:.1f} GiB "
        f"and the limit is {MOST_BYTES / 2**30:.0f} GiB"
    )
