"""Cells of a table as text: one value, or several values in one cell."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

import polars as pl

from moerec.dataset.schema import INDEX_COLUMNS
from moerec.errors import ConfigError


def require_columns(
    table: pl.DataFrame, names: Iterable[str], where: str, hidden: Collection[str] = INDEX_COLUMNS
) -> None:
    """Refuse a column that the table does not have.

    Args:
        table: items or users.
        names: the columns that are about to be read.
        where: key path or subject for the message, for instance `modalities.text`.
        hidden: columns that are not to be read, so they count as absent.

    Raises:
        ConfigError: one line with the missing column and its near matches.
    """
    columns = [name for name in table.columns if name not in hidden]
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=3)
            hint = (
                f"did you mean {' or '.join(repr(match) for match in near)}?"
                if near
                else f"the columns are: {', '.join(columns)}"
            )
            raise ConfigError(f"{where}: there is no column '{name}'; {hint}")


def single_values(column: pl.Series, where: str) -> pl.Series:
    """Each cell as a stripped string; null where it is empty or not a finite number.

    Whole floats are written without a point: a year that a missing value turned into 1995.0 stays `1995`.

    Raises:
        ConfigError: the column holds lists, records or bytes.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise ConfigError(f"{where}: column '{column.name}' has type {dtype}, which has no plain text")
    if dtype.is_float():
        text = _float_text(column)
    else:
        text = column.cast(pl.String)
    text = text.str.strip_chars()
    return text.set(text == "", None)


def several_values(column: pl.Series, separator: str | None, where: str) -> pl.DataFrame:
    """All values of all cells, one row each, without empty ones and without repeats inside a cell.

    Args:
        column: strings to be split at `separator`, or lists.
        separator: what stands between the values in a string cell; None keeps the cell whole.
        where: key path for messages.

    Returns:
        columns `row` (uint32, position in `column`) and `value` (string); in order of the cells and inside them.
    """
    cells = column
    if column.dtype == pl.String and separator is not None:
        cells = column.str.split(separator)
    rows = pl.int_range(column.len(), dtype=pl.UInt32, eager=True)
    long = pl.DataFrame({"row": rows, "value": cells.rename("value")})
    if isinstance(cells.dtype, (pl.List, pl.Array)):
        long = long.explode("value")
    values = single_values(long["value"].rename(column.name), where)
    return (
        long.with_columns(values.rename("value"))
        .filter(pl.col("value").is_not_null())
        .unique(["row", "value"], keep="first", maintain_order=True)
    )


def _float_text(column: pl.Series) -> pl.Series:
    finite = column.set(~column.is_finite(), None)
    # Above 2**53 not every whole number is a float, and an int64 would overflow at 2**63.
    whole = (finite == finite.round()) & (finite.abs() < 2.0**53)
    frame = pl.DataFrame({"number": finite, "whole": whole.fill_null(False)})
    as_whole = pl.when("whole").then(pl.col("number")).cast(pl.Int64).cast(pl.String)
    return frame.select(pl.coalesce(as_whole, pl.col("number").cast(pl.String)).alias(column.name)).to_series()
