"""Any log in Parquet or delimited text, by the names of its columns; items and users from further files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, field_validator, model_validator

from moerec.config import Config
from moerec.dataset.schema import RawTables
from moerec.dataset.sources.columns import Column, Table, TimestampUnit, require_column
from moerec.dataset.sources.lines import Delimited, header_of, read_delimited
from moerec.dataset.sources.parquet import is_parquet, parquet_schema, read_parquet
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

# What looks like a number but is a name: 02134 is a postcode.
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
ONLY_ITEM = "row"
"""Id of the one item where rows are about no items."""


class TableConfig(Config):
    """Events, and if there are any items and users, in Parquet or delimited text files (also gzipped)."""

    events: str
    """File of the events; a relative path starts in the working directory."""
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
    """New names for columns of items and users, for instance {name: title, genre: category, asin: item_id}."""
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
        for label in {"user_id", "item_id", "timestamp"}.intersection(self.labels):
            raise ValueError(f"a label cannot be called '{label}'")
        return self

    def read(self) -> RawTables:
        """Read the files.

        Raises:
            DatasetError: a file or a column is missing, or a file is damaged or has no good row.
        """
        events = self._read_events(self._file(self.events, "events"))
        items = self._read_features(self.items, "item")
        users = self._read_features(self.users, "user")
        self._check_rename()
        rejects = [table.rejects for table in (events, items, users) if table is not None]
        return RawTables(
            events=events.frame,
            items=None if items is None else items.frame,
            users=None if users is None else users.frame,
            rejects=pl.concat(rejects),
            labels=self.labels,
            source={
                "name": Path(self.events).name.split(".")[0],
                "source": "table",
                "licence": "the user's own data",
                "files": [file.identity() for file in self._files()],
            },
        )

    def describe(self) -> str:
        """One line that says what is read."""
        further = [path for path in (self.items, self.users) if path]
        return f"table {self.events}" + (f" with {' and '.join(further)}" if further else "")

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The configuration, save where the files lie, and the content of the files."""
        return {
            "source": "table",
            "config": self.model_dump(mode="json", exclude={"events", "items", "users"}),
            "has": {"items": self.items is not None, "users": self.users is not None},
            "files": [file.identity() for file in self._files()],
        }

    def _files(self) -> list[SourceFile]:
        named = {"events": self.events, "items": self.items, "users": self.users}
        return [self._file(path, key) for key, path in named.items() if path is not None]

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

    def _read_events(self, file: SourceFile) -> Table:
        names = self._names(file, self.event_columns)
        wanted = [Column(require_column(file.name, names, self.user, "user"), "id", "user_id")]
        if self.item is not None:
            hint = "set `item: null` if the rows are about no items"
            wanted.append(Column(require_column(file.name, names, self.item, "item", hint), "id", "item_id"))
        if self.timestamp is not None:
            hint = "set `timestamp: null` if the log has no times"
            name = require_column(file.name, names, self.timestamp, "timestamp", hint)
            wanted.append(Column(name, "timestamp", "timestamp", required=True, unit=self.timestamp_unit))
        wanted += [Column(require_column(file.name, names, label, "labels"), "number") for label in self.labels]
        table = self._rows(file, names, wanted)
        item = pl.lit(ONLY_ITEM).alias("item_id") if self.item is None else pl.col("item_id")
        time = pl.lit(None, dtype=pl.Int64).alias("timestamp") if self.timestamp is None else pl.col("timestamp")
        return Table(table.frame.select("user_id", item, time, *self.labels), table.rejects)

    def _read_features(self, path: str | None, side: str) -> Table | None:
        """The items or the users: their id, and all other columns as features."""
        if path is None:
            return None
        file = self._file(path, f"{side}s")
        names = self._names(file, self.item_columns if side == "item" else self.user_columns)
        wanted_key = self.item or "" if side == "item" else self.user
        # In a table that is both, what is predicted is no column to predict it from.
        taken = self.labels if path == self.events else ()
        renamed = [name for name in names if self.rename.get(name) in (wanted_key, f"{side}_id")]
        key = require_column(file.name, names, renamed[0] if renamed else wanted_key, side)
        target = f"{side}_id"
        wanted = [Column(key, "id", target)]
        wanted += [Column(name, "any", self.rename.get(name, name)) for name in names if name not in (key, *taken)]
        results = [column.result for column in wanted]
        for result in results:
            if results.count(result) > 1:
                raise DatasetError(f"{file.name}: two columns would be called '{result}'; change `rename`")
        table = self._rows(file, names, wanted, unique=target)
        return Table(_plain_types(table.frame, target, guess=not is_parquet(file)), table.rejects)

    def _check_rename(self) -> None:
        """Refuse a new name for a column that neither items nor users have."""
        known = []
        for path, given in ((self.items, self.item_columns), (self.users, self.user_columns)):
            known += self._names(SourceFile(Path(path).expanduser()), given) if path else []
        for name in self.rename:
            require_column(self.items or self.users or self.events, known, name, "rename")

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
        if is_parquet(file):
            return read_parquet(file, wanted, unique)
        return read_delimited(file, self._form(file), names, wanted, unique)


def _plain_types(frame: pl.DataFrame, key: str, guess: bool) -> pl.DataFrame:
    """Feature columns as text, numbers, truth values or lists of them.

    Lists of text are joined by `|`, dates become text, records JSON. With `guess`, a text column that holds
    nothing but numbers becomes numbers, unless one is written like a name (02134).
    """
    outputs = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if name != key:
            if dtype == pl.String:
                column = _stripped(frame[name], guess)
            elif isinstance(dtype, pl.List | pl.Array) and not dtype.inner.is_numeric():
                column = column.cast(pl.List(pl.String)).list.join("|")
            elif isinstance(dtype, pl.Struct):
                column = column.struct.json_encode()
            elif not (dtype.is_numeric() or dtype.is_nested() or dtype == pl.Boolean):
                column = column.cast(pl.String)
        outputs.append(column.alias(name))
    return frame.select(outputs)


def _stripped(cells: pl.Series, guess: bool) -> pl.Expr:
    """Text without surrounding blanks, empty as null; as numbers if that is what all of it is."""
    name = cells.name
    text = pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name).str.strip_chars())
    values = cells.str.strip_chars()
    values = values.filter(values.is_not_null() & (values != ""))
    if guess and len(values):
        if values.str.contains(_WHOLE).all():
            return text.cast(pl.Int64)
        if values.str.contains(_NUMBER).all():
            return text.cast(pl.Float64)
    return text
