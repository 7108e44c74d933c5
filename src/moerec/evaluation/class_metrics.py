"""How good class probabilities are: of classes without an order, and of classes from low to high.

Labels are places of classes, 0 to C - 1. The predicted class is the likeliest; of equals the first. Metrics that are
means over classes are over those that the rows have, as scikit-learn's are: a class that is nowhere tells nothing.
What the rows do not define is NaN.

Shape letters: N rows, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation import prediction_metrics as metrics

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def multiclass_metrics(labels: Floats, probabilities: Floats) -> dict[str, float]:
    """All metrics of a multiclass task by name, from labels [N] and probabilities [N, C]."""
    places, predicted = labels.astype(np.int64), probabilities.argmax(1)
    right = (predicted == places).astype(np.float64)
    return {
        "auc": macro_auc(labels, probabilities),
        "accuracy": _mean(right),
        "macro_f1": macro_f1(*class_counts(places, predicted, probabilities.shape[1])),
        "log_loss": _mean(class_log_losses(labels, probabilities)),
        "ece": metrics.ece(right, probabilities.max(1)),
    }


def ordinal_metrics(labels: Floats, probabilities: Floats, values: Floats) -> dict[str, float]:
    """All metrics of an ordinal task by name; errors are of the expected value, in the label's own unit.

    Args:
        labels: [N] places.
        probabilities: [N, C].
        values: [C] the label's value of each class.
    """
    places, predicted = labels.astype(np.int64), probabilities.argmax(1)
    true, expected = values[places], probabilities @ values
    _, had, said = class_counts(places, predicted, len(values))
    return {
        "rmse": metrics.rmse(true, expected),
        "mae": metrics.mae(true, expected),
        "kappa": float(quadratic_kappa(((places - predicted) ** 2).sum(), had, said)),
        "accuracy": _mean((predicted == places).astype(np.float64)),
        "log_loss": _mean(class_log_losses(labels, probabilities)),
    }


def class_log_losses(labels: Floats, probabilities: Floats) -> Floats:
    """Negative log-probability of the label's class in nats, [N], kept off 0 as that of binary tasks is."""
    chosen = probabilities[np.arange(len(labels)), labels.astype(np.int64)]  # [N]
    losses: Floats = -np.log(np.clip(chosen, np.finfo(np.float64).eps, 1.0))
    return losses


def macro_auc(labels: Floats, probabilities: Floats) -> float:
    """Mean over the classes of the AUC of one class against the rest; NaN if the rows have one class only."""
    places = range(probabilities.shape[1])
    return mean_of_defined(
        [metrics.auc((labels == place).astype(np.float64), probabilities[:, place]) for place in places]
    )


def mean_of_defined(values: list[float]) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def class_counts(places: Ints, predicted: Ints, classes: int) -> tuple[Floats, Floats, Floats]:
    """By class: rows that are rightly said to have it, rows that have it, rows that are said to; [C] each."""
    hits = places[places == predicted]
    right, had, said = (np.bincount(rows, minlength=classes).astype(np.float64) for rows in (hits, places, predicted))
    return right, had, said


def macro_f1(right: Floats, had: Floats, said: Floats) -> float:
    """Mean F1 over the classes that a row has or is said to have, from the counts [C] of `class_counts`."""
    total = had + said
    return float((2 * right[total > 0] / total[total > 0]).mean()) if total.any() else math.nan


def quadratic_kappa(disagreement: Floats | float, had: Floats, said: Floats) -> Floats:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 for full agreement, 0 for that of chance.

    Args:
        disagreement: [...] sum over the rows of the squared distance of the two places.
        had: [..., C] rows of each class.
        said: [..., C] rows predicted to be of each class.

    Returns:
        [...] kappa; NaN where all rows have and are said to have one and the same class.
    """
    classes = np.arange(had.shape[-1])
    distance = (classes[:, None] - classes) ** 2  # [C, C]
    by_chance = np.einsum("...i,ij,...j->...", had, distance, said)  # times the rows
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: Floats = 1 - disagreement * had.sum(-1) / by_chance
    return np.where(by_chance > 0, kappa, math.nan)


def confusion(labels: Floats, probabilities: Floats) -> Ints:
    """Rows by true and by likeliest class, [C, C]."""
    classes = probabilities.shape[1]
    cells = labels.astype(np.int64) * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def label_entropy(labels: Floats) -> float:
    """The log loss of always saying the shares of the classes; NaN without rows."""
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / max(len(labels), 1)
    return float(-(shares * np.log(shares)).sum()) if len(labels) else math.nan


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
