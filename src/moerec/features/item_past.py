"""ItemPast: what the train events had shown of each item by any moment.

Only train events strictly before the moment count. So a value that belongs to a train event does not contain the
event itself, nor anything after it, although the state is fitted on all train events.

Shape letters: N train events, I the item index, E examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.features.feature import Catalogue, FeatureState
from moerec.features.fixed_point import FixedPoint, Floats, Ints, label_values, mean
from moerec.features.prefixes import Timelines, blocks, event_times, positions, prefix_sums, stable_order, sums_between


@dataclass(frozen=True, eq=False)
class LabelPast:
    """Prefix sums of one label, in the label's own units; the sum of rows a to b - 1 is `sums[b] - sums[a]`."""

    units: FixedPoint
    """What the whole numbers mean."""
    known: Ints
    """[N + 1] by item and time: events with the label; [0] if every event has it."""
    sums: Ints
    """[N + 1] by item and time: sum of the label."""
    squares: Ints
    """[N + 1] by item and time: sum of its squares; [0] if they are not wanted."""
    all_known: Ints
    """[N + 1] by time alone: events with the label; [0] if every event has it."""
    all_sums: Ints
    """[N + 1] by time alone: sum of the label."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Items at times, looked up: which train events lie before them."""

    items: NDArray[np.integer]
    """[E] item index."""
    times: Ints
    """[E] milliseconds."""
    start: Ints
    """[E] first row of the item."""
    stop: Ints
    """[E] row behind the item's last earlier event."""
    rank: Ints
    """[E] earlier events of all items."""


@dataclass(frozen=True, eq=False)
class ItemPast:
    """The train events by item and time."""

    timelines: Timelines
    """Times by item index."""
    all_times: Ints
    """[N] times of all events, ascending."""
    labels: Mapping[str, LabelPast]
    """Per label column."""

    @classmethod
    def of(
        cls, train: pl.DataFrame, catalogue: Catalogue, labels: Sequence[str], where: str, *, squares: bool
    ) -> ItemPast:
        """From the train events, in any order.

        Args:
            train: columns item, timestamp and labels.
            catalogue: the items.
            labels: label columns.
            where: path of the feature in messages.
            squares: whether standard deviations are wanted.

        Raises:
            ConfigError: a label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        items, times = train["item"].to_numpy(), event_times(train)
        by_time, by_item = _orders(items, times)  # [N], [N]
        by_item = by_time[by_item]
        pasts = {}
        for label in labels:
            values = label_values(train, label, where)
            units = FixedPoint.fitted(values, len(values))
            numbers, known = units.whole(values)  # [N], [N]
            ordered, none = numbers[by_item], np.zeros(0, np.int64)  # [N]
            pasts[label] = LabelPast(
                units,
                none if known.all() else prefix_sums(known[by_item]),
                prefix_sums(ordered),
                prefix_sums(ordered * ordered) if squares else none,
                none if known.all() else prefix_sums(known[by_time]),
                prefix_sums(numbers[by_time]),
            )
        offsets = prefix_sums(np.bincount(items, minlength=catalogue.num_indices))  # [I + 1]
        return cls(Timelines.of(times[by_item], offsets), times[by_time], pasts)

    def at(self, items: NDArray[np.integer], times: Ints) -> Moments:
        """Look up items at times.

        Args:
            items: [E] item indices.
            times: [E] milliseconds.
        """
        stop = self.timelines.before(items, times)
        return Moments(items, times, self.timelines.offsets[items], stop, positions(self.all_times, times))

    def ordered(self, items: NDArray[np.integer], times: Ints) -> Iterator[tuple[Ints, Moments]]:
        """Look up many items: blocks of rows in the order of item and time, and what was found for them.

        In that order memory is read from front to back, here and in whatever is computed of the look-ups.
        """
        by_time, by_item = _orders(items, times)  # [E], [E]
        rank = np.searchsorted(self.all_times, times[by_time])[by_item]  # [E]
        order = by_time[by_item]
        items, times = items[order], times[order]
        start, stop = self.timelines.offsets[items], self.timelines.before(items, times)
        for block in blocks(len(order), small=True):
            yield order[block], Moments(items[block], times[block], start[block], stop[block], rank[block])

    def since(self, moments: Moments, milliseconds: int) -> Ints:
        """[E] where the events begin that are at most so much earlier than the moment."""
        return self.timelines.before(moments.items, moments.times - milliseconds)

    def ages(self, moments: Moments) -> Floats:
        """[E] milliseconds since the item's first event; NaN before it."""
        ages = (moments.times - self.timelines.first[moments.items]).astype(np.float64)
        return np.where(moments.stop > moments.start, ages, np.nan)

    def totals(self, label: str, moments: Moments) -> tuple[Ints, Ints]:
        """[E] events of the item with the label; [E] their sum, in units."""
        past = self.labels[label]
        known, sums = (sums_between(sums, moments.start, moments.stop) for sums in (past.known, past.sums))
        return known, sums

    def squares(self, label: str, moments: Moments) -> Ints:
        """[E] sum of the squares of the item's label, in units."""
        return sums_between(self.labels[label].squares, moments.start, moments.stop)

    def general_mean(self, label: str, moments: Moments) -> Floats:
        """[E] mean of the label over all earlier events, in units; NaN before the first with the label."""
        past = self.labels[label]
        known = past.all_known[moments.rank] if len(past.all_known) else moments.rank
        return mean(known, past.all_sums[moments.rank])

    def state(self) -> FeatureState:
        """The same as plain data."""
        arrays = {f"items.{part.name}": getattr(self.timelines, part.name) for part in fields(Timelines)}
        arrays["times"] = self.all_times
        for label, past in self.labels.items():
            arrays |= {
                f"{label}.{part.name}": getattr(past, part.name) for part in fields(past) if part.name != "units"
            }
        return FeatureState({"units": {label: past.units.model_dump() for label, past in self.labels.items()}}, arrays)

    @classmethod
    def from_state(cls, state: FeatureState) -> ItemPast:
        """What `state` wrote."""
        arrays = state.arrays
        names = [part.name for part in fields(LabelPast) if part.name != "units"]
        labels = {
            label: LabelPast(FixedPoint(**units), *(arrays[f"{label}.{name}"] for name in names))
            for label, units in state.values["units"].items()
        }
        timelines = Timelines(*(arrays[f"items.{part.name}"] for part in fields(Timelines)))
        return cls(timelines, arrays["times"], labels)


def _orders(items: NDArray[np.integer], times: Ints) -> tuple[Ints, Ints]:
    """[E] the order by time; [E] the order by item of what is in order of time."""
    by_time = stable_order(times - (times.min() if len(times) else 0))
    return by_time, stable_order(items[by_time].astype(np.int64))
