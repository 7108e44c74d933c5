"""Cases against a reference that walks the events one by one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.dataset.splits import SplitConfig
from moerec.errors import ConfigError, DatasetError
from moerec.evaluation.protocols import ProtocolConfig, cases_of, make_cases, occurs_in


@st.composite
def events(draw):
    """Users with repeated items, tied times and any mixture of parts."""
    rows = []
    for user in range(draw(st.integers(1, 4))):
        time = 0
        for _ in range(draw(st.integers(0, 7))):
            time += draw(st.integers(0, 1))
            part = draw(st.sampled_from(list(Part)))
            rows.append((user, draw(st.integers(2, 6)), time, int(part)))
    return rows


def reference(rows, protocol, chronological):
    """{user: (history, targets, hidden items)}, and the number of seen targets."""
    part = Part[protocol.part.upper()]
    known = {Part.TRAIN} if part == Part.VALID else {Part.TRAIN, Part.VALID}
    cases, seen = {}, 0
    for user in sorted({row[0] for row in rows}):
        own = [row for row in rows if row[0] == user]
        places = [place for place, row in enumerate(own) if row[3] == part]
        if not places:
            continue
        past = own[: places[0]] if chronological else own
        if protocol.history == "strict":
            past = [row for row in past if row[2] < own[places[0]][2]]
        items = [row[1] for row in past if row[3] in known]
        hidden = [row[1] for row in past if row[3] == Part.UNUSED and protocol.filter_seen]
        targets = list(dict.fromkeys(own[place][1] for place in places))
        if protocol.filter_seen:
            seen += sum(target in items + hidden for target in targets)
            targets = [target for target in targets if target not in items + hidden]
        if targets:
            cases[user] = (items, targets, hidden)
    return cases, seen


@given(events(), st.sampled_from(["valid", "test"]), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=120)
def test_equals_the_reference(rows, part, strict, filter_seen, chronological):
    strict = strict and chronological
    protocol = ProtocolConfig(part=part, history="strict" if strict else "all", filter_seen=filter_seen)
    expected, seen = reference(rows, protocol, chronological)
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    if not expected:
        with pytest.raises(DatasetError):
            make_cases(*columns, protocol, chronological)
        return
    cases = make_cases(*columns, protocol, chronological)
    assert cases.users.tolist() == list(expected)
    assert cases.seen_targets == seen
    rows, hidden_items = cases.hidden(np.arange(len(cases))[::-1])
    for number, (items, targets, hidden) in enumerate(expected.values()):
        assert hidden_items[rows == len(cases) - 1 - number].tolist() == hidden
        assert cases.history_items[cases.history_offsets[number] : cases.history_offsets[number + 1]].tolist() == items
        assert cases.target_items[cases.target_offsets[number] : cases.target_offsets[number + 1]].tolist() == targets


@given(events())
@settings(max_examples=60)
def test_what_follows_the_first_target_changes_no_history(rows):
    protocol = ProtocolConfig(filter_seen=False)
    if not any(row[3] == Part.TEST for row in rows):
        return
    first = {row[0]: place for place, row in reversed(list(enumerate(rows))) if row[3] == Part.TEST}
    kept = [row for place, row in enumerate(rows) if place <= first.get(row[0], -1)]
    whole = make_cases(*np.array(rows).T, protocol)
    cut = make_cases(*np.array(kept).T, protocol)
    np.testing.assert_array_equal(whole.history_items, cut.history_items)
    np.testing.assert_array_equal(whole.history_offsets, cut.history_offsets)


def test_batch_gives_the_histories_asked_for():
    users = np.array([0, 0, 0, 1, 2, 2])
    items = np.array([2, 3, 4, 5, 6, 7])
    codes = np.array([0, 0, 2, 2, 0, 2])
    cases = make_cases(users, items, np.arange(6) * 10, codes, ProtocolConfig())
    batch = cases.batch(np.array([2, 0, 1]))
    assert batch.items.tolist() == [6, 2, 3]
    assert batch.offsets.tolist() == [0, 1, 3, 3]
    assert batch.timestamps.tolist() == [40, 0, 10]
    assert batch.users.tolist() == [2, 0, 1]


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_occurs_in(keys, others):
    found = occurs_in(np.array(keys, dtype=np.int64), np.array(others, dtype=np.int64))
    assert found.tolist() == [key in others for key in keys]


def test_cases_of_a_data_set_take_the_whole_history_for_a_random_split():
    events = pl.DataFrame(
        {
            "user_id": [str(n // 30) for n in range(300)],
            "item_id": [str(n * 7 % 31) for n in range(300)],
            "timestamp": [1_000_000 * n for n in range(300)],
        }
    )
    dataset = Dataset.from_frames(events)
    for kind in ("leave_last_out", "ratio"):
        codes = dataset.add_split(kind, SplitConfig(kind=kind))
        cases = cases_of(dataset, kind, ProtocolConfig(filter_seen=False))
        before = np.isin(codes, [Part.TRAIN, Part.VALID]) & np.isin(dataset.event_users, cases.users)
        assert len(cases.history_items) == before.sum()  # leave-last-out: the target is the last event


def test_contradictions_are_refused_in_one_line():
    columns = (np.zeros(2, int), np.array([2, 3]), None, np.array([0, 2]))
    with pytest.raises(ConfigError, match="strict needs timestamps"):
        make_cases(*columns, ProtocolConfig(history="strict"))
    with pytest.raises(ConfigError, match="chronological"):
        make_cases(columns[0], columns[1], np.arange(2), columns[3], ProtocolConfig(history="strict"), False)
    with pytest.raises(DatasetError, match="no valid event"):
        make_cases(*columns, ProtocolConfig(part="valid"))
    for values, message in (
        ({"ranking": "sampled"}, "needs candidates"),
        ({"candidates": "uniform100"}, "takes no candidates"),
        ({"cutoffs": [10, 5]}, "ascending"),
        ({"cutoffs": [0]}, "ascending"),
        ({"users_per_batch": 0}, "at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate(ProtocolConfig, values)


def test_the_words_say_what_is_done():
    words = ProtocolConfig(part="valid", history="strict").describe()
    assert "full ranking" in words["ranking"]
    assert "unseen" in words["ranking"]
    assert "timestamp" in words["history"]
    assert "validation events" not in words["history"]
    sampled = ProtocolConfig(ranking="sampled", candidates="uniform100", filter_seen=False)
    assert "uniform100" in sampled.describe()["ranking"]
    assert sampled.suffix == "/uniform100"
