"""Foreign frames and ids: pandas, Polars and Arrow tables become Polars, and any scalar id becomes a string."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from moerec.errors import DatasetError

logger = logging.getLogger(__name__)

SECONDS_LOOK_LIKE = 300_000_000
"""Ten years of seconds: smaller numbers are rather places in an order than times."""
EARLY = 315_532_800_000
"""The year 1980 in milliseconds."""
MULTIPLY = "multiply them by 1000"
"""What to do about seconds that were given as milliseconds by the caller."""
_WHOLE_NUMBER = r"^-?\d+$"


def to_polars(frame: Any, what: str, id_columns: Sequence[str] = ()) -> pl.DataFrame:
    """A Polars frame with the same columns.

    Args:
        frame: a pandas, Polars (also lazy) or Arrow table.
        what: name of the table in messages.
        id_columns: columns whose values may be of mixed types (pandas only); they come back as strings.

    Raises:
        DatasetError: another type, or a column that has no single type.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pa.Table | pa.RecordBatch):
        converted = pl.from_arrow(frame)
        assert isinstance(converted, pl.DataFrame)  # from_arrow gives a Series only for an Arrow array
        return converted
    if _is_pandas(frame):
        return _from_pandas(frame, what, id_columns)
    raise DatasetError(f"{what}: {type(frame).__name__} is no table; give a pandas, Polars or Arrow table")


def require_columns(frame: pl.DataFrame, names: Sequence[str], what: str) -> None:
    """Refuse a table that lacks one of these columns."""
    for name in names:
        if name not in frame.columns:
            raise DatasetError(f"{what}: no column '{name}' among {', '.join(frame.columns)}; rename the right one")


