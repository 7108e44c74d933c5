"""What a data set holds: reserved indices, split codes, table columns, and what a source hands over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import polars as pl

FORMAT_VERSION = 1

PADDING = 0
"""Item index of no item at all."""
UNKNOWN = 1
"""Item index of an item that is not in the catalogue."""
FIRST_ITEM = 2
"""Index of the first item of the catalogue; item i of `items.parquet` has index i + FIRST_ITEM."""
LATEST_TIMESTAMP = 4_102_444_800_000
"""2100-01-01 in milliseconds; what lies after is a wrong unit or a broken value."""


class Part(IntEnum):
    """The code of an event in a split file."""

    TRAIN = 0
    VALID = 1
    TEST = 2
    UNUSED = 3


EVENT_COLUMNS = {"user": pl.Int32, "item": pl.Int32, "position": pl.Int32, "timestamp": pl.Int64}
INDEX_COLUMNS = ("user", "item", "first_event")
"""Columns of users and items that only number rows: nothing to learn from, and other numbers after the next event."""
REJECT_COLUMNS = {"source": pl.String, "line": pl.Int64, "reason": pl.String, "row": pl.String}


def empty_rejects() -> pl.DataFrame:
    """A rejects table without rows."""
    return pl.DataFrame(schema=REJECT_COLUMNS)


@dataclass(frozen=True)
class RawTables:
    """What a source hands over, in its own ids; `Dataset.from_frames` turns it into a data set."""

    events: pl.DataFrame
    """Columns `user_id` and `item_id` (string), `timestamp` (int64 milliseconds, or null), and labels."""
    users: pl.DataFrame | None = None
    """`user_id` (string) and feature columns; users without events are left out of the data set."""
    items: pl.DataFrame | None = None
    """`item_id` (string), `title`, texts, `category`, `price`, `image`, feature columns: the whole catalogue."""
    rejects: pl.DataFrame = field(default_factory=empty_rejects)
    """Rows refused while reading: source file, line (1 is the first), reason, the raw row."""
    labels: tuple[str, ...] = ()
    """Names of the label and action columns of `events`, for instance `rating`."""
    texts: tuple[str, ...] = ()
    """Names of the columns of `events` that a user wrote with the event, such as a review; each string or null.
    An event's own text is written together with its label, so it must never become an input of that event; what may
    be read are the texts of strictly earlier events."""
    source: dict[str, Any] = field(default_factory=dict)
    """Name, variant, licence note, and the sha256 of each file read."""
