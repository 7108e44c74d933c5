"""Item statistics: how often an item was met and how it was judged, as the train events had shown by that moment.

Shape letters: E examples, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import Floats, mean, sample_deviation, shrunk_mean
from moerec.features.item_past import ItemPast, Moments
from moerec.features.prefixes import MILLISECONDS_OF_A_DAY, blocks, event_times, on_threads
from moerec.features.settings import Days, Labels
from moerec.features.spec import FeatureSpec

_MILLION = 1e6


class ItemStatisticsConfig(FeatureConfig):
    """Statistics of the candidate over train events strictly before the moment, of all users."""

    labels: Labels = ()
    """Label columns of the events to average, for instance `rating`."""
    recent_days: Days = (7, 30)
    """Lengths of the windows in which recent events are counted."""
    shrinkage: float = Field(default=5.0, gt=0)
    """The shrunk mean counts so many events more, that have the mean of all earlier train events."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Events so far, their share in a million of all events, recent events, age in seconds; means of labels.

        - `item_count`, `item_share`, `item_count_<N>d`, `item_age`: null share before the first train event, null
          age before the item's first.
        - `item_<label>_mean`, `item_<label>_deviation` (sample): null for none, fewer than two.
        - `item_<label>_shrunk`: the mean drawn towards the mean of all earlier train events; never null after those.
        """
        counted = ["item_count", "item_share", *(f"item_count_{days}d" for days in self.recent_days), "item_age"]
        averaged = [f"item_{label}_{what}" for label in self.labels for what in ("mean", "shrunk", "deviation")]
        return (
            *(FeatureSpec(name=name, kind="dense", side="item", transform="log") for name in counted),
            *(FeatureSpec(name=name, kind="dense", side="item") for name in averaged),
        )

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Order the train events by item and time, with prefix sums of counts and labels.

        Raises:
            ConfigError: a label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        return ItemPast.of(train, catalogue, self.labels, "features.item_statistics", squares=True).state()

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """Look up the item of every example at its time; `events` is not needed."""
        past = ItemPast.from_state(state)
        items, times = examples["item"].to_numpy(), event_times(examples)
        columns = {spec.name: np.empty(len(items)) for spec in self.specs}  # each [E]

        def fill(block: slice) -> None:
            for rows, moments in past.ordered(items[block], times[block]):
                for name, values in self._columns(past, moments).items():
                    columns[name][block][rows] = values

        on_threads(fill, blocks(len(items)))
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """Nothing is kept of the user."""
        return {}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """Nothing is kept of the user."""
        return memory

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """Look up the candidates at the time of the request."""
        past = ItemPast.from_state(state)
        return dict(self._columns(past, past.at(items, np.full(len(items), timestamp, np.int64))))

    def _columns(self, past: ItemPast, moments: Moments) -> dict[str, Floats]:
        """The values of items at moments [E], in the order of the specs."""
        counts = moments.stop - moments.start  # [E]
        columns = {"item_count": counts.astype(np.float64), "item_share": _MILLION * mean(moments.rank, counts)}
        for days in self.recent_days:
            recent = moments.stop - past.since(moments, days * MILLISECONDS_OF_A_DAY)
            columns[f"item_count_{days}d"] = recent.astype(np.float64)
        columns["item_age"] = past.ages(moments) / 1000
        for label in self.labels:
            unit, (known, sums) = past.labels[label].units.unit, past.totals(label, moments)
            shrunk = shrunk_mean(known, sums, past.general_mean(label, moments), self.shrinkage)
            columns[f"item_{label}_mean"] = unit * mean(known, sums)
            columns[f"item_{label}_shrunk"] = unit * shrunk
            columns[f"item_{label}_deviation"] = unit * sample_deviation(known, sums, past.squares(label, moments))
        return columns