def clean_columns(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """The frame with one meaning of missing (null, never NaN) and with types that a Parquet file keeps.

    Categories become strings.

    Raises:
        DatasetError: a column of Python objects.
    """
    changes = []
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:
            raise DatasetError(f"{what}: column '{name}' holds Python objects; convert it to numbers, strings or lists")
        if dtype.is_float():
            changes.append(pl.col(name).fill_nan(None))
        elif isinstance(dtype, pl.Categorical | pl.Enum):
            changes.append(pl.col(name).cast(pl.String))
    return frame.with_columns(changes)


def id_strings(values: pl.Series, where: str) -> pl.Series:
    """Ids of any scalar type as strings: the integer 5, the string "5" and the float 5.0 all become "5".

    Null, NaN and the empty string become null.

    Raises:
        DatasetError: lists, structs, bytes or objects.
    """
    dtype = values.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DatasetError(f"{where}: ids of type {dtype} are not scalars; give integers or strings")
    if dtype.is_float():
        whole = (values == values.floor()) & (values.abs() < 2.0**53)
        frame = pl.DataFrame({"value": values, "whole": whole, "integer": values.cast(pl.Int64, strict=False)})
        text = pl.when("whole").then(pl.col("integer").cast(pl.String)).otherwise(pl.col("value").cast(pl.String))
        return frame.select(pl.when(pl.col("value").is_not_nan()).then(text).alias(values.name)).to_series()
    text_values = values.cast(pl.String)
    if dtype.is_decimal():
        text_values = text_values.str.replace(r"\.0+$", "")
    return text_values.to_frame("id").select(pl.when(pl.col("id") != "").then("id").alias(values.name)).to_series()


def ids_as_series(ids: Any, where: str) -> pl.Series:
    """Ids that a caller asks for, in any sequence, as a series of strings.

    Raises:
        DatasetError: a lone string or number instead of a sequence.
    """
    if isinstance(ids, pl.Series):
        return id_strings(ids, where)
    if isinstance(ids, np.ndarray) and ids.dtype != object:
        return id_strings(pl.Series(ids), where)
    if isinstance(ids, pa.Array | pa.ChunkedArray):
        return id_strings(pl.Series(ids), where)
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise DatasetError(f"{where}: {ids!r} is one id; give a list of ids")
    return pl.Series([id_text(value, where) for value in ids], dtype=pl.String)


def id_text(value: Any, where: str) -> str | None:
    """One id as a string, by the rule of `id_strings`; None for a missing one."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        text: str | None = id_strings(pl.Series([float(value)]), where)[0]
        return text
    if isinstance(value, str):
        return str(value) or None
    raise DatasetError(f"{where}: {value!r} is no id; give an integer or a string")


def sort_ids(ids: pl.Series) -> pl.Series:
    """Distinct ids in their order: by number if all are integers (of any length), else by code points."""
    if ids.is_empty() or not ids.str.contains(_WHOLE_NUMBER).all():
        return ids.sort()
    negative = pl.col("id").str.starts_with("-")
    digits = pl.col("id").str.strip_prefix("-").str.strip_chars_start("0")
    keys = pl.DataFrame({"id": ids}).with_columns(negative=negative, digits=digits)
    keys = keys.with_columns(length=pl.col("digits").str.len_bytes())
    # Digits without leading zeros compare as numbers: first by length, then as text; the id itself splits 7 and 007.
    below = keys.filter("negative").sort("length", "digits", "id", descending=[True, True, False])
    above = keys.filter(~pl.col("negative")).sort("length", "digits", "id")
    return pl.concat([below, above])["id"]


def milliseconds(values: pl.Series, where: str, seconds_remedy: str = MULTIPLY) -> pl.Series:
    """Timestamps as int64 milliseconds since 1970 (UTC).

    Integers, and floats without a fraction, are taken as milliseconds; datetimes without a zone as UTC; NaN,
    infinite and too large values become null. A warning ends with `seconds_remedy` where they seem to be seconds.

    Raises:
        DatasetError: text, fractions, or another type.
    """
    dtype = values.dtype
    if dtype == pl.Null or dtype.is_integer():
        times = values.cast(pl.Int64, strict=False)
        latest = times.max()
        if isinstance(latest, int) and SECONDS_LOOK_LIKE < latest < EARLY:
            logger.warning(
                "%s: read as milliseconds they end on %s; if they are seconds, %s",
                where,
                day_text(latest),
                seconds_remedy,
            )
        return times
    if dtype.is_float():
        if (values.is_finite() & (values != values.floor())).any():
            raise DatasetError(f"{where}: fractions of a millisecond; give integers in milliseconds (seconds * 1000)")
        return values.cast(pl.Int64, strict=False)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return values.dt.epoch("ms")
    raise DatasetError(f"{where}: type {dtype} is no time; give integers in milliseconds, or datetimes")


def seconds_remedy(source: Mapping[str, Any]) -> str:
    """What to do where the times of a data set of this origin seem to be seconds."""
    if source.get("source") in ("table", "atomic"):
        return "set `dataset.timestamp_unit: s`"
    return MULTIPLY


def day_text(timestamp: int) -> str:
    """The UTC day of a time in milliseconds, for messages; any int64 is a day."""
    return str(np.datetime64(timestamp, "ms").astype("datetime64[D]"))


def _is_pandas(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns")


def _from_pandas(frame: Any, what: str, id_columns: Sequence[str]) -> pl.DataFrame:
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise DatasetError(f"{what}: two columns have the same name; rename one")
    columns = {name: frame.iloc[:, number] for number, name in enumerate(names)}
    converted = []
    for name, column in columns.items():
        try:
            series = pl.Series(pl.from_pandas(column))
        except (ValueError, TypeError, pa.ArrowException) as error:
            if name not in id_columns:
                raise DatasetError(f"{what}: column '{name}' mixes types ({error}); convert it to one type") from None
            values = [id_text(value, f"{what}.{name}") for value in column]
            series = pl.Series(values, dtype=pl.String)
        converted.append(series.alias(name))
    return pl.DataFrame(converted)
