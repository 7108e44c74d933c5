"""Updates written out by hand, for the tests of weightings: small losses, no model.

Shape letters: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from moerec.config import discover, implementations
from moerec.losses.weighting import TaskLosses, Update, Weighting
from moerec.tasks import TaskConfig

EVERY = sorted(implementations("weighting"))
BALANCING = [kind for kind in EVERY if kind != "fixed"]


def tasks(*names: str, **fields: object) -> tuple[TaskConfig, ...]:
    """Regressions of these names."""
    return tuple(TaskConfig(name=name, label=name, type="regression", **fields) for name in names)


def build(kind: str, of: Sequence[TaskConfig], **fields: object) -> Weighting:
    """A weighting by its name in a recipe."""
    return discover("weighting", {"kind": kind, **fields}).build(of)


def update_of(
    sums: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    counts: Mapping[str, int],
    parameters: Sequence[nn.Parameter] = (),
    **fields: object,
) -> Update:
    """An update of one micro-batch, or several, from summed losses."""
    passes = [sums] if isinstance(sums, Mapping) else sums
    return Update(
        passes=[TaskLosses(losses) for losses in passes],
        counts={name: torch.tensor(count) for name, count in counts.items()},
        rows=max(1, *counts.values()),
        parameters=tuple(parameters),
        **{"shared_layer": tuple(parameters), **fields},
    )


def optimise(
    weighting: Weighting,
    losses: Callable[[], Mapping[str, Tensor]],
    parameters: Sequence[nn.Parameter],
    *,
    steps: int,
    learning_rate: float = 0.02,
    epoch: int = 20,
) -> None:
    """Go down the mean losses of one row, with the weighting's own parameters at their own rate."""
    groups = [{"params": list(parameters), "lr": learning_rate}] if parameters else []
    if own := list(weighting.parameters()):
        groups.append({"params": own, "lr": weighting.learning_rate})
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        optimizer.zero_grad()
        found = losses()
        weighting.backward(update_of(found, dict.fromkeys(found, 1), parameters, is_logged=True))
        optimizer.step()
        weighting.after_step()
        if step % epoch == epoch - 1:
            weighting.end_of_epoch()
