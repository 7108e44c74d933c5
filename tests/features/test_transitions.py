"""Transitions: equal to counting pairs by hand; nobody sees their own pair or the future of other users."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from moerec.dataset.schema import FIRST_ITEM
from moerec.dataset.sources.synthetic import SyntheticConfig
from moerec.errors import ConfigError
from moerec.features import item_pairs, prefixes
from moerec.features.feature import Catalogue
from moerec.features.item_pairs import Pairs
from moerec.features.prefixes import UserLog
from moerec.features.transitions import TransitionsConfig
from tests.features.properties import (
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
FEATURE = TransitionsConfig(gap=2, last=3, decay=0.5, smoothing=1.0)
BOTH = FEATURE.model_copy(update={"both_directions": True})


def log_of(pairs: list[tuple[int, int]], user: int = 0) -> list[tuple]:
    """One user's events (item, time)."""
    return [(user, item, START + time, None, None) for item, time in pairs]


def pairs_by_hand(feature: TransitionsConfig, train: pl.DataFrame) -> Iterator[tuple[int, int, int]]:
    """(source, target, time) of every pair, with loops."""
    for _, log in train.group_by("user", maintain_order=True):
        rows = list(log.iter_rows(named=True))
        for place, later in enumerate(rows):
            for earlier in rows[max(0, place - feature.gap) : place]:
                yield earlier["item"], later["item"], later["timestamp"]
                if feature.both_directions or earlier["timestamp"] == later["timestamp"]:
                    yield later["item"], earlier["item"], later["timestamp"]


def by_hand(feature, pairs, train, events, user, item, timestamp) -> list[float | None]:
    """The four values of one example, with loops."""
    past = [row for row in events.iter_rows(named=True) if row["user"] == user and row["timestamp"] < timestamp]
    if not past:
        return [None] * 4
    shares, latest, met = [], [], set()
    for row in past[::-1][: feature.last]:
        count = sum(pair[:2] == (row["item"], item) and pair[2] < timestamp for pair in pairs)
        known = train.filter((pl.col("item") == row["item"]) & (pl.col("timestamp") < timestamp)).height
        shares.append(count / (known + feature.smoothing))
        if row["timestamp"] == past[-1]["timestamp"]:
            latest.append(shares[-1])
        if count:
            met.add(row["item"])
    total = sum(feature.decay**back * share for back, share in enumerate(shares))
    return [sum(latest) / len(latest), total, max(shares), len(met)]


@pytest.mark.parametrize("feature", [FEATURE, BOTH])
def test_equal_to_counting_by_hand(feature):
    @settings(max_examples=12)
    @given(event_frames())
    def check(events):
        train = train_part(events)
        pairs = list(pairs_by_hand(feature, train))
        examples = pl.concat([keys(events), requests(events, CATALOGUE)[:12]])
        found = feature.apply(events, examples, feature.fit(train, CATALOGUE))
        for example, row in zip(examples.iter_rows(), found.iter_rows(), strict=True):
            right = by_hand(feature, pairs, train, events, *example)
            assert row == tuple(None if value is None else pytest.approx(value, rel=1e-12) for value in right)

    check()


@pytest.mark.parametrize("feature", [FEATURE, TransitionsConfig(both_directions=True)])
def test_properties(feature, monkeypatch):
    monkeypatch.setattr(prefixes, "_BLOCK_ROWS", 7)
    check_all(feature, make_events(users=5), CATALOGUE, refit=True)


@settings(max_examples=4)
@given(event_frames(users=3, most=6))
def test_properties_of_any_events(events):
    check_fold(FEATURE, events, CATALOGUE)
    check_future(FEATURE, events, CATALOGUE, refit=True)


@pytest.mark.parametrize("feature", [FEATURE, BOTH])
def test_the_future_of_all_users_may_be_missing_from_the_state(feature):
    events = make_events(users=8, items=4)
    train = train_part(events)
    examples = pl.concat([keys(events), requests(events, CATALOGUE)])
    whole = feature.apply(events, examples, feature.fit(train, CATALOGUE))
    assert (whole["item_follow_count"] > 0).mean() > 0.2
    changed = 0
    for time in examples["timestamp"].unique().sort().gather_every(5):
        now, past = examples["timestamp"] == time, train.filter(pl.col("timestamp") < time)
        state = feature.fit(past, CATALOGUE)
        assert_same(whole.filter(now), feature.apply(events, examples.filter(now), state), "state of the past alone")
        changed += not whole.equals(feature.apply(events, examples, state))
    assert changed  # the state does depend on what was left out


@settings(max_examples=5)
@given(event_frames(users=3, most=5))
def test_an_event_does_not_count_its_own_pairs(events):
    """All events are train events; each in turn is another item or left out, and everything is fitted anew."""
    for feature in (FEATURE, BOTH):
        before = feature.apply(events, events, feature.fit(events, CATALOGUE))
        for row in range(events.height):
            own = pl.int_range(events.height) == row
            other = pl.when(own).then(FIRST_ITEM + (pl.col("item") + 1) % 6).otherwise("item").cast(pl.Int32)
            for train in (events.with_columns(other.alias("item")), events.filter(~own)):
                after = feature.apply(events, events[row : row + 1], feature.fit(train, CATALOGUE))
                assert_same(before[row : row + 1], after, "own event")


