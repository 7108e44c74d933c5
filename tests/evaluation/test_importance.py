"""Features that a planted model reads lose it something, others nothing."""

import numpy as np
import pytest

from moerec.evaluation.class_metrics import macro_auc
from moerec.evaluation.importance import permutation_importance
from moerec.evaluation.prediction_metrics import auc, rmse
from moerec.tasks import Target, TaskConfig

ROWS = 2000
LIKE = TaskConfig(name="like", label="rating", at_least=4)
RATING = TaskConfig(name="rating", label="rating", type="regression")


def planted():
    """`like` reads both columns of `wide` as a product; `rating` reads `level`; `idle` is read by none."""
    generator = np.random.default_rng(0)
    columns = {
        "wide": generator.normal(size=(ROWS, 2)),
        "level": generator.normal(size=ROWS),
        "idle": generator.normal(size=ROWS),
    }

    def predict(permuted):
        taken = {name: values[permuted.get(name, np.arange(ROWS))] for name, values in columns.items()}
        product = taken["wide"][:, 0] * taken["wide"][:, 1]
        return {"like": 1 / (1 + np.exp(-product)), "rating": 3 + taken["level"]}

    scores = predict({})
    known = generator.random(ROWS) < 0.8
    targets = {
        "like": Target((scores["like"] > 0.5).astype(np.float32), known),
        "rating": Target(scores["rating"].astype(np.float32), ~known | (np.arange(ROWS) < 1000)),
    }
    return predict, targets


def test_each_task_loses_what_it_reads():
    predict, targets = planted()
    found = permutation_importance(predict, ["idle", "wide", "level"], [LIKE, RATING], targets, repeats=4)
    assert list(found) == ["idle", "wide", "level"]
    assert found["idle"]["like"].drop == found["idle"]["rating"].drop == found["idle"]["like"].deviation == 0
    assert found["wide"]["like"].drop == pytest.approx(0.5, abs=0.04)  # from certainty to chance
    assert found["wide"]["rating"].drop == found["level"]["like"].drop == 0
    assert found["level"]["rating"].drop == pytest.approx(np.sqrt(2), abs=0.1)
    assert 0 < found["level"]["rating"].deviation < 0.1


def test_a_drop_is_the_metric_before_and_after():
    predict, targets = planted()
    permutation = np.random.default_rng([5, 0]).permutation(ROWS)
    found = permutation_importance(predict, ["wide", "level"], [LIKE, RATING], targets, repeats=1, seed=5)
    for name, task, metric, sign in (("wide", "like", auc, -1), ("level", "rating", rmse, 1)):
        mask, labels = targets[task].mask, targets[task].values.astype(np.float64)
        before, after = (metric(labels[mask], predict(how)[task][mask]) for how in ({}, {name: permutation}))
        assert found[name][task].drop == pytest.approx(sign * (after - before))
        assert found[name][task].deviation == 0


def test_a_feature_does_not_depend_on_its_company_and_seeds_differ():
    predict, targets = planted()
    alone = permutation_importance(predict, ["level"], [RATING], targets, repeats=2, seed=1)
    together = permutation_importance(predict, ["wide", "idle", "level"], [LIKE, RATING], targets, repeats=2, seed=1)
    other = permutation_importance(predict, ["level"], [RATING], targets, repeats=2, seed=2)
    assert alone["level"]["rating"] == together["level"]["rating"]
    assert alone["level"]["rating"] != other["level"]["rating"]


def test_a_task_without_a_metric_is_left_out():
    predict, targets = planted()
    targets["like"] = Target(np.ones(ROWS, np.float32), np.ones(ROWS, bool))
    found = permutation_importance(predict, ["wide"], [LIKE, RATING], targets, repeats=1)
    assert set(found["wide"]) == {"rating"}


def test_tasks_with_classes_lose_auc_over_classes_and_error_of_the_expected_value():
    generator = np.random.default_rng(0)
    column, labels = generator.dirichlet(np.ones(3), ROWS), generator.integers(0, 3, ROWS)
    column[np.arange(ROWS), labels] += 1
    device = TaskConfig(name="device", label="x", type="multiclass", values=(5, 1, 3))
    stars = TaskConfig(name="stars", label="x", type="ordinal", values=(1, 2, 10))

    def predict(permuted):
        taken = column[permuted.get("x", np.arange(ROWS))] / 2
        return {"device": taken, "stars": taken}

    known = np.arange(ROWS) < 1500
    targets = {name: Target(np.where(known, labels, 0).astype(np.float32), known, ()) for name in ("device", "stars")}
    found = permutation_importance(predict, ["x", "idle"], [device, stars], targets, repeats=1, seed=3)
    moved = predict({"x": np.random.default_rng([3, 0]).permutation(ROWS)})["stars"][known]
    before, true, values = predict({})["stars"][known], labels[known], np.array([1.0, 2, 10])
    expected = macro_auc(true.astype(float), before) - macro_auc(true.astype(float), moved)
    assert found["x"]["device"].drop == pytest.approx(expected)
    assert expected > 0.4
    rise = rmse(values[true], moved @ values) - rmse(values[true], before @ values)
    assert found["x"]["stars"].drop == pytest.approx(rise)
    assert rise > 1
    assert found["idle"]["device"].drop == found["idle"]["stars"].drop == 0
