"""GradNorm: factors are learned so that all tasks pull on the shared layer alike (Chen et al. 2018).

With G_t the norm of the gradient of factor_t L_t on the last shared layer, and r_t how little L_t has fallen since its
first update, against the mean of all tasks, the factors go down the gradient of

    sum_t | G_t - mean(G) r_t^alpha |        where mean(G) r_t^alpha is taken as constant

and are then scaled to the sum T. G_t is linear in its factor, so no second derivative is needed. The learned numbers
are logarithms of the factors: those stay positive without a clamp.

Shape letters: T tasks of a weight above 0, K of them that have a row in the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from moerec.losses.weighting.base import LossWeighting, TaskLosses, Update, WeightingConfig
from moerec.tasks import TaskConfig


class GradNormConfig(WeightingConfig):
    """Learned factors that let each task pull on the last shared layer as hard as its progress asks for."""

    alpha: float = Field(default=1.5, ge=0)
    """How much more a task pulls whose loss has fallen less; 0: all pull alike."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Peak learning rate of the logarithms of the factors; it follows the stage's schedule."""

    def build(self, tasks: Sequence[TaskConfig]) -> GradNorm:
        """See `WeightingConfig`."""
        return GradNorm(tasks, self)


class GradNorm(LossWeighting):
    """See the module's docstring."""

    def __init__(self, tasks: Sequence[TaskConfig], config: GradNormConfig) -> None:
        super().__init__(tasks, log_cosines=False)
        self.needs_layer = True
        self.alpha = config.alpha
        self.learning_rate = config.learning_rate
        self.log_factors = nn.Parameter(torch.zeros(len(self.tasks)))  # [T]
        self.first_losses: Tensor  # [T] NaN before a task's first update
        self.register_buffer("first_losses", torch.full((len(self.tasks),), torch.nan))

    def factors(self) -> Tensor:
        """The factors [T]; their sum is T. The model's loss does not move them."""
        return torch.exp(self.log_factors.detach())

    def distribute(self, passes: Iterable[TaskLosses], update: Update) -> None:
        """The gradients of the weighted losses, and of the factors."""
        present, losses = self.present(update), torch.zeros_like(self.first_losses)

        def summed() -> Iterable[TaskLosses]:
            for each in passes:
                losses[present] += torch.stack([mean.detach() for mean in self.means(each, update)])
                yield each

        products = self.backpropagate(summed(), update, watch=True)
        assert products is not None
        norms = torch.from_numpy(np.sqrt(np.diag(products))).float().to(losses.device)  # [K]
        self._start(losses, present)
        pulls = self.factors()[present] * norms  # [K] G of each task
        apart = pulls - pulls.mean() * self._rates(losses[present], present) ** self.alpha  # [K]
        # The derivative of |G - target| by the logarithm of the factor, at a constant target.
        self.log_factors.grad = torch.zeros_like(self.log_factors)
        self.log_factors.grad[present] = torch.sign(apart) * pulls

    def after_step(self) -> None:
        """Scale the factors to the sum T."""
        with torch.no_grad():
            self.log_factors.sub_(torch.logsumexp(self.log_factors, dim=0) - math.log(len(self.tasks)))

    def _start(self, losses: Tensor, present: list[int]) -> None:
        """Remember the first loss of each task [T]; one that is not finite is no update."""
        is_first = torch.zeros_like(losses, dtype=torch.bool)  # [T]
        is_first[present] = True
        is_first &= torch.isnan(self.first_losses) & torch.isfinite(losses)
        self.first_losses.copy_(torch.where(is_first, losses, self.first_losses))

    def _rates(self, losses: Tensor, present: list[int]) -> Tensor:
        """Of K losses what is left of the first one, over the mean of the tasks, [K]; 1 where there is nothing left."""
        left = losses / self.first_losses[present]  # [K]
        rates = left / left.mean()
        return torch.where(torch.isfinite(rates), rates, 1.0)
