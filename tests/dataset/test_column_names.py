"""Tables with names of their own: the same data set as after renaming, and a note where times may be overlooked."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import polars as pl
import pytest

from moerec.dataset.dataset import Dataset

Refusal = Callable[..., str]
EVENTS = pl.DataFrame(
    {"user_id": [1, 1, 2, None], "item_id": ["b", "a", "a", "b"], "timestamp": [9, 5, 7, 8], "stars": [1, 2, 3, 4]}
)
OWN = {"user_id": "who", "item_id": "what", "timestamp": "at"}
NAMED = {"user": "who", "item": "what", "timestamp": "at"}


def same(first: Dataset, second: Dataset) -> None:
    for name in ("events", "users", "items"):
        assert getattr(first, name).equals(getattr(second, name))
    assert first.info == second.info


@pytest.mark.parametrize("as_table", [pl.DataFrame, pl.DataFrame.to_pandas, pl.DataFrame.to_arrow])
@pytest.mark.parametrize("own_ids", [True, False])
def test_named_columns_are_as_good_as_renamed_ones(as_table: Any, own_ids: bool) -> None:
    users = pl.DataFrame({"user_id": [2, 1], "age": [20, 10]})
    items = pl.DataFrame({"item_id": ["a", "c"], "title": ["A", "C"]})
    expected = Dataset.from_frames(EVENTS, users, items)
    theirs = [table.rename(OWN, strict=False) if own_ids else table for table in (users, items)]
    dataset = Dataset.from_frames(as_table(EVENTS.rename(OWN)), *map(as_table, theirs), **NAMED)
    same(dataset, expected)
    assert '"who"' in dataset.rejects["row"][0], "a refused row is told as it was given"


def test_without_times_the_order_of_rows_is_kept() -> None:
    dataset = Dataset.from_frames(EVENTS, timestamp=None)
    same(dataset, Dataset.from_frames(EVENTS.drop("timestamp")))
    assert dataset.timestamps is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            {"user": "uid"},
            "events: no column 'uid' among user_id, item_id, timestamp, stars; name the right one, user=",
        ),
        ({"timestamp": "when"}, "no column 'when'"),
        ({"user": "stars"}, "events: 'stars' is to become 'user_id', which is there too"),
        ({"user": "item_id"}, "one column is named for two of user, item, timestamp"),
    ],
)
def test_wrong_names_are_one_line(names: dict[str, str], words: str, refusal: Refusal) -> None:
    assert words in refusal(Dataset.from_frames, EVENTS, **names)


def test_names_that_change_places() -> None:
    swapped = EVENTS.rename({"user_id": "item_id", "item_id": "user_id"})
    same(Dataset.from_frames(swapped, user="item_id", item="user_id"), Dataset.from_frames(EVENTS))


@pytest.mark.parametrize("name", ["datetime", "time", "date", "Timestamp", "event_time", "created_at", "day"])
def test_an_overlooked_time_is_told_with_the_right_argument(name: str, caplog: pytest.LogCaptureFixture) -> None:
    moments = pd.to_datetime(["2021-01-03", "2021-01-01", "2021-01-02"])
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1], "weight": [1.0, 2.0, 3.0], name: moments})
    if name not in ("datetime", "day"):  # a date type tells by itself, other columns by their name
        frame[name] = frame[name].astype("datetime64[ms]").astype("int64")
    with caplog.at_level(logging.WARNING, logger="moerec"):
        dataset = Dataset.from_frames(frame)
    assert f"did you mean timestamp='{name}'?" in caplog.text
    assert "weight" in caplog.text
    assert len(caplog.records) == 1
    assert dataset.timestamps is None
    caplog.clear()
    timed = Dataset.from_frames(frame, timestamp=name)
    assert timed.timestamps is not None
    assert timed.timestamps[0] == datetime(2021, 1, 1, tzinfo=UTC).timestamp() * 1000
    assert timed.info.labels == ("weight",)
    Dataset.from_frames(frame, timestamp=None)
    assert not caplog.records


@pytest.mark.parametrize("arguments", [{"labels": ["time"]}, {"labels": ["stars"], "texts": ["time"]}])
def test_what_is_named_for_something_else_is_no_overlooked_time(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    frame = EVENTS.rename({"timestamp": "time"})
    if "texts" in arguments:
        frame = frame.with_columns(pl.col("time").cast(pl.String))
    with caplog.at_level(logging.WARNING, logger="moerec"):
        Dataset.from_frames(frame, **arguments)
        Dataset.from_frames(EVENTS.drop("timestamp").with_columns(dwell=1, candidate=2, state=3))
    assert not caplog.records


def test_impossible_times_are_refused_as_those_of_files_are(refusal: Refusal) -> None:
    latest = 4_102_444_800_000
    frame = EVENTS.with_columns(user_id=pl.lit("u"), timestamp=pl.Series([-1, 0, latest, latest + 1]))
    dataset = Dataset.from_frames(frame)
    assert dataset.events["timestamp"].to_list() == [0, latest]
    assert dataset.rejects.select("line", "reason").rows() == [
        (1, "timestamp is impossible: before 1970"),
        (4, "timestamp is impossible: after 2100; is it in milliseconds?"),
    ]
    dataset.validate()
    nanoseconds = EVENTS.with_columns(timestamp=pl.col("timestamp") + 1_600_000_000_000_000_000)
    assert "after 2100; is it in milliseconds?" in refusal(Dataset.from_frames, nanoseconds)
    moments = EVENTS.with_columns(timestamp=pl.lit(datetime(1950, 1, 1)))
    assert "before 1970" in refusal(Dataset.from_frames, moments)
