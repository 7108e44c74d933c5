"""A task with `transform: log1p` is the plain task of the logarithm, and speaks in the label's own unit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.config import discover, implementations
from moerec.evaluation.predictions import Predictions, evaluate_predictions
from moerec.models.predict import predict_rows
from moerec.models.rankers.saved import load_ranker, save_ranker
from moerec.tasks import Target, TaskConfig, TaskStatistics, make_target
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import SCHEMA, example_table

LOG = TaskConfig(name="hours", label="hours", type="regression", mask="known", transform="log1p")
PLAIN = LOG.model_copy(update={"transform": "none"})
ROWS = np.arange(120)
BASELINES = {
    "means": {},
    "logistic_regression": {"components": 3, "minimum_count": 2},
    "gradient_boosting": {"iterations": 8, "leaf_rows": 5},
}


def tables():
    """The same examples with heavy-tailed hours, and with their logarithm."""
    table = example_table(200)
    hours = np.round(np.exp(2 * np.random.default_rng(3).normal(size=200)) * 60) / 16
    labels = table.labels | {"hours": hours}
    return replace(table, labels=labels), replace(table, labels=labels | {"hours": np.log1p(hours)})


def target_of(task, table):
    return make_target(task, table.labels, table.negative)


def statistics_of(task, target):
    return TaskStatistics.of(Target(target.values[ROWS], target.mask[ROWS]), task.transform)


def trained(kind, task, table):
    torch.manual_seed(0)
    target = target_of(task, table)
    config = discover("ranker", {"kind": kind, "width": 4, "dropout": 0.0, "id_dropout": 0.0})
    model = config.build(SCHEMA, (task,), {"hours": statistics_of(task, target)})
    objective = RankingObjective(model, table, ROWS, {"hours": target}, seed=0)
    stage = RankerStageConfig(epochs=2, batch_size=40)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for epoch in range(2):
        for batch in objective.epoch(stage, epoch, 0):
            optimizer.zero_grad()
            objective.loss(stage, batch).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("kind", ["mmoe", "single_task"])
def test_a_ranker_learns_the_logarithm_and_predicts_the_label(kind, tmp_path):
    own, logs = tables()
    log, plain = trained(kind, LOG, own), trained(kind, PLAIN, logs)
    for one, other in zip(log.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    predicted, of_logs = (predict_rows(model, table)["hours"] for model, table in ((log, own), (plain, logs)))
    np.testing.assert_allclose(predicted, np.maximum(np.expm1(of_logs), 0), rtol=1e-3, atol=1e-3)
    save_ranker(tmp_path, log)
    np.testing.assert_array_equal(predict_rows(load_ranker(tmp_path), own)["hours"], predicted)


@pytest.mark.parametrize("kind", sorted(implementations("ranking_baseline")))
def test_a_baseline_learns_the_logarithm_and_predicts_the_label(kind):
    config = discover("ranking_baseline", {"kind": kind} | BASELINES[kind])
    found = []
    for task, table in zip((LOG, PLAIN), tables(), strict=True):
        target = target_of(task, table)
        found.append(config.fit(table, ROWS, task, target, statistics_of(task, target)).predict(table, np.arange(200)))
    np.testing.assert_allclose(found[0], np.maximum(np.expm1(found[1]), 0), rtol=1e-3, atol=1e-3)


def test_metrics_are_in_the_unit_of_the_label_and_logs_lie_near_the_median():
    own, _ = tables()
    target = target_of(LOG, own)
    hours = target.values[target.mask].astype(np.float64)
    # What a head says before it sees any input.
    constant = np.full(200, np.expm1(TaskStatistics.of(target, "log1p").log_mean))
    values = evaluate_predictions(Predictions.of(LOG, own.users, target, constant, own.negative))
    assert values["hours/rmse"] == pytest.approx(np.sqrt(np.mean((hours - constant[0]) ** 2)))
    to_median, to_mean = abs(constant[0] - np.median(hours)), abs(constant[0] - hours.mean())
    assert to_median < 0.3 * to_mean
