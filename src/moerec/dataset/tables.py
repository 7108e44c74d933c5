"""From raw tables in foreign ids to the tables of a data set: checked, numbered, sorted, nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from moerec.dataset.column_names import USUAL_NAMES, ColumnNames
from moerec.dataset.frames import (
    MULTIPLY,
    clean_columns,
    id_strings,
    milliseconds,
    require_columns,
    sort_ids,
    to_polars,
)
from moerec.dataset.info import Counts
from moerec.dataset.rejects import count_rejects, merge_rejects, reject_rows, summarise_rejects
from moerec.dataset.schema import EVENT_COLUMNS, FIRST_ITEM, LATEST_TIMESTAMP
from moerec.errors import DatasetError


@dataclass(frozen=True)
class Tables:
    """The tables of a data set, as they are written to disk."""

    events: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    rejects: pl.DataFrame
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    unused_columns: tuple[str, ...]
    timestamps: bool
    counts: Counts


def build_tables(
    events: Any,
    users: Any = None,
    items: Any = None,
    labels: Sequence[str] = (),
    rejects: Any = None,
    texts: Sequence[str] = (),
    names: ColumnNames = USUAL_NAMES,
    seconds_remedy: str = MULTIPLY,
) -> Tables:
    """Number users and items, sort the events, and put aside the rows that cannot be used.

    See `Dataset.from_frames` for the rules; `seconds_remedy` is what to do where times seem to be seconds.
    """
    given_events = to_polars(events, "events", names.ids)
    raw_events = names.named_events(given_events)
    names.warn_of_times(raw_events, (*labels, *texts))
    chosen = _label_columns(raw_events, tuple(labels))
    written = _text_columns(raw_events, tuple(texts), chosen)
    raw_events = raw_events.with_columns(pl.col(name).cast(pl.String) for name in written)  # all null has no type
    keys, timestamps, reasons = _read_events(raw_events, seconds_remedy)
    user_rows, user_rejects = _read_entities(users, "user", names, ("user", "first_event"))
    item_rows, item_rejects = _read_entities(items, "item", names, ("item",))

    used = keys.filter(reasons.is_null())
    user_ids = sort_ids(used["user_id"].unique())
    item_ids = sort_ids(pl.concat([used["item_id"], item_rows["item_id"]]).unique())
    ordered = _order_events(used, user_ids, item_ids, timestamps)
    repeated = _repeated_rows(ordered) if timestamps else pl.Series([], dtype=pl.UInt32)
    if len(repeated):
        reasons = reasons.scatter(repeated, "duplicate event")
        ordered = ordered.filter(~pl.col("row").is_in(repeated.implode()))
    refused = merge_rejects(
        None if rejects is None else to_polars(rejects, "rejects"),
        reject_rows(given_events, reasons, "events"),
        user_rejects,
        item_rejects,
    )
    rejected = count_rejects(refused)
    if ordered.is_empty():
        raise DatasetError(f"events: no usable row ({summarise_rejects(rejected)}); check the columns of the source")

    offsets = np.searchsorted(ordered["user"].to_numpy(), np.arange(len(user_ids) + 1))
    user_table = _number(user_ids, user_rows, "user", 0).insert_column(
        2, pl.Series("first_event", offsets[:-1], dtype=pl.Int64)
    )
    item_table = _number(item_ids, item_rows, "item", FIRST_ITEM)
    return Tables(
        events=_event_table(raw_events, ordered, offsets, (*chosen, *written)),
        users=user_table,
        items=item_table,
        rejects=refused,
        labels=chosen,
        texts=written,
        unused_columns=tuple(
            name for name in raw_events.columns if name not in ("user_id", "item_id", "timestamp", *chosen, *written)
        ),
        timestamps=timestamps,
        counts=Counts(
            users=len(user_ids),
            items=len(item_ids),
            events=ordered.height,
            rejected=rejected,
            items_without_events=len(item_ids) - ordered["item"].n_unique(),
            items_without_row=len(item_ids) - item_rows.height,
            users_without_row=len(user_ids) - int(user_rows["user_id"].is_in(user_ids.implode()).sum()),
            users_without_events=int((~user_rows["user_id"].is_in(user_ids.implode())).sum()),
        ),
    )


def _label_columns(events: pl.DataFrame, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The label columns: those named, or every other number or truth value."""
    require_columns(events, labels, "events (labels)")
    given = ("user_id", "item_id", "timestamp")
    chosen = labels or tuple(
        name
        for name, dtype in events.schema.items()
        if name not in given and (dtype.is_numeric() or dtype == pl.Boolean)
    )
    for name in chosen:
        if name in EVENT_COLUMNS or name in given:
            raise DatasetError(f"events: a label cannot be called '{name}'; rename the column")
    if len(set(chosen)) < len(chosen):
        raise DatasetError("events: a label is named twice; name each once")
    return chosen


