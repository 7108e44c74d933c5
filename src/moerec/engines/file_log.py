"""A folder of JSON-lines files that grow, as an event log: a file is a partition, an offset is a place in bytes.

A poll looks at the size of each file and reads what is new. A last line without its end is left for the next poll.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from moerec.dataset.sources.columns import LONGEST_RAW_ROW
from moerec.dataset.sources.json_lines import LONGEST_LINE, TOO_LONG
from moerec.dataset.sources.source_files import GZIP_MAGIC
from moerec.engines.event_log import Polled, Position, Positions, Record
from moerec.errors import DatasetError

BLOCK_BYTES = 1 << 18
MARK_BYTES = 256
"""How many bytes before a position are remembered by their checksum: a review, with user and time, is about as long."""
ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
"""The compressed ones are refused, and not passed over in silence."""
CHECK_SECONDS = 0.2
"""How often a waiting poll looks again."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileLog:
    """The files `*.jsonl` and `*.json` of a folder and of the folders below it, in the order of their names."""

    def __init__(self, folder: Path, positions: Positions) -> None:
        """Look into a folder; files may come and grow later.

        Args:
            folder: holds the files.
            positions: where each is to be read from.

        Raises:
            DatasetError: there is no such folder.
        """
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: there is no such folder; give the folder that the log's files are written to"
            )
        self._folder = folder
        self._positions = positions
        self._known: dict[str, Position | None] = {}
        self._unread: set[str] = set()
        self._at_end = False

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def poll(self, maximum: int, wait: float) -> Polled:
        """The next whole lines, of the first file by name that has some, then of those after it.

        Raises:
            DatasetError: a file was cut, replaced, taken away or compressed.
        """
        deadline = time.monotonic() + wait
        while not (polled := self._read(maximum)).after:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, CHECK_SECONDS))
        self._at_end = not polled.after
        return polled

    def at_end(self) -> bool:
        """Whether no file had another whole line."""
        return self._at_end

    def rewind(self) -> None:
        """Forget where files were read to; the positions that are kept count again."""
        self._known.clear()
        self._at_end = False

    def kept(self, after: Mapping[str, Position]) -> None:
        """Nobody watches a folder."""

    def close(self) -> None:
        """No file stays open between polls."""

    def _read(self, maximum: int) -> Polled:
        records: list[Record] = []
        before: dict[str, Position | None] = {}
        after: dict[str, Position] = {}
        for partition, path in self._files():
            if len(records) >= maximum:
                break
            position = self._known[partition]
            found, reached, size = _lines(path, partition, position, maximum - len(records))
            at = (reached or position or Position(0)).offset
            (self._unread.add if at < size else self._unread.discard)(partition)
            if reached is not None:
                records += found
                before[partition], after[partition] = position, reached
                self._known[partition] = reached
        return Polled(records, before, after)

    def _files(self) -> list[tuple[str, Path]]:
        found = (path for path in self._folder.rglob("*.json*") if path.name.endswith(ENDINGS) and path.is_file())
        files = {path.relative_to(self._folder).as_posix(): path for path in found if not path.name.startswith(".")}
        for partition in files:
            if partition not in self._known:
                self._known[partition] = self._positions(partition)
        for partition in self._unread:
            if partition not in files:
                raise DatasetError(f"{self._folder / partition}: the file went away before it was read; {_MEND}")
        return sorted(files.items())


_MEND = "the files of a log only grow: bring back the old content, and write new events into a file of another name"


def _lines(
    path: Path, partition: str, start: Position | None, maximum: int
) -> tuple[list[Record], Position | None, int]:
    """Whole lines from a position on, the position after them (None if there is no new one), and the file's size."""
    offset = 0 if start is None else start.offset
    size = path.stat().st_size
    if size < offset:
        raise DatasetError(f"{path}: the file was cut from {offset:,} bytes that were read to {size:,}; {_MEND}")
    if size == offset:
        return [], None, size
    with path.open("rb") as stream:
        if start is not None and start.mark != _mark(stream, offset):
            raise DatasetError(f"{path}: before byte {offset:,} stands something else than what was read; {_MEND}")
        if offset == 0 and stream.read(2) == GZIP_MAGIC:
            raise DatasetError(f"{path}: the file is compressed, so it cannot grow line by line; unpack it")
        records, reached = _whole_lines(stream, partition, offset, maximum)
        return records, None if reached == offset else Position(reached, _mark(stream, reached)), size


def _whole_lines(stream: IO[bytes], partition: str, offset: int, maximum: int) -> tuple[list[Record], int]:
    stream.seek(offset)
    records: list[Record] = []
    rest, cut = b"", 0  # of a line that is longer than the longest, `cut` bytes are counted and not held
    while len(records) < maximum and (data := stream.read(BLOCK_BYTES)):
        *whole, rest = (rest + data).split(b"\n")
        for content in whole:
            line = content.removesuffix(b"\r")
            if cut or len(content) > LONGEST_LINE:
                records.append(Record(partition, offset, line[: 4 * LONGEST_RAW_ROW], TOO_LONG))
            elif plain := (line.removeprefix(BYTE_ORDER_MARK) if offset == 0 else line).strip():
                records.append(Record(partition, offset, plain))
            offset, cut = offset + cut + len(content) + 1, 0
            if len(records) == maximum:
                break
        else:
            if len(rest) > LONGEST_LINE:
                kept = rest[: 4 * LONGEST_RAW_ROW]
                cut, rest = cut + len(rest) - len(kept), kept
    return records, offset


def _mark(stream: IO[bytes], offset: int) -> str:
    """A checksum of what stands right before a position."""
    first = max(0, offset - MARK_BYTES)
    stream.seek(first)
    return hashlib.blake2b(stream.read(offset - first), digest_size=8).hexdigest()
