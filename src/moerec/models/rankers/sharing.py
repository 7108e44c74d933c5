"""Which tasks of a ranker reach which of its parameters."""

from __future__ import annotations

import torch

from moerec.batches.examples import ExampleBatch
from moerec.models.roles import Ranker


def tasks_reaching(model: Ranker, batch: ExampleBatch) -> dict[str, frozenset[str]]:
    """For each parameter that trains, the tasks whose output hangs on it, as the graph of a forward pass says.

    Args:
        model: the ranker; it is left as it is.
        batch: any examples.
    """
    was_training = model.training
    outputs = model.eval()(batch)
    model.train(was_training)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached: dict[str, set[str]] = {name: set() for name in parameters}
    for task, output in outputs.items():
        if not output.requires_grad:  # all below it is frozen
            continue
        found = torch.autograd.grad(output.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                reached[name].add(task)
    return {name: frozenset(tasks) for name, tasks in reached.items()}
