"""Links: how a sum of offsets becomes the prediction of a task, and how far each label is from it.

The step that a round of `means` takes is a sum of residuals over `curvature * rows`. The curvature bounds the second
derivative of a row's negative log-likelihood, so that no step can overshoot (Boehning and Lindsay 1988, and Boehning
1992 for several classes).

Shape letters: K train rows, R rows to predict, W offsets of a user or item, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, softmax

from moerec.models.ranking_baselines.base import Floats
from moerec.tasks import TaskConfig

LEAST_SHARE = 1e-6
"""A class that no train row has counts as this rare."""


@dataclass(frozen=True, eq=False)
class Link(ABC):
    """What is particular to a type of task; a user and an item have W offsets each."""

    start: Floats  # [W]
    """The sum for an unknown user with an unknown item."""
    curvature: float
    """Most that a residual can change when a total changes by 1."""

    @abstractmethod
    def predict(self, totals: Floats) -> Floats:
        """Predictions [R] or [R, C] of totals [R, W]."""

    @abstractmethod
    def residuals(self, totals: Floats, labels: Floats) -> Floats:
        """By how much each total is too low, [K, W], at labels [K]: the gradient of the row's log-likelihood."""


class NumberLink(Link):
    """Regression: the total is the number."""

    def predict(self, totals: Floats) -> Floats:
        """See `Link`."""
        return totals[:, 0]

    def residuals(self, totals: Floats, labels: Floats) -> Floats:
        """See `Link`."""
        return labels[:, None] - totals


class LogOddsLink(Link):
    """Binary: the total is the log-odds of label 1."""

    def predict(self, totals: Floats) -> Floats:
        """See `Link`."""
        found: Floats = expit(totals[:, 0])
        return found

    def residuals(self, totals: Floats, labels: Floats) -> Floats:
        """See `Link`."""
        found: Floats = labels[:, None] - expit(totals)
        return found


class SoftmaxLink(Link):
    """Multiclass: a total for each class, and the classes share by their exponentials."""

    def predict(self, totals: Floats) -> Floats:
        """See `Link`."""
        found: Floats = softmax(totals, axis=1)
        return found

    def residuals(self, totals: Floats, labels: Floats) -> Floats:
        """See `Link`."""
        found: Floats = (labels[:, None] == np.arange(totals.shape[1])) - softmax(totals, axis=1)
        return found


@dataclass(frozen=True, eq=False)
class OrdinalLink(Link):
    """Ordinal: one total, cut at fixed points (proportional odds, McCullagh 1980)."""

    cutpoints: Floats  # [C - 1]

    def predict(self, totals: Floats) -> Floats:
        """See `Link`."""
        return -np.diff(self._above(totals), axis=1)

    def residuals(self, totals: Floats, labels: Floats) -> Floats:
        """See `Link`; with `a` and `b` the probabilities of being above the class' lower and upper end, 1 - a - b."""
        places, above = labels.astype(np.int64)[:, None], self._above(totals)
        found: Floats = 1 - np.take_along_axis(above, places, 1) - np.take_along_axis(above, places + 1, 1)
        return found

    def _above(self, totals: Floats) -> Floats:
        """Probability of being above each end of the classes: 1, at each cutpoint, 0; [R, C + 1]."""
        inner = expit(totals - self.cutpoints)  # [R, C - 1]
        ends = np.ones((len(totals), 1))
        return np.concatenate([ends, inner, 0 * ends], axis=1)


def link_of(task: TaskConfig, labels: Floats) -> Link:
    """The link of a task, starting at what the train labels [K] say of all users and items."""
    if task.type == "regression":
        return NumberLink(np.array([labels.mean()]), 1.0)
    if task.type == "binary":
        return LogOddsLink(logit(np.array([labels.mean()])), 0.25)
    counts = np.bincount(labels.astype(np.int64), minlength=task.num_classes)
    shares = np.maximum(counts / len(labels), LEAST_SHARE)
    shares /= shares.sum()
    if task.type == "multiclass":
        return SoftmaxLink(np.log(shares), 0.5)
    return OrdinalLink(np.zeros(1), 0.5, logit(shares.cumsum()[:-1]))
