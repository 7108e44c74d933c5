"""Learning rate schedules; everything is counted in optimizer updates."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from moerec.config import Config


class ScheduleConfig(Config):
    """Factor on the learning rate as a function of the update."""

    kind: Literal["constant", "linear", "cosine", "step"] = "cosine"
    """constant; linear or cosine decay to `final`; step: multiply by `factor` every `every` updates."""
    warmup: int = Field(default=0, ge=0)
    """Updates over which the rate rises linearly from zero."""
    final: float = Field(default=0.0, ge=0, le=1)
    """Factor towards which a linear or cosine decay falls; it would be reached one update after the last."""
    every: int = Field(default=1000, ge=1)
    """For `step`: updates between two drops."""
    factor: float = Field(default=0.8, gt=0, le=1)
    """For `step`: what each drop multiplies the rate by."""

    def at(self, update: int, total: int) -> float:
        """The factor for update number `update` (0 is the first) of `total`."""
        if update < self.warmup:
            return (update + 1) / (self.warmup + 1)
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return self.factor ** ((update - self.warmup) // self.every)
        progress = min(1.0, (update - self.warmup) / max(1, total - self.warmup))
        decay = 1 - progress if self.kind == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return self.final + (1 - self.final) * decay
