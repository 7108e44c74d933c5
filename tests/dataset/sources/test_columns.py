"""Typed columns: times in every unit, ids of every type, and a reason for every refused row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.dataset.sources.columns import LATEST_TIMESTAMP, LINE, Column, ColumnKind, TimestampUnit, convert
from moerec.errors import DatasetError

LARGEST = LATEST_TIMESTAMP // 1000
FACTORS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def cells(**columns: object) -> pl.DataFrame:
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE))


def times(values: object, unit: TimestampUnit) -> tuple[list[int], list[str]]:
    table = convert(cells(t=values), [Column("t", "timestamp", required=True, unit=unit)], "file")
    return table.frame["t"].to_list(), table.rejects["reason"].to_list()


@settings(max_examples=50)
@given(seconds=st.lists(st.integers(0, LARGEST), min_size=1), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_whole_numbers_are_exact_in_every_unit(seconds: list[int], unit: TimestampUnit) -> None:
    values = [second * FACTORS[unit] for second in seconds]
    expected = ([second * 1000 for second in seconds], [])
    assert times(values, unit) == expected
    assert times([str(value) for value in values], unit) == expected


@settings(max_examples=50)
@given(moment=st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30)), shift=st.integers(-12, 12))
def test_iso_dates_mean_the_same_moment(moment: datetime, shift: int) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    expected = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    local = moment + timedelta(hours=shift)
    sign = "-" if shift < 0 else "+"
    texts = [
        moment.isoformat(),
        moment.isoformat(sep=" "),
        moment.isoformat() + "Z",
        f"{local.isoformat()}{sign}{abs(shift):02d}:00",
        f"{local.isoformat(sep=' ')}{sign}{abs(shift):02d}00",
    ]
    assert times(texts, "iso") == ([expected] * len(texts), [])
    assert times([moment], "s") == ([expected], [])
    assert times([moment.date().isoformat()], "iso")[0] == times([moment.date()], "s")[0]


def test_fractions_of_seconds_are_rounded_to_milliseconds() -> None:
    assert times(["881250949.5", "8.8125e8", "0"], "s") == ([881250949500, 881250000000, 0], [])
    assert times([1.0004, 2.9996], "s") == ([1000, 3000], [])


def test_impossible_times_are_refused() -> None:
    late = "t is impossible: after 2100; is the timestamp unit right?"
    values = ["-1", "881250949000", "1e30", "99999999999999999999999", "nan", "soon", "", "5"]
    assert times(values, "s") == (
        [5000],
        ["t is impossible: before 1970", late, late, late, "t is not a number", "t is not a number", "t is empty"],
    )
    assert times(["2001-02-30", "1969-12-31"], "iso")[1] == [
        "t is not an ISO date, such as 2001-12-31 or 2001-12-31T23:59:59Z",
        "t is impossible: before 1970",
    ]
    assert times([9_000_000_000_000_000_000], "s")[1] == [late]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 20], ["3", "20"]),
        ([3.0, 2.5], ["3", "2.5"]),
        ([" 3 ", "007"], ["3", "007"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
    ],
)
def test_ids_of_any_type_become_text(values: object, expected: list[str]) -> None:
    assert convert(cells(u=values), [Column("u", "id")], "file").frame["u"].to_list() == expected


@pytest.mark.parametrize("values", [[None, 1], [float("nan"), 1.0], ["  ", "1"]])
def test_an_empty_id_is_refused(values: object) -> None:
    table = convert(cells(u=values), [Column("u", "id")], "file")
    assert table.frame["u"].to_list() == ["1"]
    assert table.rejects.rows() == [("file", 1, "u is empty", table.rejects["row"][0])]


def test_a_refused_parquet_row_is_shown_as_json() -> None:
    table = convert(cells(u=["a", None], when=[date(2020, 1, 1)] * 2), [Column("u", "id")], "file")
    assert table.rejects["row"].to_list() == ['{"u": null, "when": "2020-01-01"}']


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("number", " 2.5 ", 2.5),
        ("integer", "12", 12),
        ("sequence", "a  b c", "a|b|c"),
        ("text", " a  b ", "a  b"),
        ("numbers", "1 2.5", [1.0, 2.5]),
    ],
)
def test_kinds(kind: ColumnKind, value: str, expected: object) -> None:
    table = convert(cells(x=[value, "", None]), [Column("x", kind, "y")], "file")
    assert table.frame["y"].to_list() == [expected, None, None]


@pytest.mark.parametrize(
    ("kind", "value"), [("number", "inf"), ("number", "1,5"), ("integer", "1.5"), ("numbers", "1 x")]
)
def test_what_is_no_number_is_refused(kind: ColumnKind, value: str) -> None:
    table = convert(cells(x=[value, "1"]), [Column("x", kind)], "file")
    assert table.frame.height == 1
    assert table.rejects["reason"][0].startswith("x ")


def test_a_list_is_no_id() -> None:
    with pytest.raises(DatasetError, match="column 'u' holds List"):
        convert(cells(u=[["a"]]), [Column("u", "id")], "file")
