"""What a ranker's gates do while it learns: at each validation, how their experts are used.

The gates speak anyway when the validation rows are predicted, so watching them costs no second pass.

Shape letters: B rows of a block, S sampled rows of a part, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from moerec.nn.gates import Gating, utilisation

MOST_ROWS = 4096
"""Rows over which the use of experts is summed up at a validation."""


class GateWatch:
    """Keeps what the gates say of evenly spaced rows of a part, each time anew when its first row is predicted."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        """Watch a part.

        Args:
            masks: by task, which of the part's rows are its own ([R] bool); its gate is judged on these alone.
        """
        rows = max((len(mask) for mask in masks.values()), default=0)
        self._step = max(1, -(-rows // MOST_ROWS))
        self._masks = {name: mask[:: self._step] for name, mask in masks.items()}  # each [S]
        self._weights: dict[str, list[Tensor]] = {}

    def __call__(self, start: int, gatings: Mapping[str, Gating]) -> None:
        """Take note of a block of rows, of which the first has this place in the part."""
        if start == 0:
            self._weights = {}
        first = -start % self._step
        for name, gating in gatings.items():
            sampled = gating.weights[first :: self._step].float().cpu()  # [.., E]
            self._weights.setdefault(name, []).append(sampled)

    def summary(self) -> dict[str, dict[str, float]]:
        """By gate: mean entropy, largest over mean load, and dead experts; a gate without a row of its own has none."""
        found = {}
        for name, parts in self._weights.items():
            weights = torch.cat(parts)  # [S, E]
            if name in self._masks:
                weights = weights[self._masks[name]]
            if len(weights):
                use = utilisation(weights)
                found[name] = {
                    "entropy": round(use.entropy, 6),
                    "max_over_mean_load": round(use.max_over_mean_load, 6),
                    "dead": use.dead,
                }
        return found
