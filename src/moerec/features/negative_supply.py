"""What can be drawn as a negative at each moment, and with which weight: fitted on the train events, plain data.

Shape letters: A draws, C items of the train split, I the item index, T train events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Supply:
    """What can be drawn at a time, with which weight.

    The k-th train event of an item adds (k + s) ** p - (k - 1 + s) ** p, its existence s ** p; what has come
    together by a time is (events so far + s) ** p, so a draw from the sums up to that time is exact.
    """

    num_indices: int
    items: Ints
    """[C] in the order of their first train event."""
    first: Ints
    """[C] time of that event, ascending."""
    place: Ints
    """[I] place of each item in that order; C for an item without train event."""
    existence: float
    """Weight of an item for being there."""
    event_items: Ints
    """[T] in the order of time; none for uniform."""
    event_times: Ints
    """[T]"""
    sums: NDArray[np.float64]
    """[T + 1] weight of the events before each one."""
    power: float
    smoothing: float

    @classmethod
    def uniform(cls, items: Ints, times: Ints, num_indices: int) -> Supply:
        """Equal weights for all items that exist by then; the first event of each item is enough.

        Args:
            items: [T] item of each train event, in any order.
            times: [T] milliseconds.
            num_indices: size of the item index.
        """
        none = np.zeros(0, np.int64)
        by_item = np.lexsort((times, items))
        known, at = np.unique(items[by_item], return_index=True)
        first = times[by_item][at]
        by_time = np.lexsort((known, first))
        return cls(
            num_indices=num_indices,
            items=known[by_time],
            first=first[by_time],
            place=_places(known[by_time], num_indices),
            existence=1.0,
            event_items=none,
            event_times=none,
            sums=np.zeros(1),
            power=0.0,
            smoothing=0.0,
        )

    @classmethod
    def by_popularity(cls, items: Ints, times: Ints, num_indices: int, power: float, smoothing: float) -> Supply:
        """Items by (train events so far + smoothing) ** power; every train event counts.

        Args:
            items: [T] item of each train event, in any order.
            times: [T] milliseconds.
            num_indices: size of the item index.
            power: see `NegativesConfig`.
            smoothing: see `NegativesConfig`.
        """
        uniform = cls.uniform(items, times, num_indices)
        order = np.lexsort((items, times))  # equal events keep no order of their own, so the result is one
        number = _occurrences(items[order]) + smoothing  # [T] smoothed events of the item before each one
        before = np.where(number > 0, np.power(number, power), 0.0)
        return cls(
            num_indices=num_indices,
            items=uniform.items,
            first=uniform.first,
            place=uniform.place,
            existence=smoothing**power if smoothing > 0 else 0.0,
            event_items=items[order],
            event_times=times[order],
            sums=np.concatenate([np.zeros(1), np.cumsum(np.power(number + 1.0, power) - before)]),
            power=power,
            smoothing=smoothing,
        )

    @property
    def values(self) -> dict[str, Any]:
        """The single numbers, as JSON data."""
        return {name: getattr(self, name) for name in ("num_indices", "existence", "power", "smoothing")}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; `Supply(**values, **arrays)` is the same supply."""
        return {name: getattr(self, name) for name in ("items", "first", "place", "event_items", "event_times", "sums")}

    def existing(self, times: Ints) -> Ints:
        """Number of items that can be drawn at each time: the first so many of `items`."""
        return np.searchsorted(self.first, times, side="right" if self.existence > 0 else "left").astype(np.int64)

    def pick(self, shares: NDArray[np.float64], times: Ints, existing: Ints) -> Ints:
        """Items [A] by numbers in [0, 1)."""
        by_events = self.sums[np.searchsorted(self.event_times, times, side="left")]  # [A]
        mass = shares * (by_events + self.existence * existing)
        picked = np.empty(len(shares), np.int64)
        from_events = mass < by_events
        # The sum that a mass falls under belongs to its event; the last one below it counts.
        place = np.searchsorted(self.sums, mass[from_events], side="right") - 1
        picked[from_events] = self.event_items[place]
        rest = ~from_events
        if rest.any():
            number = ((mass[rest] - by_events[rest]) / self.existence).astype(np.int64)
            picked[rest] = self.items[np.minimum(number, existing[rest] - 1)]
        return picked

    def weights(self, time: int, existing: int) -> NDArray[np.float64]:
        """Weight of each of the first `existing` items at one time."""
        if len(self.event_items) == 0:
            return np.ones(existing)
        before = self.event_items[: np.searchsorted(self.event_times, time, side="left")]
        counts = np.bincount(before, minlength=self.num_indices)[self.items[:existing]]
        return np.power(counts + self.smoothing, self.power)


def _places(items: Ints, num_indices: int) -> Ints:
    """[I] place of each item among the ones given; their number for all others."""
    place = np.full(num_indices, len(items), np.int64)
    place[items] = np.arange(len(items))
    return place


def _occurrences(items: Ints) -> Ints:
    """How often the item of each row stood before it, [T]."""
    order = np.argsort(items, kind="stable")
    ordered = items[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(items)), np.bool_), ordered[1:] != ordered[:-1]]))
    runs = np.diff(np.append(starts, len(items)))
    number = np.empty(len(items), np.int64)
    number[order] = np.arange(len(items)) - np.repeat(starts, runs)
    return number
