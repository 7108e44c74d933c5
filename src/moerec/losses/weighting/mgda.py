"""MGDA: the shortest combination of the tasks' gradients, which goes down for every task (Sener and Koltun 2018).

Shape letters: K tasks that have a row in the update.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from moerec.losses.weighting.base import GradientWeighting, WeightingConfig
from moerec.losses.weighting.gradients import Floats
from moerec.tasks import TaskConfig


class MGDAConfig(WeightingConfig):
    """The shortest vector among the means of the gradients by any weights, times the number of tasks."""

    def build(self, tasks: Sequence[TaskConfig]) -> MGDA:
        """See `WeightingConfig`."""
        return MGDA(tasks)


class MGDA(GradientWeighting):
    """See the module's docstring."""

    def coefficients(self, inner_products: Floats) -> Floats:
        """See `GradientWeighting`; in the scale of the sum: equal gradients give their sum."""
        return len(inner_products) * shortest_mean(inner_products)


def shortest_mean(inner_products: Floats) -> Floats:
    """The weights [K], at least 0 and of the sum 1, that make the weighted mean of some vectors shortest.

    Exact and for any number of vectors: the least squares of A w = 0 and sum(w) = 1 over w >= 0 is a multiple of the
    answer, where A' A are the inner products [K, K].
    """
    size = len(inner_products)
    largest = np.diag(inner_products).max()
    if largest <= 0:
        return np.full(size, 1 / size)
    values, vectors = np.linalg.eigh(inner_products / largest)
    root = np.sqrt(values.clip(0))[:, None] * vectors.T  # [K, K]
    found: Floats = nnls(np.vstack([root, np.ones(size)]), np.eye(size + 1)[size])[0]
    return found / found.sum()
