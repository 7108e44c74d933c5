"""Clock: the calendar of a named zone, and a gap that only looks back."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features.clock import ClockConfig
from moerec.features.feature import FeatureState
from tests.features import properties

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
STATE = FeatureState()


def applied(feature: ClockConfig, rows: list[tuple[int, int]]) -> pl.DataFrame:
    """The columns of events given as (user, timestamp)."""
    events = properties.frame([(user, 2, time, None, None) for user, time in rows])
    return feature.apply(events, events, STATE)


@settings(max_examples=4)
@given(properties.event_frames(), st.sampled_from(ZONES))
def test_the_properties_of_a_feature(events, zone):
    properties.check_all(ClockConfig(time_zone=zone), events, properties.make_catalogue(), refit=True)


@settings(max_examples=50)
@given(st.sampled_from(ZONES), st.lists(st.integers(-(10**12), 3 * 10**12), min_size=1, max_size=20))
def test_the_calendar_is_the_standard_librarys(zone, times):
    columns = applied(ClockConfig(time_zone=zone), list(enumerate(times)))
    dates = [datetime.fromtimestamp(time // 1000, ZoneInfo(zone)) for time in times]
    assert columns["clock_hour"].to_list() == [date.hour + 1 for date in dates]
    assert columns["clock_weekday"].to_list() == [date.isoweekday() for date in dates]
    assert columns["clock_week"].to_list() == [date.isocalendar().week for date in dates]


def test_summer_time_is_followed():
    berlin = ZoneInfo("Europe/Berlin")
    # On 31 March 2024 the hour from 2 to 3 does not exist; on 27 October it happens twice.
    spring = int(datetime(2024, 3, 31, 1, 30, tzinfo=berlin).timestamp() * 1000)
    autumn = int(datetime(2024, 10, 27, 1, 30, tzinfo=berlin).timestamp() * 1000)
    hour = 3_600_000
    columns = applied(ClockConfig(time_zone="Europe/Berlin"), [(0, spring + n * hour) for n in range(3)])
    assert columns["clock_hour"].to_list() == [2, 4, 5]
    columns = applied(ClockConfig(time_zone="Europe/Berlin"), [(0, autumn + n * hour) for n in range(4)])
    assert columns["clock_hour"].to_list() == [2, 3, 3, 4]
    assert columns["clock_gap"].to_list() == [None, 3600, 3600, 3600]


def test_the_gap_looks_backward_only():
    rows = [(0, 10_000), (0, 10_000), (0, 13_000), (0, 99_000), (1, 50_000)]
    columns = applied(ClockConfig(), rows)
    # A tie is no earlier event; the last of user 0 has no event after it, and a gap all the same.
    assert columns["clock_gap"].to_list() == [None, None, 3, 86, None]
    assert columns["clock_gap_bucket"].to_list() == [0, 0, 3, 8, 0]
    earlier = applied(ClockConfig(), rows[:3])
    assert earlier.equals(columns[:3])


@settings(max_examples=30)
@given(properties.event_frames())
def test_the_gap_of_each_event_by_hand(events):
    columns = ClockConfig().apply(events, events, STATE)
    for row, gap, bucket in zip(
        events.iter_rows(named=True), columns["clock_gap"], columns["clock_gap_bucket"], strict=True
    ):
        times = events.filter(pl.col("user") == row["user"])["timestamp"]
        before = [time for time in times if time < row["timestamp"]]
        assert gap == ((row["timestamp"] - max(before)) / 1000 if before else None)
        assert bucket == (0 if gap is None else 1 + (0 if gap < 1 else min(25, 1 + math.floor(math.log2(gap)))))


def test_buckets_double_and_the_last_is_open():
    gaps = [1, 999, 1000, 1999, 2000, 3999, 4000, 7999, 8000, 10**12]
    feature = ClockConfig(gap_buckets=5)
    columns = [feature.read({"last": 0}, np.array([2]), gap, STATE) for gap in gaps]
    assert [int(column["clock_gap_bucket"][0]) for column in columns] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert feature.cardinalities["clock_gap_bucket"] == 6


def test_a_time_without_a_date_is_missing():
    columns = ClockConfig(time_zone="Europe/Berlin").read({"last": None}, np.array([2]), 2**60, STATE)
    assert columns["clock_hour"].tolist() == [0]


def test_a_wrong_zone_is_one_line():
    with pytest.raises(ConfigError, match=r"unknown time zone 'Europe/Berln'; did you mean 'Europe/Berlin'\?"):
        validate(ClockConfig, {"time_zone": "Europe/Berln"})
