"""Metrics of predictions when each user counts a whole number of times, without touching the rows again.

Sums over users give most metrics; the ranking metrics need one pass over rows that were sorted once.

Shape letters: N rows, U users, R resamples, S sums, B bins, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation import class_metrics
from moerec.evaluation import prediction_metrics as metrics
from moerec.evaluation.predictions import Predictions, metric_name

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Resampler(ABC):
    """The metrics of one task from how often each user counts."""

    def __init__(self, predictions: Predictions, users: Ints) -> None:
        self.task = predictions.task
        self.users = users
        self.codes = np.searchsorted(users, predictions.users)  # [N] place of the row's user
        self.sums = self.sum_up(predictions)  # [U, S]

    def __call__(self, times: Floats) -> dict[str, Floats]:
        """{full name: [R]} from how often each user counts [R, U]; NaN where the resample does not define it."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is not defined
            values = self.metrics(times, times @ self.sums)
        return {metric_name(self.task, name): value for name, value in values.items()}

    @abstractmethod
    def sum_up(self, predictions: Predictions) -> Floats:
        """What is summed over the rows of each user, [U, S]."""

    @abstractmethod
    def metrics(self, times: Floats, sums: Floats) -> dict[str, Floats]:
        """{metric: [R]} from how often each user counts [R, U] and the sums over all users [R, S]."""

    def by_user(self, rows: list[Floats]) -> Floats:
        """Sums of numbers [N] over the rows of each user, a column for each."""
        return np.stack([np.bincount(self.codes, weights=row, minlength=len(self.users)) for row in rows], axis=1)

    def by_user_and_cell(self, cells: Ints, count: int, weights: Floats | None = None) -> Floats:
        """The same over the rows of each user and cell, [U, count]."""
        places, size = self.codes * count + cells, len(self.users) * count
        return np.bincount(places, weights=weights, minlength=size).reshape(-1, count).astype(np.float64)


class RegressionResampler(Resampler):
    """Errors of numbers."""

    def sum_up(self, predictions: Predictions) -> Floats:
        """Rows, squared and absolute errors, labels and their squares."""
        labels, scores = predictions.labels, predictions.scores
        centred = labels - (labels.mean() if len(labels) else 0.0)  # sums of squares far from 0 lose digits
        return self.by_user(
            [np.ones(len(labels)), (scores - labels) ** 2, np.abs(scores - labels), centred, centred**2]
        )

    def metrics(self, times: Floats, sums: Floats) -> dict[str, Floats]:
        """See `Resampler`."""
        rows, squared, absolute, centred, centred_squared = sums.T  # each [R]
        variance = centred_squared - centred**2 / rows
        variance[variance <= 1e-12 * centred_squared] = math.nan  # equal labels, but for rounding
        return {"rmse": np.sqrt(squared / rows), "mae": absolute / rows, "r2": 1 - squared / variance}


class BinaryResampler(Resampler):
    """Probabilities of one event."""

    def sum_up(self, predictions: Predictions) -> Floats:
        """Rows, losses, hits, the users' own AUC, and the calibration gap of each bin."""
        labels, scores = predictions.labels, predictions.scores
        self.ranked = metrics.RankedScores.of(labels, scores)
        self.ranked_codes = self.codes[self.ranked.order]
        predicted = scores >= metrics.THRESHOLD
        rows = [
            np.ones(len(labels)),
            metrics.log_losses(labels, scores),
            (scores - labels) ** 2,
            (predicted == (labels == 1)).astype(np.float64),
            labels * predicted,
            labels + predicted,
        ]
        by_user = metrics.auc_by_user(predictions.users, labels, scores)
        weights = np.where(np.isnan(by_user.values), 0, by_user.rows)
        aucs = np.zeros((len(self.users), 2))  # the rows of users that have an AUC, times it and alone
        aucs[np.searchsorted(self.users, by_user.users)] = np.stack(
            [weights * np.nan_to_num(by_user.values), weights], axis=1
        )
        gaps = self.by_user_and_cell(metrics.calibration_bins(scores), metrics.CALIBRATION_BINS, scores - labels)
        return np.concatenate([self.by_user(rows), aucs, gaps], axis=1)  # [U, 8 + B]

    def metrics(self, times: Floats, sums: Floats) -> dict[str, Floats]:
        """See `Resampler`."""
        rows, losses, squared, correct, true_positive, positive, weighted_auc, weights = sums[:, :8].T  # each [R]
        ranking = np.array([self._ranking(row) for row in times])  # [R, 3]
        return {
            "auc": ranking[:, 0],
            "gauc": weighted_auc / weights,
            "average_precision": ranking[:, 1],
            "log_loss": losses / rows,
            "brier": squared / rows,
            "ece": np.abs(sums[:, 8:]).sum(axis=1) / rows,
            "ece_mass": ranking[:, 2],
            "accuracy": correct / rows,
            "f1": 2 * true_positive / positive,
        }

    def _ranking(self, times: Floats) -> tuple[float, float, float]:
        """AUC, average precision and calibration error by mass of one resample [U]."""
        ranked = self.ranked
        weights = times[self.ranked_codes]  # [N]
        total, positive = ranked.cumulate(weights), ranked.cumulate(weights * ranked.labels)
        errors = ranked.cumulate(weights * (ranked.scores - ranked.labels))
        return (
            metrics.area_under_roc(total, positive),
            metrics.precision_over_recall(total, positive),
            metrics.calibration_error_by_mass(total, errors),
        )


