"""A training is a list of stages: what trains in each, for how long, how, and when it stops."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator
from torch import nn

from moerec.config import Config, Discovered
from moerec.errors import ConfigError
from moerec.losses.retrieval import ActionWeightsConfig, FullSoftmaxConfig, RetrievalLossConfig
from moerec.losses.weighting import FixedConfig, WeightingConfig
from moerec.training.schedule import ScheduleConfig


class StageConfig(Config):
    """One stage of a training, whatever is trained."""

    name: str = "main"
    """Name of the stage, in logs and plots."""
    trains: tuple[str, ...] = ("*",)
    """Shell patterns of the parameters that train, for instance `encoder.*`; all others are frozen."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the train events; give this or `updates`."""
    updates: int | None = Field(default=None, ge=1)
    """Optimizer updates; give this or `epochs`."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches whose gradients make one update."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of matrices (embeddings included); biases, norms and vectors have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's decay rates of the first and second moment."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; null for no clipping."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate changes."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the parameters, which is then validated and kept; null for none."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations (there is always one at the end)."""
    patience: int | None = Field(default=None, ge=1)
    """Validations without a better metric after which the stage stops; null to run to the end."""
    starts_from: Literal["previous", "best"] = "previous"
    """previous: the stage before's parameters at its last update, not averaged; best: those of its best validation."""

    @model_validator(mode="after")
    def _check(self) -> StageConfig:
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("give exactly one of epochs and updates")
        if not self.trains:
            raise ValueError("trains must name at least one pattern; ['*'] trains everything")
        return self


class RetrieverStageConfig(StageConfig):
    """One stage of the retriever's training."""

    loss: Annotated[
        SerializeAsAny[RetrievalLossConfig],
        Discovered("retrieval_loss", "training.retriever[*].loss", default="full_softmax"),
    ] = FullSoftmaxConfig()
    """The loss and its settings; full_softmax if no kind is named."""
    action_weights: ActionWeightsConfig | None = None
    """How much events count as targets, by what the user did; null for all alike."""
    windows: Literal["all", "last"] = "all"
    """all: every event is a positive once an epoch; last: only each user's most recent window."""
    batch_size: int | None = Field(default=64, ge=1)
    """Sequences of one micro-batch; null where `batch_events` is given."""
    batch_events: int | None = Field(default=None, ge=1)
    """Instead of `batch_size`: most events of one micro-batch, padding counted, so that short histories are many."""

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, values: Any) -> Any:
        """The default of `batch_size` steps back where `batch_events` is given."""
        if isinstance(values, dict) and values.get("batch_events") is not None and "batch_size" not in values:
            return values | {"batch_size": None}
        return values

    @model_validator(mode="after")
    def _check_size(self) -> RetrieverStageConfig:
        if (self.batch_size is None) == (self.batch_events is None):
            raise ValueError("give exactly one of batch_size and batch_events; the other one is null or left out")
        return self


class RankerStageConfig(StageConfig):
    """One stage of the ranker's training."""

    batch_size: int = Field(default=1024, ge=1)
    """Examples of one micro-batch."""
    weighting: Annotated[SerializeAsAny[WeightingConfig], Discovered("weighting", "training.ranker[*].weighting")] = (
        FixedConfig()
    )
    """How the losses of several tasks become one update."""


def select_trainable(model: nn.Module, stage: StageConfig) -> dict[str, nn.Parameter]:
    """Freeze all parameters but those that match the stage's patterns, and return these by name.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in stage.trains:
        if not any(fnmatchcase(name, pattern) for name in names):
            groups = sorted({name.split(".")[0] for name in names})
            raise ConfigError(
                f"stage '{stage.name}': trains pattern '{pattern}' matches no parameter; "
                f"top-level groups: {', '.join(groups)}"
            )
    trainable = {}
    for name, parameter in model.named_parameters():
        chosen = any(fnmatchcase(name, pattern) for pattern in stage.trains)
        parameter.requires_grad_(chosen)
        if chosen:
            trainable[name] = parameter
    return trainable
