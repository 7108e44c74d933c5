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
from moerec.dataset.frames import id_strings, id_text, milliseconds, sort_ids

Refusal = Callable[..., str]
Contents = Callable[[Path], dict[str, bytes]]


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([5, 7, None]),
        pl.Series([5, 7, None], dtype=pl.UInt8),
        pl.Series([5.0, 7.0, float("nan")]),
        pl.Series([5.0, 7.0, None]),
        pl.Series(["5", "7", ""]),
        pl.Series(["5", "7", None], dtype=pl.Categorical),
        pl.Series(["5.00", "7.00", None]).cast(pl.Decimal(10, 2)),
    ],
)
def test_ids_of_every_type_become_the_same_strings(ids: pl.Series) -> None:
    assert id_strings(ids, "ids").to_list() == ["5", "7", None]


@given(st.lists(st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=True), min_size=1, max_size=5))
@settings(max_examples=50)
def test_one_id_and_a_column_of_ids_follow_one_rule(values: list[Any]) -> None:
    numbers = [value if value is None else float(value) for value in values]
    column = id_strings(pl.Series(numbers, dtype=pl.Float64), "ids").to_list()
    assert [id_text(value, "ids") for value in numbers] == column
    for value, text in zip(numbers, column, strict=True):
        assert (text is None) == (value is None or value != value)
        if text is not None and value is not None:
            assert float(text) == value
            assert text == str(int(value)) or value != int(value) if abs(value) < 2**53 else True


@given(st.lists(st.integers(-(10**25), 10**25) | st.integers(-20, 20), unique=True, max_size=20))
@settings(max_examples=50)
def test_integer_ids_of_any_length_are_ordered_by_number(numbers: list[int]) -> None:
    ids = pl.Series([str(number) for number in numbers], dtype=pl.String)
    assert sort_ids(ids).to_list() == [str(number) for number in sorted(numbers)]


@given(st.lists(st.text(min_size=1, max_size=3), unique=True, max_size=10))
@settings(max_examples=50)
def test_other_ids_are_ordered_by_code_points(texts: list[str]) -> None:
    ids = pl.Series([*texts, "x7"] if "x7" not in texts else texts, dtype=pl.String)
    assert sort_ids(ids).to_list() == sorted(ids.to_list())


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_datetimes_become_milliseconds(unit: Any, zone: str | None) -> None:
    moment = datetime(2023, 7, 1, 12, 30, 0, 250_000, tzinfo=UTC)
    times = pl.Series([moment.replace(tzinfo=None)]).cast(pl.Datetime(unit)).dt.replace_time_zone("UTC")
    times = times.dt.replace_time_zone(None) if zone is None else times.dt.convert_time_zone(zone)
    dataset = Dataset.from_frames(pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": times}))
    assert dataset.timestamps is not None
    assert dataset.timestamps.tolist() == [int(moment.timestamp() * 1000)]


def test_pandas_times_with_gaps_are_read() -> None:
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": pd.to_datetime(["2023-07-01", None])})
    dataset = Dataset.from_frames(table)
    assert dataset.info.counts.rejected == {"no timestamp": 1}
    table["timestamp"] = [1000, float("nan")]
    assert Dataset.from_frames(table).timestamps == [1000]


def test_pandas_polars_and_arrow_give_the_same_bytes(
    events: pl.DataFrame, items: pl.DataFrame, tmp_path: Path, contents: Contents
) -> None:
    floats = events.to_pandas().astype({"user_id": "float64"})
    mixed = events.to_pandas().astype({"user_id": object})
    mixed.loc[::2, "user_id"] = mixed.loc[::2, "user_id"].astype(str)
    forms = [events, events.lazy(), events.to_arrow(), events.to_pandas(), floats, mixed]
    for number, form in enumerate(forms):
        Dataset.from_frames(form, items=items.to_pandas() if number % 2 else items).save(tmp_path / str(number))
    saved = [contents(tmp_path / str(number)) for number in range(len(forms))]
    assert all(other == saved[0] for other in saved)


@pytest.mark.parametrize(("latest", "warned"), [(1_700_000_000, True), (1_700_000_000_000, False), (5_000, False)])
def test_seconds_taken_for_milliseconds_are_noticed(caplog, latest, warned):
    with caplog.at_level("WARNING", logger="moerec"):
        milliseconds(pl.Series([latest - 100, latest]), "events.timestamp")
    assert ("multiply them by 1000" in caplog.text) == warned