class MulticlassResampler(Resampler):
    """Probabilities of classes without an order."""

    def sum_up(self, predictions: Predictions) -> Floats:
        """Rows, losses, hits, then by class the counts of `class_counts`, and the calibration gap of each bin."""
        labels, scores = predictions.labels, predictions.scores
        places, predicted, confidence = labels.astype(np.int64), scores.argmax(1), scores.max(1)
        right, count = (places == predicted).astype(np.float64), scores.shape[1]
        self.ranked = [
            metrics.RankedScores.of((places == place).astype(np.float64), scores[:, place]) for place in range(count)
        ]
        self.ranked_codes = [self.codes[ranked.order] for ranked in self.ranked]
        rows = [np.ones(len(labels)), class_metrics.class_log_losses(labels, scores), right]
        bins = metrics.CALIBRATION_BINS
        sums = [
            self.by_user(rows),
            self.by_user_and_cell(places, count, right),
            self.by_user_and_cell(places, count),
            self.by_user_and_cell(predicted, count),
            self.by_user_and_cell(metrics.calibration_bins(confidence), bins, confidence - right),
        ]
        return np.concatenate(sums, axis=1)  # [U, 3 + 3 C + B]

    def metrics(self, times: Floats, sums: Floats) -> dict[str, Floats]:
        """See `Resampler`."""
        rows, losses, correct = sums[:, :3].T  # each [R]
        count = self.task.num_classes
        right, had, said = np.moveaxis(sums[:, 3 : 3 + 3 * count].reshape(-1, 3, count), 1, 0)  # each [R, C]
        counts = zip(right, had, said, strict=True)
        return {
            "auc": np.array([self._auc(row) for row in times]),
            "accuracy": correct / rows,
            "macro_f1": np.array([class_metrics.macro_f1(*of_resample) for of_resample in counts]),
            "log_loss": losses / rows,
            "ece": np.abs(sums[:, 3 + 3 * count :]).sum(axis=1) / rows,
        }

    def _auc(self, times: Floats) -> float:
        """Mean AUC of one class against the rest of one resample [U]."""
        found = []
        for ranked, codes in zip(self.ranked, self.ranked_codes, strict=True):
            weights = times[codes]  # [N]
            total, positive = ranked.cumulate(weights), ranked.cumulate(weights * ranked.labels)
            found.append(metrics.area_under_roc(total, positive))
        return class_metrics.mean_of_defined(found)


class OrdinalResampler(Resampler):
    """Probabilities of classes from low to high."""

    def sum_up(self, predictions: Predictions) -> Floats:
        """Rows, losses, hits, errors of value and place, then by class the rows that have it and are said to."""
        labels, scores, values = predictions.labels, predictions.scores, np.asarray(self.task.values)
        places, predicted = labels.astype(np.int64), scores.argmax(1)
        errors = scores @ values - values[places]
        rows = [
            np.ones(len(labels)),
            class_metrics.class_log_losses(labels, scores),
            (places == predicted).astype(np.float64),
            errors**2,
            np.abs(errors),
            ((places - predicted) ** 2).astype(np.float64),
        ]
        count = len(values)
        cells = [self.by_user_and_cell(places, count), self.by_user_and_cell(predicted, count)]
        return np.concatenate([self.by_user(rows), *cells], axis=1)  # [U, 6 + 2 C]

    def metrics(self, times: Floats, sums: Floats) -> dict[str, Floats]:
        """See `Resampler`."""
        rows, losses, correct, squared, absolute, disagreement = sums[:, :6].T  # each [R]
        had, said = np.split(sums[:, 6:], 2, axis=1)  # each [R, C]
        return {
            "rmse": np.sqrt(squared / rows),
            "mae": absolute / rows,
            "kappa": class_metrics.quadratic_kappa(disagreement, had, said),
            "accuracy": correct / rows,
            "log_loss": losses / rows,
        }


RESAMPLERS: dict[str, type[Resampler]] = {
    "binary": BinaryResampler,
    "regression": RegressionResampler,
    "multiclass": MulticlassResampler,
    "ordinal": OrdinalResampler,
}
"""By type of task."""
