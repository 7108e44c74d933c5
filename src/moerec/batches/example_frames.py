"""Frames of examples and of events as they are given to an example builder: checked, then read column by column.

Shape letters: N examples.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import ConfigError, DatasetError

KEYS = ("user", "item", "timestamp")
EXAMPLE_COLUMNS = (*KEYS, "event", "negative")
"""Columns of examples that are no labels; `event` is the row of the event, for a drawn row that of its positive."""


def require_keys(frame: pl.DataFrame, what: str, keys: tuple[str, ...] = KEYS) -> None:
    """Refuse a frame without user, item or timestamp somewhere, or without those of them that are named.

    Raises:
        ConfigError: a column is missing.
        DatasetError: a value is missing.
    """
    for name in keys:
        if name not in frame.columns:
            raise ConfigError(f"{what}: there is no column '{name}'; the columns are: {', '.join(frame.columns)}")
        if frame[name].null_count():
            raise DatasetError(f"{what}: {frame[name].null_count()} rows have no {name}; leave them out")


def read_keys(examples: pl.DataFrame, num_indices: int, *, needs_times: bool = True) -> pl.DataFrame:
    """user, item and timestamp of the examples, in the types of events.

    Without `needs_times` the examples may have no times at all; their timestamps are then null.
    """
    given = "timestamp" in examples.columns and examples["timestamp"].null_count() < examples.height
    timed = needs_times or given
    require_keys(examples, "examples", KEYS if timed else KEYS[:2])
    outside = examples.filter((pl.col("item") < 0) | (pl.col("item") >= num_indices))
    if outside.height:
        raise ConfigError(f"examples: item {outside['item'][0]} is outside the item index (below {num_indices})")
    return examples.select(
        pl.col("user").cast(pl.Int32),
        pl.col("item").cast(pl.Int32),
        (pl.col("timestamp") if timed else pl.lit(None).alias("timestamp")).cast(pl.Int64),
    )


def read_negative(examples: pl.DataFrame) -> NDArray[np.bool_]:
    """Which examples are drawn, [N]."""
    if "negative" not in examples.columns:
        return np.zeros(examples.height, np.bool_)
    return examples["negative"].fill_null(False).to_numpy()


def read_label(column: pl.Series, negative: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A label column [N], NaN where missing and for drawn rows."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise ConfigError(f"examples: label '{column.name}' has type {column.dtype}; a label is a number")
    return np.where(negative, np.nan, read_numbers(column))


def read_numbers(column: pl.Series) -> NDArray[np.float64]:
    """A column of numbers [N] with NaN where it is null."""
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
