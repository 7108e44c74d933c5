"""Gradient boosted trees on histograms (Ke et al. 2017), scikit-learn's.

Shape letters: K train rows, R rows to predict, M values of a multi-valued feature, C columns of the matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moerec.batches.examples import ExampleTable
from moerec.features.columns import MISSING
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
from moerec.models.ranking_baselines.components import PrincipalComponents, fit_components
from moerec.models.ranking_baselines.design import code_counts, codes_of, feature_names, numbers_of
from moerec.tasks import TaskConfig, TaskStatistics

MOST_CODES = 255
"""A categorical feature with more codes is read by how often its code occurs."""
MOST_VALUES = 64
"""Columns of one multi feature: its most frequent values."""
COMPONENTS = (0, 4, 16)
"""Principal components of each vector that tuning tries."""
BYTES_OF_A_NUMBER = 8


@dataclass(frozen=True, eq=False)
class TreeColumns:
    """The columns that trees read, learned on train rows; NaN where a value is missing."""

    dense: tuple[str, ...]
    """Dense features, as they are."""
    codes: tuple[str, ...]
    """Categorical features with few codes; trees split them into sets of codes."""
    counts: Mapping[str, Floats]
    """Categorical features with many codes: logarithm of each code's train rows."""
    values: Mapping[str, Ints]
    """Multi features: the codes that have a column."""
    components: tuple[PrincipalComponents, ...]
    """Vector features."""

    @property
    def categorical(self) -> list[int]:
        """The columns that hold codes."""
        return list(range(len(self.dense), len(self.dense) + len(self.codes)))

    def matrix(self, table: ExampleTable, rows: Ints) -> Floats:
        """The rows as a dense matrix, [R, C]."""
        parts = [numbers_of(table, name, rows)[:, None] for name in self.dense]
        for name in self.codes:
            codes = codes_of(table, name, rows)  # [R, 1]
            parts.append(np.where(codes > MISSING, codes, np.nan))
        for name, counts in self.counts.items():
            codes = codes_of(table, name, rows)  # [R, 1]
            seen = np.where(codes < len(counts), counts[np.minimum(codes, len(counts) - 1)], 0.0)
            parts.append(np.where(codes > MISSING, seen, np.nan))
        for name, kept in self.values.items():
            codes = codes_of(table, name, rows)  # [R, M]
            parts += [(codes == code).any(1).astype(np.float64)[:, None] for code in kept]
        parts += [components.apply(table, rows) for components in self.components]
        return np.concatenate([np.empty((len(rows), 0)), *parts], axis=1)


def fit_columns(table: ExampleTable, rows: Ints, components: int) -> TreeColumns:
    """Learn what the columns are; a number that no train row has is none. See `TreeColumns`."""
    few: list[str] = []
    many: dict[str, Floats] = {}
    for name in feature_names(table, ("categorical",)):
        if table.schema.sizes[name] <= MOST_CODES:
            few.append(name)
        elif (codes_of(table, name, rows) > MISSING).any():
            many[name] = np.log1p(code_counts(table, name, rows))
    values = {}
    for name in feature_names(table, ("multi",)):
        counts = code_counts(table, name, rows)
        frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
        values[name] = np.sort(frequent[counts[frequent] > 0])
    dense = [name for name in feature_names(table, ("dense",)) if np.isfinite(numbers_of(table, name, rows)).any()]
    vectors = feature_names(table, ("vector",)) if components else []
    return TreeColumns(
        dense=tuple(dense),
        codes=tuple(few),
        counts=many,
        values=values,
        components=tuple(fit_components(table, name, rows, components) for name in vectors),
    )


@dataclass(frozen=True, eq=False)
class BoostingPredictor(RankingPredictor):
    """Fitted trees on their columns."""

    columns: TreeColumns
    model: Any
    task: TaskConfig
    """What it predicts."""
    num_classes: int = 0

    def predict_block(self, table: ExampleTable, rows: Ints) -> Floats:
        """See `predictions_of`."""
        matrix = self.columns.matrix(table, rows)
        with threadpool_limits(torch.get_num_threads()):
            return predictions_of(self.model, matrix, self.task)


class GradientBoostingConfig(RankingBaselineConfig):
    """Gradient boosted trees on all features but ids and histories.

    Ids are left out: trees would need a split for every few users, and what the ids tell comes in by the causal
    statistics of user and item. The number of iterations is a setting like the others, so nothing but the validation
    metric decides it. Several classes have a tree each in every iteration; those of an ordinal task are taken without
    their order.
    """

    iterations: int = Field(default=100, ge=1)
    """Trees; of a task with several classes, trees of each."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Share of each tree's correction that is taken."""
    leaves: int = Field(default=31, ge=2)
    """Most leaves of a tree."""
    leaf_rows: int = Field(default=20, ge=1)
    """Fewest train rows of a leaf."""
    l2: float = Field(default=1.0, ge=0)
    """Penalty of the squared values of the leaves."""
    feature_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the columns, drawn anew for each split, that may be split by."""
    components: int = Field(default=0, ge=0)
    """Read so many principal components of each vector feature; 0 leaves vectors out."""

    def fit_labels(
        self,
        table: ExampleTable,
        rows: Ints,
        labels: Floats,
        task: TaskConfig,
        statistics: TaskStatistics,
        seed: int,
    ) -> RankingPredictor:
        """Columns and trees; uses as many threads as torch; see `RankingBaselineConfig.fit`."""
        columns = fit_columns(table, rows, self.components)
        matrix = columns.matrix(table, rows)  # [K, C]
        if matrix.shape[1] == 0:
            return constant_predictor(task, labels)
        kind = HistGradientBoostingRegressor if task.type == "regression" else HistGradientBoostingClassifier
        model = kind(
            max_iter=self.iterations,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.leaf_rows,
            l2_regularization=self.l2,
            max_features=self.feature_share,
            categorical_features=columns.categorical or None,
            early_stopping=False,
            random_state=seed % 2**32,
        )
        with threadpool_limits(torch.get_num_threads()):
            model.fit(matrix, labels)
        return BoostingPredictor(columns, model, task, task.num_classes)

    @classmethod
    def refusal(cls, table: ExampleTable, rows: int) -> str | None:
        """No feature that trees can read, or too many numbers for memory; see `RankingBaselineConfig.refusal`."""
        single = feature_names(table, ("dense", "categorical"))
        several = [min(MOST_VALUES, table.schema.sizes[name]) for name in feature_names(table, ("multi",))]
        vectors = feature_names(table, ("vector",))
        columns = len(single) + sum(several) + max(COMPONENTS) * len(vectors)
        if columns == 0:
            return "the examples have no feature but ids and histories"
        return too_large(rows, columns, BYTES_OF_A_NUMBER)

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """Few coarse trees to many fine ones, with and without vectors."""
        return {
            "iterations": Range(50, 300, log=True, integer=True),
            "learning_rate": Range(0.03, 0.25, log=True),
            "leaves": Range(8, 64, log=True, integer=True),
            "leaf_rows": Range(5, 300, log=True, integer=True),
            "l2": Range(0.01, 100, log=True),
            "feature_share": Range(0.3, 1.0),
            "components": Choice(COMPONENTS),
        }
