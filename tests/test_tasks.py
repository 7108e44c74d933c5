"""Tasks: labels and masks, statistics, and lists of tasks that make sense."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import ValidationError

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.tasks import (
    Target,
    TaskConfig,
    TaskStatistics,
    check_tasks,
    make_target,
    predicted_value,
    prediction_columns,
)

NAN = float("nan")
LABELS = {"rating": np.array([5.0, 3.0, NAN, 4.0, NAN]), "known": np.array([1.0, 1.0, 1.0, 0.0, NAN])}
NEGATIVE = np.array([False, False, False, False, True])


@pytest.mark.parametrize(
    ("fields", "values", "mask"),
    [
        ({"label": "rating", "at_least": 4}, [1, 0, 0, 1, 0], [1, 1, 0, 1, 0]),
        ({"label": "rating", "at_least": 4, "mask": "known"}, [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]),
        ({"label": "rating", "type": "regression"}, [5, 3, 0, 4, 0], [1, 1, 0, 1, 0]),
        ({"label": "rating", "at_least": 4, "population": "reviews+negatives"}, [1, 0, 0, 1, 0], [1, 1, 0, 1, 1]),
        ({"population": "reviews+negatives"}, [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]),
        ({"label": "rating", "type": "ordinal", "values": [1, 2, 3, 4, 5]}, [4, 2, 0, 3, 0], [1, 1, 0, 1, 0]),
        ({"label": "rating", "type": "multiclass", "values": [4, 5, 3]}, [1, 2, 0, 0, 0], [1, 1, 0, 1, 0]),
        ({"label": "rating", "type": "ordinal", "values": [3, 5], "mask": "known"}, [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]),
    ],
)
def test_labels_and_masks(fields, values, mask):
    target = make_target(TaskConfig(name="t", **fields), LABELS, NEGATIVE)
    np.testing.assert_array_equal(target.values, values)
    np.testing.assert_array_equal(target.mask, np.array(mask, bool))


def test_a_binary_label_that_is_neither_0_nor_1_is_refused():
    with pytest.raises(ConfigError, match="has the value 5; give at_least"):
        make_target(TaskConfig(name="t", label="rating"), LABELS, NEGATIVE)


def test_a_value_that_is_no_class_is_refused_in_one_line_that_names_it():
    task = TaskConfig(name="stars", label="rating", type="ordinal", values=[1, 2, 3, 4.5])
    with pytest.raises(
        ConfigError, match=r"label 'rating' has the value 5 in 1 rows, .* \(1, 2, 3, 4.5\); add it"
    ) as caught:
        make_target(task, LABELS, NEGATIVE)
    assert "\n" not in str(caught.value)


def test_classes_are_found_in_a_column_of_less_precision():
    values = (0.1, 0.7, 1 / 3, 2.0**40)
    labels = {"x": np.array(values, np.float32).astype(np.float64)}
    target = make_target(TaskConfig(name="t", label="x", type="multiclass", values=values), labels, np.zeros(4, bool))
    np.testing.assert_array_equal(target.values, [0, 1, 2, 3])
    assert target.classes == values


def test_statistics_of_classes_are_shares_and_moments_in_the_unit_of_the_label():
    target = Target(np.array([0, 2, 2, 2], np.float32), np.array([True, True, True, False]), (1.0, 2.0, 4.0))
    found = TaskStatistics.of(target)
    assert found.shares == pytest.approx((1 / 3, 0, 2 / 3))
    assert (found.mean, found.deviation) == pytest.approx((3, np.std([1, 4, 4])))
    assert TaskStatistics(**json.loads(json.dumps(asdict(found)))) == found
    assert TaskStatistics.of(target.take(np.array([3]))).shares == pytest.approx((1 / 3,) * 3)


STARS = TaskConfig(name="stars", label="rating", type="ordinal", values=[1, 2, 5])
KIND = TaskConfig(name="kind", label="rating", type="multiclass", values=[7, -1, 0.5])


def test_predictions_speak_in_the_values_of_the_label():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    np.testing.assert_allclose(predicted_value(STARS, probabilities), [2.25, 4])
    np.testing.assert_array_equal(predicted_value(KIND, probabilities), [7, 0.5])
    columns = prediction_columns(KIND, probabilities)
    assert list(columns) == ["kind", "kind_7", "kind_-1", "kind_0.5"]
    np.testing.assert_array_equal(columns["kind_-1"], [0.25, 0.2])
    like = TaskConfig(name="like", label="bought")
    assert {name: list(values) for name, values in prediction_columns(like, np.array([0.3])).items()} == {"like": [0.3]}


def test_tasks_that_would_write_the_same_column_are_refused():
    with pytest.raises(ValueError, match="stars and stars_2 would both write a column 'stars_2'"):
        check_tasks((STARS, TaskConfig(name="stars_2", label="bought")))


def test_statistics_are_of_the_rows_that_count():
    target = Target(np.array([1, 3, 99], np.float32), np.array([True, True, False]))
    assert TaskStatistics.of(target) == TaskStatistics(2.0, 1.0)
    assert TaskStatistics.of(Target(target.values, np.zeros(3, bool))) == TaskStatistics(0.5, 1.0)


def test_statistics_of_logarithms_stand_beside_those_of_the_label():
    target = Target(np.expm1([1, 3, 9]).astype(np.float32), np.array([True, True, False]))
    plain, log = TaskStatistics.of(target), TaskStatistics.of(target, "log1p")
    assert (log.mean, log.deviation) == (plain.mean, plain.deviation)
    hours = TaskConfig(name="t", label="hours", type="regression", transform="log1p")
    assert log.learned(hours) == pytest.approx((2.0, 1.0))
    assert log.learned(TaskConfig(name="t", label="hours", type="regression")) == (plain.mean, plain.deviation)


def test_a_negative_label_has_no_logarithm():
    task = TaskConfig(name="t", label="x", type="regression", transform="log1p")
    with pytest.raises(
        ConfigError, match=r"label 'x' has the value -0\.5, and transform: log1p is for labels from 0 on"
    ):
        make_target(task, {"x": np.array([1.0, -0.5])}, np.zeros(2, bool))
    assert make_target(task, {"x": np.array([1.0, NAN])}, np.zeros(2, bool)).mask.tolist() == [True, False]


LIKE = {"label": "rating", "at_least": 4}


def test_two_tasks_with_the_same_label_are_refused():
    twice = (TaskConfig(name="like", **LIKE), TaskConfig(name="good", **LIKE, weight=0.5))
    with pytest.raises(ValueError, match="tasks like and good have the same label"):
        check_tasks(twice)


@pytest.mark.parametrize(
    "other",
    [
        {"label": "rating", "at_least": 5},
        {"label": "rating", "type": "regression"},
        {"label": "rating", "type": "ordinal", "values": [1, 2, 3, 4, 5]},
        {"label": "rating", "type": "multiclass", "values": [1, 2, 3, 4, 5]},
        {**LIKE, "mask": "known"},
        {**LIKE, "population": "reviews+negatives"},
        {"label": "bought"},
    ],
)
def test_tasks_that_differ_in_what_they_predict_go_together(other):
    check_tasks((TaskConfig(name="like", **LIKE), TaskConfig(name="other", **other)))


def test_no_task_and_one_name_twice_are_refused():
    with pytest.raises(ValueError, match="at least one task"):
        check_tasks(())
    with pytest.raises(ValueError, match="different names"):
        check_tasks((TaskConfig(name="a", **LIKE), TaskConfig(name="a", label="bought")))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"at_least": 4, "population": "reviews+negatives"},
        {"label": "rating", "type": "regression", "at_least": 4},
        {"label": "rating", "type": "regression", "population": "reviews+negatives"},
        {"label": "bought", "loss": "huber"},
        {"label": "rating", "type": "ordinal", "values": [1, 2], "loss": "huber"},
        {"label": "rating", "type": "ordinal", "values": [1, 2], "at_least": 2},
        {"label": "rating", "type": "multiclass", "values": [1, 2], "population": "reviews+negatives"},
        {"type": "multiclass", "values": [1, 2]},
        {"label": "bought", "transform": "log1p"},
    ],
)
def test_contradictions_are_refused(fields):
    with pytest.raises(ValidationError):
        TaskConfig(name="t", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "ordinal"}, "type: ordinal needs every value"),
        ({"type": "multiclass", "values": [1]}, "type: multiclass needs every value"),
        ({"type": "multiclass", "values": [1, 2, 1]}, "one is named twice"),
        ({"type": "multiclass", "values": [1, 1 + 1e-12]}, "differ by less"),
        ({"type": "ordinal", "values": [1, 3, 2]}, "from low to high"),
        ({"type": "regression", "values": [1, 2]}, "a regression task has none"),
        ({"type": "binary", "values": [0, 1]}, "a binary task has none"),
    ],
)
def test_values_that_make_no_classes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        validate(TaskConfig, {"name": "t", "label": "rating", **fields})
