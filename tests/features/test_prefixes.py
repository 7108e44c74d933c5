"""Ranges of strictly earlier events: equal to counting, exact under ties, whatever stands before them in the table."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import DatasetError
from moerec.features import prefixes
from moerec.features.prefixes import Timelines, UserLog, parts, positions, prefix_sums, stable_order, sums_between
from tests.features.properties import event_frames

quickly = settings(max_examples=40)
TIMES = st.integers(-5, 12)


@quickly
@given(st.lists(st.integers(0, 2**62) | st.integers(0, 3) | st.integers(65_534, 65_538), max_size=30))
def test_stable_order_is_that_of_a_stable_sort(numbers):
    array = np.array(numbers, np.int64)
    assert stable_order(array).tolist() == np.argsort(array, kind="stable").tolist()


def test_positions_of_many_unordered_queries():
    generator = np.random.default_rng(0)
    ascending = np.sort(generator.integers(-1000, 1000, 3000))
    for queries in (generator.integers(-1100, 1100, 2000), np.arange(-1000, 1000), np.zeros(0, np.int64)):
        assert np.array_equal(positions(ascending, queries), np.searchsorted(ascending, queries))


def test_sums_of_a_range_are_exact_behind_sums_that_overflow():
    numbers = np.array([2**62, 2**62, 2**62, 5, -7, 2**62, 2**62, 11])
    sums = prefix_sums(numbers)
    for start in range(9):
        for stop in range(start, 9):
            right = sum(numbers[start:stop].tolist())
            if -(2**63) <= right < 2**63:
                assert sums_between(sums, np.array([start]), np.array([stop])).tolist() == [right]
    ones = prefix_sums(np.ones(8, np.bool_))
    start, stop = np.array([1, 3]), np.array([5, 3])
    assert sums_between(ones, start, stop).tolist() == sums_between(np.zeros(0, np.int64), start, stop).tolist()


@quickly
@given(st.lists(st.lists(TIMES, max_size=6), min_size=1, max_size=5), st.lists(TIMES, min_size=1, max_size=8))
def test_timelines_count_what_is_strictly_earlier(groups, asked):
    groups = [sorted(group) for group in groups]
    offsets = np.cumsum([0, *map(len, groups)])
    timelines = Timelines.of(np.array([time for group in groups for time in group], np.int64), offsets)
    assert (timelines.keys[1:] >= timelines.keys[:-1]).all()
    for number, group in enumerate(groups):
        found = timelines.before(np.full(len(asked), number), np.array(asked)) - offsets[number]
        assert found.tolist() == [sum(time < moment for time in group) for moment in asked]


@settings(max_examples=20)
@given(event_frames(), st.randoms(use_true_random=False))
def test_ranges_are_the_earlier_events_of_the_user(events, random):
    users = events["user"].unique().to_list()
    random.shuffle(users)  # whole users may stand in any order
    events = pl.concat([events.filter(pl.col("user") == user) for user in users])
    log = list(events.select("user", "timestamp").iter_rows())
    beside = events.with_columns(pl.col("user") + pl.int_range(pl.len(), dtype=pl.Int32) % 2, pl.col("timestamp") + 1)
    for asked in (events, beside, beside.reverse()):
        rows, seen = list(asked.select("user", "timestamp").iter_rows()), []
        for part in parts(events, asked):
            for where, ranges in part.asked:
                index = np.arange(len(rows))[where].tolist()
                seen += index
                for row, start, stop in zip(index, ranges.start, ranges.stop, strict=True):
                    user, time = rows[row]
                    earlier = [place for place, other in enumerate(log) if other[0] == user and other[1] < time]
                    first = part.rows.start
                    assert list(range(first + start, first + stop)) == earlier
        assert sorted(seen) == list(range(len(rows)))


def test_small_parts_cover_whole_users(monkeypatch):
    monkeypatch.setattr(prefixes, "_PART_ROWS", 3)
    users = [4, 4, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3]
    events = pl.DataFrame({"user": users, "timestamp": list(range(12))})
    pieces = [part.events["user"].to_list() for part in parts(events, events)]
    assert [user for piece in pieces for user in piece] == users
    assert all(set(one).isdisjoint(two) for one, two in pairwise(pieces))
    assert len(pieces) > 1


@pytest.mark.parametrize(
    ("users", "times", "error", "message"),
    [
        ([1, 2, 1], [0, 0, 1], ValueError, "stand together"),
        ([1, 1, 2], [5, 4, 0], ValueError, "order of time"),
        ([1, 1, 2], [5, None, 0], DatasetError, "no timestamp"),
        ([1, 1, 2], [-(2**62), 2**62, 0], DatasetError, "milliseconds"),
    ],
)
def test_what_cannot_be_a_log_is_refused(users, times, error, message):
    events = pl.DataFrame({"user": users, "timestamp": pl.Series(times, dtype=pl.Int64)})
    with pytest.raises(error, match=message):
        UserLog.of(events)
