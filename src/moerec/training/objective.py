"""What a training minimises: batches in, a summed loss and its number of targets out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moerec.batches.histories import TrainHistories
from moerec.batches.loader import SequenceLoader
from moerec.batches.sequences import SequenceBatch
from moerec.batches.sources import BatchSource
from moerec.dataset.schema import FIRST_ITEM, PADDING, UNKNOWN
from moerec.errors import ConfigError
from moerec.losses.criterion import Criterion
from moerec.losses.retrieval import ItemPopulation, Negatives, NextItems, SeenItems
from moerec.models.roles import Retriever
from moerec.nn.gating import Gating
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
    def targets(self, batch: Any) -> float:
        """How many targets a micro-batch sums over, or the sum of their weights."""

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
        targets = sum(self.targets(batch) for batch in batches) or 1
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
    _populations: dict[torch.device, ItemPopulation] = field(default_factory=dict, init=False, repr=False)

    def check(self, stage: RetrieverStageConfig) -> None:
        """Find out whether a stage can begin.

        Raises:
            ConfigError: what the stage asks for does not fit the model or the data.
        """
        if stage.loss.needs_cosine and not self.model.item_tower.config.normalize:
            raise ConfigError(
                f"stage '{stage.name}': loss.normalize trains cosines, and the model would rank by products; "
                "set retriever.item_tower.normalize: true too"
            )
        self._weights(stage)

    def _weights(self, stage: RetrieverStageConfig) -> NDArray[np.float32] | None:
        if stage.action_weights is None:
            return None
        return stage.action_weights.of(self.histories.labels, f"stage '{stage.name}'")

    def source(self, stage: RetrieverStageConfig) -> SequenceLoader:
        """See `Objective`.

        Raises:
            ConfigError: `batch_events` has no room for one sequence.
        """
        histories = replace(self.histories, weights=self._weights(stage))
        return SequenceLoader(
            histories, self.model.max_length, stage.batch_size, self.seed, stage.windows, stage.batch_events
        )

    def targets(self, batch: SequenceBatch) -> float:
        """The number of events to predict, or the sum of their weights."""
        assert batch.positives is not None
        if batch.weights is not None:
            return sum(float(weights[kept].sum()) for weights, kept in _weighted_targets(batch))
        return int((batch.positives != PADDING).sum() + (0 if batch.first is None else (batch.first != PADDING).sum()))

    def loss(self, stage: RetrieverStageConfig, batch: SequenceBatch) -> Tensor:
        """Summed loss over all events with a positive, and over the first events of users, predicted from nothing.

        What the item tower's gate adds to keep its experts in use comes on top.
        """
        events = _Events.of(batch)
        negatives = stage.loss.draw(self._population(events.positives.device), events.positives)
        if negatives is None:
            return self._over_catalogue(stage, batch, events)
        return self._against(stage, batch, events, self._with_unknown(negatives))

    def _with_unknown(self, negatives: Negatives) -> Negatives:
        """With the vector of unknown ids as one more shared negative, where it is all that is known of a cold item.

        A loss that judges each item by itself pushes what it draws below 0. Cold items, never drawn and without
        content, would stay there, and stand before everything that was learned.
        """
        if self.model.item_tower.inputs is not None or not negatives.shared:
            return negatives
        items, counts = negatives.items, negatives.counts
        return replace(
            negatives,
            items=torch.cat([items, items.new_full((1,), UNKNOWN)]),
            log_expected=torch.cat([negatives.log_expected, negatives.log_expected.new_zeros(1)]),
            counts=None if counts is None else torch.cat([counts, counts.new_ones(1)]),
        )

    def _over_catalogue(self, stage: RetrieverStageConfig, batch: SequenceBatch, events: _Events) -> Tensor:
        """The loss over all trained items."""
        item_vectors, gating = self.model.encode_items_with_gate()  # [num_indices, D]
        users = self._users(batch, item_vectors, events)  # [T', D]
        trained = self.trained.to(item_vectors.device)  # [num_indices]
        row = torch.where(trained, trained.cumsum(0) - 1, -1)  # [num_indices] place among the trained items
        seen = events.seen(batch, row, int(trained.sum())) if stage.loss.exclude_seen else None
        loss = stage.loss(NextItems(users, item_vectors[trained], row[events.positives], seen, events.weights))
        return self._balanced(loss, batch, gating)

    def _against(
        self, stage: RetrieverStageConfig, batch: SequenceBatch, events: _Events, negatives: Negatives
    ) -> Tensor:
        """The loss against drawn negatives."""
        asked = (batch.items, events.positives, negatives.items)
        positives, drawn, rows = events.positives, negatives, self.model.num_indices
        if sum(map(torch.numel, asked)) >= 2 * rows:
            # Repeats halve what is asked for, so nearly all items are needed, and sorting would cost more than it
            # saves: measured with a text tower, 13,440 asked of 3,417 took 0.7 and of 8,000 took 1.2 times as long.
            item_vectors, gating = self.model.encode_items_with_gate()  # [num_indices, D]
        else:
            needed, batch, (positives, drawn_rows) = _only_needed(batch, asked)
            drawn, rows = negatives.at(drawn_rows), len(needed)
            item_vectors, gating = self.model.encode_items_with_gate(needed)  # [M, D]
        users = self._users(batch, item_vectors, events)  # [T', D]
        numbers = torch.arange(rows, device=item_vectors.device)
        seen = events.seen(batch, numbers, rows) if stage.loss.exclude_seen else None
        loss = stage.loss(NextItems(users, item_vectors, positives, seen, events.weights, drawn))
        return self._balanced(loss, batch, gating)

    def _balanced(self, loss: Tensor, batch: SequenceBatch, gating: Gating | None) -> Tensor:
        """The loss with that of the item tower's gate."""
        if gating is None or gating.balance_loss is None:
            return loss
        # It is a mean over the items; once for each target, it weighs the same however an update is cut up.
        return loss + self.targets(batch) * gating.balance_loss

    def _users(self, batch: SequenceBatch, item_vectors: Tensor, events: _Events) -> Tensor:
        """The vectors [T', D] from which the events are predicted."""
        users = self.model.encode_events(batch, item_vectors)  # [T, D]
        if batch.first is not None:
            users = torch.cat([users, self.model.empty_history.expand(len(batch), -1)])  # [T + B, D]
        return users[events.kept]

    def _population(self, device: torch.device) -> ItemPopulation:
        if device not in self._populations:
            counts = torch.from_numpy(self.histories.counts).to(device)
            self._populations[device] = ItemPopulation.of(self.trained.to(device), counts)
        return self._populations[device]


