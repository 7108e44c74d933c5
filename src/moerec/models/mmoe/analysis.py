"""How each task uses the experts, over all rows of a data loader.

Shape letters: N rows of the data loader, B rows of a batch, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from moerec.errors import ConfigError
from moerec.models.mmoe.batches import evaluated
from moerec.nn.gates import Utilisation, utilisation


@dataclass(frozen=True)
class ExpertAnalysis:
    """What the gates said; printed, it is a table."""

    rows: int
    """Rows that were looked at."""
    tasks: tuple[Utilisation, ...]
    """For each task mean weight and load of each expert, entropy, dead experts."""

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task: int) -> Utilisation:
        return self.tasks[task]

    def __iter__(self) -> Iterator[Utilisation]:
        return iter(self.tasks)

    def __str__(self) -> str:
        experts = max(len(use.mean_weight) for use in self.tasks)
        head = ["task", "entropy", "max/mean load", "dead", *(f"expert {number}" for number in range(experts))]
        body = [
            [str(task), f"{use.entropy:.3f}", f"{use.max_over_mean_load:.2f}", str(use.dead)]
            + [f"{weight:.3f}" for weight in use.mean_weight]
            for task, use in enumerate(self.tasks)
        ]
        widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *body)]
        return "\n".join([*lines, f"mean weight of each expert over {self.rows:,} rows"])


def analyze_expert_weights(model: nn.Module, dataloader: Iterable[Any], print_table: bool = False) -> ExpertAnalysis:
    """What each task's gate says over all rows.

    Args:
        model: called with a batch's inputs and `return_expert_weights=True`.
        dataloader: batches `x`, or tuples whose last member holds targets, which are not looked at: `(x, targets)`,
            `(user_ids, item_ids, targets)`, `(user_ids, item_ids, dense_features, targets)`.
        print_table: print the table as well.

    Raises:
        ConfigError: there is no batch.
    """
    said: list[list[Tensor]] = []
    with evaluated(model, dataloader) as batches:
        for _, inputs in batches:
            said.append([weights.cpu() for weights in model(*inputs, return_expert_weights=True)[1]])
    if not said:
        raise ConfigError("the data loader gives no batch; there is nothing to look at")
    by_task = [torch.cat(weights) for weights in zip(*said, strict=True)]  # each [N, E]
    analysis = ExpertAnalysis(len(by_task[0]), tuple(utilisation(weights) for weights in by_task))
    if print_table:
        print(analysis)  # noqa: T201
    return analysis
