"""How a caller's tables call user, item and time, and the note where a time is there under an unknown name."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from moerec.errors import DatasetError

logger = logging.getLogger(__name__)

KEYS = ("user_id", "item_id", "timestamp")
_TIMES = {"time", "date", "ts", "unix", "unixtime", "epoch", "eventtime", "eventdate", "created", "createdat", "when"}
"""What columns of times are called, without signs between the words; besides all with `datetime` or `timestamp`."""


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the caller's tables."""

    user: str = "user_id"
    """Ids of the users, in events and users; users may call theirs `user_id` in any case."""
    item: str = "item_id"
    """Ids of the items, in events and items; items may call theirs `item_id` in any case."""
    timestamp: str | None = "timestamp"
    """Times of the events; None if there are none."""

    @property
    def ids(self) -> tuple[str, str]:
        """The columns of ids in events."""
        return self.user, self.item

    def named_events(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events with the columns `user_id`, `item_id` and, where there are times, `timestamp`.

        Raises:
            DatasetError: a column is missing, is named for two purposes, or its new name is taken.
        """
        wanted = {"user": self.user, "item": self.item}
        if self.timestamp is None:
            events = events.drop("timestamp", strict=False)
        elif self.timestamp in events.columns or self.timestamp != "timestamp":
            wanted["timestamp"] = self.timestamp
        for argument, name in wanted.items():
            if name not in events.columns:
                known = ", ".join(events.columns)
                raise DatasetError(f"events: no column '{name}' among {known}; name the right one, {argument}='...'")
        if len(set(wanted.values())) < len(wanted):
            raise DatasetError(f"events: one column is named for two of {', '.join(wanted)}; each needs its own")
        return _renamed(events, dict(zip(wanted.values(), KEYS, strict=False)), "events")

    def named_entities(self, rows: pl.DataFrame, what: str) -> pl.DataFrame:
        """The rows of users or items with the column `user_id` or `item_id`."""
        name, key = self.user if what == "user" else self.item, f"{what}_id"
        if name not in rows.columns and key not in rows.columns:
            raise DatasetError(f"{what}s: no column '{name}' among {', '.join(rows.columns)}; rename the right one")
        return _renamed(rows, {name: key}, f"{what}s") if name in rows.columns else rows

    def warn_of_times(self, events: pl.DataFrame, known: Collection[str]) -> None:
        """Say which column may hold the times, where none is named and the default one is not there.

        Args:
            events: as `named_events` gives them.
            known: columns that the caller has named for something else.
        """
        if self.timestamp != "timestamp" or "timestamp" in events.columns:
            return
        candidates = [name for name in events.columns if name not in (*KEYS, *known)]
        times = [name for name in candidates if _looks_like_a_time(name, events.schema[name])]
        if times:
            logger.warning(
                "events: no column 'timestamp', so the order of the rows is taken for the order of the events; did you "
                "mean timestamp='%s'? (timestamp=None: there are no times) other columns: %s",
                times[0],
                ", ".join(candidates),
            )


USUAL_NAMES = ColumnNames()


def _renamed(frame: pl.DataFrame, names: dict[str, str], where: str) -> pl.DataFrame:
    for name, key in names.items():
        if name != key and key in frame.columns and key not in names:
            raise DatasetError(f"{where}: '{name}' is to become '{key}', which is there too; leave one of them out")
    return frame.rename(names)


def _looks_like_a_time(name: str, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Date | pl.Datetime):
        return True
    plain = re.sub(r"[^a-z]", "", name.lower())
    return plain in _TIMES or "datetime" in plain or "timestamp" in plain
