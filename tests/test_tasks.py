"""Tasks: labels and masks, statistics, and lists of tasks that make sense."""

import numpy as np
import pytest
from pydantic import ValidationError

from moerec.errors import ConfigError
from moerec.tasks import Target, TaskConfig, TaskStatistics, check_tasks, make_target

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
    ],
)
def test_labels_and_masks(fields, values, mask):
    target = make_target(TaskConfig(name="t", **fields), LABELS, NEGATIVE)
    np.testing.assert_array_equal(target.values, values)
    np.testing.assert_array_equal(target.mask, np.array(mask, bool))


def test_a_binary_label_that_is_neither_0_nor_1_is_refused():
    with pytest.raises(ConfigError, match="has the value 5; give at_least"):
        make_target(TaskConfig(name="t", label="rating"), LABELS, NEGATIVE)


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
        {"label": "bought", "transform": "log1p"},
    ],
)
def test_contradictions_are_refused(fields):
    with pytest.raises(ValidationError):
        TaskConfig(name="t", **fields)