@dataclass(frozen=True)
class _Events:
    """The T' events of a batch that have something to predict."""

    kept: Tensor  # [T] or [T + B] bool
    """Which they are, among all events and the empty beginnings of users."""
    positives: Tensor  # [T'] int64
    rows: Tensor  # [T'] int64
    places: Tensor  # [T'] int16
    weights: Tensor | None  # [T']

    @classmethod
    def of(cls, batch: SequenceBatch) -> _Events:
        assert batch.positives is not None
        positives, weights = batch.positives, batch.weights  # [T]
        rows, places = batch.padded_index()  # [T], [T]
        if batch.first is not None:
            positives = torch.cat([positives, batch.first])  # [T + B]
            # A user's first event has met nothing, not even what is marked as earlier: there is nothing earlier.
            rows = torch.cat([rows, torch.arange(len(batch), device=rows.device)])  # [T + B]
            places = torch.cat([places, places.new_full((len(batch),), -1)])  # [T + B]
            if weights is not None and batch.first_weights is not None:
                weights = torch.cat([weights, batch.first_weights])  # [T + B]
        kept = positives >= FIRST_ITEM  # [T + B]
        if weights is not None:
            kept &= weights > 0
            weights = weights[kept]
        return cls(kept, positives[kept], rows[kept], places[kept].to(torch.int16), weights)

    def seen(self, batch: SequenceBatch, numbers: Tensor, num_items: int) -> SeenItems:
        """What each event has met.

        Args:
            batch: the batch.
            numbers: [num_indices] which of `num_items` an item of the batch is; -1 for none.
            num_items: N.
        """
        rows, items, places = batch.meetings()  # [S]
        items = numbers[items]  # [S]
        known = items >= 0
        met = rows[known], items[known], places[known]
        return SeenItems.of(met, len(batch), num_items, self.rows, self.places)


def _only_needed(batch: SequenceBatch, asked: tuple[Tensor, ...]) -> tuple[Tensor, SequenceBatch, tuple[Tensor, ...]]:
    """Number the items that a batch needs from 0 on.

    Args:
        batch: the batch.
        asked: the items that are needed, first those of the batch; of any shape.

    Returns:
        [M] the items needed, with the two reserved ones where they always are; the batch in these numbers; the rest
        of `asked` in these numbers.
    """
    device = batch.items.device
    reserved = torch.arange(FIRST_ITEM, device=device)
    needed, numbers = torch.unique(torch.cat([reserved, *(items.flatten() for items in asked)]), return_inverse=True)
    parts = numbers[FIRST_ITEM:].split([items.numel() for items in asked])
    items, *others = (part.view(whole.shape) for part, whole in zip(parts, asked, strict=True))
    earlier = batch.earlier
    if earlier is not None:
        # What was met before and is not needed becomes padding, which is nobody's negative.
        places = torch.searchsorted(needed, earlier).clamp_(max=len(needed) - 1)  # [P]
        earlier = torch.where(needed[places] == earlier, places, PADDING)
    return needed, replace(batch, items=items, earlier=earlier), tuple(others)


def _weighted_targets(batch: SequenceBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights of events, and which of them have something to predict."""
    for weights, positives in ((batch.weights, batch.positives), (batch.first_weights, batch.first)):
        if weights is not None and positives is not None:
            yield weights, positives != PADDING
