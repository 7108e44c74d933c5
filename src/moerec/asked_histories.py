"""The histories that a recommender is asked with, in whatever form they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from moerec.batches.sequences import SequenceBatch, sequence_batch
from moerec.dataset.frames import ids_as_series, require_columns, to_polars
from moerec.errors import MoerecError
from moerec.ranking_model import read_times

_NO_TIMES = (
    "recommend: this model reads when things happened (time_bias); give histories as a table with user_id, item_id "
    "and timestamp"
)


@dataclass(frozen=True)
class AskedHistories:
    """Who asks, and what they have met, oldest first."""

    names: list[str]
    items: list[list[int]]
    times: list[list[int]] | None
    """Milliseconds since 1970; None where they are not known."""

    def batch(self) -> SequenceBatch:
        """The histories as tensors."""
        return sequence_batch(self.items, times=self.times)


def histories_as_lists(
    histories: Any, *, with_times: bool
) -> tuple[list[str], list[list[str]], list[list[int]] | None]:
    """Names, item ids and, if asked for, times of histories given as a mapping, a list of lists, or a frame."""
    if isinstance(histories, pl.LazyFrame) or hasattr(histories, "columns"):
        return _lists_of_frame(to_polars(histories, "histories", ("user_id", "item_id")), with_times=with_times)
    if isinstance(histories, str | bytes) or not isinstance(histories, Iterable):
        raise MoerecError("recommend: histories must be a list of lists of item ids, a mapping or a frame")
    named = histories.items() if isinstance(histories, Mapping) else enumerate(histories)
    names, lists = [], []
    for name, items in named:
        names.append(str(name))
        lists.append(ids_as_series(items, "histories").to_list())
    if with_times and any(lists):
        raise MoerecError(_NO_TIMES)
    return names, lists, [[] for _ in lists] if with_times else None


def _lists_of_frame(
    frame: pl.DataFrame, *, with_times: bool
) -> tuple[list[str], list[list[str]], list[list[int]] | None]:
    require_columns(frame, ("user_id", "item_id"), "histories")
    users = ids_as_series(frame["user_id"], "histories")
    if users.null_count():
        raise MoerecError(f"recommend: {users.null_count()} rows of the histories have no user_id; leave them out")
    rows = pl.DataFrame({"user": users, "item": ids_as_series(frame["item_id"], "histories")})
    if with_times:
        if "timestamp" not in frame.columns:
            raise MoerecError(_NO_TIMES)
        rows = rows.with_columns(read_times(frame, "recommend: histories").alias("milliseconds"))
    if "timestamp" in frame.columns:
        rows = rows.with_columns(_times(frame).alias("time")).sort("time", maintain_order=True)
    lists = rows.group_by("user").agg(pl.exclude("user"))
    names = users.unique(maintain_order=True)
    lists = names.to_frame("user").join(lists, on="user", how="left", maintain_order="left")
    return names.to_list(), lists["item"].to_list(), lists["milliseconds"].to_list() if with_times else None


def _times(frame: pl.DataFrame) -> pl.Series:
    times = frame["timestamp"]
    if times.null_count():
        raise MoerecError(f"recommend: {times.null_count()} rows of the histories have no timestamp; leave them out")
    if not (times.dtype.is_numeric() or times.dtype.is_temporal()):
        raise MoerecError(f"recommend: histories: timestamps of type {times.dtype} do not sort by time; give numbers")
    return times
