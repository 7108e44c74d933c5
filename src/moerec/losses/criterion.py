"""A criterion: what a loss itself learns or remembers, beside the model that it trains."""

from __future__ import annotations

from typing import Any

from torch import nn


class Criterion(nn.Module):
    """Base of criteria.

    The trainer optimizes its parameters without weight decay and outside the clipped norm, and keeps them and its
    buffers in checkpoints. A stage begins with a new one. It is no part of the saved model.
    """

    learning_rate: float | None = None
    """Peak learning rate of the parameters; None for that of the stage."""

    def after_step(self) -> None:
        """After the optimizer has changed the parameters."""

    def end_of_epoch(self) -> None:
        """After the last update of an epoch, before validation."""

    def record(self) -> dict[str, Any]:
        """What the log says of the updates since the last call, as plain numbers by name."""
        return {}
