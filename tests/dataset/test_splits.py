from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.dataset.schema import Part
from moerec.dataset.splits import SplitConfig, _withheld, assign_parts
from moerec.errors import ConfigError, DatasetError

# Events of each user: times in days, in order. Few different days, so that ties are common.
histories = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12).map(sorted), min_size=1, max_size=8)
shares = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 0.29, 1 / 3])
DAY = 86_400_000


def arrays(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    return offsets, np.array([day * DAY for user in users for day in user], dtype=np.int64)


def parts_of(config: SplitConfig, users: list[list[int]]) -> list[list[Part]] | None:
    """Parts by user, or None if the rule leaves a part empty."""
    offsets, times = arrays(users)
    try:
        parts = assign_parts(config, offsets, times)
    except DatasetError:
        return None
    assert parts.dtype == np.int8
    return [[Part(int(code)) for code in parts[a:b]] for a, b in pairwise(offsets)]


def check(config: SplitConfig, users: list[list[int]], expected: list[list[Part]]) -> None:
    """The rule gives what a naive reference gives; it refuses exactly if a part that it promises is empty."""
    got = parts_of(config, users)
    present = {part for user in expected for part in user}
    promised = {Part.TRAIN, Part.TEST} | ({Part.VALID} if config.has_valid else set())
    assert got == (expected if promised <= present else None)


@given(histories)
@settings(max_examples=50)
def test_leave_last_out_is_as_the_naive_rule_says(users: list[list[int]]) -> None:
    def naive(user: list[int]) -> list[Part]:
        if len(user) < 3:
            return [Part.TRAIN] * len(user)
        return [Part.TRAIN] * (len(user) - 2) + [Part.VALID, Part.TEST]

    check(SplitConfig(), users, [naive(user) for user in users])


@given(histories, shares, shares.filter(bool))
@settings(max_examples=50)
def test_user_time_is_as_the_naive_rule_says(users: list[list[int]], valid: float, test: float) -> None:
    def naive(user: list[int]) -> list[Part]:
        in_test, in_valid = int(len(user) * test + 1e-9), int(len(user) * valid + 1e-9)
        rest = len(user) - in_test - in_valid
        assert rest > 0, "every user trains"
        return [Part.TRAIN] * rest + [Part.VALID] * in_valid + [Part.TEST] * in_test

    check(SplitConfig(kind="user_time", valid=valid, test=test), users, [naive(user) for user in users])


@given(histories, st.integers(0, 13), st.integers(1, 5), st.booleans())
@settings(max_examples=50)
def test_global_date_is_as_the_naive_rule_says(users: list[list[int]], first: int, gap: int, with_valid: bool) -> None:
    day = lambda number: date.fromordinal(date(1970, 1, 1).toordinal() + number)  # noqa: E731
    config = SplitConfig(kind="global_date", valid_from=day(first) if with_valid else None, test_from=day(first + gap))

    def naive(time: int) -> Part:
        if time >= first + gap:
            return Part.TEST
        return Part.VALID if with_valid and time >= first else Part.TRAIN

    check(config, users, [[naive(time) for time in user] for user in users])


@given(histories, shares, shares.filter(bool))
@settings(max_examples=50)
def test_global_shares_never_put_one_time_on_two_sides(users: list[list[int]], valid: float, test: float) -> None:
    got = parts_of(SplitConfig(kind="global_date", valid=valid, test=test), users)
    if got is None:
        return
    codes = [(time, part) for u, p in zip(users, got, strict=True) for time, part in zip(u, p, strict=True)]
    times = {part: [time for time, code in codes if code == part] for part in Part}
    total = sum(map(len, users))
    ordered = [times[part] for part in (Part.TRAIN, Part.VALID, Part.TEST) if times[part]]
    assert all(max(before) < min(after) for before, after in pairwise(ordered))
    assert len(times[Part.TEST]) >= int(total * test + 1e-9)
    # The earliest test time alone may lift the part above its share.
    assert sum(time > min(times[Part.TEST]) for time in times[Part.TEST]) < max(1, int(total * test + 1e-9))


@given(histories, shares, shares.filter(bool), st.integers(0, 5))
@settings(max_examples=50)
def test_ratio_has_exact_counts_and_follows_its_seed(
    users: list[list[int]], valid: float, test: float, seed: int
) -> None:
    config = SplitConfig(kind="ratio", valid=valid, test=test, seed=seed)
    got = parts_of(config, users)
    total = sum(map(len, users))
    counts = {Part.TEST: int(total * test + 1e-9), Part.VALID: int(total * valid + 1e-9)}
    if counts[Part.TEST] == 0 or (valid and counts[Part.VALID] == 0):
        assert got is None
        return
    assert got == parts_of(config, users)
    flat = [part for user in got or [] for part in user]
    assert {part: flat.count(part) for part in counts} == counts
    assert Part.UNUSED not in flat


def test_ratio_draws_other_events_with_another_seed_and_all_alike() -> None:
    offsets = np.array([0, 50], dtype=np.int64)
    drawn = np.stack([assign_parts(SplitConfig(kind="ratio", seed=seed), offsets, None) for seed in range(400)])
    frequency = (drawn == Part.TEST).mean(axis=0)
    # 400 draws of 5 in 50: standard deviation 0.015; the bounds are five of them.
    assert (abs(frequency - 0.1) < 0.075).all()
    assert np.unique(drawn, axis=0).shape[0] > 390


@given(
    histories, st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 5), st.sampled_from(["leave_last_out", "ratio"])
)
@settings(max_examples=50)
def test_withheld_items_lose_their_train_events_and_nothing_else_changes(
    users: list[list[int]], share: float, seed: int, kind: str
) -> None:
    offsets, times = arrays(users)
    # What stands for days elsewhere are items here: any user may meet any of them, several times too.
    items = times // DAY + 2
    rule = {"kind": kind, "seed": seed} if kind == "ratio" else {"kind": kind}
    withholding = SplitConfig(**rule | {"withheld_items": share, "seed": seed})
    try:
        before = assign_parts(SplitConfig(**rule), offsets, None)
    except DatasetError:
        return  # too few events for any split of this kind
    count = int(len(np.unique(items)) * share + 1e-9)
    remedy = None
    if count == 0:
        remedy = "less than one item"
    elif not (before[~_withheld(withholding, items)[items]] == Part.TRAIN).any():
        remedy = "withhold fewer items"
    if remedy is not None:
        with pytest.raises(DatasetError, match=remedy):
            assign_parts(withholding, offsets, None, items)
        return
    after = assign_parts(withholding, offsets, None, items)
    lost = before != after
    assert (before[lost] == Part.TRAIN).all()
    assert (after[lost] == Part.UNUSED).all()
    withheld = np.setdiff1d(np.unique(items), items[after == Part.TRAIN])
    without_train = np.setdiff1d(np.unique(items), items[before == Part.TRAIN])
    assert len(np.unique(items[lost])) <= count <= len(np.union1d(withheld, without_train))


