"""RecBole's atomic files: `NAME.inter`, `.item`, `.user`, tab-separated, with typed headers `name:type`.

Types are `token`, `float`, `token_seq` and `float_seq`; the values of a sequence are separated by blanks.
Format: https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import polars as pl

from moerec.config import Config
from moerec.dataset.schema import RawTables
from moerec.dataset.sources.columns import Column, ColumnKind, Table, TimestampUnit, require_column
from moerec.dataset.sources.lines import Delimited, header_of, read_delimited
from moerec.dataset.sources.source_files import SourceFile, SourceFolder
from moerec.errors import DatasetError

KINDS: dict[str, ColumnKind] = {"token": "text", "float": "number", "token_seq": "sequence", "float_seq": "numbers"}
TEXT_WORDS = ("title", "description", "text", "review")


class AtomicConfig(Config):
    """Any data set in RecBole's atomic files."""

    path: str
    """Folder (or zip archive) that holds NAME.inter and, if there are any, NAME.item and NAME.user."""
    name: str | None = None
    """NAME of the files; needed only if the folder holds several `.inter` files."""
    user: str = "user_id"
    """Column of the users' ids."""
    item: str = "item_id"
    """Column of the items' ids."""
    timestamp: str | None = "timestamp"
    """Column of the times; null if the log has none, then the order of the file is the order of events."""
    timestamp_unit: TimestampUnit = "s"
    """What the times count: s, ms, us or ns; iso for dates written out."""
    labels: tuple[str, ...] | None = None
    """Label columns of `.inter`; by default every `float` column that is not the timestamp."""
    title: str | None = None
    """Column of `.item` that becomes `title`; by default the only one whose name holds `title`."""
    text_columns: tuple[str, ...] | None = None
    """`token_seq` columns that are text, not lists; by default those named like title, description, text, review."""
    encoding: str = "utf-8"
    """Encoding of the files."""

    def read(self) -> RawTables:
        """Read the files.

        Raises:
            DatasetError: a file or a column is missing, or a file is damaged or has no good row.
        """
        files = self._files()
        events = self._read_events(files["inter"])
        items = self._read_features(files["item"], "item") if "item" in files else None
        users = self._read_features(files["user"], "user") if "user" in files else None
        rejects = [table.rejects for table in (events, items, users) if table is not None]
        return RawTables(
            events=events.frame,
            items=None if items is None else items.frame,
            users=None if users is None else users.frame,
            rejects=pl.concat(rejects),
            labels=tuple(name for name in events.frame.columns if name not in ("user_id", "item_id", "timestamp")),
            source={
                "name": files["inter"].name.removesuffix(".gz").removesuffix(".inter"),
                "source": "atomic",
                "licence": "not stated in the files; see where they came from",
                "files": [file.identity() for file in files.values()],
            },
        )

    def describe(self) -> str:
        """One line that says what is read."""
        return f"RecBole atomic files {self.name or ''}".rstrip() + f" in {self.path}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The configuration, save where the files lie, and the content of the files."""
        return {
            "source": "atomic",
            "config": self.model_dump(mode="json", exclude={"path", "name"}),
            "files": [file.identity() for file in self._files().values()],
        }

    def _files(self) -> dict[str, SourceFile]:
        """The files that are there, by kind; `inter` always is."""
        folder = SourceFolder(Path(self.path).expanduser())
        if not folder.path.exists():
            raise DatasetError(f"{self.path}: there is no such folder; correct `path`")
        name = self.name or only_atomic_name(folder)
        found = {kind: folder.find(f"{name}.{kind}") for kind in ("inter", "item", "user")}
        if found["inter"] is None:
            raise DatasetError(f"{self.path}: there is no file {name}.inter; it holds: {_listed(folder.names())}")
        return {kind: file for kind, file in found.items() if file is not None}

    def _read_events(self, file: SourceFile) -> Table:
        types = self._header(file)
        labels = self.labels
        if labels is None:
            used = (self.user, self.item, self.timestamp)
            labels = tuple(name for name, kind in types.items() if kind == "float" and name not in used)
        wanted = [
            Column(require_column(file.name, list(types), self.user, "user"), "id", "user_id"),
            Column(require_column(file.name, list(types), self.item, "item"), "id", "item_id"),
        ]
        if self.timestamp is not None:
            hint = "set `timestamp: null` if the log has no times"
            known = require_column(file.name, list(types), self.timestamp, "timestamp", hint)
            wanted.append(Column(known, "timestamp", "timestamp", required=True, unit=self.timestamp_unit))
        for label in labels:
            wanted.append(Column(label, KINDS[types[require_column(file.name, list(types), label, "labels")]]))
        table = read_delimited(file, self._form, list(types), wanted)
        if self.timestamp is None:
            timestamp = pl.lit(None, dtype=pl.Int64).alias("timestamp")
            others = table.frame.columns[2:]
            table = Table(table.frame.select("user_id", "item_id", timestamp, *others), table.rejects)
        return table

    def _read_features(self, file: SourceFile, side: Literal["item", "user"]) -> Table:
        """`.item` or `.user`: the id and every feature column, typed as the header says."""
        types = self._header(file)
        key = require_column(file.name, list(types), self.item if side == "item" else self.user, side)
        wanted = [Column(key, "id", f"{side}_id")]
        title = self._title(file, types) if side == "item" else None
        for name, kind in types.items():
            if name == key:
                continue
            text = name == title or (kind == "token_seq" and self._is_text(name))
            wanted.append(Column(name, "text" if text else KINDS[kind], "title" if name == title else name))
        return read_delimited(file, self._form, list(types), wanted, unique=f"{side}_id")

    @property
    def _form(self) -> Delimited:
        return Delimited("\t", self.encoding, header=True)

    def _header(self, file: SourceFile) -> dict[str, str]:
        """{column: type} of a typed header."""
        types = {}
        for field in header_of(file, self._form):
            name, colon, kind = field.rpartition(":")
            if not colon or kind not in KINDS:
                raise DatasetError(
                    f"{file.name}, line 1: {field!r} is no typed column such as user_id:token "
                    f"(types: {', '.join(KINDS)}); for plain tables use the source `table`"
                )
            types[name] = kind
        return types

    def _title(self, file: SourceFile, types: dict[str, str]) -> str | None:
        if self.title is not None:
            if self.title != "title" and "title" in types:
                raise DatasetError(f"{file.name}: `title: {self.title}`, but the file has a column 'title' already")
            return require_column(file.name, list(types), self.title, "title")
        named = [name for name in types if "title" in name.lower()]
        return named[0] if len(named) == 1 else None

    def _is_text(self, name: str) -> bool:
        if self.text_columns is not None:
            return name in self.text_columns
        return any(word in name.lower() for word in TEXT_WORDS)


def only_atomic_name(folder: SourceFolder) -> str:
    """NAME of the one `NAME.inter` in a folder.

    Raises:
        DatasetError: there is none, or several.
    """
    names = folder.names()
    found = [
        name.removesuffix(".gz").removesuffix(".inter") for name in names if name.removesuffix(".gz").endswith(".inter")
    ]
    if len(set(found)) == 1:
        return found[0]
    if not found:
        raise DatasetError(f"{folder.path}: there is no .inter file; it holds: {_listed(names)}")
    raise DatasetError(f"{folder.path}: there are several .inter files; set `name` to one of: {', '.join(found)}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:10]) or "no files"
    return f"{shown}, ..." if len(names) > 10 else shown
