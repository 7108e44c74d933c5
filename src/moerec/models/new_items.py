"""A retriever that knows further items, by their content alone.

Shape letters: N items of the index, M further items, P places of a multi-valued feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moerec.errors import ConfigError
from moerec.models.roles import Retriever
from moerec.nn.inputs import FeatureTable


def with_new_items(
    model: Retriever, count: int, columns: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> Retriever:
    """Another retriever of the same weights, in evaluation mode, whose index goes on with items without train events.

    Args:
        model: the retriever.
        count: M.
        columns: per feature of its item tower the values of the further items, as `FeatureTable` has them.
        present: per dense or vector feature, [M] bool.

    Raises:
        ConfigError: the model keeps something of each item that further items cannot have.
    """
    tower, old = model.item_tower, model.num_indices
    table = tower.table
    if table is not None:
        table = FeatureTable(
            table.specs,
            table.sizes,
            {name: _joined(values, columns[name]) for name, values in table.columns.items()},
            {name: _joined(values, present[name]) for name, values in table.present.items()},
        )
    trained = torch.cat([tower.trained.cpu(), torch.zeros(count, dtype=torch.bool)])
    config: Any = model.config
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten below
        made: Retriever = config.build(trained, table)
    state = made.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            target = state[name]
            if target.shape == value.shape:
                target.copy_(value)
            elif name == "item_tower.id_embedding.weight" and target.shape == (old + count, *value.shape[1:]):
                target.zero_()  # the rows of items without train events are never read
                target[:old] = value
            else:
                raise ConfigError(
                    f"{type(model).__name__}: '{name}' belongs to the items it was trained on; train again"
                )
    return made.to(model.empty_history.device).eval()


def _joined(above: Tensor, below: Tensor) -> Tensor:
    """Rows of both; those of a multi-valued feature may have different numbers of places, [N + M, P]."""
    below = below.to(above.dtype)
    if above.dim() == 2 and above.shape[1] != below.shape[1]:
        places = max(above.shape[1], below.shape[1])
        above, below = (F.pad(part, (0, places - part.shape[1])) for part in (above, below))
    return torch.cat([above, below])
