"""Gradients of several tasks, kept apart: their inner products, their combination, their cosines.

Shape letters: K tasks, S numbers of a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]


class TaskGradients:
    """The gradient of each task's loss, summed over the micro-batches of an update."""

    def __init__(self, parameters: Sequence[nn.Parameter], tasks: int) -> None:
        self.parameters = tuple(parameters)
        self.tasks = tasks
        self._found: dict[nn.Parameter, dict[int, Tensor]] = {parameter: {} for parameter in self.parameters}

    def add(self, losses: Sequence[Tensor], *, keep_graph: bool = False) -> None:
        """Add the gradients of one micro-batch: K losses, of which each may reach some of the parameters."""
        for task, loss in enumerate(losses):
            if not loss.requires_grad:  # all that the task reaches is frozen
                continue
            last = task + 1 == len(losses)
            found = torch.autograd.grad(loss, self.parameters, retain_graph=keep_graph or not last, allow_unused=True)
            for parameter, gradient in zip(self.parameters, found, strict=True):
                if gradient is not None:
                    before = self._found[parameter].get(task)
                    # Never in place: autograd may give one tensor to two parameters.
                    self._found[parameter][task] = gradient if before is None else before + gradient

    def inner_products(self, parameters: Sequence[nn.Parameter] | None = None) -> Floats:
        """The inner products [K, K] of the tasks' gradients, over some parameters or all shared ones."""
        if parameters is None:
            return sum(self._shared.values(), np.zeros((self.tasks, self.tasks)))
        return sum(self._products(parameters), np.zeros((self.tasks, self.tasks)))

    @cached_property
    def _shared(self) -> dict[nn.Parameter, Floats]:
        """The products [K, K] of each parameter that more than one task moves.

        A task may reach a parameter and not move it, for instance where the gates of all tasks are stacked.
        """
        reached = [parameter for parameter in self.parameters if len(self._found[parameter]) > 1]
        products = zip(reached, self._products(reached), strict=True)
        return {parameter: each for parameter, each in products if np.count_nonzero(np.diag(each)) > 1}

    def _products(self, parameters: Sequence[nn.Parameter]) -> Sequence[Floats]:
        """The products [K, K] of each parameter, brought from the device at once."""
        products = []
        for parameter in parameters:
            found = self._found[parameter]
            rows = [found.get(task, torch.zeros_like(parameter)).flatten() for task in range(self.tasks)]
            block = torch.stack(rows)  # [K, S]
            # Gradients that nearly cancel leave little of 32 bits; one kind of device has no 64.
            block = block.float() if block.device.type == "mps" else block.double()
            products.append(block @ block.T)  # [K, K]
        return list(torch.stack(products).cpu().double().numpy()) if products else []

    def add_to_parameters(self, coefficients: Floats) -> None:
        """Add to each `grad`: for shared parameters by the coefficients [K], for others their own task's gradient."""
        for parameter in self.parameters:
            factors = coefficients if parameter in self._shared else np.ones(self.tasks)
            for task, gradient in self._found[parameter].items():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.add_(gradient, alpha=float(factors[task]))


def cosines(inner_products: Floats) -> Floats:
    """The cosines [K, K] between gradients; NaN where one of them is 0."""
    norms = np.sqrt(np.diag(inner_products))  # [K]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = inner_products / (norms[:, None] * norms)
    return np.where(np.isfinite(found), found.clip(-1, 1), np.nan)
