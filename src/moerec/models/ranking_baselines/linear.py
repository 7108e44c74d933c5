"""Linear baselines: logistic regression for tasks with classes, ridge regression for numbers.

Shape letters: K train rows, R rows to predict.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from moerec.batches.examples import ExampleTable
from moerec.models.baselines.base import Choice, Range
from moerec.models.ranking_baselines.base import (
    Floats,
    Ints,
    RankingBaselineConfig,
    RankingPredictor,
    constant_predictor,
    predictions_of,
    too_large,
)
from moerec.models.ranking_baselines.design import Design, feature_names, fit_design
from moerec.tasks import TaskConfig, TaskStatistics

COMPONENTS = (0, 16, 64)
"""Principal components of each vector that tuning tries."""
BYTES_OF_AN_ENTRY = 12
"""A number of a sparse matrix and its column."""


@dataclass(frozen=True, eq=False)
class LinearPredictor(RankingPredictor):
    """A fitted model of scikit-learn on its design matrix."""

    design: Design
    model: Any
    task: TaskConfig
    """What it predicts."""
    num_classes: int = 0

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """See `predictions_of`."""
        return predictions_of(self.model, self.design.matrix(table, rows), self.task)


class LogisticRegressionConfig(RankingBaselineConfig):
    """Logistic regression, or ridge regression for numbers, on all features but histories.

    Several classes have a weight each (multinomial); those of an ordinal task are taken without their order.
    """

    l2: float = Field(default=10.0, gt=0)
    """Penalty of the squared weights, beside the sum over rows of the log-loss or of the squared error."""
    ids: bool = True
    """Give each user and each item of the train rows a weight of its own."""
    components: int = Field(default=0, ge=0)
    """Read so many principal components of each vector feature; 0 leaves vectors out."""
    minimum_count: int = Field(default=5, ge=1)
    """Codes, users and items with fewer train rows get no weight of their own."""
    iterations: int = Field(default=200, ge=1)
    """The solver stops after so many iterations, settled or not."""

    def fit_labels(
        self,
        table: ExampleTable,
        rows: Ints,
        labels: Floats,
        task: TaskConfig,
        statistics: TaskStatistics,
        seed: int,
    ) -> RankingPredictor:
        """Design matrix and weights; see `RankingBaselineConfig.fit`."""
        design = fit_design(table, rows, ids=self.ids, components=self.components, minimum_count=self.minimum_count)
        if design.width == 0:
            return constant_predictor(task, labels)
        if task.type == "regression":
            model = Ridge(alpha=self.l2, max_iter=self.iterations, solver="sparse_cg")
        else:
            model = LogisticRegression(C=1 / self.l2, max_iter=self.iterations, solver="lbfgs")
        with warnings.catch_warnings():
            # A light penalty settles late; where it stops is then part of the setting.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(design.matrix(table, rows), labels)
        return LinearPredictor(design, model, task, task.num_classes)

    @classmethod
    def refusal(cls, table: ExampleTable, rows: int) -> str | None:
        """Too many numbers for memory; see `RankingBaselineConfig.refusal`."""
        each = 2 + 2 * len(feature_names(table, ("dense",))) + len(feature_names(table, ("categorical",)))
        each += sum(_places(table, name) for name in feature_names(table, ("multi",)))
        each += max(COMPONENTS) * len(feature_names(table, ("vector",)))
        return too_large(rows, each, BYTES_OF_AN_ENTRY)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Hardly any to heavy penalty, with and without ids and vectors."""
        return {
            "l2": Range(1, 1000, log=True),
            "ids": Choice((True, False)),
            "components": Choice(COMPONENTS),
        }


def _places(table: ExampleTable, name: str) -> int:
    """The most values that a multi feature has in one row."""
    return table.column(name, np.empty(0, np.int64)).shape[1]
