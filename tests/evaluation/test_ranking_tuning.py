"""Tuning of ranking baselines: seeded, on validation rows alone, in the direction of the metric."""

from dataclasses import replace

import numpy as np
import pytest

from moerec.errors import ConfigError
from moerec.evaluation.predictions import Predictions, evaluate_predictions
from moerec.evaluation.ranking_tuning import tune_ranking
from moerec.models.ranking_baselines import LogisticRegressionConfig, MeansConfig, RankingBaselineConfig
from moerec.models.ranking_baselines.base import ConstantPredictor
from moerec.tasks import TaskConfig

from ..models.ranking_baselines.tables import KIND, LIKE, RATING, STARS, fit, make_table, target_of

TRAIN, VALID, TEST = np.arange(0, 200), np.arange(200, 300), np.arange(300, 400)
every_task = pytest.mark.parametrize("task", [LIKE, RATING], ids=lambda task: task.name)


def tuned(task=LIKE, table=None, config_type=MeansConfig, trials=5, **others):
    table = make_table(400) if table is None else table
    return tune_ranking(config_type, trials, table, TRAIN, VALID, task, target_of(table, task), **others)


def valid_metrics(config, table, task):
    target = target_of(table, task)
    scores = fit(config, table, TRAIN, task).predict(table, VALID)
    chosen = target.take(VALID)
    return evaluate_predictions(Predictions.of(task, table.users[VALID], chosen, scores, table.negative[VALID]))


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    first, again, other = (tuned(seed=seed) for seed in (1, 1, 2))
    assert [trial.config for trial in first.trials] == [trial.config for trial in again.trials]
    assert [trial.metrics for trial in first.trials] == [trial.metrics for trial in again.trials]
    assert first.trials[1].config != other.trials[1].config


@pytest.mark.parametrize(
    ("task", "metric", "best_of"),
    [
        (LIKE, "like/auc", max),
        (RATING, "rating/rmse", min),
        (LIKE, "like/log_loss", min),
        (RATING, "rating/r2", max),
        (STARS, "stars/rmse", min),
        (STARS, "stars/kappa", max),
        (KIND, "kind/auc", max),
    ],
)
def test_the_best_trial_by_the_direction_of_the_metric_is_kept(task, metric, best_of):
    named = {} if metric in ("like/auc", "rating/rmse", "stars/rmse", "kind/auc") else {"metric": metric}
    table = make_table(400)
    result = tuned(task, table, LogisticRegressionConfig, trials=4, **named)
    values = [trial.metrics[metric] for trial in result.trials]
    assert result.metric == metric
    assert len(set(values)) > 1
    assert result.trials[0].config == LogisticRegressionConfig()
    assert result.value == best_of(values)
    assert result.best == result.trials[values.index(best_of(values))].config
    assert valid_metrics(result.best, table, task)[metric] == pytest.approx(result.value, rel=1e-12)


@every_task
def test_the_test_rows_are_never_seen(task):
    table = make_table(400)
    labels = table.labels["rating"].copy()
    labels[TEST] = 6 - labels[TEST]
    columns = {name: table.column(name, np.arange(400)).copy() for name in ("age", "price", "device")}
    for values in columns.values():
        values[TEST] = 0
    users = table.users.copy()
    users[TEST] = 0
    changed = replace(table, labels={"rating": labels}, columns={**table.columns, **columns}, users=users)
    first, second = (tuned(task, one, LogisticRegressionConfig, trials=3) for one in (table, changed))
    assert [trial.metrics for trial in first.trials] == [trial.metrics for trial in second.trials]


def test_validation_labels_are_judged_by_and_never_fitted():
    table = make_table(400)
    labels = table.labels["rating"].copy()
    labels[VALID] = 6 - labels[VALID]
    flipped = replace(table, labels={"rating": labels})
    first, second = tuned(RATING, table), tuned(RATING, flipped)
    assert first.trials[0].metrics != second.trials[0].metrics
    before, after = (fit(MeansConfig(), one, TRAIN, RATING).predict(one, VALID) for one in (table, flipped))
    np.testing.assert_array_equal(before, after)


class SeenConfig(RankingBaselineConfig):
    """Nothing to tune; keeps what it was fitted on."""

    def fit_labels(self, table, rows, labels, task, statistics, seed):
        SEEN.append((rows, labels, statistics, seed))
        return ConstantPredictor(statistics.mean)

    @classmethod
    def search_space(cls):
        return {}


SEEN: list[tuple] = []


def test_a_baseline_without_settings_is_fitted_once_on_the_train_rows_that_count():
    table = make_table(400)
    labels = table.labels["rating"].copy()
    labels[10:20] = np.nan
    SEEN.clear()
    result = tuned(RATING, replace(table, labels={"rating": labels}), SeenConfig, trials=30, seed=7)
    assert len(result.trials) == len(SEEN) == 1
    rows, known, statistics, seed = SEEN[0]
    np.testing.assert_array_equal(rows, np.r_[0:10, 20:200])
    np.testing.assert_array_equal(known, labels[rows])
    assert statistics.mean == pytest.approx(known.mean())
    assert seed == 7


def test_validation_rows_without_a_label_are_not_judged():
    table = make_table(400)
    table.labels["rating"][VALID[:30]] = np.nan
    target = target_of(table, RATING)
    whole, rest = (
        tune_ranking(MeansConfig, 2, table, TRAIN, rows, RATING, target).trials[1].metrics
        for rows in (VALID, VALID[30:])
    )
    assert whole == rest


def test_a_task_with_drawn_negatives_is_judged_with_them():
    table = make_table(400)
    negative = np.arange(400) % 2 == 1
    task = TaskConfig(name="met", population="reviews+negatives")
    result = tuned(task, replace(table, negative=negative))
    assert result.metric == "met/auc/reviews+negatives"


def test_mistakes_are_refused():
    table = make_table(400)
    target = target_of(table, LIKE)
    with pytest.raises(ConfigError, match="1 rows are in train and in validation"):
        tune_ranking(MeansConfig, 1, table, TRAIN, np.arange(199, 250), LIKE, target)
    with pytest.raises(ConfigError, match="'like/ndcg' is not known"):
        tuned(metric="like/ndcg")
    with pytest.raises(ConfigError, match="rating/auc is not defined"):
        tuned(RATING, metric="rating/auc")
    with pytest.raises(ConfigError, match="at least 1"):
        tuned(trials=0)
    table.labels["rating"][VALID] = 5
    with pytest.raises(ConfigError, match="like/auc is not defined on the 100 validation rows"):
        tuned(table=table)
