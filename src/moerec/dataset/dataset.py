"""Dataset: users, items and events on disk or in memory, with ids of the source going in and coming out.

Shape letters: N events, U users, I the item index (the catalogue and the two reserved indices).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.dataset.candidates import CandidateConfig, count_short_lists, draw_candidates
from moerec.dataset.column_names import ColumnNames
from moerec.dataset.folder import DatasetFolder
from moerec.dataset.frames import ids_as_series, seconds_remedy
from moerec.dataset.ids import IdIndex
from moerec.dataset.info import CandidateEntry, DatasetInfo, SplitEntry, Verify
from moerec.dataset.rejects import REJECTS_FILE, first_reject
from moerec.dataset.schema import FIRST_ITEM, UNKNOWN, Part, RawTables
from moerec.dataset.splits import SplitConfig, assign_parts
from moerec.dataset.tables import Tables, build_tables
from moerec.errors import DatasetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Dataset:
    """Interactions of users with items, in the order of users and of time.

    Make one with `from_frames`, `from_raw` or `open`. A data set on disk is read when a table is first asked for.
    Splits and candidate lists added to a saved data set are written at once; before `save` they stay in memory.
    """

    def __init__(self, folder: DatasetFolder, tables: Tables | None = None) -> None:
        self._folder = folder
        self._tables = tables
        self._splits: dict[str, NDArray[np.int8]] = {}
        self._candidates: dict[str, pl.DataFrame] = {}

    @classmethod
    def from_frames(
        cls,
        events: Any,
        users: Any = None,
        items: Any = None,
        *,
        user: str = "user_id",
        item: str = "item_id",
        timestamp: str | None = "timestamp",
        name: str = "dataset",
        labels: Sequence[str] = (),
        texts: Sequence[str] = (),
        source: dict[str, Any] | None = None,
        rejects: Any = None,
    ) -> Dataset:
        """Make a data set in memory from pandas, Polars or Arrow tables.

        Users and items are ordered by id (by number if all ids are integers), a user's events by time; events of the
        same time, and events without times, keep the order of the source. Users without events are left out; items
        without events stay, and items that only the events know join the catalogue with null columns.

        Args:
            events: `user_id`, `item_id`, optional `timestamp`, labels. Ids may be any scalars and become strings.
                Integer timestamps are milliseconds since 1970; datetimes without a zone are UTC.
            users: `user_id` and feature columns.
            items: `item_id`, `title`, texts, `category`, `price`, `image`, feature columns: the whole catalogue.
            user: column of the users' ids, in `events` and in `users` (there `user_id` too).
            item: column of the items' ids, in `events` and in `items` (there `item_id` too).
            timestamp: column of the times; None if there are none, then the order of the rows is that of the events.
                A log without a column `timestamp` has no times either; a warning tells which column may hold them.
            name: name of the data set.
            labels: columns of the events to keep; by default every other numeric or boolean column.
            texts: columns of the events to keep that a user wrote with the event, as strings; they are no labels, and
                never inputs of the event itself.
            source: plain data about the origin; `licence` in it becomes the licence note.
            rejects: rows that were refused before, with the columns of `REJECT_COLUMNS`.

        Rows without an id or (where others have one) without a time, times before 1970 or after 2100, later rows with
        the same user, item and time, and later rows with the same id in `users` or `items` go to the rejects.

        Raises:
            DatasetError: a missing or misused column, or no usable event at all.
        """
        origin = dict(source or {})
        names = ColumnNames(user, item, timestamp)
        tables = build_tables(events, users, items, labels, rejects, texts, names, seconds_remedy(origin))
        licence = origin.get("licence")
        info = DatasetInfo(
            name=name,
            licence=None if licence is None else str(licence),
            source=origin,
            counts=tables.counts,
            labels=tables.labels,
            texts=tables.texts,
            unused_columns=tables.unused_columns,
            timestamps=tables.timestamps,
        )
        return cls(DatasetFolder(info), tables)

    @classmethod
    def from_raw(cls, raw: RawTables, name: str) -> Dataset:
        """Make a data set in memory from what a source has read; only the source's labels and texts are kept."""
        names = {"user_id", "item_id", "timestamp", *raw.labels, *raw.texts}
        events = raw.events.select(column for column in raw.events.columns if column in names)
        return cls.from_frames(
            events,
            raw.users,
            raw.items,
            name=name,
            labels=raw.labels,
            texts=raw.texts,
            source=raw.source,
            rejects=raw.rejects,
        )

    @classmethod
    def open(cls, directory: str | Path, verify: Verify = "size") -> Dataset:
        """Open a data set on disk; tables are read when they are asked for.

        Args:
            directory: the folder that holds `dataset.json`.
            verify: `size` finds missing and truncated files; `sha256` reads every file and finds changed ones.

        Raises:
            DatasetError: no whole data set of this format.
        """
        return cls(DatasetFolder.open(Path(directory).absolute(), verify))

    def save(self, directory: str | Path) -> Dataset:
        """Write the whole data set into a folder, all or nothing, and go on working there.

        A data set that stands there already is replaced. One that was opened is copied file by file.

        Raises:
            DatasetError: the folder holds something else.
        """
        self._folder.save(Path(directory).absolute(), self._write_tables)
        return self

    @property
    def info(self) -> DatasetInfo:
        """What `dataset.json` says; without `files` before the first save."""
        return self._folder.info

    @property
    def directory(self) -> Path | None:
        """The folder of the data set; None before the first save."""
        return self._folder.path

    @property
    def num_users(self) -> int:
        """Number of users; every one has an event."""
        return self.info.counts.users

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.info.counts.items

    @property
    def num_indices(self) -> int:
        """Size of the item index: the catalogue, padding and unknown."""
        return self.num_items + FIRST_ITEM

    @cached_property
    def events(self) -> pl.DataFrame:
        """user, item (index), position, timestamp (ms or null) and label columns; by user and position."""
        return self._tables.events if self._tables else self._folder.read_table("events.parquet")

    @cached_property
    def users(self) -> pl.DataFrame:
        """user, user_id, first_event (row of the user's first event) and feature columns."""
        return self._tables.users if self._tables else self._folder.read_table("users.parquet")

    @cached_property
    def items(self) -> pl.DataFrame:
        """item (index, from 2 on), item_id and the catalogue's columns."""
        return self._tables.items if self._tables else self._folder.read_table("items.parquet")

    @cached_property
    def rejects(self) -> pl.DataFrame:
        """Refused rows: source, line, reason, row."""
        return self._tables.rejects if self._tables else self._folder.read_table(REJECTS_FILE)

    @cached_property
    def event_items(self) -> NDArray[np.int32]:
        """Item index of each event, [N]."""
        return self._event_column("item")

    @cached_property
    def event_users(self) -> NDArray[np.int32]:
        """User of each event, [N]."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), np.diff(self.user_offsets))

    @cached_property
    def timestamps(self) -> NDArray[np.int64] | None:
        """Time of each event in milliseconds since 1970, [N]; None if the source has no times."""
        return self._event_column("timestamp") if self.info.timestamps else None

    @cached_property
    def user_offsets(self) -> NDArray[np.int64]:
        """Events of user u are user_offsets[u] to user_offsets[u + 1] - 1, [U + 1]."""
        first = self.users["first_event"].to_numpy()
        return np.append(first, self.info.counts.events).astype(np.int64)

    def user_indices(self, ids: Any) -> NDArray[np.int64]:
        """User of each id of the source, -1 for an unknown one."""
        return self._user_index.find(ids_as_series(ids, "user ids"), missing=-1)

    def item_indices(self, ids: Any) -> NDArray[np.int64]:
        """Item index of each id of the source, `UNKNOWN` for one that is not in the catalogue."""
        return self._item_index.find(ids_as_series(ids, "item ids"), missing=UNKNOWN)

    def user_ids(self, indices: Any) -> pl.Series:
        """The source's id of each user, null for -1."""
        return self._user_index.ids_of(indices)

    def item_ids(self, indices: Any) -> pl.Series:
        """The source's id of each item index, null for padding and unknown."""
        return self._item_index.ids_of(indices)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits, in alphabetical order."""
        return tuple(sorted(self.info.splits))

    def add_split(self, name: str, config: SplitConfig) -> NDArray[np.int8]:
        """Make a split by a rule; an equal one of that name is found again.

        Returns:
            [N] int8 codes of `Part`.

        Raises:
            DatasetError: the name stands for another rule, or the rule does not fit the data.
        """
        _check_name(name, "split")
        known = self.info.splits.get(name)
        if known is not None:
            if known.config != config:
                raise DatasetError(
                    f"split '{name}' is already there with another rule ({known.rule}); choose a new name"
                )
            return self.split(name)
        items = self.event_items if config.withheld_items else None
        try:
            parts = assign_parts(config, self.user_offsets, self.timestamps, items)
        except DatasetError as error:
            # Rows that were refused may be why too few are left; nobody has been told of them yet.
            raise DatasetError(f"{error}{first_reject(self.info.counts.rejected, self.rejects)}") from None
        counts = np.bincount(parts, minlength=len(Part))
        entry = SplitEntry(
            config=config, rule=config.describe(), events={part.name.lower(): int(counts[part]) for part in Part}
        )
        file = f"splits/{name}.parquet"
        self._folder.add_table(file, pl.DataFrame({"part": parts}), {"splits": {name: entry}})
        self._splits[name] = parts
        return parts

    def split(self, name: str) -> NDArray[np.int8]:
        """The part of each event, [N] int8 codes of `Part`.

        Raises:
            DatasetError: no split of that name.
        """
        if name not in self.info.splits:
            raise DatasetError(f"no split '{name}' in data set '{self.info.name}'; {_known(self.split_names)}")
        if name not in self._splits:
            self._splits[name] = self._folder.read_table(f"splits/{name}.parquet")["part"].to_numpy(writable=True)
        return self._splits[name]

    def trained_items(self, split: str) -> NDArray[np.bool_]:
        """Whether each item index has a train event in a split, [I]; False for padding and unknown."""
        trained = np.zeros(self.num_indices, dtype=bool)
        trained[self.event_items[self.split(split) == Part.TRAIN]] = True
        return trained

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """Names of the candidate lists, in alphabetical order."""
        return tuple(sorted(self.info.candidates))

    def add_candidates(self, name: str, config: CandidateConfig) -> pl.DataFrame:
        """Draw candidate lists by a rule; equal ones of that name are found again.

        Returns:
            `user` int32 and `items` list of int32; the positive stands first.

        Raises:
            DatasetError: the name stands for another rule, or the split has no such events.
        """
        _check_name(name, "candidates")
        known = self.info.candidates.get(name)
        if known is not None:
            if known.config != config:
                raise DatasetError(f"candidates '{name}' are there by another rule ({known.rule}); choose a new name")
            return self.candidates(name)
        parts = self.split(config.split)
        lists = draw_candidates(config, self.user_offsets, self.event_items, parts, self.num_items)
        short = count_short_lists(config, lists)
        entry = CandidateEntry(config=config, rule=config.describe(), lists=lists.height, short_lists=short)
        self._folder.add_table(f"candidates/{name}.parquet", lists, {"candidates": {name: entry}})
        self._candidates[name] = lists
        return lists

    def candidates(self, name: str) -> pl.DataFrame:
        """Candidate lists: `user` int32 and `items` list of int32, the positive first.

        Raises:
            DatasetError: no candidates of that name.
        """
        if name not in self.info.candidates:
            raise DatasetError(f"no candidates '{name}' in data set '{self.info.name}'; {_known(self.candidate_names)}")
        if name not in self._candidates:
            self._candidates[name] = self._folder.read_table(f"candidates/{name}.parquet")
        return self._candidates[name]

    def modality_path(self, name: str) -> Path:
        """Where the vectors of a modality lie or are to be written (then call `register_file`)."""
        _check_name(name, "modality")
        return self._folder.require_path("a modality") / "modalities" / f"{name}.safetensors"

    def register_file(self, relative_path: str) -> None:
        """Enter a file of the folder, with size and checksum, into `dataset.json`.

        Raises:
            DatasetError: the data set is not saved, or the file is not in its folder.
        """
        self._folder.register_file(relative_path)

    def forget_file(self, relative_path: str) -> None:
        """Take a file out of `dataset.json` before it is written anew, so that a crash leaves a whole data set."""
        self._folder.forget_file(relative_path)

    def validate(self) -> None:
        """Check every promise of the format, for instance after a foreign tool has written it.

        Raises:
            DatasetError: the first promise that is not kept, and what to do.
        """
        from moerec.dataset.validation import validate_dataset  # it needs Dataset itself

        validate_dataset(self)

    def __repr__(self) -> str:
        counts = self.info.counts
        place = "in memory" if self.directory is None else f"at {self.directory}"
        return (
            f"Dataset('{self.info.name}', {counts.users:,} users, {counts.items:,} items, "
            f"{counts.events:,} events, {place})"
        )

    @cached_property
    def _user_index(self) -> IdIndex:
        return IdIndex(self.users["user_id"], first=0)

    @cached_property
    def _item_index(self) -> IdIndex:
        return IdIndex(self.items["item_id"], first=FIRST_ITEM)

    def _event_column(self, name: str) -> NDArray[Any]:
        """A column as an array of its own; of a data set on disk only this column is read."""
        loaded = self._tables is not None or "events" in self.__dict__
        frame = self.events if loaded else self._folder.read_table("events.parquet", [name])
        return frame[name].to_numpy(writable=True)

    def _write_tables(self, folder: Path) -> None:
        tables = {
            "events.parquet": self.events,
            "users.parquet": self.users,
            "items.parquet": self.items,
            REJECTS_FILE: self.rejects,
            **{f"splits/{name}.parquet": pl.DataFrame({"part": parts}) for name, parts in self._splits.items()},
            **{f"candidates/{name}.parquet": lists for name, lists in self._candidates.items()},
        }
        for name, table in tables.items():
            (folder / name).parent.mkdir(exist_ok=True)
            table.write_parquet(folder / name)


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise DatasetError(f"{what} name '{name}': use letters, digits, '.', '_' and '-' only, first a letter or digit")


def _known(names: tuple[str, ...]) -> str:
    return f"there are: {', '.join(names)}" if names else "there is none yet, add one first"
