"""Every metric against scikit-learn, or against the definition written out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from moerec.evaluation import prediction_metrics as metrics

# Few different scores, so that ties, both ends and the edges of bins are common.
PROBABILITIES = st.one_of(st.sampled_from([0.0, 1 / 15, 0.2, 0.4999, 0.5, 0.8, 1.0]), st.floats(0, 1))
BINARY = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0]), PROBABILITIES), min_size=1, max_size=40)
NUMBERS = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=40)


def columns(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def both(labels):
    return 0 < labels.sum() < len(labels)


@given(BINARY)
@settings(max_examples=50)
def test_binary_metrics_equal_scikit_learns(rows):
    _, labels, scores = columns(rows)
    predicted = scores >= 0.5
    assert metrics.log_loss(labels, scores) == pytest.approx(sklearn_metrics.log_loss(labels, scores, labels=[0, 1]))
    assert metrics.brier(labels, scores) == pytest.approx(np.mean((labels - scores) ** 2))
    assert metrics.accuracy(labels, scores) == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    theirs = sklearn_metrics.f1_score(labels, predicted, zero_division=np.nan)
    assert metrics.f1(labels, scores) == pytest.approx(theirs, nan_ok=True)
    if both(labels):
        assert metrics.auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
        assert metrics.brier(labels, scores) == pytest.approx(sklearn_metrics.brier_score_loss(labels, scores))
    else:
        assert math.isnan(metrics.auc(labels, scores))
    if labels.any():
        theirs = sklearn_metrics.average_precision_score(labels, scores)
        assert metrics.average_precision(labels, scores) == pytest.approx(theirs)
    else:
        assert math.isnan(metrics.average_precision(labels, scores))


@given(NUMBERS)
@settings(max_examples=40)
def test_regression_metrics_equal_scikit_learns(rows):
    labels, scores = columns(rows)
    assert metrics.rmse(labels, scores) == pytest.approx(sklearn_metrics.root_mean_squared_error(labels, scores))
    assert metrics.mae(labels, scores) == pytest.approx(sklearn_metrics.mean_absolute_error(labels, scores))
    if np.ptp(labels) > 1e-6:
        assert metrics.r2(labels, scores) == pytest.approx(sklearn_metrics.r2_score(labels, scores))
    elif np.ptp(labels) == 0:
        assert math.isnan(metrics.r2(labels, scores))


@given(BINARY)
@settings(max_examples=50)
def test_gauc_is_the_weighted_mean_of_scikit_learns_auc_of_each_user(rows):
    users, labels, scores = columns(rows)
    values, weights = [], []
    for user in np.unique(users):
        own = users == user
        if both(labels[own]):
            values.append(sklearn_metrics.roc_auc_score(labels[own], scores[own]))
            weights.append(own.sum())
    by_user = metrics.auc_by_user(users, labels, scores)
    expected = np.average(values, weights=weights) if values else math.nan
    assert by_user.mean == pytest.approx(expected, nan_ok=True)
    assert by_user.users_left_out == pytest.approx(1 - len(values) / len(np.unique(users)))
    assert by_user.rows_left_out == pytest.approx(1 - sum(weights) / len(users))


def test_gauc_by_hand():
    users = np.array([4, 4, 4, 9, 9, 2, 2])
    labels = np.array([1.0, 0, 0, 1, 0, 1, 1])
    scores = np.array([0.5, 0.5, 0.9, 0.1, 0.0, 0.3, 0.2])
    by_user = metrics.auc_by_user(users, labels, scores)
    np.testing.assert_array_equal(by_user.users, [2, 4, 9])
    np.testing.assert_array_equal(by_user.values, [np.nan, 0.25, 1])  # half a pair of two; the one pair
    assert by_user.mean == pytest.approx((3 * 0.25 + 2 * 1) / 5)
    assert (by_user.users_left_out, by_user.rows_left_out) == pytest.approx((1 / 3, 2 / 7))


def test_gauc_does_not_see_the_levels_of_users_but_auc_does():
    users = np.repeat(np.arange(50), 6)
    labels = np.tile([1.0, 0, 1, 0, 1, 0], 50)
    labels[:150] = np.tile([1.0, 1, 1, 1, 1, 0], 25)  # the first users like more
    scores = np.where(users < 25, 0.8, 0.3)
    assert metrics.gauc(users, labels, scores) == 0.5
    assert metrics.auc(labels, scores) > 0.6


def test_calibration_errors_by_hand():
    labels = np.array([1.0, 0, 0, 1])
    scores = np.array([0.1, 0.1, 0.9, 0.7])
    assert metrics.ece(labels, scores, bins=2) == pytest.approx((abs(0.2 - 1) + abs(1.6 - 1)) / 4)
    assert metrics.ece(labels, scores, bins=10) == pytest.approx((abs(0.2 - 1) + 0.9 + 0.3) / 4)
    assert metrics.ece(labels, scores, bins=1) == pytest.approx(abs(1.8 - 2) / 4)
    assert metrics.ece_mass(labels, scores, bins=2) == pytest.approx((0.8 + 0.6) / 4)
    assert metrics.ece_mass(labels, scores, bins=1) == pytest.approx(0.2 / 4)
    crowded = np.array([0.51, 0.52, 0.53, 0.9])  # equal widths put three rows together, equal numbers two
    assert metrics.ece(labels, crowded, bins=2) == pytest.approx(abs(2.46 - 2) / 4)
    assert metrics.ece_mass(labels, crowded, bins=2) == pytest.approx((abs(1.03 - 1) + abs(1.43 - 1)) / 4)


@given(BINARY)
@settings(max_examples=40)
def test_ece_equals_scikit_learns_calibration_curve(rows):
    _, labels, scores = columns(rows)
    observed, predicted = calibration_curve(labels.astype(int), scores, n_bins=15, strategy="uniform")
    counts = np.bincount(metrics.calibration_bins(scores), minlength=15)
    expected = np.abs(observed - predicted) @ counts[counts > 0] / len(labels)
    assert metrics.ece(labels, scores) == pytest.approx(expected, abs=1e-12)


@given(BINARY, st.integers(1, 6))
@settings(max_examples=40)
def test_ece_mass_equals_its_definition(rows, bins):
    _, labels, scores = columns(rows)
    gaps = np.zeros(bins)
    for label, score in zip(labels, scores, strict=True):
        middle = (scores > score).sum() + (scores == score).sum() / 2
        gaps[int(bins * middle / len(scores) + 1e-9)] += score - label
    assert metrics.ece_mass(labels, scores, bins) == pytest.approx(np.abs(gaps).sum() / len(labels), abs=1e-12)


@given(BINARY, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    for name in ("auc", "average_precision", "ece", "ece_mass"):
        first, second = (getattr(metrics, name)(*columns(these)[1:]) for these in (rows, shuffled))
        assert first == pytest.approx(second, nan_ok=True, abs=1e-12)


def test_constant_predictions_rank_nothing():
    labels = np.array([1.0, 0, 0, 1, 0])
    constant = np.full(5, 0.3)
    assert metrics.auc(labels, constant) == 0.5
    assert metrics.gauc(np.zeros(5, int), labels, constant) == 0.5
    assert metrics.average_precision(labels, constant) == pytest.approx(0.4)
    assert metrics.ece(labels, constant) == metrics.ece_mass(labels, constant) == pytest.approx(0.1)


def test_without_rows_nothing_is_defined():
    nothing = np.zeros(0)
    for name in ("auc", "average_precision", "log_loss", "brier", "accuracy", "f1", "ece", "ece_mass", "rmse", "r2"):
        assert math.isnan(getattr(metrics, name)(nothing, nothing))
    assert math.isnan(metrics.gauc(np.zeros(0, np.int64), nothing, nothing))
