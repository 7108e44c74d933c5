"""Histories: the last items of strictly earlier times, as a loop would find them."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.recent import recent_codes

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(2, 9)), max_size=30)
ASKED = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 8)), min_size=1, max_size=12)


@settings(max_examples=60)
@given(events=EVENTS, asked=ASKED, length=st.integers(1, 5))
def test_equal_to_a_loop(events, asked, length):
    events = sorted(events, key=lambda event: event[:2])
    frame = pl.DataFrame(events, schema={"user": pl.Int32, "timestamp": pl.Int64, "item": pl.Int32}, orient="row")
    users, times = np.array(asked).T
    log = (frame[name].to_numpy() for name in ("user", "timestamp", "item"))
    found = recent_codes(*log, users, times, length)
    expected = []
    for user, until in asked:
        items = [item for owner, time, item in events if owner == user and time < until][-length:]
        expected.append([0] * (length - len(items)) + items)
    assert found.take(np.arange(len(asked))).tolist() == expected
    assert len(found.values) <= len({(user, until) for user, until in asked}), "equal histories are stored once"
