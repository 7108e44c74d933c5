"""Tables that get rows while they are trained, for ids that arrive later.

Shape letters: N rows, M further rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from moerec.dataset.schema import UNKNOWN


def grow_rows(owner: nn.Module, name: str, rows: int, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Append rows to a parameter, each equal to the row of unknown ids.

    So a new id begins as what it was taken for until now, and no prediction jumps. What the optimizer remembers of the
    old rows stays; of new ones it remembers nothing.

    Args:
        owner: holds the parameter, for instance an embedding.
        name: of the parameter, for instance `weight`.
        rows: N + M, the rows that it is to have; with no more than it has nothing happens.
        optimizer: the one that trains it.
    """
    old = getattr(owner, name)
    more = rows - len(old)
    if more <= 0:
        return
    with torch.no_grad():
        weight = torch.cat([old, old[UNKNOWN : UNKNOWN + 1].expand(more, *old.shape[1:])])  # [N + M, ...]
    grown = nn.Parameter(weight, requires_grad=old.requires_grad)
    setattr(owner, name, grown)
    if isinstance(owner, nn.Embedding):
        owner.num_embeddings = rows
    if optimizer is not None:
        _hand_over(optimizer, old, grown)


def _hand_over(optimizer: torch.optim.Optimizer, old: nn.Parameter, grown: nn.Parameter) -> None:
    for group in optimizer.param_groups:
        group["params"] = [grown if parameter is old else parameter for parameter in group["params"]]
    if old in optimizer.state:
        optimizer.state[grown] = {key: _longer(value, old, grown) for key, value in optimizer.state.pop(old).items()}


def _longer(value: Any, old: Tensor, grown: Tensor) -> Any:
    """A moment of the old rows goes on with zeros; a number of steps stays as it is."""
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    return torch.cat([value, value.new_zeros(len(grown) - len(old), *value.shape[1:])])
