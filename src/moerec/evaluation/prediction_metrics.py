"""How good predictions are: of a probability by order, calibration and error, of a number by error.

A metric that the rows do not define (AUC of one class, for instance) is NaN here; `evaluate_predictions` leaves
it out. `ece`, over bins of equal width, is the headline of calibration, because published figures are made that
way; `ece_mass`, over bins of equal numbers of rows, sees more where the predictions crowd.

Shape letters: N rows, U users, G different scores, B bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
"""Bins of both calibration errors (Guo et al. 2017)."""
THRESHOLD = 0.5
"""A probability of at least this predicts 1, for accuracy and F1."""


@dataclass(frozen=True, eq=False)
class RankedScores:
    """Rows in falling order of their score, sorted once; any weights of the rows then cost one pass."""

    order: Ints  # [N]
    """Rows, the highest score first."""
    labels: Floats  # [N] in this order
    scores: Floats  # [N] in this order
    ends: Ints | None  # [G]
    """Last place of each group of equal scores; None if no two are equal."""

    @classmethod
    def of(cls, labels: Floats, scores: Floats) -> RankedScores:
        """Sort rows."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.zeros(0, np.bool_)
        return cls(order, labels[order], ordered, None if last.all() else np.flatnonzero(last))

    def cumulate(self, values: Floats) -> Floats:
        """Sums of values [N] (in this order) over the rows at and above each score, [G + 1], 0 first."""
        sums = np.cumsum(values)
        return np.concatenate([np.zeros(1), sums if self.ends is None else sums[self.ends]])


def area_under_roc(total: Floats, positive: Floats) -> float:
    """AUC from cumulated weights [G + 1] of all rows and of the positive ones; NaN with one class only."""
    negative = total - positive
    pairs = positive[-1] * negative[-1]
    if pairs == 0:
        return math.nan
    return float(np.diff(negative) @ (positive[1:] + positive[:-1]) / (2 * pairs))


def precision_over_recall(total: Floats, positive: Floats) -> float:
    """Average precision from cumulated weights [G + 1], whole numbers; NaN without a positive."""
    if positive[-1] == 0:
        return math.nan
    precision = positive[1:] / np.maximum(total[1:], 1)  # rows before the first that weighs are 0 / 1
    return float(np.diff(positive) @ precision / positive[-1])


def calibration_error_by_mass(total: Floats, errors: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins of equal weight; equal scores share the bin of their middle.

    Args:
        total: [G + 1] cumulated weights, whole numbers.
        errors: [G + 1] cumulated weights times score minus label.
        bins: number of bins.
    """
    if total[-1] == 0:
        return math.nan
    middles = total[1:] + total[:-1]  # [G] twice the place of a group's middle
    firsts = np.searchsorted(middles * bins, np.arange(bins) * 2 * total[-1])  # [B] first group of each bin
    bounds = np.append(firsts, len(middles))
    return float(np.abs(np.diff(errors[bounds])).sum() / total[-1])


def auc(labels: Floats, scores: Floats) -> float:
    """The chance that a positive row scores above a negative one, ties half; NaN with one class only."""
    ranked = RankedScores.of(labels, scores)
    return area_under_roc(ranked.cumulate(np.ones(len(labels))), ranked.cumulate(ranked.labels))


def average_precision(labels: Floats, scores: Floats) -> float:
    """Mean precision at the positives, equal scores taken together; NaN without a positive."""
    ranked = RankedScores.of(labels, scores)
    return precision_over_recall(ranked.cumulate(np.ones(len(labels))), ranked.cumulate(ranked.labels))


@dataclass(frozen=True, eq=False)
class UserAUC:
    """AUC within each user."""

    users: Ints  # [U]
    """Users, ascending."""
    rows: Ints  # [U]
    """Their rows."""
    values: Floats  # [U]
    """AUC of the user's rows; NaN with one class only."""

    @property
    def mean(self) -> float:
        """GAUC (Zhu et al. 2017): mean over the users that have an AUC, weighted by rows; NaN if none has."""
        defined = ~np.isnan(self.values)
        return (
            float(self.values[defined] @ self.rows[defined] / self.rows[defined].sum()) if defined.any() else math.nan
        )

    @property
    def users_left_out(self) -> float:
        """Share of the users that have one class only."""
        return float(np.isnan(self.values).mean()) if len(self.values) else math.nan

    @property
    def rows_left_out(self) -> float:
        """Share of the rows that are theirs."""
        return float(self.rows[np.isnan(self.values)].sum() / self.rows.sum()) if len(self.values) else math.nan


def auc_by_user(users: Ints, labels: Floats, scores: Floats) -> UserAUC:
    """AUC within each user, by the sum of the positives' ranks (Mann and Whitney 1947)."""
    order = np.lexsort((scores, users))
    users, labels, scores = users[order], labels[order], scores[order]
    names, starts, rows = np.unique(users, return_index=True, return_counts=True)  # each [U]
    new = np.ones(len(users), np.bool_)  # [N] where a group of equal scores of one user begins
    new[1:] = (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])
    firsts = np.flatnonzero(new)
    sizes = np.diff(np.append(firsts, len(users)))
    owner = np.repeat(np.arange(len(names)), rows)  # [N] place of the row's user in names
    ranks = np.repeat(firsts + (sizes + 1) / 2, sizes) - starts[owner]  # [N] from 1, the mean over ties
    positive = np.bincount(owner, weights=labels, minlength=len(names))  # [U]
    rank_sum = np.bincount(owner, weights=labels * ranks, minlength=len(names))
    pairs = positive * (rows - positive)
    values = np.full(len(names), math.nan)
    np.divide(rank_sum - positive * (positive + 1) / 2, pairs, out=values, where=pairs > 0)
    return UserAUC(names, rows, values)


