"""From the cells of a source to typed columns; rows that do not fit become rejects with a reason."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from moerec.dataset.schema import LATEST_TIMESTAMP, REJECT_COLUMNS, empty_rejects
from moerec.errors import DatasetError

LINE = "__line__"
"""Hidden column: line of the file (1 is the first, header included), or row number of a Parquet file."""
ROW = "__row__"
"""Hidden column: the raw row as text; absent for Parquet files, where it is written on demand."""
PROBLEM = "__problem__"
"""Hidden column: why the row is refused before its cells were looked at, or null."""

LONGEST_RAW_ROW = 2000
LISTED_COLUMNS = 20

LARGEST_EXACT = 9e18
"""A little less than the largest int64."""

ColumnKind = Literal["id", "text", "number", "integer", "sequence", "numbers", "timestamp", "any"]
TimestampUnit = Literal["s", "ms", "us", "ns", "iso"]
PER_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}


@dataclass(frozen=True)
class Column:
    """What one column of a source becomes.

    Kinds: `id` (string, never empty), `text` (string), `number` (float64), `integer` (int64), `sequence`
    (space-separated values, joined by `|`), `numbers` (space-separated, a list of float64), `timestamp`
    (int64 milliseconds), `any` (as it is).
    """

    name: str
    """Name in the source."""
    kind: ColumnKind
    """What its cells hold."""
    target: str = ""
    """Name in the result; the same by default."""
    required: bool = False
    """Whether a row with an empty cell here is refused."""
    unit: TimestampUnit = "s"
    """For `timestamp`: what the numbers count, or `iso` for dates written out."""
    values: tuple[str, ...] = ()
    """For `text`: all values that may stand there; none for any."""

    @property
    def result(self) -> str:
        """Name of the column that comes out."""
        return self.target or self.name


@dataclass(frozen=True)
class Table:
    """Typed rows in file order, and the rows that were refused."""

    frame: pl.DataFrame
    rejects: pl.DataFrame = field(default_factory=empty_rejects)


class NoGoodRowError(DatasetError):
    """Every row of a file was refused."""

    def __init__(self, message: str, reason: str, row: str) -> None:
        super().__init__(message)
        self.reason = reason
        """Why the first row was refused."""
        self.row = row
        """That row as text, as in the rejects."""


def convert(cells: pl.DataFrame, columns: Sequence[Column], source: str, unique: str | None = None) -> Table:
    """Make typed columns, and rejects of the rows that do not fit.

    Args:
        cells: the source's columns (strings, or a Parquet file's own types), with `LINE`, and where
            known with `ROW` and `PROBLEM`.
        columns: what to take, and as what.
        source: file name for the rejects.
        unique: resulting column whose values may stand only once; later rows are refused.
    """
    problems = [pl.col(PROBLEM)] if PROBLEM in cells.columns else []
    outputs = []
    for column in columns:
        value, problem = _expressions(column, cells.schema[column.name])
        outputs.append(value.alias(column.result))
        problems.append(problem)
    judged = cells.with_columns(pl.coalesce(problems).alias(PROBLEM))
    if unique is not None:
        key = next(value for value, column in zip(outputs, columns, strict=True) if column.result == unique)
        # A refused row must not count as the first of its id.
        first = pl.when(pl.col(PROBLEM).is_null()).then(key)
        repeated = first.is_not_null() & ~first.is_first_distinct()
        reason = pl.when(repeated).then(pl.lit(f"{unique} stands here a second time"))
        judged = judged.with_columns(pl.coalesce(pl.col(PROBLEM), reason).alias(PROBLEM))
    kept = judged.filter(pl.col(PROBLEM).is_null()).select(outputs)
    refused = judged.filter(pl.col(PROBLEM).is_not_null())
    return Table(kept, _rejects(refused, source) if refused.height else empty_rejects())


def require_rows(table: Table, file: str) -> Table:
    """Return the table, or say why nothing of the file can be used.

    Raises:
        DatasetError: the file is empty.
        NoGoodRowError: every row was refused.
    """
    if table.frame.height:
        return table
    if not table.rejects.height:
        raise DatasetError(f"{file}: the file has no rows")
    first = table.rejects.row(0, named=True)
    refused = f"every row ({table.rejects.height:,}) was refused; the first, line {first['line']}: {first['reason']}"
    raise NoGoodRowError(f"{file}: {refused}", first["reason"], first["row"])


def require_column(file: str, names: Sequence[str], wanted: str, key: str, hint: str = "") -> str:
    """Return `wanted` if it is among the columns `names`, else say which one may be meant.

    Args:
        file: name for the message.
        names: the columns there are.
        wanted: the column that the configuration names under `key`.
        hint: what else could be done.

    Raises:
        DatasetError: there is no such column.
    """
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ";"
    more = ", ..." if len(names) > LISTED_COLUMNS else ""
    listed = ", ".join(names[:LISTED_COLUMNS]) + more
    raise DatasetError(f"{file}: no column '{wanted}' (key `{key}`){guess} columns: {listed}{hint and '; ' + hint}")


def join_tables(parts: Sequence[Table]) -> Table:
    """One table of several, in their order; there must be at least one."""
    return Table(
        pl.concat([part.frame for part in parts], rechunk=True),
        pl.concat([part.rejects for part in parts], rechunk=True),
    )


def _rejects(refused: pl.DataFrame, source: str) -> pl.DataFrame:
    if ROW in refused.columns:
        rows = refused[ROW]
    else:
        visible = [name for name in refused.columns if name not in (LINE, PROBLEM)]
        texts = [
            json.dumps(row, default=str, ensure_ascii=False) for row in refused.select(visible).iter_rows(named=True)
        ]
        rows = pl.Series(ROW, texts, dtype=pl.String)
    return pl.DataFrame(
        {
            "source": pl.repeat(source, refused.height, eager=True),
            "line": refused[LINE],
            "reason": refused[PROBLEM],
            "row": rows.str.slice(0, LONGEST_RAW_ROW),
        },
        schema=REJECT_COLUMNS,
    )


def _expressions(column: Column, dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """Value of a column, and the reason why a row is refused for it (null if it is not)."""
    if column.kind == "any":
        return pl.col(column.name), pl.lit(None, dtype=pl.String)
    if dtype.is_nested():
        raise DatasetError(f"column '{column.name}' holds {dtype}, which cannot be read as {column.kind}")
    if column.kind == "timestamp":
        value, wrong = _timestamp(column, dtype)
    elif column.kind in ("number", "integer"):
        value, wrong = _number(column, dtype)
    elif column.kind == "numbers":
        value = _text(column.name, dtype).str.extract_all(r"\S+").cast(pl.List(pl.Float64), strict=False)
        wrong = [(value.list.eval(pl.element().is_null()).list.any(), "holds something that is not a number")]
    else:
        value, wrong = _text(column.name, dtype), []
        if column.values:
            wrong = [(~value.is_in(column.values), f"is none of {', '.join(column.values)}")]
        if column.kind == "sequence":
            value = value.str.replace_all(r"\s+", "|")
    empty = _is_empty(column.name, dtype)
    problem = pl.lit(None, dtype=pl.String)
    for condition, words in reversed(wrong):
        problem = pl.when(~empty & condition.fill_null(False)).then(pl.lit(f"{column.name} {words}")).otherwise(problem)
    if column.required or column.kind == "id":
        problem = pl.when(empty).then(pl.lit(f"{column.name} is empty")).otherwise(problem)
    return value, problem


def _is_empty(name: str, dtype: pl.DataType) -> pl.Expr:
    cell = pl.col(name)
    if dtype == pl.String:
        return cell.is_null() | (cell.str.strip_chars() == "")
    if dtype.is_float():
        return cell.is_null() | cell.is_nan()
    return cell.is_null()


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A cell as text without surrounding blanks; empty is null; 3.0 from a column of numbers is "3"."""
    cell = pl.col(name)
    if dtype.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        cell = pl.when(cell == whole).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
    elif dtype != pl.String:
        cell = cell.cast(pl.String)
    stripped = cell.str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def _number(column: Column, dtype: pl.DataType) -> tuple[pl.Expr, list[tuple[pl.Expr, str]]]:
    source = _text(column.name, dtype) if dtype == pl.String else pl.col(column.name)
    if column.kind == "integer":
        value = source.cast(pl.Int64, strict=False)
        return value, [(value.is_null(), "is not a whole number")]
    value = source.cast(pl.Float64, strict=False)
    return value, [(value.is_null() | ~value.is_finite(), "is not a number")]


