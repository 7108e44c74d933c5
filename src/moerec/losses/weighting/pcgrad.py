"""PCGrad: of two gradients that conflict, each loses the part that goes against the other (Yu et al. 2020).

Shape letters: K tasks that have a row in the update.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from moerec.losses.weighting.base import GradientWeighting, WeightingConfig
from moerec.losses.weighting.gradients import Floats
from moerec.tasks import TaskConfig


class PCGradConfig(WeightingConfig):
    """Gradients are projected on the normal plane of those that they conflict with, in random order, and summed."""

    def build(self, tasks: Sequence[TaskConfig]) -> PCGrad:
        """See `WeightingConfig`."""
        return PCGrad(tasks)


class PCGrad(GradientWeighting):
    """See the module's docstring."""

    def coefficients(self, inner_products: Floats) -> Floats:
        """See `GradientWeighting`: every projection is a combination of the gradients, so products are enough."""
        size = len(inner_products)
        total = np.zeros(size)
        for one in range(size):
            mix = np.eye(size)[one]  # [K] the gradient of the task as it stands
            for other in torch.randperm(size).tolist():
                product = float(mix @ inner_products[:, other])
                if other != one and product < 0:
                    mix[other] -= product / inner_products[other, other]
            total += mix
        return total
