"""User statistics: how much a user did before a moment, how lately, and how they judged.

Shape letters: N events, E examples, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import (
    Bools,
    FixedPoint,
    Floats,
    Ints,
    label_values,
    mean,
    sample_deviation,
    shrunk_mean,
)
from moerec.features.item_past import ItemPast, Moments
from moerec.features.prefixes import (
    MILLISECONDS_OF_A_DAY,
    Part,
    blocks,
    event_times,
    on_threads,
    parts,
)
from moerec.features.settings import Days, Labels
from moerec.features.spec import FeatureSpec
from moerec.features.user_past import Activity, Judgement, LabelEvents, LabelLog

_WHERE = "features.user_statistics"


class UserStatisticsConfig(FeatureConfig):
    """Statistics of the user over their own events strictly before the moment."""

    labels: Labels = ()
    """Label columns of the events to average, for instance `rating`."""
    recent_days: Days = (1, 7, 30)
    """Lengths of the windows in which recent events are counted."""
    recent_events: int = Field(default=5, ge=1)
    """How many last events the recent mean of a label covers."""
    shrinkage: float = Field(default=10.0, ge=0)
    """The mean residual counts so many events more, that have the residual 0."""
    item_shrinkage: float = Field(default=5.0, gt=0)
    """The item means that residuals are taken from count so many events more, that have the mean of all events."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Events so far and recently, seconds since the first and the last; means of labels.

        - `user_count`, `user_count_<N>d`, `user_since_first`, `user_since_previous`: null gaps before the first event.
        - `user_<label>_mean`, `user_<label>_deviation` (sample), `user_<label>_recent` (mean over the last events,
          those without the label left out): null for none, fewer than two, none.
        - `user_<label>_residual`: how much higher than others the user judges; null for none. Each earlier event's
          label less what the train events strictly before that event had shown of its item (their shrunk mean),
          averaged and drawn towards 0: the baseline predictor of Koren (2009), made causal.
        """
        counted = ["user_count", *(f"user_count_{days}d" for days in self.recent_days)]
        counted += ["user_since_first", "user_since_previous"]
        parts = ("mean", "deviation", "recent", "residual")
        averaged = [f"user_{label}_{what}" for label in self.labels for what in parts]
        return (
            *(FeatureSpec(name=name, kind="dense", side="user", transform="log") for name in counted),
            *(FeatureSpec(name=name, kind="dense", side="user") for name in averaged),
        )

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Keep what the train events show of the items' labels by each moment; nothing of any user.

        Raises:
            ConfigError: a label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        if not self.labels:
            return FeatureState()
        return ItemPast.of(train, catalogue, self.labels, _WHERE, squares=False).state()

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The statistics of every example's user.

        Raises:
            ConfigError: a label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        labels = self._label_events(events, state)
        columns = {spec.name: np.empty(examples.height) for spec in self.specs}  # each [E]

        def fill(part: Part) -> None:
            logs = {label: LabelLog.of(whole[part.rows]) for label, whole in labels.items()}
            for rows, ranges in part.asked:
                found = self._activity_columns(Activity.of(part.log, ranges, self.recent_days), ranges.times)
                for label, log in logs.items():
                    found |= self._label_columns(label, log.units, log.judgement(ranges, self.recent_events))
                for name, values in found.items():
                    columns[name][rows] = values

        on_threads(fill, parts(events, examples))
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No event: counts and exact sums of 0."""
        label = {"known": 0, "sum": 0, "squares": 0, "recent": [], "residuals": 0}
        labels = {name: dict(label) for name in self.labels}
        return {"count": 0, "first": 0, "last": 0, "recent": [], "labels": labels}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """Add the event to counts and sums; times that have left the longest window are forgotten."""
        time = event.timestamp
        oldest = time - max(self.recent_days, default=0) * MILLISECONDS_OF_A_DAY
        return {
            "count": memory["count"] + 1,
            "first": memory["first"] if memory["count"] else time,
            "last": time,
            "recent": [*(earlier for earlier in memory["recent"] if earlier >= oldest), time],
            "labels": self._updated_labels(memory["labels"], event, state),
        }

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The statistics at the time of the request, the same for all candidates."""
        activity = Activity.remembered(memory, timestamp, self.recent_days)
        columns = self._activity_columns(activity, np.array([timestamp]))  # each [1]
        for label in self.labels:
            units = FixedPoint(**state.values["units"][label])
            columns |= self._label_columns(label, units, Judgement.remembered(memory["labels"][label]))
        return {name: np.repeat(values, len(items)) for name, values in columns.items()}

    def _activity_columns(self, activity: Activity, times: Ints) -> dict[str, Floats]:
        columns = {"user_count": activity.count.astype(np.float64)}
        for days, count in zip(self.recent_days, activity.recent, strict=True):
            columns[f"user_count_{days}d"] = count.astype(np.float64)
        for name, since in (("user_since_first", activity.first), ("user_since_previous", activity.last)):
            columns[name] = np.where(activity.count > 0, (times - since) / 1000, np.nan)
        return columns

    def _label_columns(self, label: str, units: FixedPoint, judgement: Judgement) -> dict[str, Floats]:
        known, sums = judgement.known, judgement.sums
        residual = shrunk_mean(np.maximum(known, 1), judgement.residuals, 0.0, self.shrinkage)
        columns = {
            "mean": mean(known, sums),
            "deviation": sample_deviation(known, sums, judgement.squares),
            "recent": mean(judgement.recent_known, judgement.recent_sums),
            "residual": np.where(known > 0, residual, np.nan),
        }
        return {f"user_{label}_{name}": units.unit * values for name, values in columns.items()}

    def _label_events(self, events: pl.DataFrame, state: FeatureState) -> dict[str, LabelEvents]:
        """Every label of the events, with its residuals."""
        if not self.labels:
            return {}
        past, items, times = ItemPast.from_state(state), events["item"].to_numpy(), event_times(events)
        labels = {
            label: LabelEvents.of(past.labels[label].units, label_values(events, label, _WHERE))
            for label in self.labels
        }

        def fill(block: slice) -> None:
            for rows, moments in past.ordered(items[block], times[block]):
                for label, own in labels.items():
                    numbers, known = own.numbers[block][rows], own.known[block][rows]
                    own.residuals[block][rows] = self._residuals(past, label, moments, numbers, known)

        on_threads(fill, blocks(len(items)))
        return labels

    def _residuals(self, past: ItemPast, label: str, moments: Moments, numbers: Ints, known: Bools) -> Ints:
        """[E] how much each label is above the shrunk mean that its item had by then, in units.

        It is 0 where there is no label, and before all train events, where nothing is known to compare with.
        """
        general = past.general_mean(label, moments)
        above = numbers - shrunk_mean(*past.totals(label, moments), general, self.item_shrinkage)  # [E]
        return np.rint(np.where(known & np.isfinite(general), above, 0.0)).astype(np.int64)

    def _updated_labels(self, memories: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        if not self.labels:
            return {}
        past = ItemPast.from_state(state)
        moments = past.at(np.array([event.item]), np.array([event.timestamp]))  # E = 1
        updated = {}
        for label, memory in memories.items():
            numbers, known = past.labels[label].units.whole(np.array([event.labels.get(label, np.nan)]))
            number, there = int(numbers[0]), bool(known[0])
            updated[label] = {
                "known": memory["known"] + there,
                "sum": memory["sum"] + number,
                "squares": memory["squares"] + number * number,
                "recent": [*memory["recent"], number if there else None][-self.recent_events :],
                "residuals": memory["residuals"] + int(self._residuals(past, label, moments, numbers, known)[0]),
            }
        return updated
