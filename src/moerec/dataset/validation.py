"""Every promise of the on-disk format, checked one by one; the first that is broken is raised with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open

from moerec.dataset.schema import EVENT_COLUMNS, FIRST_ITEM, REJECT_COLUMNS, Part
from moerec.errors import DatasetError

if TYPE_CHECKING:
    from moerec.dataset.dataset import Dataset

_REMEDY = "make the data set again"


def validate_dataset(dataset: Dataset) -> None:
    """Check a data set; see `Dataset.validate`.

    Raises:
        DatasetError: the first broken promise.
    """
    _check_dtypes(dataset.events, EVENT_COLUMNS, "events.parquet")
    _check_dtypes(dataset.users, {"user": pl.Int32, "user_id": pl.String, "first_event": pl.Int64}, "users.parquet")
    _check_dtypes(dataset.items, {"item": pl.Int32, "item_id": pl.String}, "items.parquet")
    _check_dtypes(dataset.rejects, REJECT_COLUMNS, "rejects.parquet")
    for name in dataset.info.labels:
        _require(name in dataset.events.columns, "events.parquet", f"label column '{name}' is missing")
    _check_dtypes(dataset.events, dict.fromkeys(dataset.info.texts, pl.String), "events.parquet")
    _check_ids(dataset.users, "user", 0, "users.parquet")
    _check_ids(dataset.items, "item", FIRST_ITEM, "items.parquet")
    _check_counts(dataset)
    _check_events(dataset)
    for name in dataset.split_names:
        _check_split(dataset, name)
    for name in dataset.candidate_names:
        _check_candidates(dataset, name)
    for modality, path in modality_files(dataset):
        _check_modality(dataset, modality, path)


def modality_files(dataset: Dataset) -> Iterator[tuple[str, Path]]:
    """Name and file of each registered modality."""
    for relative in sorted(dataset.info.files):
        path = Path(relative)
        if dataset.directory is not None and path.parent.as_posix() == "modalities" and path.suffix == ".safetensors":
            yield path.stem, dataset.directory / path


def modality_presence(path: Path) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which item indices have a vector, [items + 2]; the vectors themselves are not read.

    Raises:
        DatasetError: a damaged file, or one without `present`.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            present = stored.get_tensor("present")
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); encode the modality again") from None
    return np.asarray(present) != 0


def _require(kept: bool | np.bool_, where: str, problem: str, remedy: str = _REMEDY) -> None:
    if not kept:
        raise DatasetError(f"{where}: {problem}; {remedy}")


def _check_dtypes(table: pl.DataFrame, columns: dict[str, Any], where: str) -> None:
    for name, dtype in columns.items():
        _require(name in table.columns, where, f"column '{name}' is missing")
        _require(table[name].dtype == dtype, where, f"column '{name}' is {table[name].dtype}, not {dtype}")


def _check_ids(table: pl.DataFrame, what: str, first: int, where: str) -> None:
    expected = pl.int_range(first, first + table.height, dtype=pl.Int32, eager=True)
    numbers, ids = table[what], table[f"{what}_id"]
    _require(numbers.null_count() == 0 and (numbers == expected).all(), where, f"column '{what}' does not count rows")
    _require(ids.null_count() == 0, where, f"an id of column '{what}_id' is null")
    _require(ids.n_unique() == table.height, where, f"column '{what}_id' holds an id twice")


def _check_counts(dataset: Dataset) -> None:
    counts = dataset.info.counts
    told = (counts.users, counts.items, counts.events, sum(counts.rejected.values()))
    tables = (dataset.users, dataset.items, dataset.events, dataset.rejects)
    for name, number, table in zip(("users", "items", "events", "rejects"), told, tables, strict=True):
        _require(table.height == number, f"{name}.parquet", f"{table.height} rows, dataset.json says {number}")


def _check_events(dataset: Dataset) -> None:
    where = "events.parquet"
    events, offsets = dataset.events, dataset.user_offsets
    for name in ("user", "item", "position"):
        _require(events[name].null_count() == 0, where, f"column '{name}' holds a null")
    items, users = dataset.event_items, events["user"].to_numpy()
    _require(
        ((items >= FIRST_ITEM) & (items < dataset.num_indices)).all(), where, "an item index is outside the catalogue"
    )
    _require(((users >= 0) & (users < dataset.num_users)).all(), where, "a user index is outside users.parquet")
    _require((np.diff(users) >= 0).all(), where, "the rows are not sorted by user")
    starts = np.searchsorted(users, np.arange(dataset.num_users + 1))
    _require(np.array_equal(offsets, starts), "users.parquet", "column 'first_event' does not point to the first event")
    _require((np.diff(offsets) > 0).all(), "users.parquet", "a user has no event")
    positions = np.arange(users.size) - offsets[users]
    _require(np.array_equal(events["position"].to_numpy(), positions), where, "positions do not count a user's events")
    nulls = events["timestamp"].null_count()
    if not dataset.info.timestamps:
        _require(nulls == events.height, where, "there are timestamps, dataset.json says there are none")
        return
    _require(nulls == 0, where, "a timestamp is null")
    later = np.diff(events["timestamp"].to_numpy()) >= 0
    _require((later | (np.diff(users) > 0)).all(), where, "a user's events are not in the order of time")


def _check_split(dataset: Dataset, name: str) -> None:
    where, remedy = f"split '{name}'", "make the split again under a new name"
    parts = dataset.split(name)
    _require(parts.dtype == np.int8, where, f"codes are {parts.dtype}, not int8", remedy)
    _require(parts.size == dataset.info.counts.events, where, f"{parts.size} codes, one for each event wanted", remedy)
    _require(np.isin(parts, [int(part) for part in Part]).all(), where, "a code is no part of a split", remedy)
    told = dataset.info.splits[name].events
    for part in Part:
        number = int((parts == part).sum())
        _require(
            told.get(part.name.lower()) == number, where, f"{number} {part.name.lower()} events, not as told", remedy
        )


def _check_candidates(dataset: Dataset, name: str) -> None:
    where, remedy = f"candidates '{name}'", "draw them again under a new name"
    lists = dataset.candidates(name)
    _check_dtypes(lists, {"user": pl.Int32, "items": pl.List(pl.Int32)}, where)
    users, items = lists["user"], lists["items"].explode()
    _require(lists.height == dataset.info.candidates[name].lists, where, "the number of lists is not as told", remedy)
    _require(bool(users.is_between(0, dataset.num_users - 1).all()), where, "a user is outside users.parquet", remedy)
    _require(users.n_unique() == lists.height, where, "a user has two lists", remedy)
    in_catalogue = items.null_count() == 0 and items.is_between(FIRST_ITEM, dataset.num_indices - 1).all()
    _require(bool(in_catalogue), where, "an item is outside the catalogue", remedy)
    distinct = lists["items"].list.n_unique() == lists["items"].list.len()
    _require(bool(distinct.all()), where, "a list holds an item twice", remedy)


def _check_modality(dataset: Dataset, name: str, path: Path) -> None:
    where, remedy = f"modality '{name}'", "encode the modality again"
    present = modality_presence(path)
    with safe_open(path, framework="numpy") as stored:
        _require("vectors" in stored.keys(), where, "no tensor 'vectors'", remedy)  # noqa: SIM118 (no mapping)
        shape = stored.get_slice("vectors").get_shape()
    rows = dataset.num_indices
    _require(len(shape) == 2 and shape[0] == rows, where, f"vectors have the shape {shape}, not [{rows}, D]", remedy)
    _require(present.shape == (rows,), where, f"'present' has the shape {list(present.shape)}, not [{rows}]", remedy)
    _require(not present[:FIRST_ITEM].any(), where, "padding or unknown has a vector", remedy)
