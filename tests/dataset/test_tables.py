import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.dataset.dataset import Dataset
from moerec.dataset.rejects import summarise_rejects
from moerec.dataset.schema import FIRST_ITEM, REJECT_COLUMNS

Refusal = Callable[..., str]
Contents = Callable[[Path], dict[str, bytes]]

# (user, item, time, rating); small ranges make ties, repeats and duplicates common; None is a missing value.
row = st.tuples(
    st.none() | st.integers(-2, 12), st.none() | st.integers(0, 6), st.none() | st.integers(0, 5), st.integers(1, 5)
)
rows_of_events = st.lists(row, min_size=1, max_size=30)
SCHEMA = {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64, "rating": pl.Int64}


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(rows=rows_of_events)
@settings(max_examples=60)
def test_tables_are_as_a_naive_reference_makes_them(rows: list[tuple[Any, ...]], refusal: Refusal) -> None:
    timed = any(time is not None for _, _, time, _ in rows)
    kept: list[tuple[Any, ...]] = []
    refused: list[tuple[int, str]] = []
    for line, (user, item, time, rating) in enumerate(rows, start=1):
        if user is None or item is None or (timed and time is None):
            reason = "no user id" if user is None else "no item id" if item is None else "no timestamp"
            refused.append((line, reason))
        elif timed and any((user, item, time) == other[:3] for other in kept):
            refused.append((line, "duplicate event"))
        else:
            kept.append((user, item, time, rating))
    if not kept:
        assert "no usable row" in refusal(Dataset.from_frames, frame(rows))
        return
    dataset = Dataset.from_frames(frame(rows))
    dataset.validate()
    users, items = sorted({event[0] for event in kept}), sorted({event[1] for event in kept})
    expected = [
        (users.index(user), items.index(item) + FIRST_ITEM, position, time, rating)
        for user in users
        for position, (_, item, time, rating) in enumerate(
            sorted((event for event in kept if event[0] == user), key=lambda event: event[2] or 0)
        )
    ]
    assert dataset.events.rows() == expected
    assert dataset.users["user_id"].to_list() == [str(user) for user in users]
    assert dataset.items["item_id"].to_list() == [str(item) for item in items]
    assert [tuple(reject) for reject in dataset.rejects.select("line", "reason").iter_rows()] == refused
    counts = dataset.info.counts
    assert (counts.users, counts.items, counts.events) == (len(users), len(items), len(kept))
    assert sum(counts.rejected.values()) == len(refused)
    # The arrays say the same as the tables.
    assert dataset.event_users.tolist() == dataset.events["user"].to_list()
    assert dataset.event_items.tolist() == dataset.events["item"].to_list()
    assert (dataset.timestamps is None) == (not timed)
    spans = zip(dataset.user_offsets[:-1], dataset.user_offsets[1:], strict=True)
    assert [stop - start for start, stop in spans] == [sum(event[0] == user for event in kept) for user in users]


@given(rows_of_events, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_rows_does_not_matter_where_times_differ(rows: list[tuple[Any, ...]], random: Any) -> None:
    rows = [(user or 0, item or 0, time, rating) for time, (user, item, _, rating) in enumerate(rows)]
    table = pl.DataFrame({"item_id": range(8), "title": list("abcdefgh")})
    shuffled = random.sample(rows, len(rows))
    first = Dataset.from_frames(frame(rows), items=table)
    second = Dataset.from_frames(frame(shuffled), items=table.reverse())
    for name in ("events", "users", "items"):
        assert getattr(first, name).equals(getattr(second, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.drop("item_id"), "no column 'item_id'"),
        (lambda e: e.with_columns(pl.col("timestamp").cast(pl.String)), "no time"),
        (lambda e: e.with_columns(pl.col("timestamp") + 0.5), "fractions"),
        (lambda e: e.with_columns(user_id=pl.lit([1])), "not scalars"),
        (lambda e: e.rename({"rating": "position"}), "cannot be called 'position'"),
        (lambda e: e.clear(), "no usable row"),
        (lambda e: e.with_columns(user_id=pl.lit(None)), "no usable row (200 rows refused: 200 no user id"),
        (lambda e: e.rows(), "is no table"),
    ],
)
def test_unusable_events_are_refused_in_one_line(
    events: pl.DataFrame, change: Any, message: str, refusal: Refusal
) -> None:
    assert message in refusal(Dataset.from_frames, change(events))