def test_every_item_with_events_is_as_likely_to_be_withheld() -> None:
    # Item 2 has most events, item 6 one, item 5 none.
    items = np.array([2] * 20 + [3] * 10 + [4] * 5 + [6])
    offsets = np.array([0, len(items)], dtype=np.int64)
    drawn = np.zeros(7)
    for seed in range(400):
        parts = assign_parts(SplitConfig(kind="ratio", withheld_items=0.25, seed=seed), offsets, None, items)
        ratio = assign_parts(SplitConfig(kind="ratio", seed=seed), offsets, None)
        drawn[np.setdiff1d(items[ratio == Part.TRAIN], items[parts == Part.TRAIN])] += 1
    # 400 draws of 1 in 4: standard deviation 8.7; item 6 is itself a test or valid event in a tenth of the cases.
    assert (abs(drawn[[2, 3, 4]] - 100) < 44).all()
    assert 50 < drawn[6] < 144
    assert drawn[[0, 1, 5]].sum() == 0


def test_withholding_everything_that_trains_is_refused() -> None:
    items = np.array([2, 3, 2], dtype=np.int64)
    offsets = np.array([0, 3], dtype=np.int64)
    rules = [SplitConfig(withheld_items=0.5, seed=seed) for seed in range(20)]  # one of two items
    drawn = next(rule for rule in rules if _withheld(rule, items)[2])
    with pytest.raises(DatasetError, match="no event falls into train; withhold fewer items"):
        assign_parts(drawn, offsets, None, items)


BY_DATE = SplitConfig(kind="global_date", valid_from=date(1970, 1, 4), test_from=date(1970, 1, 7))
time_rules = st.sampled_from(
    [
        SplitConfig(),
        SplitConfig(kind="user_time", valid=0.25, test=0.25),
        BY_DATE,
    ]
)


@given(time_rules, histories)
@settings(max_examples=50)
def test_parts_of_a_user_follow_time(config: SplitConfig, users: list[list[int]]) -> None:
    for user in parts_of(config, users) or []:
        assert user == sorted(user), "train, then valid, then test"