def gauc(users: Ints, labels: Floats, scores: Floats) -> float:
    """Mean AUC within users, weighted by their rows; users with one class are left out. NaN if all are."""
    return auc_by_user(users, labels, scores).mean


def log_losses(labels: Floats, scores: Floats) -> Floats:
    """Cross-entropy of each row [N], probabilities kept off 0 and 1 by the float64 epsilon as scikit-learn does."""
    epsilon = np.finfo(np.float64).eps
    kept = np.clip(scores, epsilon, 1 - epsilon)
    return np.where(labels == 1, -np.log(kept), -np.log1p(-kept))


def log_loss(labels: Floats, scores: Floats) -> float:
    """Mean cross-entropy in nats."""
    return _mean(log_losses(labels, scores))


def brier(labels: Floats, scores: Floats) -> float:
    """Mean squared difference of probability and label (Brier 1950)."""
    return _mean((scores - labels) ** 2)


def accuracy(labels: Floats, scores: Floats) -> float:
    """Share of rows where a probability of at least 0.5 tells the label."""
    return _mean((scores >= THRESHOLD) == (labels == 1))


def f1(labels: Floats, scores: Floats) -> float:
    """F1 of the positive class at the threshold 0.5; NaN if nothing is positive and nothing predicted so."""
    predicted = scores >= THRESHOLD
    count = float(predicted.sum() + labels.sum())
    return float(2 * labels[predicted].sum() / count) if count else math.nan


def calibration_bins(scores: Floats, bins: int = CALIBRATION_BINS) -> Ints:
    """Bin of equal width of each probability [N]; a probability on an edge is in the lower bin."""
    edges = np.linspace(0, 1, bins + 1)
    return np.searchsorted(edges[1:-1], scores).astype(np.int64)


def ece(labels: Floats, scores: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean probability against share of positives in bins of equal width.

    The absolute differences are weighted by rows (Naeini et al. 2015). NaN without rows.
    """
    if len(labels) == 0:
        return math.nan
    gaps = np.bincount(calibration_bins(scores, bins), weights=scores - labels, minlength=bins)  # [B]
    return float(np.abs(gaps).sum() / len(labels))


def ece_mass(labels: Floats, scores: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins of equal numbers of rows (Nguyen and O'Connor 2015)."""
    ranked = RankedScores.of(labels, scores)
    return calibration_error_by_mass(
        ranked.cumulate(np.ones(len(labels))), ranked.cumulate(ranked.scores - ranked.labels), bins
    )


def rmse(labels: Floats, scores: Floats) -> float:
    """Root of the mean squared error."""
    return math.sqrt(_mean((scores - labels) ** 2))


def mae(labels: Floats, scores: Floats) -> float:
    """Mean absolute error."""
    return _mean(np.abs(scores - labels))


def r2(labels: Floats, scores: Floats) -> float:
    """Share of the labels' variance that is explained; NaN if they have none."""
    if len(labels) == 0 or labels.min() == labels.max():
        return math.nan
    return float(1 - ((scores - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())


def _mean(values: Floats | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
