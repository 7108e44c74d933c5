"""Training batches of sequences; their order is a function of (seed, epoch) alone, so a run resumes exactly.

Shape letters: U users, B sequences, T events of all sequences together, P events before the sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import PADDING


@dataclass(frozen=True)
class SequenceLoader:
    """Cuts histories into windows of events, each with the item that follows as its positive."""

    histories: TrainHistories
    max_length: int
    """Most events of one window."""
    batch_size: int
    """Sequences of one batch; the last batch of an epoch may be smaller."""
    seed: int
    windows: Literal["all", "last"] = "all"
    """all: every event is a positive once an epoch, the cuts are drawn anew; last: only the most recent window."""

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch (the random cuts make it vary a little)."""
        return -(-int(self._cuts(epoch)[1].sum()) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[SequenceBatch]:
        """The batches of an epoch, from batch number `start` on."""
        users, starts, ends = self._windows(epoch)
        order = self._order(epoch, ends - starts)
        for first in range(start * self.batch_size, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            yield self._batch(users[chosen], starts[chosen], ends[chosen])

    def _cuts(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each user how far before the first event the oldest window begins, and the number of windows, both [U]."""
        pairs = self._pairs()
        if self.windows == "last":
            # It begins after the first event if there is more than one window holds.
            return np.minimum(self.max_length - pairs, 0), (pairs > 0).astype(np.int64)
        # A random shift of the cuts shows each event in each place of a window over the epochs.
        drawn = np.random.default_rng([self.seed, epoch, 0]).integers(0, self.max_length, size=len(pairs))
        shift = np.where(pairs > self.max_length, drawn, 0)
        return shift, -(-(pairs + shift) // self.max_length)

    def _windows(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """User, first input event and end of input events of each window."""
        pairs, offsets = self._pairs(), self.histories.offsets
        shift, counts = self._cuts(epoch)
        users = np.repeat(np.arange(len(pairs)), counts)
        number = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 is the oldest window
        begin = number * self.max_length - shift[users]
        starts = offsets[:-1][users] + np.maximum(begin, 0)
        ends = offsets[:-1][users] + np.minimum(begin + self.max_length, pairs[users])
        return users, starts, ends

    def _pairs(self) -> NDArray[np.int64]:
        """Inputs of each user that have a next item, [U]."""
        return np.maximum(np.diff(self.histories.offsets) - 1, 0)

    def _order(self, epoch: int, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Random order in which windows of like length share a batch, so that little padding is computed."""
        generator = np.random.default_rng([self.seed, epoch, 1])
        order: NDArray[np.int64] = generator.permutation(len(lengths))
        pool = self.batch_size * 16
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        order = np.concatenate([order[:0], *(chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in pools)])
        full = len(order) // self.batch_size
        batches = [order[number * self.batch_size : (number + 1) * self.batch_size] for number in range(full)]
        shuffled = [batches[number] for number in generator.permutation(full)]
        return np.concatenate([*shuffled, order[full * self.batch_size :]])

    def _batch(self, users: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> SequenceBatch:
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)  # [T]
        items, timestamps, weights = self.histories.items, self.histories.timestamps, self.histories.weights
        begins = self.histories.offsets[:-1][users]  # [B]
        earlier_offsets = np.concatenate([[0], np.cumsum(starts - begins)])
        earlier = np.arange(earlier_offsets[-1]) + np.repeat(begins - earlier_offsets[:-1], starts - begins)  # [P]
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
