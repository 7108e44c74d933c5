"""Item statistics: equal to counting by hand over strictly earlier train events; nobody sees their own event."""

import statistics

import polars as pl
import pytest
from hypothesis import given, settings

from moerec.errors import ConfigError
from moerec.features import prefixes
from moerec.features.item_statistics import ItemStatisticsConfig
from tests.features.properties import (
    DAY,
    LABELS,
    START,
    assert_same,
    check_all,
    check_fold,
    check_future,
    event_frames,
    frame,
    keys,
    make_catalogue,
    make_events,
    requests,
    train_part,
)

CATALOGUE = make_catalogue()
FEATURE = ItemStatisticsConfig(labels=LABELS, recent_days=(1, 30), shrinkage=3.0)
quickly = settings(max_examples=15)


def by_hand(feature, train, item, timestamp) -> dict[str, float | None]:
    """The statistics of one example, with loops."""
    earlier = [row for row in train.iter_rows(named=True) if row["timestamp"] < timestamp]
    log = [row for row in earlier if row["item"] == item]
    times = [row["timestamp"] for row in log]
    values = {"item_count": len(log), "item_share": 1e6 * (len(log) / len(earlier)) if earlier else None}
    for days in feature.recent_days:
        values[f"item_count_{days}d"] = sum(time >= timestamp - days * DAY for time in times)
    values["item_age"] = (timestamp - min(times)) / 1000 if times else None
    for label in feature.labels:
        known = [row[label] for row in log if row[label] is not None]
        everything = [row[label] for row in earlier if row[label] is not None]
        a = feature.shrinkage
        values[f"item_{label}_mean"] = sum(known) / len(known) if known else None
        shrunk = (sum(known) + a * sum(everything) / len(everything)) / (len(known) + a) if everything else None
        values[f"item_{label}_shrunk"] = shrunk
        values[f"item_{label}_deviation"] = statistics.stdev(known) if len(known) > 1 else None
    return values


@quickly
@given(event_frames())
def test_equal_to_counting_by_hand(events):
    train = train_part(events)
    examples = pl.concat([keys(events), requests(events, CATALOGUE)[:10]])
    found = FEATURE.apply(events, examples, FEATURE.fit(train, CATALOGUE))
    for (_, item, timestamp), row in zip(examples.iter_rows(), found.iter_rows(named=True), strict=True):
        right = by_hand(FEATURE, train, item, timestamp)
        assert list(row) == list(right)
        for name, value in row.items():
            rounded = name.endswith(("deviation", "shrunk")) and right[name] is not None
            assert value == (pytest.approx(right[name], rel=1e-12) if rounded else right[name]), name


@pytest.mark.parametrize("labels", [(), LABELS])
def test_properties(labels, monkeypatch):
    monkeypatch.setattr(prefixes, "_BLOCK_ROWS", 7)
    check_all(ItemStatisticsConfig(labels=labels), make_events(users=5), CATALOGUE, refit=True)


@settings(max_examples=5)
@given(event_frames(users=3, most=6))
def test_properties_of_any_events(events):
    check_fold(FEATURE, events, CATALOGUE)
    check_future(FEATURE, events, CATALOGUE, refit=True)


@settings(max_examples=5)
@given(event_frames(users=3, most=5))
def test_an_event_is_not_in_its_own_statistics(events):
    """All events are train events; each in turn gets another label or is left out, and everything is fitted anew."""
    before = FEATURE.apply(events, events, FEATURE.fit(events, CATALOGUE))
    for row in range(events.height):
        own = pl.int_range(events.height) == row
        changed = events.with_columns(pl.when(own).then(4.5).otherwise("rating").alias("rating"))
        for train in (changed, events.filter(~own)):
            after = FEATURE.apply(events, events[row : row + 1], FEATURE.fit(train, CATALOGUE))
            assert_same(before[row : row + 1], after, "own event")


def test_valid_and_test_events_count_for_nobody():
    rows = [(0, 2, START, 5.0, 1.0), (0, 2, START + 10, 1.0, 0.0), (1, 2, START + 20, 1.0, 0.0)]
    train = frame(rows[:1])
    columns = FEATURE.apply(frame(rows), frame(rows), FEATURE.fit(train, CATALOGUE))
    assert columns["item_count"].to_list() == [0, 1, 1]
    assert columns["item_rating_mean"].to_list() == [None, 5.0, 5.0]


def test_an_item_without_train_events_has_the_mean_of_all():
    events = frame([(0, 2, START, 5.0, 1.0), (0, 3, START + 1, 3.0, 0.0), (1, 7, START + 2, 1.0, 0.0)])
    columns = FEATURE.apply(events, events, FEATURE.fit(events, CATALOGUE))
    assert columns["item_rating_shrunk"].to_list() == [None, 5.0, 4.0]
    assert columns["item_age"].to_list() == [None, None, None]


def test_a_missing_label_is_named():
    with pytest.raises(ConfigError, match=r"features\.item_statistics\.labels: .*'stars'.*rating"):
        ItemStatisticsConfig(labels=("stars",)).fit(make_events(), CATALOGUE)