@given(st.sampled_from([SplitConfig(), BY_DATE]), histories, st.data())
@settings(max_examples=50)
def test_deleting_a_users_later_events_never_pulls_an_earlier_one_back(
    config: SplitConfig, users: list[list[int]], data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(0, len(users) - 1))
    kept = data.draw(st.integers(min(3, len(users[chosen])), len(users[chosen])))
    shorter = [user[:kept] if number == chosen else user for number, user in enumerate(users)]
    full, cut = parts_of(config, users), parts_of(config, shorter)
    if full is None or cut is None:
        return
    for number, (before, after) in enumerate(zip(full, cut, strict=True)):
        if number != chosen or config == BY_DATE:
            assert after == before[: len(after)], "nobody else is touched, and a date does not move"
        else:
            # With less to come an event moves towards the test; a test event never becomes a train event.
            assert all(a >= b for a, b in zip(after, before[:kept], strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test": 0.1}, "takes no shares"),
        ({"valid_from": "2023-07-01"}, "belong to global_date"),
        ({"kind": "ratio", "test_from": "2023-07-01"}, "belong to global_date"),
        ({"kind": "user_time", "seed": 1}, "seed belongs to ratio"),
        ({"kind": "ratio", "seed": -1}, "negative"),
        ({"withheld_items": 1}, "below 1"),
        ({"withheld_items": -0.1}, "at least 0"),
        ({"kind": "global_date", "test_from": "2023-07-01", "test": 0.1}, "not both"),
        ({"kind": "global_date", "valid_from": "2023-07-01"}, "valid_from needs test_from"),
        ({"kind": "global_date", "valid_from": "2023-07-01", "test_from": "2023-07-01"}, "must be before"),
        ({"kind": "ratio", "valid": 0.5, "test": 0.5}, "leave a share for train"),
        ({"kind": "ratio", "test": 0}, "test above 0"),
        ({"kind": "user_time", "valid": -0.1}, "at least 0"),
        ({"kind": "last_out"}, "leave_last_out"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(SplitConfig, values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["last event", "fewer than 3"]),
        ({"kind": "user_time"}, ["within each user", "0.1"]),
        ({"kind": "user_time", "valid": 0}, ["none valid"]),
        ({"kind": "global_date", "test": 0.2}, ["over all users", "0.2"]),
        ({"kind": "global_date", "test_from": "2023-10-01"}, ["2023-10-01", "no validation"]),
        ({"kind": "global_date", "test_from": "2023-10-01", "valid_from": "2023-07-01"}, ["2023-07-01", "UTC"]),
        ({"kind": "ratio"}, ["at random", "seed 0"]),
        ({"withheld_items": 0.1, "seed": 4}, ["last event", "0.1 of the items", "seed 4", "lose their train events"]),
    ],
)
def test_a_rule_comes_back_from_json_and_says_what_it_does(values: dict[str, Any], words: list[str]) -> None:
    config = validate(SplitConfig, values)
    assert SplitConfig.model_validate_json(config.model_dump_json()) == config
    assert all(word in config.describe() for word in words)


def test_written_out_defaults_are_the_same_rule() -> None:
    assert SplitConfig(kind="ratio") == SplitConfig(kind="ratio", valid=0.1, test=0.1, seed=0)


def test_a_day_begins_at_midnight_utc() -> None:
    last = int(datetime(2023, 9, 30, 23, 59, 59, 999_000, tzinfo=UTC).timestamp() * 1000)
    config = SplitConfig(kind="global_date", test_from=date(2023, 10, 1))
    parts = assign_parts(config, np.array([0, 2], dtype=np.int64), np.array([last, last + 1], dtype=np.int64))
    assert parts.tolist() == [Part.TRAIN, Part.TEST]


def test_dates_need_times_and_the_message_names_the_span() -> None:
    offsets = np.array([0, 3], dtype=np.int64)
    config = SplitConfig(kind="global_date", test_from=date(2023, 10, 1))
    with pytest.raises(DatasetError, match="needs timestamps"):
        assign_parts(config, offsets, None)
    with pytest.raises(DatasetError, match="between 1970-01-01 and 1970-01-03"):
        assign_parts(config, offsets, np.array([0, DAY, 2 * DAY], dtype=np.int64))
    extremes = np.array([np.iinfo(np.int64).min + 1, 0, 1], dtype=np.int64)
    with pytest.raises(DatasetError, match="no event falls into test"):
        assign_parts(config, offsets, extremes)


def test_users_with_one_event_among_others_break_nothing() -> None:
    assert parts_of(SplitConfig(), [[1], [1, 2, 3], [2, 3]]) == [
        [Part.TRAIN],
        [Part.TRAIN, Part.VALID, Part.TEST],
        [Part.TRAIN, Part.TRAIN],
    ]
    with pytest.raises(DatasetError, match="no user has 3 events"):
        assign_parts(SplitConfig(), *arrays([[1], [1, 2]]))
