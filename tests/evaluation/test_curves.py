"""Curves that keep their area, bins that add up, intervals that scipy gives too."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from moerec.evaluation.curves import (
    binary_calibration,
    curves,
    precision_recall_points,
    regression_calibration,
    residual_histogram,
    roc_points,
    score_histogram,
    thin_curve,
    wilson_interval,
)
from moerec.evaluation.prediction_metrics import ece

from .prediction_cases import binary_predictions, class_predictions, rating_predictions, star_predictions


def area(points):
    return np.trapezoid(points["true_positive_rate"], points["false_positive_rate"])


@given(
    st.integers(2, 4000),
    st.floats(0.02, 0.98),
    st.floats(-1, 6),
    st.sampled_from([1, 2, 3, 8]),
    st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_a_thinned_curve_keeps_the_area(rows, share, quality, decimals, seed):
    generator = np.random.default_rng(seed)
    labels = (generator.random(rows) < share).astype(float)
    labels[:2] = [0, 1]
    scores = (1 / (1 + np.exp(-quality * labels - generator.normal(0, 1, rows)))).round(decimals)
    points = roc_points(labels, scores)
    assert len(points["true_positive_rate"]) <= 200
    assert points["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert area(points) == pytest.approx(points["auc"], abs=1e-3)


@pytest.mark.parametrize("steps", [60, 101, 150, 400, 3000])
def test_stairs_keep_the_area(steps):
    """Corners on one side alone would lose half a step each."""
    for first in (0, 1):
        labels = np.tile([first, 1 - first], steps).astype(float)
        points = roc_points(labels, np.linspace(1, 0, 2 * steps))
        assert len(points["true_positive_rate"]) <= 200
        assert area(points) == pytest.approx(points["auc"], abs=1e-3)


@pytest.mark.parametrize("positives", [3, 20, 60, 99, 101, 130, 300])
@pytest.mark.parametrize("flip", [False, True])
def test_rare_classes_make_tall_steps_and_keep_the_area(positives, flip):
    generator = np.random.default_rng(positives)
    labels = np.zeros(6000)
    labels[:positives] = 1
    scores = generator.normal(labels * generator.uniform(-2, 3), 1)
    points = roc_points(1 - labels if flip else labels, scores)
    assert len(points["true_positive_rate"]) <= 200
    assert area(points) == pytest.approx(points["auc"], abs=1e-3)


def test_kept_points_lie_on_scikit_learns_curve():
    predictions = binary_predictions(rows=3000)
    points = roc_points(predictions.labels, predictions.scores)
    false, true, _ = roc_curve(predictions.labels, predictions.scores, drop_intermediate=False)
    on_curve = set(zip(false.tolist(), true.tolist(), strict=True))
    kept = list(zip(points["false_positive_rate"], points["true_positive_rate"], strict=True))
    assert set(kept) <= on_curve
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == ((0, 0), (1, 1))
    few = thin_curve(false, true, 20)
    assert len(few) <= 20


def test_precision_and_recall_are_scikit_learns():
    predictions = binary_predictions(rows=3000, decimals=3)
    points = precision_recall_points(predictions.labels, predictions.scores)
    precision, recall, _ = precision_recall_curve(predictions.labels, predictions.scores)
    on_curve = np.stack([recall, precision], axis=1).round(9).tolist()
    assert 100 < len(points["recall"]) <= 200
    for recall, precision in zip(points["recall"], points["precision"], strict=True):
        assert [round(recall, 9), round(precision, 9)] in on_curve
    assert points["recall"][-1] == 1
    expected = average_precision_score(predictions.labels, predictions.scores)
    assert points["average_precision"] == pytest.approx(expected)


def test_calibration_bins_add_up_to_the_calibration_error():
    predictions = binary_predictions(rows=1000, decimals=2)
    bins = binary_calibration(predictions.labels, predictions.scores)
    counts = np.array(bins["count"])
    gaps = np.abs(np.array(bins["predicted"]) - bins["observed"])
    assert counts.sum() == 1000
    assert gaps @ counts / 1000 == pytest.approx(ece(predictions.labels, predictions.scores))
    assert all(low <= rate <= high for low, rate, high in zip(bins["low"], bins["observed"], bins["high"], strict=True))


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 30), (7, 30), (999, 1000)])
def test_wilson_intervals_are_scipys(hits, count):
    low, high = wilson_interval(np.array([hits / count]), np.array([count]))
    theirs = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_histograms_count_every_row_once():
    predictions = binary_predictions(decimals=1)
    histogram = score_histogram(predictions.labels, predictions.scores)
    assert sum(histogram["positive"]) == predictions.labels.sum()
    assert sum(histogram["positive"]) + sum(histogram["negative"]) == 400
    ratings = rating_predictions()
    residuals = residual_histogram(ratings.labels, ratings.scores)
    assert sum(residuals["count"]) == 400
    assert len(residuals["edges"]) == len(residuals["count"]) + 1
    assert residuals["edges"][0] == pytest.approx((ratings.scores - ratings.labels).min())


def test_regression_bins_by_hand():
    labels = np.array([1.0, 3, 2, 4, 5])
    scores = np.array([1.0, 1, 4, 4, 4])
    bins = regression_calibration(labels, scores, bins=2)
    assert bins == {"predicted": [1, 4], "observed": [2, 11 / 3], "count": [2, 3], "deviation": bins["deviation"]}
    assert bins["deviation"] == pytest.approx([1, np.std([2, 4, 5])])
    many = rating_predictions(rows=1500)
    bins = regression_calibration(many.labels, many.scores)
    assert bins["count"] == [100] * 15
    assert bins["predicted"] == sorted(bins["predicted"])
    first = np.argsort(many.scores)[:100]
    assert bins["observed"][0] == pytest.approx(many.labels[first].mean())
    assert bins["deviation"][0] == pytest.approx(many.labels[first].std())


def test_everything_is_plain_data_even_where_nothing_is_defined():
    binary, ratings = binary_predictions(), rating_predictions()
    one_class = binary.select(binary.labels == 0)
    nothing = binary.select(np.zeros(400, bool))
    same = binary_predictions(scores=np.full(400, 0.5))
    for predictions in (binary, ratings, one_class, nothing, same, ratings.select(np.arange(400) == 0)):
        json.dumps(curves(predictions), allow_nan=False)
    assert set(curves(binary)) == {"roc", "precision_recall", "calibration", "histogram"}
    assert set(curves(ratings)) == {"calibration", "residuals"}
    assert curves(one_class)["roc"] == {"false_positive_rate": [], "true_positive_rate": [], "auc": None}
    assert curves(nothing) == {}


def test_tasks_with_classes_have_a_confusion_matrix_and_a_calibration():
    for make in (class_predictions, star_predictions):
        predictions = make()
        found = json.loads(json.dumps(curves(predictions), allow_nan=False))
        assert found["confusion"]["values"] == list(predictions.task.values)
        counts = np.array(found["confusion"]["count"])
        np.testing.assert_array_equal(counts.sum(1), np.bincount(predictions.labels.astype(int), minlength=4))
        np.testing.assert_array_equal(counts.sum(0), np.bincount(predictions.scores.argmax(1), minlength=4))
        assert sum(found["calibration"]["count"]) == 400
        assert curves(predictions.select(np.zeros(400, bool))) == {}


def test_the_calibration_of_stars_is_that_of_the_expected_value_and_of_devices_that_of_the_likeliest():
    stars, device = star_predictions(), class_predictions()
    values, bins = np.array(stars.task.values), curves(stars)["calibration"]
    mean = np.average(bins["observed"], weights=bins["count"])
    assert mean == pytest.approx(values[stars.labels.astype(int)].mean())
    assert np.average(bins["predicted"], weights=bins["count"]) == pytest.approx((stars.scores @ values).mean())
    bins = curves(device)["calibration"]
    right = device.scores.argmax(1) == device.labels
    assert np.average(bins["observed"], weights=bins["count"]) == pytest.approx(right.mean())
