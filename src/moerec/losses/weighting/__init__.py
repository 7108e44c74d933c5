"""How the losses of several tasks become one update: fixed, learned and computed weights, and gradient surgery."""

from moerec.losses.weighting.base import (
    GradientWeighting,
    LossWeighting,
    LossWeightingConfig,
    TaskLosses,
    Update,
    Weighting,
    WeightingConfig,
)
from moerec.losses.weighting.fixed import FixedConfig

__all__ = [
    "FixedConfig",
    "GradientWeighting",
    "LossWeighting",
    "LossWeightingConfig",
    "TaskLosses",
    "Update",
    "Weighting",
    "WeightingConfig",
]
