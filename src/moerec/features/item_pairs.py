"""ItemPairs: how often the train events had shown one item soon after another by any moment.

A pair is two events of one user; it is known from the time of the later one on. Only pairs strictly before a moment
count. So a value that belongs to a train event holds no pair of that event, nor anything of any user after it.

Shape letters: N train events, I the item index, P pairs of events, D distinct pairs of items, R distinct times,
W places from the earlier event of a pair to the later at most, b events whose pairs are made at once, G groups,
E look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from moerec.features.feature import FeatureState
from moerec.features.fixed_point import Bools, Ints
from moerec.features.prefixes import UserLog, prefix_sums, stable_order

_BLOCK_PAIRS = 2**18


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which events of a log are pairs."""

    gap: int
    """The most places from one event to the other, in the order of the log."""
    both_directions: bool
    """Whether each pair also counts from the later event to the earlier; always so for events of one time."""

    def number(self, log: UserLog) -> int:
        """How many pairs the log has."""
        pairs = 0
        for apart in range(1, min(self.gap, len(log.times) - 1) + 1):
            same = log.groups[apart:] == log.groups[:-apart]
            tied = same & (log.times[apart:] == log.times[:-apart])
            pairs += int(same.sum()) + int((same if self.both_directions else tied).sum())
        return pairs

    def made(self, log: UserLog, order: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The pairs of some events with earlier ones, block by block.

        Args:
            log: the events.
            order: rows of the later events.

        Returns:
            Rows of the later events, rows from which, and rows to which the pairs lead, in the given order.
        """
        size = max(1, _BLOCK_PAIRS // self.gap)
        for start in range(0, len(order), size):
            later = order[start : start + size, None]  # [b, 1]
            earlier = later - np.arange(1, self.gap + 1)  # [b, W]
            there = earlier >= log.timelines.offsets[log.groups[later]]
            later, earlier = np.broadcast_to(later, there.shape), np.maximum(earlier, 0)
            back: Bools = there if self.both_directions else there & (log.times[earlier] == log.times[later])
            kept = np.stack([there, back], axis=2)  # [b, W, 2]
            yield (
                np.stack([later, later], axis=2)[kept],
                np.stack([earlier, later], axis=2)[kept],
                np.stack([later, earlier], axis=2)[kept],
            )


@dataclass(frozen=True, eq=False)
class ItemPairs:
    """Events of items, and pairs of items, by time. A time is told by its rank among the times of all events."""

    times: Ints
    """[R] distinct times, ascending."""
    item_offsets: Ints
    """[I + 1] events of item i are item_offsets[i] to item_offsets[i + 1] - 1."""
    item_ranks: NDArray[np.int32]
    """[N] ranks of their times, ascending for each item."""
    codes: Ints
    """[D] distinct pairs, ascending: the item that came first times I, plus the other item."""
    pair_offsets: Ints
    """[D + 1] where the pairs of each code begin."""
    pair_ranks: NDArray[np.int32]
    """[P] ranks of the times of the later events, ascending for each code."""

    @classmethod
    def of(cls, log: UserLog, items: Ints, num_indices: int, pairs: Pairs) -> ItemPairs:
        """From the train events.

        Args:
            log: the train events.
            items: [N] item index of each.
            num_indices: size of the item index.
            pairs: which events are pairs; there must be memory for them.
        """
        times, found = np.unique(log.times, return_inverse=True)  # [R], [N]
        by_time, ranks = stable_order(found), found.astype(np.int32)  # [N], [N]
        by_item = by_time[stable_order(items[by_time])]  # [N]
        item_offsets = prefix_sums(np.bincount(items, minlength=num_indices))
        # Made in the order of time, so that one stable sort by code leaves the times of each code in order.
        made: list[tuple[Ints, NDArray[np.int32]]] = [(np.zeros(0, np.int64), np.zeros(0, np.int32))]
        for later, source, target in pairs.made(log, by_time):
            made.append((items[source] * num_indices + items[target], ranks[later]))
        codes, pair_ranks = (np.concatenate(part) for part in zip(*made, strict=True))  # [P], [P]
        made.clear()
        order = stable_order(codes)  # [P]
        codes, pair_ranks = codes[order], pair_ranks[order]
        begins = np.flatnonzero(np.diff(codes, prepend=-1))  # [D]
        offsets = np.append(begins, len(codes))
        return cls(times, item_offsets, ranks[by_item], codes[begins], offsets, pair_ranks)

    def ranks_of(self, times: Ints) -> Ints:
        """[E] how many of the distinct times are strictly earlier."""
        return np.searchsorted(self.times, times)

    def events(self, items: Ints, ranks: Ints) -> Ints:
        """[E] events of the item strictly before the time of that rank."""
        return _before(self.item_ranks, self.item_offsets[items], self.item_offsets[items + 1], ranks)

    def followed(self, sources: Ints, targets: Ints, ranks: Ints) -> Ints:
        """[E] pairs from source to target strictly before the time of that rank."""
        found = np.zeros(len(sources), np.int64)  # [E]
        if len(self.codes) == 0:
            return found
        codes = sources * (len(self.item_offsets) - 1) + targets
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        met = np.flatnonzero(self.codes[places] == codes)
        places = places[met]
        found[met] = _before(self.pair_ranks, self.pair_offsets[places], self.pair_offsets[places + 1], ranks[met])
        return found

    def state(self) -> FeatureState:
        """The same as plain data."""
        return FeatureState(arrays={part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def from_state(cls, state: FeatureState) -> ItemPairs:
        """What `state` wrote."""
        return cls(**state.arrays)


def _before(ranks: NDArray[np.int32], start: Ints, stop: Ints, limits: Ints) -> Ints:
    """[E] how many of the ascending ranks start to stop - 1 are below the limit; a search in all ranges at once."""
    found = np.zeros(len(start), np.int64)  # [E]
    rows = np.flatnonzero(start < stop)
    low, high, limit = start[rows], stop[rows], limits[rows]
    while len(rows):
        middle = (low + high) // 2
        below = ranks[middle] < limit
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        found[rows] = low - start[rows]
        open_ = low < high
        if not open_.all():
            rows, low, high, limit = rows[open_], low[open_], high[open_], limit[open_]
    return found