def _text_columns(events: pl.DataFrame, texts: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    """The text columns: strings, of names that nothing else has."""
    require_columns(events, texts, "events (texts)")
    for name in texts:
        if name in EVENT_COLUMNS or name in ("user_id", "item_id", *labels):
            raise DatasetError(f"events: a text cannot be called '{name}', another column is; rename the column")
        if events.schema[name] not in (pl.String, pl.Null):
            raise DatasetError(f"events: the text column '{name}' is {events.schema[name]}; convert it to strings")
    if len(set(texts)) < len(texts):
        raise DatasetError("events: a text is named twice; name each once")
    return texts


def _read_events(raw: pl.DataFrame, seconds_remedy: str) -> tuple[pl.DataFrame, bool, pl.Series]:
    """Ids and times of all rows, whether there are times, and why a row is refused (null if it is not)."""
    has_times = "timestamp" in raw.columns
    times = milliseconds(raw["timestamp"], "events.timestamp", seconds_remedy) if has_times else None
    # A column of nothing but nulls says that the source has no times.
    timestamps = times is not None and times.null_count() < len(times)
    keys = pl.DataFrame(
        {
            "row": pl.int_range(raw.height, dtype=pl.UInt32, eager=True),
            "user_id": id_strings(raw["user_id"], "events.user_id"),
            "item_id": id_strings(raw["item_id"], "events.item_id"),
            "timestamp": times if timestamps else pl.repeat(None, raw.height, dtype=pl.Int64, eager=True),
        }
    )
    reason = (
        pl.when(pl.col("user_id").is_null())
        .then(pl.lit("no user id"))
        .when(pl.col("item_id").is_null())
        .then(pl.lit("no item id"))
        .when(pl.col("timestamp").is_null() & timestamps)
        .then(pl.lit("no timestamp"))
        .when(pl.col("timestamp") < 0)
        .then(pl.lit("timestamp is impossible: before 1970"))
        .when(pl.col("timestamp") > LATEST_TIMESTAMP)
        .then(pl.lit("timestamp is impossible: after 2100; is it in milliseconds?"))
        .otherwise(None)
    )
    return keys, timestamps, keys.select(reason.cast(pl.String).alias("reason")).to_series()


def _read_entities(
    frame: Any, what: str, names: ColumnNames, reserved: tuple[str, ...]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The users or items table with string ids, one row for each id, and the rows refused."""
    key, table = f"{what}_id", f"{what}s"
    if frame is None:
        return pl.DataFrame(schema={key: pl.String}), merge_rejects()
    given = to_polars(frame, table, (key, names.user if what == "user" else names.item))
    raw = names.named_entities(given, what)
    for name in reserved:
        if name in raw.columns:
            raise DatasetError(f"{table}: a column cannot be called '{name}', the data set has one; rename it")
    ids = id_strings(raw[key], f"{table}.{key}")
    reasons = (
        pl.when(ids.is_null())
        .then(pl.lit(f"no {what} id"))
        .when(~ids.is_first_distinct())
        .then(pl.lit(f"duplicate {what} id"))
        .otherwise(None)
    )
    reason = pl.select(reasons.cast(pl.String).alias("reason")).to_series()
    rows = clean_columns(raw.with_columns(ids.alias(key)), table).filter(reason.is_null())
    return rows, reject_rows(given, reason, table)


def _order_events(keys: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series, timestamps: bool) -> pl.DataFrame:
    """Columns row, user, item, timestamp; by user, then time, then the order of the source."""
    users = pl.DataFrame({"user_id": user_ids}).with_row_index("user")
    items = pl.DataFrame({"item_id": item_ids}).with_row_index("item", offset=FIRST_ITEM)
    numbered = (
        keys.join(users, on="user_id")
        .join(items, on="item_id")
        .select("row", pl.col("user").cast(pl.Int32), pl.col("item").cast(pl.Int32), "timestamp")
    )
    return numbered.sort("user", *(["timestamp"] if timestamps else []), "row")


def _repeated_rows(ordered: pl.DataFrame) -> pl.Series:
    """Source rows of events whose user, item and time stood in an earlier row."""
    first = ordered.group_by("user", "item", "timestamp").agg(pl.col("row").min())
    if first.height == ordered.height:
        return pl.Series([], dtype=pl.UInt32)
    return ordered.join(first, on="row", how="anti")["row"].sort()


def _event_table(
    raw: pl.DataFrame, ordered: pl.DataFrame, offsets: np.ndarray[Any, Any], kept: tuple[str, ...]
) -> pl.DataFrame:
    positions = np.arange(ordered.height) - np.repeat(offsets[:-1], np.diff(offsets))
    kept_rows = clean_columns(raw.select(kept)[ordered["row"]], "events").get_columns() if kept else []
    columns = [
        ordered["user"],
        ordered["item"],
        pl.Series("position", positions, dtype=pl.Int32),
        ordered["timestamp"],
        *kept_rows,
    ]
    return pl.DataFrame(columns)


def _number(ids: pl.Series, rows: pl.DataFrame, what: str, first: int) -> pl.DataFrame:
    """The table of users or items in the order of their ids, numbered from `first`."""
    numbers = pl.int_range(first, first + len(ids), dtype=pl.Int32, eager=True).alias(what)
    table = pl.DataFrame({what: numbers, f"{what}_id": ids})
    return table.join(rows, on=f"{what}_id", how="left").sort(what).rechunk()
