"""FetchCache: what became of each web address, and each content once, in a folder that survives `kill -9`.

    outcomes.sqlite         a row for each address: the content it gave, or the reason why it gave none
    content/<ab>/<sha256>   the bytes

A content is whole when it has its name, and a row is written after its content. So a run that is killed loses only
what it was at.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from moerec.errors import DatasetError

TABLE = "outcomes.sqlite"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE outcomes (
    url TEXT PRIMARY KEY, sha256 TEXT, bytes INTEGER, reason TEXT, final INTEGER NOT NULL, attempts INTEGER NOT NULL,
    run INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one address."""

    sha256: str | None = None
    """Name of the content, if it came."""
    size: int | None = None
    """Its bytes."""
    reason: str | None = None
    """Why it did not come; short and without the address, so that reasons can be counted."""
    final: bool = False
    """A later run will not ask again of its own accord."""
    attempts: int = 0
    """How often it was asked for in the run that settled it."""
    run: int = 0
    """The last run that was given this address."""


class FetchCache:
    """The table and the contents below one folder; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        """Open or make it.

        Raises:
            DatasetError: the table is damaged, or of another version.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._table = sqlite3.connect(
            folder / TABLE, timeout=60, isolation_level=None, check_same_thread=False, cached_statements=8
        )
        try:
            # A row survives the end of the process at once, and of the machine within seconds.
            self._table.execute("PRAGMA journal_mode=WAL")
            self._table.execute("PRAGMA synchronous=NORMAL")
            self._make()
        except sqlite3.DatabaseError as error:
            self._table.close()
            raise DatasetError(
                f"{folder / TABLE}: damaged table of fetched addresses ({error}); delete it, and all is fetched again"
            ) from None

    def __enter__(self) -> FetchCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def begin_run(self) -> int:
        """The number of a new run."""
        return int(self._table.execute("INSERT INTO runs DEFAULT VALUES").lastrowid or 0)

    def get(self, url: str) -> Outcome | None:
        """What is known of an address."""
        row = self._table.execute(
            "SELECT sha256, bytes, reason, final, attempts, run FROM outcomes WHERE url = ?", (url,)
        ).fetchone()
        return None if row is None else Outcome(row[0], row[1], row[2], bool(row[3]), row[4], row[5])

    def put(self, url: str, outcome: Outcome) -> None:
        """Remember what became of an address."""
        self._table.execute(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (url, outcome.sha256, outcome.size, outcome.reason, outcome.final, outcome.attempts, outcome.run),
        )

    def __iter__(self) -> Iterator[tuple[str, Outcome]]:
        """All addresses."""
        rows = self._table.execute("SELECT url, sha256, bytes, reason, final, attempts, run FROM outcomes ORDER BY url")
        for url, sha256, size, reason, final, attempts, run in rows:
            yield url, Outcome(sha256, size, reason, bool(final), attempts, run)

    def path(self, sha256: str) -> Path:
        """Where a content lies."""
        return self.folder / "content" / sha256[:2] / sha256

    def holds(self, outcome: Outcome) -> bool:
        """Whether the content of an outcome is there; one that a power cut emptied is not."""
        if outcome.sha256 is None:
            return False
        try:
            return self.path(outcome.sha256).stat().st_size == outcome.size
        except FileNotFoundError:
            return False

    def keep(self, content: bytes) -> str:
        """Write a content, unless it is there; from any thread.

        Returns:
            its SHA-256.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.holds(Outcome(sha256, len(content))):
            write_whole(self.path(sha256), content)
        return sha256

    def _make(self) -> None:
        self._table.execute("BEGIN IMMEDIATE")  # two processes may come at the same time
        (found,) = self._table.execute("PRAGMA user_version").fetchone()
        if found == 0:
            for statement in _SCHEMA.split(";")[:-1]:
                self._table.execute(statement)
            self._table.execute(f"PRAGMA user_version={_FORMAT}")
        elif found != _FORMAT:
            raise sqlite3.DatabaseError(f"format {found} instead of {_FORMAT}")
        self._table.execute("COMMIT")


def write_whole(target: Path, content: bytes) -> None:
    """Write a file of a cache, whole or not at all.

    Unlike `atomic_file` it does not wait for the disk: there are hundreds in a second, and each can be made again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