def _timestamp(column: Column, dtype: pl.DataType) -> tuple[pl.Expr, list[tuple[pl.Expr, str]]]:
    """Milliseconds since 1970, and what is wrong with a value."""
    if isinstance(dtype, pl.Date | pl.Datetime):
        value = pl.col(column.name).dt.epoch("ms")
        unreadable = "is not a date"
    elif column.unit == "iso":
        value = _iso_milliseconds(_text(column.name, dtype))
        unreadable = "is not an ISO date, such as 2001-12-31 or 2001-12-31T23:59:59Z"
    else:
        value = _numeric_milliseconds(column, dtype)
        unreadable = "is not a number"
    return value, [
        (value.is_null(), unreadable),
        (value < 0, "is impossible: before 1970"),
        (value > LATEST_TIMESTAMP, "is impossible: after 2100; is the timestamp unit right?"),
    ]


def _numeric_milliseconds(column: Column, dtype: pl.DataType) -> pl.Expr:
    source = _text(column.name, dtype) if dtype == pl.String else pl.col(column.name)
    real = source.cast(pl.Float64, strict=False)
    whole = pl.lit(None, dtype=pl.Int64) if dtype.is_float() else source.cast(pl.Int64, strict=False)
    if column.unit == "s":
        exact, rounded = pl.when(real.abs() < LARGEST_EXACT / 1000).then(whole) * 1000, real * 1000
    else:
        exact, rounded = whole // PER_MILLISECOND[column.unit], real / PER_MILLISECOND[column.unit]
    # Whole numbers keep every digit; the rest is rounded, and held where the check of the range still sees it.
    return pl.coalesce(exact, rounded.round().clip(-LARGEST_EXACT, LARGEST_EXACT).cast(pl.Int64, strict=False))


def _iso_milliseconds(text: pl.Expr) -> pl.Expr:
    """Dates and times of ISO 8601, with a blank or `T` between them; without a zone they are taken as UTC."""
    normal = text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ tT]+", "${1}T").str.replace(r"\s*[zZ]$", "+00:00")
    zoned = [
        normal.str.to_datetime(form, time_unit="ms", time_zone="UTC", strict=False).dt.replace_time_zone(None)
        for form in ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
    ]
    plain = [
        normal.str.to_datetime(form, time_unit="ms", strict=False)
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
    ]
    day = normal.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms"))
    return pl.coalesce(*plain, *zoned, day).cast(pl.Int64)