def test_unusable_tables_are_refused_in_one_line(events: pl.DataFrame, items: pl.DataFrame, refusal: Refusal) -> None:
    assert "no column 'item_id'" in refusal(Dataset.from_frames, events, items=items.drop("item_id"))
    assert "cannot be called 'item'" in refusal(Dataset.from_frames, events, items=items.with_columns(item=1))
    assert "mixes types" in refusal(Dataset.from_frames, events, items=pd.DataFrame({"item_id": [1, 2], "x": [1, "a"]}))
    assert "no column 'stars'" in refusal(Dataset.from_frames, events, labels=("stars",))
    assert "no column 'line'" in refusal(Dataset.from_frames, events, rejects=pl.DataFrame({"source": ["x"]}))


def test_labels_are_the_named_columns_or_every_other_number(events: pl.DataFrame) -> None:
    wide = events.with_columns(click=pl.lit(True), note=pl.lit("text"), spare=pl.lit(float("nan")))
    info = Dataset.from_frames(wide).info
    assert (info.labels, info.unused_columns) == (("rating", "click", "spare"), ("note",))
    chosen = Dataset.from_frames(wide, labels=("note", "spare"))
    assert (chosen.info.labels, chosen.info.unused_columns) == (("note", "spare"), ("rating", "click"))
    assert chosen.events["spare"].null_count() == chosen.info.counts.events, "NaN is null on disk"


def test_catalogue_users_and_their_duplicates() -> None:
    events = pl.DataFrame({"user_id": [1, 2, 2], "item_id": [10, 9, 9], "timestamp": [3, 2, 1]})
    items = pl.DataFrame({"item_id": [10, 10, None, 8], "title": ["ten", "other", "none", "eight"]})
    users = pl.DataFrame({"user_id": [7, 1, 1], "age": [70, 10, 11]})
    dataset = Dataset.from_frames(events, users, items)
    assert dataset.items.rows() == [(2, "8", "eight"), (3, "9", None), (4, "10", "ten")]
    assert dataset.users.rows() == [(0, "1", 0, 10), (1, "2", 1, None)]
    assert dataset.rejects.select("source", "line", "reason").rows() == [
        ("users", 3, "duplicate user id"),
        ("items", 2, "duplicate item id"),
        ("items", 3, "no item id"),
    ]
    counts = dataset.info.counts
    assert (counts.items_without_events, counts.items_without_row) == (1, 1)
    assert (counts.users_without_row, counts.users_without_events) == (1, 1)


def test_rejects_carry_the_raw_row_and_those_of_the_source() -> None:
    before = pl.DataFrame({"source": ["u.data"], "line": [7], "reason": ["not 4 fields"], "row": ["1\t2"]})
    events = pl.DataFrame(
        {
            "user_id": [1, None, 1],
            "item_id": ["x", "y", "x"],
            "timestamp": [datetime(2023, 1, 1, tzinfo=UTC)] * 3,
            "tags": [["a"], ["b", 'quote"'], None],
            "bytes": [b"1", b"2", b"3"],
        }
    )
    dataset = Dataset.from_frames(events, rejects=before)
    assert dataset.rejects.schema == REJECT_COLUMNS
    assert dataset.rejects.row(0) == ("u.data", 7, "not 4 fields", "1\t2")
    raw = json.loads(dataset.rejects["row"][1])
    assert (raw["user_id"], raw["item_id"]) == (None, "y")
    assert raw["timestamp"].startswith("2023-01-01")
    assert 'quote\\"' in raw["tags"]
    assert dataset.info.counts.rejected == {"no user id": 1, "not 4 fields": 1, "duplicate event": 1}


def test_rejects_are_told_in_one_line() -> None:
    told = summarise_rejects({"not 4 fields": 2, "duplicate event": 1})
    assert told == "3 rows refused: 2 not 4 fields, 1 duplicate event; see rejects.parquet"
    assert summarise_rejects({"x": 1}).startswith("1 row refused")
    assert summarise_rejects({}) == "no rows refused"


def test_without_times_the_order_of_the_source_is_kept_and_repeats_stay() -> None:
    events = pl.DataFrame({"user_id": ["b", "a", "b", "b"], "item_id": ["x", "z", "y", "x"], "timestamp": [None] * 4})
    dataset = Dataset.from_frames(events)
    dataset.validate()
    assert dataset.timestamps is None
    assert dataset.item_ids(dataset.event_items).to_list() == ["z", "x", "y", "x"]
