"""What a training minimises: batches in, a summed loss and its number of targets out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from moerec.batches.histories import TrainHistories
from moerec.batches.loader import SequenceLoader
from moerec.batches.sequences import SequenceBatch
from moerec.batches.sources import BatchSource
from moerec.dataset.schema import FIRST_ITEM, PADDING
from moerec.losses.criterion import Criterion
from moerec.losses.retrieval import SeenItems
from moerec.models.roles import Retriever
from moerec.training.stages import RetrieverStageConfig


@dataclass(frozen=True)
class Passes:
    """How the trainer wants the passes of an update computed."""

    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Opens the arithmetic of a forward pass."""
    scale: Callable[[Tensor], Tensor] = torch.clone
    """Multiplies a loss before its gradients are taken, so that 16 bits can hold them; the trainer divides again."""
    is_logged: bool = False
    """Whether this update writes a line of the log."""


class Objective(ABC):
    """What the trainer needs to know of a task."""

    model: nn.Module
    """The model to train."""

    @abstractmethod
    def source(self, stage: Any) -> BatchSource:
        """Makes the micro-batches of a stage; it knows nothing of the model, so that workers can have it."""

    def batches_per_epoch(self, stage: Any, epoch: int) -> int:
        """Number of micro-batches of an epoch."""
        return self.source(stage).batches_per_epoch(epoch)

    def epoch(self, stage: Any, epoch: int, start: int) -> Iterator[Any]:
        """Micro-batches of an epoch from number `start` on; a function of (seed, epoch) alone."""
        batches = self.source(stage).batches(epoch)
        return (batches[number] for number in range(start, len(batches)))

    @abstractmethod
    def loss(self, stage: Any, batch: Any) -> Tensor:
        """The summed loss of a micro-batch."""

    @abstractmethod
    def targets(self, batch: Any) -> int:
        """How many targets a micro-batch sums over."""

    def criterion(self, stage: Any) -> Criterion | None:
        """What the loss learns or remembers in a stage, as it is at the beginning; None if nothing.

        Raises:
            ConfigError: what the stage asks for does not fit the model.
        """
        return None

    def backward(self, stage: Any, batches: Sequence[Any], criterion: Criterion | None, passes: Passes) -> Tensor:
        """Leave the gradients of one update in the parameters.

        Args:
            stage: the stage.
            batches: the micro-batches of the update; together they count as one batch.
            criterion: what `criterion` made, as it is by now.
            passes: how to compute.

        Returns:
            the summed loss of all micro-batches, without a graph.
        """
        targets = max(1, sum(self.targets(batch) for batch in batches))
        total: Tensor | None = None
        for batch in batches:
            with passes.autocast():
                loss = self.loss(stage, batch)
            # Dividing by the targets of the whole update makes accumulation equal to one large batch.
            passes.scale(loss / targets).backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None  # an update has a batch
        return total


@dataclass(frozen=True)
class RetrievalObjective(Objective):
    """Next-item prediction: each event's vector should find the item that followed."""

    model: Retriever
    """The retriever in training."""
    histories: TrainHistories
    """The train events of all users."""
    trained: Tensor
    """[num_indices] bool: items with train events; others are never negatives, so cold items are not pushed away."""
    seed: int
    """Seed of the order of data."""

    def source(self, stage: RetrieverStageConfig) -> SequenceLoader:
        """See `Objective`.

        Raises:
            ConfigError: `batch_events` has no room for one sequence.
        """
        return SequenceLoader(
            self.histories, self.model.max_length, stage.batch_size, self.seed, stage.windows, stage.batch_events
        )

    def targets(self, batch: SequenceBatch) -> int:
        """See `Objective`."""
        assert batch.positives is not None
        return int((batch.positives != PADDING).sum() + (0 if batch.first is None else (batch.first != PADDING).sum()))

    def loss(self, stage: RetrieverStageConfig, batch: SequenceBatch) -> Tensor:
        """Summed loss over all events with a positive, and over the first events of users, predicted from nothing.

        What the item tower's gate adds to keep its experts in use comes on top.
        """
        assert batch.positives is not None
        item_vectors, gating = self.model.encode_items_with_gate()  # [num_indices, D]
        users = self.model.encode_events(batch, item_vectors)  # [T, D]
        positives = batch.positives  # [T]
        rows, places = batch.padded_index()  # [T], [T]
        if batch.first is not None:
            users = torch.cat([users, self.model.empty_history.expand(len(batch), -1)])  # [T + B, D]
            positives = torch.cat([positives, batch.first])  # [T + B]
            # A user's first event has met nothing, not even what is marked as earlier: there is nothing earlier.
            rows = torch.cat([rows, torch.arange(len(batch), device=rows.device)])  # [T + B]
            places = torch.cat([places, places.new_full((len(batch),), -1)])  # [T + B]
        kept = positives >= FIRST_ITEM  # [T + B]
        trained = self.trained.to(item_vectors.device)  # [num_indices]
        row = trained.cumsum(0) - 1  # [num_indices] place of each trained item among the trained ones
        seen = None
        if stage.loss.exclude_seen:
            first_seen = batch.first_seen(len(trained))[:, trained]
            seen = SeenItems(first_seen, rows[kept], places[kept].to(torch.int16))
        loss = stage.loss(users[kept], item_vectors[trained], row[positives[kept]], seen)
        if gating is None or gating.balance_loss is None:
            return loss
        # It is a mean over the catalogue; once for each target, it weighs the same however an update is cut up.
        return loss + self.targets(batch) * gating.balance_loss
