"""User statistics: equal to counting by hand over strictly earlier events, in batch and event by event."""

import math
import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from moerec.errors import ConfigError, DatasetError
from moerec.features import prefixes
from moerec.features.user_statistics import UserStatisticsConfig
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
FEATURE = UserStatisticsConfig(
    labels=LABELS, recent_days=(1, 7, 30), recent_events=3, shrinkage=2.0, item_shrinkage=4.0
)
quickly = settings(max_examples=15)


def by_hand(feature, events, train, user, timestamp) -> dict[str, float | None]:
    """The statistics of one example, with loops."""
    log = [row for row in events.iter_rows(named=True) if row["user"] == user and row["timestamp"] < timestamp]
    times = [row["timestamp"] for row in log]
    values = {"user_count": len(log)}
    for days in feature.recent_days:
        values[f"user_count_{days}d"] = sum(time >= timestamp - days * DAY for time in times)
    values["user_since_first"] = (timestamp - times[0]) / 1000 if log else None
    values["user_since_previous"] = (timestamp - times[-1]) / 1000 if log else None
    for label in feature.labels:
        known = [row[label] for row in log if row[label] is not None]
        recent = [row[label] for row in log[-feature.recent_events :] if row[label] is not None]
        residuals = [residual(feature, train, row, label) for row in log if row[label] is not None]
        values[f"user_{label}_mean"] = sum(known) / len(known) if known else None
        values[f"user_{label}_deviation"] = statistics.stdev(known) if len(known) > 1 else None
        values[f"user_{label}_recent"] = sum(recent) / len(recent) if recent else None
        values[f"user_{label}_residual"] = sum(residuals) / (len(known) + feature.shrinkage) if known else None
    return values


def residual(feature, train, event, label) -> float:
    earlier = train.filter((pl.col("timestamp") < event["timestamp"]) & pl.col(label).is_not_null())
    if earlier.is_empty():
        return 0.0
    own = earlier.filter(pl.col("item") == event["item"])[label]
    a = feature.item_shrinkage
    return event[label] - (own.sum() + a * earlier[label].mean()) / (len(own) + a)


@quickly
@given(event_frames())
def test_equal_to_counting_by_hand(events):
    train = train_part(events)
    examples = pl.concat([keys(events), requests(events, CATALOGUE)[:10]])
    found = FEATURE.apply(events, examples, FEATURE.fit(train, CATALOGUE))
    for (user, _, timestamp), row in zip(examples.iter_rows(), found.iter_rows(named=True), strict=True):
        right = by_hand(FEATURE, events, train, user, timestamp)
        assert list(row) == list(right)
        for name, value in row.items():
            if name.endswith("residual"):  # residuals are rounded to the unit of the label
                assert value == (None if right[name] is None else pytest.approx(right[name], abs=1e-5)), name
            elif name.endswith("deviation"):
                assert value == (None if right[name] is None else pytest.approx(right[name], rel=1e-12)), name
            else:
                assert value == right[name], name


@pytest.mark.parametrize("labels", [(), LABELS])
def test_properties(labels, monkeypatch):
    monkeypatch.setattr(prefixes, "_PART_ROWS", 5)
    monkeypatch.setattr(prefixes, "_BLOCK_ROWS", 7)
    check_all(UserStatisticsConfig(labels=labels), make_events(users=5), CATALOGUE, refit=True)


@settings(max_examples=5)
@given(event_frames(users=3, most=6))
def test_properties_of_any_events(events):
    check_fold(FEATURE, events, CATALOGUE)
    check_future(FEATURE, events, CATALOGUE, refit=True)


@quickly
@given(event_frames())
def test_an_event_is_not_in_its_own_statistics(events):
    state = FEATURE.fit(train_part(events), CATALOGUE)
    before = FEATURE.apply(events, events, state)
    for row in range(events.height):
        own = pl.int_range(events.height) == row
        other = events.with_columns(
            pl.when(own).then(4.5).otherwise("rating").alias("rating"),
            pl.when(own).then(2).otherwise("item").cast(pl.Int32).alias("item"),
        )
        tied = (events["user"] == events["user"][row]) & (events["timestamp"] == events["timestamp"][row])
        assert_same(before.filter(tied), FEATURE.apply(other, other, state).filter(tied), "own label")


def test_the_first_events_of_a_user_have_an_empty_past():
    events = frame([(0, 2, START, 5.0, 1.0), (0, 3, START, 1.0, 0.0), (0, 4, START + 1, 1.0, 0.0)])
    columns = FEATURE.apply(events, events, FEATURE.fit(events, CATALOGUE))
    assert columns["user_count"].to_list() == [0, 0, 2]
    assert columns["user_rating_mean"].to_list() == [None, None, 3.0]
    assert columns["user_since_previous"].to_list() == [None, None, 0.001]


def test_a_harsh_user_has_a_negative_residual():
    """Planted: items differ a lot; user 0 gives everything one point less than the others."""
    generator = np.random.default_rng(0)
    quality = generator.choice([2.0, 3.0, 4.0], size=6)
    rows = []
    for moment in range(900):
        user, item = int(generator.integers(10)), int(generator.integers(6))
        rows.append((user, item + 2, START + moment, quality[item] - (user == 0), None))
    events = frame(rows)
    feature = UserStatisticsConfig(labels=("rating",))
    columns = feature.apply(events, events, feature.fit(events, CATALOGUE))
    last = columns.filter(events["timestamp"] > START + 800).with_columns(
        events.filter(events["timestamp"] > START + 800)["user"]
    )
    harsh, others = (last.filter(mask)["user_rating_residual"] for mask in (pl.col("user") == 0, pl.col("user") != 0))
    assert harsh.max() < -0.5
    assert others.min() > -0.4


def test_what_the_feature_needs_is_said():
    events = make_events()
    with pytest.raises(ConfigError, match=r"features\.user_statistics\.labels: .*'stars'"):
        UserStatisticsConfig(labels=("stars",)).fit(events, CATALOGUE)
    timeless = events.with_columns(timestamp=pl.lit(None, pl.Int64))
    with pytest.raises(DatasetError, match="timestamp"):
        FEATURE.fit(timeless, CATALOGUE)
    for wrong in (
        {"labels": ("rating", "rating")},
        {"recent_days": (0,)},
        {"recent_days": (7, 7)},
        {"labels": ("a b",)},
    ):
        with pytest.raises(ValueError, match=r"once|feature"):
            UserStatisticsConfig(**wrong)
    assert math.isnan(
        FEATURE.read(FEATURE.start(), np.array([2]), START, FEATURE.fit(events, CATALOGUE))["user_rating_mean"][0]
    )
