"""When a request comes: hour, weekday and week of the year in a named time zone, and the gap since the last event.

The gap looks back: it ends at the request and begins at the user's last event strictly before it.

Shape letters: E examples, e those of a block, C candidates.
"""

from __future__ import annotations

import difflib
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.prefixes import parts
from moerec.features.spec import FeatureSpec

Ints = NDArray[np.int64]

_HOURS, _WEEKDAYS, _WEEKS = 24, 7, 53


class ClockConfig(FeatureConfig):
    """Hour, weekday and week of a request, and the time since the user's previous event."""

    time_zone: str = "UTC"
    """IANA name of the zone in which hours and days are counted, such as Europe/Berlin; summer time is followed."""
    gap_buckets: int = Field(default=26, ge=2, le=40)
    """Buckets of the gap: under 1 s, from 1 s, from 2 s, from 4 s, ...; the last one is open, with 26 from 194 days."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            pl.Series([0], dtype=pl.Datetime("ms", "UTC")).dt.convert_time_zone(value)
        except pl.exceptions.PolarsError:
            near = difflib.get_close_matches(value, available_timezones(), n=1)
            hint = f"did you mean '{near[0]}'?" if near else "use an IANA name such as UTC or Europe/Berlin"
            raise ValueError(f"unknown time zone '{value}'; {hint}") from None
        return value

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """clock_hour, clock_weekday (Monday is 1), clock_week (ISO), clock_gap_bucket; clock_gap in seconds."""
        codes = [FeatureSpec(name=name, kind="categorical", side="context") for name in self.cardinalities]
        return (*codes, FeatureSpec(name="clock_gap", kind="dense", side="context", transform="log"))

    @property
    def cardinalities(self) -> dict[str, int]:
        """Codes with 0 for missing: only the gap of a user without an earlier event is missing."""
        counts = {"hour": _HOURS, "weekday": _WEEKDAYS, "week": _WEEKS, "gap_bucket": self.gap_buckets}
        return {f"clock_{name}": count + 1 for name, count in counts.items()}

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Nothing to learn."""
        return FeatureState()

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The calendar and the gap of every example.

        Raises:
            DatasetError: events have no time.
        """
        columns: dict[str, NDArray[Any]] = {name: np.empty(examples.height, np.int32) for name in self.cardinalities}
        columns["clock_gap"] = np.empty(examples.height)  # each [E]
        for part in parts(events, examples):
            for rows, asked in part.asked:
                known = asked.stop > asked.start  # [e]
                gaps = np.where(known, asked.times - part.log.last(asked), 0)
                for name, values in self._columns(asked.times, gaps, known).items():
                    columns[name][rows] = values
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No last event."""
        return {"last": None}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """The event is the last one."""
        return {"last": event.timestamp}

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The columns of one request, the same for all candidates [C]."""
        last = memory["last"]
        gap = np.array([0 if last is None else timestamp - last])
        columns = self._columns(np.array([timestamp]), gap, np.array([last is not None]))
        return {name: np.repeat(column, len(items)) for name, column in columns.items()}

    def _columns(self, times: Ints, gaps: Ints, known: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """The columns [E] of times and gaps in milliseconds, where `known` says that there is a gap."""
        local = pl.Series(times).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(self.time_zone)
        # A time beyond the calendar of Polars (years of six digits) has no date: code 0.
        hour, weekday, week = (
            part.cast(pl.Int32).fill_null(0).to_numpy()
            for part in (local.dt.hour() + 1, local.dt.weekday(), local.dt.week())
        )
        edges = 1000 * 2 ** np.arange(self.gap_buckets - 1)  # where a bucket begins, in milliseconds
        bucket = np.searchsorted(edges, gaps, side="right") + 1  # [E]
        return {
            "clock_hour": hour,
            "clock_weekday": weekday,
            "clock_week": week,
            "clock_gap_bucket": np.where(known, bucket, 0).astype(np.int32),
            "clock_gap": np.where(known, gaps / 1000, np.nan),
        }
