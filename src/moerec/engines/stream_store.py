"""What a stream keeps: the state of each user, what each met, and how far the log was read, in one SQLite file.

All that comes of a micro-batch is one transaction, so after a crash either all of it is there or nothing. SQLite does
it with one file, no server and one flush to disk for each transaction (write-ahead log, synchronous FULL), and finds a
user in a B-tree: a micro-batch reads and writes the pages of its own users, whatever the length of the log.

Several processes may share a store. A transaction holds the write lock from its first read, and is refused if the
positions that its records began at are no longer the ones that are kept: then somebody else has taken these records.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moerec.engines.event_log import Position
from moerec.errors import ConfigError, DatasetError

STORE_FILE = "stream.sqlite"
FORMAT_VERSION = 1
SYNCHRONOUS = "FULL"
"""Each transaction is on the disk when it is committed."""
LOCK_SECONDS = 60.0
"""How long a transaction waits for one of another process."""

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (partition TEXT PRIMARY KEY, offset INTEGER NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE users (user_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE reviews (user_id TEXT, item_id TEXT, timestamp INTEGER, PRIMARY KEY (user_id, item_id, timestamp))
  WITHOUT ROWID;
CREATE TABLE items (item_id TEXT PRIMARY KEY, row TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counts (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


class PositionsMovedError(Exception):
    """The records of a transaction were taken by somebody else since they were polled."""


class StreamStore:
    """A store on disk; one connection, for one thread."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        begin: Callable[[StreamTransaction], None] = lambda transaction: None,
    ) -> None:
        """Open or make the store of a folder.

        Args:
            folder: it lies there as `stream.sqlite`.
            settings: what decides the rows that come out; plain data. A store of other settings is refused.
            begin: fills a store that is made now, within the transaction that makes it.

        Raises:
            ConfigError: the store was made with other settings.
            DatasetError: the file is no store, or of another version.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / STORE_FILE
        self.rows_read = 0
        """Rows that were fetched, for whoever measures the work."""
        self._settings = json.loads(json.dumps(settings))
        self.connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            with self._told():
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
            with self._locked():
                self._make_or_check(begin)
        except BaseException:
            self.connection.close()
            raise

    def _make_or_check(self, begin: Callable[[StreamTransaction], None]) -> None:
        if not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES.split(";\n"):
                self.connection.execute(statement)
            about = {"format_version": FORMAT_VERSION, "settings": self._settings, "batch": 0}
            rows = [(name, json.dumps(value)) for name, value in about.items()]
            self.connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
            begin(StreamTransaction(self))
        # Stores of before have no name yet.
        name = json.dumps(secrets.token_hex(8))
        self.connection.execute("INSERT OR IGNORE INTO about VALUES ('name', ?)", (name,))
        version = self._about("format_version")
        if version != FORMAT_VERSION:
            raise DatasetError(f"{self.path}: format {version}, this version reads {FORMAT_VERSION}; use that version")
        kept = self._about("settings")
        if kept != self._settings:
            names = sorted(name for name in {*kept, *self._settings} if kept.get(name) != self._settings.get(name))
            raise ConfigError(
                f"{self.path}: it was made with other settings ({', '.join(names)}); go on with those, or start anew "
                "in another state folder and another output folder"
            )

    def name(self) -> str:
        """What tells this store from every other one, wherever it lies."""
        return str(self._about("name"))

    def position(self, partition: str) -> Position | None:
        """Where a partition is to be read on."""
        row = self._row("SELECT offset, mark FROM positions WHERE partition = ?", partition)
        return None if row is None else Position(*row)

    def positions(self) -> dict[str, Position]:
        """Where each partition is to be read on."""
        rows = self.connection.execute("SELECT partition, offset, mark FROM positions")
        return {partition: Position(offset, mark) for partition, offset, mark in rows}

    def batch(self) -> int:
        """Number of the last micro-batch that came to something; 0 before the first."""
        return int(self._about("batch"))

    def counts(self) -> dict[str, int]:
        """What was counted over all micro-batches."""
        return dict(self.connection.execute("SELECT name, count FROM counts"))

    @contextmanager
    def transaction(self, before: Mapping[str, Position | None] | None = None) -> Iterator[StreamTransaction]:
        """All or nothing: what the block does is kept when it ends without an error.

        Args:
            before: positions where the records began.

        Raises:
            PositionsMovedError: other positions are kept by now.
        """
        with self._locked():
            for partition, position in (before or {}).items():
                if self.position(partition) != position:
                    raise PositionsMovedError(partition)
            yield StreamTransaction(self)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the write lock, then commit or roll back."""
        with self._told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.commit()
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite cannot do, as an error of one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DatasetError(f"{self.path}: {error}; free the disk or stop who holds it, then start again") from None
        except sqlite3.DatabaseError as error:
            raise DatasetError(f"{self.path}: {error}; choose another state folder, or bring back this file") from None

    def commit(self) -> None:
        """Make the open transaction durable."""
        self.connection.execute("COMMIT")

    def _row(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self.connection.execute(statement, values).fetchone()
        self.rows_read += row is not None
        return row

    def _about(self, name: str) -> Any:
        row = self._row("SELECT value FROM about WHERE name = ?", name)
        return None if row is None else json.loads(row[0])


class StreamTransaction:
    """What may be read and written within a transaction; each call touches the rows that it names."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._connection = store.connection

    def states(self, users: Iterable[str]) -> dict[str, Any]:
        """The states of the users that have one."""
        found = ((user, self._store._row("SELECT state FROM users WHERE user_id = ?", user)) for user in users)
        return {user: json.loads(row[0]) for user, row in found if row is not None}

    def put_states(self, states: Mapping[str, Any]) -> None:
        """Keep the states of users."""
        rows = ((user, json.dumps(state, separators=(",", ":"))) for user, state in states.items())
        self._connection.executemany("INSERT OR REPLACE INTO users VALUES (?, ?)", rows)

    def has_review(self, user: str, item: str, timestamp: int) -> bool:
        """Whether this very review has arrived."""
        found = "SELECT 1 FROM reviews WHERE user_id = ? AND item_id = ? AND timestamp = ?"
        return self._store._row(found, user, item, timestamp) is not None

    def has_met(self, user: str, item: str, before: int) -> bool:
        """Whether a review of the item by the user, of a time before, has arrived."""
        found = "SELECT 1 FROM reviews WHERE user_id = ? AND item_id = ? AND timestamp < ?"
        return self._store._row(found, user, item, before) is not None

    def met(self, user: str, before: int) -> set[str]:
        """All items that the user met before a time; as much work as the user has reviews."""
        found = "SELECT DISTINCT item_id FROM reviews WHERE user_id = ? AND timestamp < ?"
        rows = self._connection.execute(found, (user, before)).fetchall()
        self._store.rows_read += len(rows)
        return {item for (item,) in rows}

    def add_review(self, user: str, item: str, timestamp: int) -> bool:
        """Note that a review has arrived; False if the same one did before."""
        done = self._connection.execute("INSERT OR IGNORE INTO reviews VALUES (?, ?, ?)", (user, item, timestamp))
        return done.rowcount == 1

    def items(self, items: Iterable[str]) -> dict[str, Any]:
        """What is known of the items that are known."""
        found = ((item, self._store._row("SELECT row FROM items WHERE item_id = ?", item)) for item in items)
        return {item: json.loads(row[0]) for item, row in found if row is not None}

    def put_items(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep what is known of items; plain data."""
        rows = ((item, json.dumps(row, separators=(",", ":"))) for item, row in items)
        self._connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", rows)

    def put_positions(self, positions: Mapping[str, Position]) -> None:
        """Keep where partitions are to be read on."""
        rows = ((partition, position.offset, position.mark) for partition, position in positions.items())
        self._connection.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", rows)

    def put_batch(self, number: int, counts: Mapping[str, int]) -> None:
        """Keep the number of a micro-batch and add its counts."""
        self._connection.execute("UPDATE about SET value = ? WHERE name = 'batch'", (json.dumps(number),))
        self._connection.executemany(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count",
            list(counts.items()),
        )
