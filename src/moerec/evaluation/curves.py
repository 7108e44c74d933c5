"""Curves and histograms of predictions as plain data, for plots and for JSON.

Shape letters: N rows, P points of a curve, C classes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation.class_metrics import confusion
from moerec.evaluation.prediction_metrics import (
    CALIBRATION_BINS,
    RankedScores,
    area_under_roc,
    calibration_bins,
    precision_over_recall,
)
from moerec.evaluation.predictions import Predictions
from moerec.tasks import TaskConfig

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

POINTS = 200
"""Most points of a curve."""
_WILSON = 1.959963984540054  # the normal deviate of 95%


def curves(predictions: Predictions) -> dict[str, Any]:
    """All curves of a task; without rows none.

    binary: `roc`, `precision_recall`, `calibration`, `histogram`; regression: `calibration`, `residuals`; multiclass:
    `confusion`, `calibration` (whether the likeliest class is as often right as its probability says); ordinal:
    `confusion`, `calibration` (of the expected value).
    """
    task, labels, scores = predictions.task, predictions.labels, predictions.scores
    if len(labels) == 0:
        return {}
    if task.num_classes:
        counts = {"values": list(task.values), "count": confusion(labels, scores).tolist()}
        return {"confusion": counts, "calibration": _class_calibration(task, labels, scores)}
    if task.type == "regression":
        return {"calibration": regression_calibration(labels, scores), "residuals": residual_histogram(labels, scores)}
    return {
        "roc": roc_points(labels, scores),
        "precision_recall": precision_recall_points(labels, scores),
        "calibration": binary_calibration(labels, scores),
        "histogram": score_histogram(labels, scores),
    }


def _class_calibration(task: TaskConfig, labels: Floats, probabilities: Floats) -> dict[str, Any]:
    if task.type == "multiclass":
        right = (probabilities.argmax(1) == labels).astype(np.float64)
        return binary_calibration(right, probabilities.max(1))
    values = np.asarray(task.values)
    return regression_calibration(values[labels.astype(np.int64)], probabilities @ values)


def roc_points(labels: Floats, scores: Floats, points: int = POINTS) -> dict[str, Any]:
    """False and true positive rates over falling thresholds, thinned, and the AUC of all points.

    Without both classes there are no points, and `auc` is None.
    """
    ranked = RankedScores.of(labels, scores)
    total, positive = ranked.cumulate(np.ones(len(labels))), ranked.cumulate(ranked.labels)
    area = area_under_roc(total, positive)
    if math.isnan(area):
        return {"false_positive_rate": [], "true_positive_rate": [], "auc": None}
    negative = total - positive
    x, y = negative / negative[-1], positive / positive[-1]
    kept = thin_curve(x, y, points)
    return {"false_positive_rate": x[kept].tolist(), "true_positive_rate": y[kept].tolist(), "auc": area}


def thin_curve(x: Floats, y: Floats, points: int) -> Ints:
    """Which points of a rising curve from (0, 0) to (1, 1) to keep so that the area under it stays.

    Few corners are all kept. Of many, the length x + y is cut into equal parts; from each comes the point after
    which the area of the kept curve is nearest to that of the whole, so that errors cancel and do not add up.

    Args:
        x: [P] rising.
        y: [P] rising.
        points: most points to keep, at least 2.

    Returns:
        Ascending places; the first and the last are among them.
    """
    along_x, along_y = np.diff(x), np.diff(y)
    turns = along_x[:-1] * along_y[1:] != along_y[:-1] * along_x[1:]
    corners = np.flatnonzero(np.concatenate([[True], turns, [True]]))
    if len(corners) <= points:
        return corners
    under = np.concatenate([np.zeros(1), np.cumsum(np.diff(x) * (y[1:] + y[:-1]) / 2)])  # area up to each point
    bounds = np.searchsorted(x + y, np.linspace(0, 2, points - 1))
    kept, area = [0], 0.0
    for low, high in pairwise(bounds.tolist()):
        start, stop = max(low, kept[-1] + 1), min(high, len(x) - 1)
        if start >= stop:
            continue
        last, some = kept[-1], slice(start, stop)
        areas = area + (x[some] - x[last]) * (y[some] + y[last]) / 2
        best = int(np.argmin(np.abs(areas - under[some])))
        kept.append(start + best)
        area = float(areas[best])
    return np.array([*kept, len(x) - 1], dtype=np.int64)


def precision_recall_points(labels: Floats, scores: Floats, points: int = POINTS) -> dict[str, Any]:
    """Recall and precision over falling thresholds, thinned to equal steps of recall, and the average precision.

    Without a positive there are no points, and `average_precision` is None.
    """
    ranked = RankedScores.of(labels, scores)
    total, positive = ranked.cumulate(np.ones(len(labels))), ranked.cumulate(ranked.labels)
    value = precision_over_recall(total, positive)
    if math.isnan(value):
        return {"recall": [], "precision": [], "average_precision": None}
    recall, precision = positive[1:] / positive[-1], positive[1:] / total[1:]
    kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1, points)))
    return {"recall": recall[kept].tolist(), "precision": precision[kept].tolist(), "average_precision": value}


def binary_calibration(labels: Floats, scores: Floats, bins: int = CALIBRATION_BINS) -> dict[str, Any]:
    """Bins of equal width that hold rows: mean probability, share of positives, rows, 95% interval of the share.

    The interval (Wilson 1927) takes the rows as independent.
    """
    places = calibration_bins(scores, bins)
    counts = np.bincount(places, minlength=bins)
    held = counts > 0
    predicted = np.bincount(places, weights=scores, minlength=bins)[held] / counts[held]
    observed = np.bincount(places, weights=labels, minlength=bins)[held] / counts[held]
    low, high = wilson_interval(observed, counts[held])
    return {
        "predicted": predicted.tolist(),
        "observed": observed.tolist(),
        "count": counts[held].tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def wilson_interval(share: Floats, counts: Ints) -> tuple[Floats, Floats]:
    """95% score interval of shares of so many rows each, at least one."""
    square = _WILSON**2
    middle = (share + square / (2 * counts)) / (1 + square / counts)
    half = _WILSON / (1 + square / counts) * np.sqrt(share * (1 - share) / counts + square / (4 * counts**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def score_histogram(labels: Floats, scores: Floats, bins: int = 20) -> dict[str, Any]:
    """Rows of each class by probability, in bins of equal width."""
    edges = np.linspace(0, 1, bins + 1)
    return {
        "edges": edges.tolist(),
        "positive": np.histogram(scores[labels == 1], edges)[0].tolist(),
        "negative": np.histogram(scores[labels == 0], edges)[0].tolist(),
    }


def regression_calibration(labels: Floats, scores: Floats, bins: int = CALIBRATION_BINS) -> dict[str, Any]:
    """Bins of about equal numbers of rows by prediction: means of prediction and label, rows, deviation of the labels.

    Equal predictions share a bin.
    """
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    places = (bins * (2 * np.cumsum(sizes) - sizes) // (2 * len(scores)))[group]  # by the middle of equal predictions
    counts = np.bincount(places, minlength=bins)
    held = counts > 0
    predicted, observed = (
        np.bincount(places, weights=values, minlength=bins)[held] / counts[held] for values in (scores, labels)
    )
    centred = labels - labels.mean()  # squares of numbers far from 0 lose digits
    means, squares = (
        np.bincount(places, weights=values, minlength=bins)[held] / counts[held] for values in (centred, centred**2)
    )
    return {
        "predicted": predicted.tolist(),
        "observed": observed.tolist(),
        "count": counts[held].tolist(),
        "deviation": np.sqrt(np.maximum(squares - means**2, 0)).tolist(),
    }


def residual_histogram(labels: Floats, scores: Floats, bins: int = 40) -> dict[str, Any]:
    """Rows by prediction minus label, in bins of equal width."""
    counts, edges = np.histogram(scores - labels, bins)
    return {"edges": edges.tolist(), "count": counts.tolist()}