def test_a_first_pair_is_seen_by_those_who_come_later():
    train = frame(log_of([(2, 0), (3, 10)]) + log_of([(2, 5), (3, 10)], user=1) + log_of([(2, 6), (3, 11)], user=2))
    columns = FEATURE.apply(train, train, FEATURE.fit(train, CATALOGUE))
    share = 2 / (3 + FEATURE.smoothing)
    assert columns["item_follow_last"].to_list() == [None, 0, None, 0, None, share]
    assert columns["item_follow_count"].to_list() == [None, 0, None, 0, None, 1]


def test_events_of_one_time_are_pairs_both_ways_and_the_latest_are_averaged():
    train = frame(log_of([(2, 0), (3, 0), (4, 9)], user=1))
    events = frame(log_of([(2, 50), (3, 50)]))
    examples = frame(log_of([(2, 60), (3, 60), (4, 60), (5, 60)]))
    columns = FEATURE.apply(events, examples, FEATURE.fit(train, CATALOGUE))
    assert columns["item_follow_last"].to_list() == [0.25, 0.25, 0.5, 0]
    assert columns["item_follow_sum"].to_list() == [0.5, 0.25, 0.75, 0]
    assert columns["item_follow_max"].to_list() == [0.5, 0.5, 0.5, 0]
    assert columns["item_follow_count"].to_list() == [1, 1, 2, 0]
    back = FEATURE.apply(events, frame(log_of([(4, 55), (2, 60)])), FEATURE.fit(train, CATALOGUE))
    assert back["item_follow_count"].to_list() == [2, 1]  # 4 -> 2 is no pair: its times differ


def test_a_repeated_item_counts_once_and_pairs_end_at_the_gap():
    train = frame(log_of([(2, 0), (3, 1), (4, 2), (5, 3)], user=1))
    events = frame(log_of([(2, 50), (3, 51), (2, 52)]))
    columns = FEATURE.apply(events, frame(log_of([(4, 60), (5, 60)])), FEATURE.fit(train, CATALOGUE))
    assert columns["item_follow_count"].to_list() == [2, 1]
    assert columns["item_follow_sum"].to_list() == [0.5 + 0.25 + 0.125, 0.25]


@pytest.mark.parametrize("both_directions", [False, True])
def test_the_number_of_pairs_is_known_before_they_are_made(both_directions, monkeypatch):
    monkeypatch.setattr(item_pairs, "_BLOCK_PAIRS", 10)
    for events in (make_events(), frame([]), frame(log_of([(2, 0)]))):
        for gap in (1, 3, 50):
            feature = TransitionsConfig(gap=gap, both_directions=both_directions)
            number = Pairs(gap, both_directions).number(UserLog.of(events))
            assert number == len(list(pairs_by_hand(feature, events)))
            assert number == len(feature.fit(events, CATALOGUE).arrays["pair_ranks"])


def test_more_pairs_than_wanted_are_refused():
    events = frame(log_of([(2, 0), (3, 1), (4, 2)]))
    TransitionsConfig(pairs=3).fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match=r"features\.transitions\.gap: 3 train events make 3 pairs within 10 places"):
        TransitionsConfig(pairs=2).fit(events, CATALOGUE)


def test_a_planted_chain_is_found():
    """Of all items that a user has not met, the successor in the chain has by far the highest value."""
    events = SyntheticConfig(users=150, items=150, events_per_user=20, follow=0.8, cold_items=0).read().events
    item = events["item_id"].cast(pl.Int32) - 1000 + FIRST_ITEM
    events = events.select(pl.col("user_id").cast(pl.Int32).alias("user"), item.alias("item"), "timestamp")
    events, count = events.sort("user", "timestamp"), 150 + FIRST_ITEM
    final = events.group_by("user", maintain_order=True).last()
    before = events.join(final, ["user", "timestamp"], how="anti")
    feature = TransitionsConfig()
    state = feature.fit(before, Catalogue(pl.DataFrame(), count))
    candidates = final.drop("item").join(pl.DataFrame({"item": np.arange(count, dtype=np.int32)}), how="cross")
    columns = feature.apply(events, candidates.select("user", "item", "timestamp"), state)
    rows = np.arange(final.height)
    for name, times, share in (
        ("item_follow_last", 15, 0.65),
        ("item_follow_sum", 6, 0.5),
        ("item_follow_max", 5, 0.4),
    ):
        values = columns[name].to_numpy().reshape(final.height, count).copy()
        values[before["user"].to_numpy(), before["item"].to_numpy()] = np.nan
        right = values[rows, final["item"].to_numpy()]
        assert np.median(right) > times * np.nanmean(values), name
        assert np.mean((values >= right[:, None]).sum(axis=1) == 1) > share, name
