"""Any log in Parquet or delimited text, by the names of its columns; items and users from further files."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, field_validator, model_validator

from moerec.config import Config
from moerec.dataset.column_names import KEYS
from moerec.dataset.schema import EVENT_COLUMNS, RawTables
from moerec.dataset.sources.columns import Column, NoGoodRowError, Table, TimestampUnit, join_tables, require_column
from moerec.dataset.sources.lines import Delimited, fields_of, header_of, read_delimited
from moerec.dataset.sources.parquet import is_parquet, parquet_schema, read_parquet
from moerec.dataset.sources.plain_types import plain_types
from moerec.dataset.sources.source_files import SourceFile
from moerec.dataset.sources.table_hints import refusal_hint, separator_hint
from moerec.errors import DatasetError

ONLY_ITEM = "row"
"""Id of the one item where rows are about no items."""


RESERVED = {*KEYS, *EVENT_COLUMNS}
"""What no label can be called."""


class TableConfig(Config):
    """Events, and if there are any items and users, in Parquet or delimited text files (also gzipped)."""

    events: str | tuple[str, ...]
    """File of the events, or a list of files that are read as one; a relative path starts in the working directory."""
    items: str | None = None
    """File of the items: an id and any further columns, which become item features."""
    users: str | None = None
    """File of the users: an id and any further columns, which become user features."""
    user: str = "user_id"
    """Column of the users' ids."""
    item: str | None = "item_id"
    """Column of the items' ids; null if there are no items, as in a table of people: then all rows have one item."""
    timestamp: str | None = "timestamp"
    """Column of the times; null if the log has none, then the order of the file is the order of events."""
    timestamp_unit: TimestampUnit = "s"
    """What numbers count: s, ms, us or ns; iso for dates written out. Date types of Parquet need nothing."""
    labels: tuple[str, ...] = ()
    """Columns of the events that hold labels or actions, as numbers."""
    rename: dict[str, str] = Field(default_factory=dict)
    """New names for columns of items and users, and for labels, such as {name: title, asin: item_id, stars: rating}.
    Where a label and a column of items or users have one name, the column alone gets the new one."""
    separator: str | None = None
    """Between two fields of a text file; by default a tab for .tsv files and a comma for all others."""
    quote: str | None = '"'
    """Character around fields that hold separators or line ends; null if quotes are plain text."""
    encoding: str = "utf-8"
    """Encoding of text files."""
    header: bool = True
    """Whether the first line of a text file names the columns."""
    event_columns: tuple[str, ...] = ()
    """With `header: false`: the columns of the events file in order; by default their positions 0, 1, 2, ..."""
    item_columns: tuple[str, ...] = ()
    """With `header: false`: the columns of the items file in order."""
    user_columns: tuple[str, ...] = ()
    """With `header: false`: the columns of the users file in order."""

    @field_validator("user", "item", "timestamp", mode="before")
    @classmethod
    def _position(cls, value: Any) -> Any:
        """Take a position, written as a number, for the name that an unnamed column has."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _positions(cls, value: Any) -> Any:
        return [cls._position(entry) for entry in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _check(self) -> TableConfig:
        paths = [Path(path) for path in self._event_paths]
        if not paths:
            raise ValueError("events names no file; name one or more")
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"events names '{path}' twice; its rows would be duplicates")
        if self.header and (self.event_columns or self.item_columns or self.user_columns):
            raise ValueError(
                "event_columns, item_columns and user_columns name the columns of files with `header: false`"
            )
        if self.separator == "":
            raise ValueError("separator must be at least one character")
        if self.quote is not None and len(self.quote) != 1:
            raise ValueError("quote must be one character, or null")
        if self.item is None and self.items is not None:
            raise ValueError("item: null says that there are no items, and items names a file of them; remove one")
        keys = [key for key in (self.user, self.item, self.timestamp) if key is not None] + list(self.labels)
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"the column '{key}' is named for two purposes")
        for label in self.labels:
            if label in KEYS and label not in self.rename:
                raise ValueError(f"a label cannot be called '{label}'; give it another name with `rename`")
        return self

    def read(self) -> RawTables:
        """Read the files.

        Raises:
            DatasetError: a file or a column is missing, or a file is damaged or has no good row.
        """
        labels = self._named_labels()
        events = self._read_all_events(labels)
        items = self._read_features(self.items, "item")
        users = self._read_features(self.users, "user")
        rejects = [table.rejects for table in (events, items, users) if table is not None]
        return RawTables(
            events=events.frame,
            items=None if items is None else items.frame,
            users=None if users is None else users.frame,
            rejects=pl.concat(rejects),
            labels=tuple(labels.values()),
            source={
                "name": Path(self._event_paths[0]).name.split(".")[0],
                "source": "table",
                "licence": "the user's own data",
                "files": [file.identity() for file in self._files()],
            },
        )

    def describe(self) -> str:
        """One line that says what is read."""
        further = [path for path in (self.items, self.users) if path]
        first, *others = self._event_paths
        events = first if not others else f"{first} and {len(others)} more"
        return f"table {events}" + (f" with {' and '.join(further)}" if further else "")

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The configuration, save where the files lie, and the content of the files."""
        return {
            "source": "table",
            "config": self.model_dump(mode="json", exclude={"events", "items", "users"}),
            "has": {"items": self.items is not None, "users": self.users is not None},
            "files": [file.identity() for file in self._files()],
        }

    @property
    def _event_paths(self) -> tuple[str, ...]:
        return (self.events,) if isinstance(self.events, str) else self.events

    def _files(self) -> list[SourceFile]:
        named = [("events", path) for path in self._event_paths] + [("items", self.items), ("users", self.users)]
        return [self._file(path, key) for key, path in named if path is not None]

    def _file(self, path: str, key: str) -> SourceFile:
        """The file of that path, or an error with what may be meant."""
        file = Path(path).expanduser()
        if file.is_file():
            return SourceFile(file)
        if file.is_dir():
            raise DatasetError(f"{path} (key `{key}`) is a folder; name a file in it")
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, siblings, n=1)
        guess = f"; did you mean '{near[0]}'?" if near else ""
        seen = "" if file.is_absolute() else f" in {Path.cwd()}"
        raise DatasetError(f"{path} (key `{key}`): there is no such file{seen}{guess}")

    def _named_labels(self) -> dict[str, str]:
        """What each label is called in the data set.

        Raises:
            DatasetError: a new name is for no column that has one, is taken, or cannot be one of a label.
        """
        features = self._feature_columns("item") | self._feature_columns("user")
        self._check_rename(features | set(self.labels))
        named = {}
        for label in self.labels:
            # An older recipe may rename a feature because a label has its name.
            kept = label in features and label not in RESERVED
            named[label] = label if kept else self.rename.get(label, label)
            where = f"{self._event_paths[0]} (key `labels`)"
            if named[label] in RESERVED:
                raise DatasetError(
                    f"{where}: a label cannot be called '{named[label]}'; set `rename: {{{label}: ...}}`"
                )
            if list(named.values()).count(named[label]) > 1:
                raise DatasetError(f"{where}: two labels would be called '{named[label]}'; change `rename`")
        return named

    def _feature_columns(self, side: str) -> set[str]:
        """The columns that the file of items or users brings; labels in the same file are none."""
        path, given = (self.items, self.item_columns) if side == "item" else (self.users, self.user_columns)
        if path is None:
            return set()
        return set(self._names(self._file(path, f"{side}s"), given)) - self._labels_in(path)

    def _labels_in(self, path: str) -> set[str]:
        """In a table that is both, what is predicted is no column to predict it from."""
        return set(self.labels) if path in self._event_paths else set()

    def _check_rename(self, known: set[str]) -> None:
        """Refuse a new name for a column that neither items nor users have, and that is no label."""
        for name in self.rename:
            if name in known:
                continue
            file = self._file(self._event_paths[0], "events")
            names = self._names(file, self.event_columns)
            if name in names:
                raise DatasetError(
                    f"{file.name}: the column '{name}' (key `rename`) is no label, nor of items or users; name labels "
                    "in `labels`, and the columns of ids and times in `user`, `item` and `timestamp`"
                )
            require_column(self.items or self.users or file.name, sorted(known) or names, name, "rename")

    def _read_all_events(self, labels: Mapping[str, str]) -> Table:
        """The rows of all files of events, one file after the other."""
        files = [self._file(path, "events") for path in self._event_paths]
        tables = [self._read_events(file, labels) for file in files]
        if len({file.name for file in files}) < len(files):
            # Files of the same name in several folders are told apart by their paths.
            named = zip(tables, self._event_paths, strict=True)
            tables = [Table(each.frame, each.rejects.with_columns(source=pl.lit(path))) for each, path in named]
        return tables[0] if len(tables) == 1 else join_tables(tables)

    def _read_events(self, file: SourceFile, labels: Mapping[str, str]) -> Table:
        names = self._names(file, self.event_columns)
        wanted = [Column(self._column(file, names, self.user, "user"), "id", "user_id")]
        if self.item is not None:
            hint = "set `item: null` if the rows are about no items"
            wanted.append(Column(self._column(file, names, self.item, "item", hint), "id", "item_id"))
        if self.timestamp is not None:
            hint = "set `timestamp: null` if the log has no times"
            name = self._column(file, names, self.timestamp, "timestamp", hint)
            wanted.append(Column(name, "timestamp", "timestamp", required=True, unit=self.timestamp_unit))
        wanted += [Column(self._column(file, names, label, "labels"), "number", new) for label, new in labels.items()]
        table = self._rows(file, names, wanted)
        item = pl.lit(ONLY_ITEM).alias("item_id") if self.item is None else pl.col("item_id")
        time = pl.lit(None, dtype=pl.Int64).alias("timestamp") if self.timestamp is None else pl.col("timestamp")
        return Table(table.frame.select("user_id", item, time, *labels.values()), table.rejects)

    def _read_features(self, path: str | None, side: str) -> Table | None:
        """The items or the users: their id, and all other columns as features."""
        if path is None:
            return None
        file = self._file(path, f"{side}s")
        names = self._names(file, self.item_columns if side == "item" else self.user_columns)
        wanted_key = self.item or "" if side == "item" else self.user
        taken = self._labels_in(path)
        renamed = [name for name in names if self.rename.get(name) in (wanted_key, f"{side}_id")]
        key = self._column(file, names, renamed[0] if renamed else wanted_key, side)
        target = f"{side}_id"
        wanted = [Column(key, "id", target)]
        wanted += [Column(name, "any", self.rename.get(name, name)) for name in names if name not in (key, *taken)]
        results = [column.result for column in wanted]
        for result in results:
            if results.count(result) > 1:
                raise DatasetError(f"{file.name}: two columns would be called '{result}'; change `rename`")
        table = self._rows(file, names, wanted, unique=target)
        return Table(plain_types(table.frame, target, guess=not is_parquet(file)), table.rejects)

    def _column(self, file: SourceFile, names: Sequence[str], wanted: str, key: str, hint: str = "") -> str:
        """The column that a key names, or an error with what else may be wrong."""
        plain = not is_parquet(file)
        return require_column(
            file.name, names, wanted, key, (plain and separator_hint(names, wanted, self.header)) or hint
        )

    def _names(self, file: SourceFile, given: Sequence[str]) -> list[str]:
        """The columns of a file: from its header, from the configuration, or their positions."""
        if is_parquet(file):
            return list(parquet_schema(file))
        if self.header or not given:
            first = header_of(file, self._form(file), named=self.header)
            return first if self.header else [str(position) for position in range(len(first))]
        return list(given)

    def _form(self, file: SourceFile) -> Delimited:
        tabbed = file.name.lower().removesuffix(".gz").endswith(".tsv")
        separator = self.separator or ("\t" if tabbed else ",")
        # The csv reader knows separators of one character only.
        quote = self.quote if len(separator) == 1 else None
        return Delimited(separator, self.encoding, quote, self.header)

    def _rows(self, file: SourceFile, names: Sequence[str], wanted: list[Column], unique: str | None = None) -> Table:
        parquet, form = is_parquet(file), self._form(file)
        try:
            return read_parquet(file, wanted, unique) if parquet else read_delimited(file, form, names, wanted, unique)
        except NoGoodRowError as error:
            cells = _cells_of(error.row, None if parquet else form, names)
            hint = refusal_hint(error.reason, cells, wanted)
            between = " " if str(error).endswith("?") else "; "
            raise DatasetError(f"{error}{hint and between + hint}") from None


def _cells_of(row: str, form: Delimited | None, names: Sequence[str]) -> dict[str, Any]:
    """The cells of a refused row, which is JSON without a form; none where they cannot be told apart."""
    try:
        if form is not None:
            return dict(zip(names, fields_of(row, form), strict=True))
        found: dict[str, Any] = json.loads(row)
        return found
    except (ValueError, csv.Error):
        return {}
