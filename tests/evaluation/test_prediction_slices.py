"""Slices that split the rows, counts by hand, and metrics that equal those of the rows alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.evaluation.prediction_slices import count_earlier_events, evaluate_prediction_slices, slice_rows
from moerec.evaluation.predictions import Predictions, evaluate_predictions
from moerec.tasks import make_target

from .prediction_cases import LIKE, RATING

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(-4, 4)), max_size=25)


@given(EVENTS, EVENTS)
@settings(max_examples=60)
def test_earlier_events_are_counted_strictly(rows, train):
    (users, times), (train_users, train_times) = (
        np.array(events, dtype=np.int64).reshape(-1, 2).T for events in (rows, train)
    )
    expected = [((train_users == user) & (train_times < time)).sum() for user, time in rows]
    np.testing.assert_array_equal(count_earlier_events(users, times, train_users, train_times), expected)


def table(rows=500, seed=0):
    generator = np.random.default_rng(seed)
    negative = generator.random(rows) < 0.3
    labels = {"rating": np.where(negative | (generator.random(rows) < 0.2), np.nan, generator.integers(1, 6, rows))}
    counts = np.concatenate([[0, 0], generator.integers(0, 9, 20)])
    slices = slice_rows(generator.integers(2, 22, rows), generator.integers(0, 30, rows), counts)
    return generator.integers(0, 15, rows), labels, negative, slices, generator.random(rows)


def test_each_kind_of_slice_splits_the_rows():
    slices = table()[3]
    for kind in (("cold user", "known user"), ("head item", "tail item", "cold item")):
        assert (sum(slices[name].astype(int) for name in kind) == 1).all()
    lengths = [slices[f"{name} history"] for name in ("short", "medium", "long")]
    assert (sum(one.astype(int) for one in lengths) == 1).all()
    assert all(0.25 < one.mean() < 0.42 for one in lengths)


def test_slices_by_hand():
    slices = slice_rows(np.array([2, 3, 4, 2]), np.array([4, 5, 0, 9]), np.array([7, 7, 6, 3, 0]))
    np.testing.assert_array_equal(slices["cold user"], [True, False, True, False])
    np.testing.assert_array_equal(slices["head item"], [True, False, False, True])
    np.testing.assert_array_equal(slices["tail item"], [False, True, False, False])
    np.testing.assert_array_equal(slices["cold item"], [False, False, True, False])
    assert all(len(chosen) == 0 for chosen in slice_rows(*[np.zeros(0, np.int64)] * 2, np.arange(5)).values())


@pytest.mark.parametrize("population", ["reviews", "reviews+negatives"])
def test_a_slice_has_the_metrics_of_its_rows_alone(population):
    users, labels, negative, slices, scores = table()
    task = LIKE.model_copy(update={"population": population})
    target = make_target(task, labels, negative)
    whole = Predictions.of(task, users, target, scores, negative)
    found = evaluate_prediction_slices(whole, target.mask, negative, slices)
    for name, chosen in slices.items():
        rows = chosen & target.mask
        alone = Predictions(task, users[rows], target.values[rows].astype(float), scores[rows], negative[rows])
        counts = {key: found[name].pop(key) for key in ("rows", "users", "label_known")}
        assert found[name] == evaluate_predictions(alone)
        assert counts["rows"] == rows.sum()
        assert counts["users"] == len(np.unique(users[rows]))
        among = chosen & ~negative if population == "reviews" else chosen
        assert counts["label_known"] == pytest.approx(rows.sum() / among.sum())


def test_the_parts_of_a_mixed_population_keep_their_names_apart():
    users, labels, negative, _, scores = table()
    mixed = LIKE.model_copy(update={"population": "reviews+negatives"})
    target = make_target(mixed, labels, negative)
    whole = Predictions.of(mixed, users, target, scores, negative)
    found = evaluate_prediction_slices(whole, target.mask, negative, {})
    real = Predictions.of(LIKE, users, make_target(LIKE, labels, negative), scores, negative)
    assert found["reviews"].items() >= evaluate_predictions(real).items()
    assert found["reviews"]["rows"] + found["negatives"]["rows"] == len(whole)
    assert found["negatives"]["label_known"] == 1
    assert not any(name.endswith("auc") or "/auc" in name for name in found["negatives"])
    assert evaluate_prediction_slices(real, target.mask, negative, {}) == {}


def test_empty_slices_and_wrong_masks():
    users, labels, negative, _, scores = table()
    target = make_target(RATING, labels, negative)
    whole = Predictions.of(RATING, users, target, scores, negative)
    nothing = {"nobody": np.zeros(len(users), bool)}
    found = evaluate_prediction_slices(whole, target.mask, negative, nothing)
    assert found == {"nobody": {"rows": 0, "users": 0, "label_known": 0}}
    with pytest.raises(ValueError, match="rows that count"):
        evaluate_prediction_slices(whole, np.ones_like(negative), negative, nothing)


def test_without_times_there_are_slices_by_item_alone_and_none_that_is_everything():
    counts = np.array([0, 0, 7, 1, 0])
    found = slice_rows(np.array([2, 3, 4]), None, counts)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "head item": [True, False, False],
        "tail item": [False, True, False],
        "cold item": [False, False, True],
    }
    assert set(slice_rows(np.array([2, 2]), None, counts)) == {"tail item", "cold item"}
