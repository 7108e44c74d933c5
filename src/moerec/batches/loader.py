"""Training batches of sequences; their order is a function of (seed, epoch) alone, so a run resumes exactly.

Shape letters: U users, W windows, B sequences, T events of all sequences together, P events before the sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from moerec.batches.histories import TrainHistories
from moerec.batches.packing import budget_starts, slices
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import PADDING
from moerec.errors import ConfigError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SequenceLoader:
    """Cuts histories into windows of events, each with the item that follows as its positive.

    With `batch_size` an epoch is cut into pools of 16 batches, and a pool is sorted by length. With `batch_events`
    the whole epoch is sorted: a batch of short windows holds many of them, and hardly any padding is computed.
    """

    histories: TrainHistories
    max_length: int
    """Most events of one window."""
    batch_size: int | None
    """Sequences of one batch; the last batch of an epoch may be smaller. Give this or `batch_events`."""
    seed: int
    windows: Literal["all", "last"] = "all"
    """all: every event is a positive once an epoch, the cuts are drawn anew; last: only the most recent window."""
    batch_events: int | None = None
    """Most places of one batch, padding counted: its windows times the longest of them."""

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.batch_events is None):
            raise ConfigError("give exactly one of batch_size and batch_events")
        if self.batch_events is not None and self.batch_events < self.max_length:
            raise ConfigError(
                f"batch_events: {self.batch_events} is less than one sequence of {self.max_length} events; "
                "raise it, or lower the model's max_length"
            )

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch (the random cuts make it vary a little)."""
        if self.batch_size is not None:
            return -(-int(self._cuts(epoch)[1].sum()) // self.batch_size)
        _, starts, ends = self._windows(epoch)
        counts = np.bincount(ends - starts, minlength=self.max_length + 1)  # windows of each length
        return len(self._budget(epoch, np.repeat(np.arange(len(counts))[::-1], counts[::-1])))

    def batches(self, epoch: int) -> SequenceBatches:
        """The batches of an epoch, each made when it is asked for."""
        users, starts, ends = self._windows(epoch)
        order, bounds = self._order(epoch, ends - starts)
        return SequenceBatches(self.histories, users[order], starts[order], ends[order], bounds)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[SequenceBatch]:
        """The batches of an epoch, from batch number `start` on."""
        batches = self.batches(epoch)
        return (batches[number] for number in range(start, len(batches)))

    def _cuts(self, epoch: int) -> tuple[Ints, Ints]:
        """Of each user how far before the first event the oldest window begins, and the number of windows, both [U].

        A user of one event has an empty window: the event is predicted from nothing, as all users' first ones are.
        """
        pairs = self._pairs()
        alone = np.diff(self.histories.offsets) == 1  # [U]
        if self.windows == "last":
            # It begins after the first event if there is more than one window holds.
            return np.minimum(self.max_length - pairs, 0), (alone | (pairs > 0)).astype(np.int64)
        # A random shift of the cuts shows each event in each place of a window over the epochs.
        drawn = np.random.default_rng([self.seed, epoch, 0]).integers(0, self.max_length, size=len(pairs))
        shift = np.where(pairs > self.max_length, drawn, 0)
        return shift, np.where(alone, 1, -(-(pairs + shift) // self.max_length))

    def _windows(self, epoch: int) -> tuple[Ints, Ints, Ints]:
        """User, first input event and end of input events of each window, all [W]."""
        pairs, offsets = self._pairs(), self.histories.offsets
        shift, counts = self._cuts(epoch)
        users = np.repeat(np.arange(len(pairs)), counts)
        number = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 is the oldest window
        begin = number * self.max_length - shift[users]
        starts = offsets[:-1][users] + np.maximum(begin, 0)
        ends = offsets[:-1][users] + np.minimum(begin + self.max_length, pairs[users])
        return users, starts, ends

    def _pairs(self) -> Ints:
        """Inputs of each user that have a next item, [U]."""
        return np.maximum(np.diff(self.histories.offsets) - 1, 0)

    def _order(self, epoch: int, lengths: Ints) -> tuple[Ints, Ints]:
        """Windows [W] in the order of training, and the bounds of the batches among them.

        The order is random, but windows of like length share a batch, so that little padding is computed.
        """
        generator = np.random.default_rng([self.seed, epoch, 1])
        order: Ints = generator.permutation(len(lengths))
        if self.batch_size is None:
            order = order[np.argsort(-lengths[order], kind="stable")]
            cuts = self._budget(epoch, lengths[order])
            batches = np.split(order, cuts[1:])
            shuffled = [batches[number] for number in generator.permutation(len(cuts))]
            return np.concatenate([order[:0], *shuffled]), np.cumsum([0, *map(len, shuffled)])
        pool = self.batch_size * 16
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        order = np.concatenate([order[:0], *(chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in pools)])
        full = len(order) // self.batch_size
        batches = [order[number * self.batch_size : (number + 1) * self.batch_size] for number in range(full)]
        shuffled = [batches[number] for number in generator.permutation(full)]
        order = np.concatenate([*shuffled, order[full * self.batch_size :]])
        return order, np.append(np.arange(0, len(order), self.batch_size), len(order))

    def _budget(self, epoch: int, lengths: Ints) -> Ints:
        """Where batches of at most `batch_events` places start among windows whose lengths [W] descend."""
        assert self.batch_events is not None
        # Another first batch in each epoch moves all bounds, so that a window meets other neighbours.
        share = np.random.default_rng([self.seed, epoch, 2]).uniform(0.5, 1.0)
        starts = budget_starts(np.maximum(lengths, 1), self.batch_events, first=float(share))
        # The last batch may be a small rest, whose update would be noise: it shares with the one before it.
        if len(starts) > 1 and len(lengths) - starts[-1] < (starts[-1] - starts[-2]) // 2:
            starts[-1] = (starts[-2] + len(lengths)) // 2
        return starts


@dataclass(frozen=True, eq=False)
class SequenceBatches:
    """The batches of one epoch in order; any of them can be made without the others."""

    histories: TrainHistories
    users: Ints  # [W]
    """User of each window, in the order of training."""
    starts: Ints  # [W]
    """First input event."""
    ends: Ints  # [W]
    """The place behind the last input event."""
    bounds: Ints
    """Batch n holds the windows bounds[n] to bounds[n + 1] - 1."""

    def __len__(self) -> int:
        return max(0, len(self.bounds) - 1)

    def __getitem__(self, number: int) -> SequenceBatch:
        chosen = slice(self.bounds[number], self.bounds[number + 1])
        users, starts, ends = self.users[chosen], self.starts[chosen], self.ends[chosen]  # [B]
        index, offsets = slices(starts, ends)  # [T], [B + 1]
        items, timestamps, weights = self.histories.items, self.histories.timestamps, self.histories.weights
        begins = self.histories.offsets[:-1][users]  # [B]
        earlier, earlier_offsets = slices(begins, starts)  # [P], [B + 1]
        return SequenceBatch(
            items=torch.from_numpy(items[index]),
            offsets=torch.from_numpy(offsets),
            timestamps=None if timestamps is None else torch.from_numpy(timestamps[index]),
            users=torch.from_numpy(users),
            positives=torch.from_numpy(items[index + 1]),
            first=torch.from_numpy(np.where(starts == begins, items[starts], PADDING)),
            earlier=torch.from_numpy(items[earlier]),
            earlier_offsets=torch.from_numpy(earlier_offsets),
            weights=None if weights is None else torch.from_numpy(weights[index + 1]),
            first_weights=None if weights is None else torch.from_numpy(weights[starts]),
        )
