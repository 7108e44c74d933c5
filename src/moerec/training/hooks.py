"""Hooks: what happens around an update without the trainer knowing why."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from moerec.training.stages import StageConfig


@dataclass(frozen=True)
class Moment:
    """Where the training stands when a hook is called."""

    model: nn.Module
    """The model in training."""
    stage: StageConfig
    """The stage."""
    epoch: int
    """Epoch of the stage, from 0."""
    update: int
    """Updates of the stage that are finished."""
    total_updates: int
    """Updates of the whole stage."""


class Hook:
    """Base of hooks; override what is needed."""

    def before_step(self, moment: Moment) -> None:
        """Before the first micro-batch of an update."""

    def after_backward(self, moment: Moment) -> None:
        """After the gradients are complete and before they are clipped."""

    def after_step(self, moment: Moment) -> None:
        """After the optimizer has changed the parameters."""

    def end_of_epoch(self, moment: Moment) -> None:
        """After the last update of an epoch."""
