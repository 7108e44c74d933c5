"""Seeded random search over the settings of a ranking baseline, for one task, on validation rows alone.

Shape letters: N examples, K train rows, R validation rows.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moerec.batches.examples import ExampleTable
from moerec.errors import ConfigError
from moerec.evaluation.predictions import (
    MAIN_METRIC,
    Predictions,
    evaluate_predictions,
    is_higher_better,
    metric_name,
)
from moerec.evaluation.tuning import TuningResult, random_search
from moerec.models.ranking_baselines.base import RankingBaselineConfig
from moerec.tasks import Target, TaskConfig, TaskStatistics

R = TypeVar("R", bound=RankingBaselineConfig)
Ints = NDArray[np.int64]


def tune_ranking(
    config_type: type[R],
    trials: int,
    table: ExampleTable,
    train_rows: Ints,
    valid_rows: Ints,
    task: TaskConfig,
    target: Target,
    metric: str | None = None,
    seed: int = 0,
) -> TuningResult[R]:
    """Fit on the train rows and judge on the validation rows: the default setting and random ones.

    Args:
        config_type: the baseline.
        trials: settings to try; a baseline without settings is tried once.
        table: all examples.
        train_rows: [K] rows to fit on.
        valid_rows: [R] rows to judge by; none of them a train row.
        task: what to predict.
        target: its labels over all N rows of the table.
        metric: full name of the metric that decides; by default the main metric of the task's type.
        seed: of the search and of the fits.

    Raises:
        ConfigError: the parts share rows, or the metric is unknown or not defined on the validation rows.
    """
    shared = np.intersect1d(train_rows, valid_rows)
    if len(shared):
        raise ConfigError(f"tuning of task '{task.name}': {len(shared):,} rows are in train and in validation")
    name = metric or metric_name(task, MAIN_METRIC[task.type])
    higher = is_higher_better(name)
    labels = target.take(valid_rows)
    statistics = TaskStatistics.of(target.take(train_rows), task.transform)

    def judge(config: R) -> dict[str, float]:
        scores = config.fit(table, train_rows, task, target, statistics, seed).predict(table, valid_rows)
        metrics = evaluate_predictions(
            Predictions.of(
                task, table.users[valid_rows], labels, scores, table.negative[valid_rows], config_type.__name__
            )
        )
        if name not in metrics:
            raise ConfigError(
                f"tuning of task '{task.name}': {name} is not defined on the {len(valid_rows):,} validation rows; "
                f"they have: {', '.join(metrics) or 'no row that counts'}"
            )
        return metrics

    return random_search(config_type, trials, judge, name, seed, higher_is_better=higher)
