"""CAGrad: near the mean gradient, the direction in which the worst-off task gains most (Liu et al. 2021).

With g_0 the mean of the K gradients, the direction d maximises min_t <g_t, d> subject to |d - g_0| <= c |g_0|. By
duality d = g_0 + c |g_0| g_w / |g_w|, where g_w is the mean of the gradients by those weights w that minimise
<g_w, g_0> + c |g_0| |g_w|.

Shape letters: K tasks that have a row in the update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy.optimize import brentq

from moerec.losses.weighting.base import GradientWeighting, WeightingConfig
from moerec.losses.weighting.gradients import Floats
from moerec.losses.weighting.mgda import shortest_mean
from moerec.tasks import TaskConfig

_NEAREST = 1e-6
"""Where the search begins, for at 0 every pair of opposite gradients looks like an answer."""


class CAGradConfig(WeightingConfig):
    """The direction near the mean gradient that helps the worst-off task most, times the number of tasks."""

    c: float = Field(default=0.5, ge=0, lt=1)
    """How far from the mean gradient, as a share of its length; 0 is the plain sum of the mean losses."""

    def build(self, tasks: Sequence[TaskConfig]) -> CAGrad:
        """See `WeightingConfig`."""
        return CAGrad(tasks, self.c)


class CAGrad(GradientWeighting):
    """See the module's docstring."""

    def __init__(self, tasks: Sequence[TaskConfig], c: float) -> None:
        super().__init__(tasks)
        self.c = c

    def coefficients(self, inner_products: Floats) -> Floats:
        """See `GradientWeighting`; in the scale of the sum: c of 0 gives it."""
        size = len(inner_products)
        largest = float(np.diag(inner_products).max())
        products = inner_products / largest if largest > 0 else inner_products
        radius = self.c * _length(np.full(size, 1 / size), products)
        if radius <= 0:
            return np.ones(size)
        weights = _worst_off(products, radius)
        length = _length(weights, products)
        return 1 + size * radius / length * weights if length > 0 else np.ones(size)


def _worst_off(products: Floats, radius: float) -> Floats:
    """The weights w [K] that minimise <g_w, g_0> + radius |g_w|, from inner products [K, K] of at most 1.

    At the answer w also minimises |g_w + m g_0| for the number m = |g_w| / radius, which is a shortest mean of the
    vectors g_t + m g_0. So the one number m is searched.
    """
    size = len(products)

    def weights(m: float) -> Floats:
        shift = np.eye(size) + m / size  # [K, K] from the gradients to those moved by m g_0
        return shortest_mean(shift @ products @ shift.T)

    def beyond(m: float) -> float:
        return _length(weights(m), products) / radius - m

    low, high = _NEAREST / radius, 1 / radius
    if beyond(low) <= 0:
        return weights(low)
    return weights(brentq(beyond, low, high, xtol=1e-12 * high, rtol=1e-10) if beyond(high) < 0 else high)


def _length(weights: Floats, products: Floats) -> float:
    """The length of the mean of some vectors by weights."""
    return math.sqrt(max(float(weights @ products @ weights), 0.0))
