"""The order in which examples are read: a function of (seed, epoch, rank), known at any place without reading.

The shards of an epoch are shuffled and laid one after another. Each rank gets an equal piece of that line, cut between
examples and not between shards, so any number of ranks has its exact share, and reads hardly more shards than its own.
Within a piece, examples are shuffled inside windows of a fixed number. So a reader is inside a few shards at a time,
which it reads front to back, and place p of the order is found from the window of p alone: reading goes on at any
place as if it had never stopped.

Shape letters: S shards, W examples of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moerec.errors import ConfigError

Ints = NDArray[np.int64]
WINDOW = 8192
Remainder = Literal["keep", "drop", "repeat"]


@dataclass(frozen=True, eq=False)
class ShardOrder:
    """How the examples of a set are put in order and shared out."""

    counts: Ints  # [S]
    """Examples of each shard."""
    seed: int | None
    """None reads them as they were written."""
    rank: int = 0
    ranks: int = 1
    window: int = WINDOW
    """Examples that are shuffled together."""
    remainder: Remainder = "keep"
    """What becomes of examples that do not divide by the ranks. keep: some ranks have one more; drop: the last ones of
    the epoch are left out; repeat: the first ones of the epoch come again, so that all ranks have as many."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"shards: there is no rank {self.rank} of {self.ranks}")
        if self.window < 1:
            raise ConfigError(f"shards: a window of {self.window} examples; write at least 1")

    def epoch(self, epoch: int) -> EpochOrder:
        """The order of an epoch."""
        shards = np.arange(len(self.counts), dtype=np.int64)
        if self.seed is not None:
            shards = np.random.default_rng([self.seed, epoch, 0]).permutation(shards)
        return EpochOrder(self, epoch, shards)

    @cached_property
    def piece(self) -> tuple[int, int]:
        """First and last place (excluded) of this rank's piece; with `repeat` it may go beyond the end."""
        total = int(self.counts.sum())
        if self.remainder == "keep":
            return self.rank * total // self.ranks, (self.rank + 1) * total // self.ranks
        size = total // self.ranks if self.remainder == "drop" else -(-total // self.ranks)
        return self.rank * size, (self.rank + 1) * size

    def __len__(self) -> int:
        """Examples of this rank, the same in each epoch."""
        begin, end = self.piece
        return end - begin

    def blocks(self, size: int, worker: int = 0, workers: int = 1) -> range:
        """Numbers of the blocks of `size` examples that a worker makes; the last block of a rank may be smaller."""
        if not 0 <= worker < workers:
            raise ConfigError(f"shards: there is no worker {worker} of {workers}")
        return range(worker, -(-len(self) // size), workers)

    def count(self, size: int, worker: int = 0, workers: int = 1) -> int:
        """How many examples stand in the blocks of a worker."""
        blocks = self.blocks(size, worker, workers)
        if not blocks:
            return 0
        return len(blocks) * size - max(0, (blocks[-1] + 1) * size - len(self))


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The examples of one rank in one epoch, in order."""

    order: ShardOrder
    epoch: int
    shards: Ints  # [S]
    """The shards one after another."""

    def __len__(self) -> int:
        return len(self.order)

    def numbers(self, start: int, stop: int) -> Ints:
        """Numbers (in the order of writing) of the examples at places `start` to `stop` - 1, [stop - start]."""
        start, stop = max(0, start), min(stop, len(self))
        size = self.order.window
        parts = [
            self._window(window)[max(start - window * size, 0) : stop - window * size]
            for window in range(start // size, -(-stop // size) if stop > start else 0)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def shards_from(self, place: int) -> Iterator[int]:
        """The shards that are needed from a place on, in the order of their windows, each once."""
        size, told = self.order.window, set[int]()
        for window in range(place // size, -(-len(self) // size)):
            line = self._line(window)
            places = np.searchsorted(self._starts, line, side="right") - 1
            for shard in self.shards[_distinct(places)].tolist():
                if shard not in told:
                    told.add(shard)
                    yield shard

    @cached_property
    def _starts(self) -> Ints:
        """Where each shard of the line begins, and the line's end, [S + 1]."""
        return np.concatenate([[0], np.cumsum(self.order.counts[self.shards])]).astype(np.int64)

    @cached_property
    def _first_numbers(self) -> Ints:
        """Number of the first example of each shard in the order of writing, [S]."""
        return (np.cumsum(self.order.counts) - self.order.counts).astype(np.int64)

    @cached_property
    def _windows(self) -> dict[int, Ints]:
        return {}

    def _line(self, window: int) -> Ints:
        """Places on the line of all shards, not yet shuffled, [W]."""
        begin, end = self.order.piece
        first = begin + window * self.order.window
        line = np.arange(first, min(first + self.order.window, end), dtype=np.int64)
        return line % self._starts[-1] if len(line) else line

    def _window(self, window: int) -> Ints:
        """Numbers of the examples of a window, shuffled, [W]; the last two windows are remembered."""
        if window in self._windows:
            return self._windows[window]
        line = self._line(window)
        places = np.searchsorted(self._starts, line, side="right") - 1  # which shard of the line
        numbers = self._first_numbers[self.shards[places]] + line - self._starts[places]
        if self.order.seed is not None:
            generator = np.random.default_rng([self.order.seed, self.epoch, 1, self.order.rank, window])
            numbers = generator.permutation(numbers)
        while len(self._windows) > 1:
            self._windows.pop(next(iter(self._windows)))
        self._windows[window] = numbers
        return numbers


def _distinct(values: Ints) -> Ints:
    """Values without repeats, in the order of their first."""
    first = np.unique(values, return_index=True)[1]
    return values[np.sort(first)]
