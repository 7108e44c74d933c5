"""Metrics of class probabilities against scikit-learn, or against the definition written out."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from moerec.evaluation import class_metrics
from moerec.evaluation.class_metrics import multiclass_metrics, ordinal_metrics


def drawn(seed: int, rows: int, classes: int, decimals: int | None = None):
    """Labels [N] and probabilities [N, C], with ties where they are rounded."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), rows)
    if decimals is not None:
        probabilities = probabilities.round(decimals) + 0.05
        probabilities /= probabilities.sum(1, keepdims=True)
    return generator.integers(0, classes, rows).astype(np.float64), probabilities


CASES = {"seed": st.integers(0, 10_000), "rows": st.integers(1, 60), "classes": st.integers(2, 6)}
ROUNDED = st.sampled_from([None, 1])


@given(**CASES, decimals=ROUNDED)
@settings(max_examples=60)
def test_multiclass_metrics_equal_scikit_learns(seed, rows, classes, decimals):
    labels, probabilities = drawn(seed, rows, classes, decimals)
    found, predicted, names = multiclass_metrics(labels, probabilities), probabilities.argmax(1), np.arange(classes)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=names))
    theirs = sklearn_metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(theirs)
    present = np.unique(labels)
    if classes > 2 and len(present) == classes:
        theirs = sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert found["auc"] == pytest.approx(theirs)
    elif len(present) > 1:
        each = [sklearn_metrics.roc_auc_score(labels == k, probabilities[:, int(k)]) for k in present]
        assert found["auc"] == pytest.approx(np.mean(each))
    else:
        assert math.isnan(found["auc"])


@given(**CASES, decimals=ROUNDED)
@settings(max_examples=60)
def test_ordinal_metrics_equal_scikit_learns(seed, rows, classes, decimals):
    labels, probabilities = drawn(seed, rows, classes, decimals)
    values = np.sort(np.random.default_rng(seed).normal(size=classes)) * 10
    found, predicted = ordinal_metrics(labels, probabilities, values), probabilities.argmax(1)
    true, expected = values[labels.astype(int)], probabilities @ values
    assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(true, expected))
    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(true, expected))
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    theirs = sklearn_metrics.log_loss(labels, probabilities, labels=np.arange(classes))
    assert found["log_loss"] == pytest.approx(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where kappa is not defined
        theirs = sklearn_metrics.cohen_kappa_score(
            labels.astype(int), predicted, labels=np.arange(classes), weights="quadratic"
        )
    assert found["kappa"] == pytest.approx(theirs, nan_ok=True)


def test_the_calibration_error_is_that_of_the_likeliest_class():
    """Confidence against hits in bins of equal width (Guo et al. 2017)."""
    labels, probabilities = drawn(0, 5000, 4)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    gaps = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        gaps += abs((confidence[inside] - right[inside]).sum())
    assert multiclass_metrics(labels, probabilities)["ece"] == pytest.approx(gaps / 5000)


def test_two_classes_have_the_metrics_of_a_binary_task():
    labels, probabilities = drawn(1, 200, 2)
    found = multiclass_metrics(labels, probabilities)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities[:, 1]))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities[:, 1]))


def test_saying_the_shares_costs_the_entropy_and_kappa_of_a_constant_is_zero():
    labels = np.repeat([0.0, 1.0, 2.0], [10, 30, 60])
    shares = np.tile([0.1, 0.3, 0.6], (100, 1))
    found = ordinal_metrics(labels, shares, np.array([1.0, 2.0, 3.0]))
    assert found["log_loss"] == pytest.approx(class_metrics.label_entropy(labels))
    assert found["kappa"] == pytest.approx(0)
    assert found["rmse"] == pytest.approx(labels.std())
    assert ordinal_metrics(labels, np.eye(3)[labels.astype(int)], np.arange(3.0))["kappa"] == 1
    assert math.isnan(ordinal_metrics(0 * labels, np.eye(3)[[0] * 100], np.arange(3.0))["kappa"])


def test_confusion_counts_true_by_likeliest():
    labels, probabilities = drawn(2, 300, 4)
    theirs = sklearn_metrics.confusion_matrix(labels, probabilities.argmax(1), labels=np.arange(4))
    np.testing.assert_array_equal(class_metrics.confusion(labels, probabilities), theirs)


def test_without_rows_nothing_is_defined():
    nothing = np.zeros((0, 3))
    assert all(math.isnan(value) for value in multiclass_metrics(np.zeros(0), nothing).values())
    assert all(math.isnan(value) for value in ordinal_metrics(np.zeros(0), nothing, np.arange(3.0)).values())
    assert math.isnan(class_metrics.label_entropy(np.zeros(0)))
