"""Rejects: rows that were refused, each with its source, line and reason; nothing is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from moerec.dataset.schema import REJECT_COLUMNS, empty_rejects
from moerec.errors import DatasetError

REJECTS_FILE = "rejects.parquet"


def reject_rows(frame: pl.DataFrame, reasons: pl.Series, source: str) -> pl.DataFrame:
    """The rows of a table that have a reason, as rejects.

    Args:
        frame: the table as it was given.
        reasons: a string for each row; null where the row is good.
        source: name of the table; the line is the row's number, and 1 is the first.

    Returns:
        a table with the columns of `REJECT_COLUMNS`; the raw row is a JSON object.
    """
    refused = reasons.is_not_null()
    if not refused.any():
        return empty_rejects()
    columns = {
        "line": refused.arg_true().cast(pl.Int64) + 1,
        "reason": reasons.filter(refused),
        "row": _json_rows(frame.filter(refused)),
    }
    return pl.DataFrame(columns).select(pl.lit(source).alias("source"), "line", "reason", "row")


def merge_rejects(*tables: pl.DataFrame | None) -> pl.DataFrame:
    """Rejects of several steps as one table, in the order given.

    Raises:
        DatasetError: a table without the columns of `REJECT_COLUMNS`.
    """
    merged = [empty_rejects()]
    for table in tables:
        if table is None:
            continue
        missing = [name for name in REJECT_COLUMNS if name not in table.columns]
        if missing:
            raise DatasetError(f"rejects: no column '{missing[0]}'; give {', '.join(REJECT_COLUMNS)}")
        merged.append(table.select(pl.col(name).cast(dtype) for name, dtype in REJECT_COLUMNS.items()))
    return pl.concat(merged)


def count_rejects(rejects: pl.DataFrame) -> dict[str, int]:
    """How many rows were refused for each reason, the most frequent first."""
    counts = rejects.group_by("reason").len("rows").sort(["rows", "reason"], descending=[True, False])
    return {str(reason): int(rows) for reason, rows in counts.iter_rows()}


def summarise_rejects(counts: Mapping[str, int]) -> str:
    """One line for a person: `3 rows refused: 2 not 4 fields, 1 duplicate event; see rejects.parquet`."""
    total = sum(counts.values())
    if total == 0:
        return "no rows refused"
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in counts.items())
    return f"{total:,} {'row' if total == 1 else 'rows'} refused: {reasons}; see {REJECTS_FILE}"


def first_reject(counts: Mapping[str, int], rejects: pl.DataFrame) -> str:
    """How many rows were refused and why the first was, to be added to an error; nothing where none was."""
    total = sum(counts.values())
    if total == 0:
        return ""
    first = rejects.row(0, named=True)
    rows = "1 row was" if total == 1 else f"{total:,} rows were"
    reason = " ".join(str(first["reason"]).split())
    return f"; {rows} refused before, the first: {first['source']}, line {first['line']}: {reason}"


def _json_rows(frame: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object; what JSON does not know becomes text."""
    plain = frame.select(_plain(frame[name], dtype) for name, dtype in frame.schema.items())
    return plain.select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _plain(column: pl.Series, dtype: Any) -> pl.Series:
    if dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Boolean, pl.Null):
        return column
    if dtype.is_temporal() or dtype.is_decimal() or isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    # Lists, structs and bytes: few rows are refused, so a loop over them does no harm.
    texts = [None if value is None else json.dumps(value, default=str) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)
