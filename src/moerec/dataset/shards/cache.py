"""A folder of copies of files from elsewhere that never holds more than so many bytes, shared by any processes.

A copy is known by its checksum. What was not used for the longest time goes first. A process that wants a file claims
it, so others wait instead of fetching it again; room is made before the first byte comes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from moerec.dataset.shards.index import StoredFile
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError

CLAIMS = 64
"""Files that can be fetched at once; a claim is the lock of one of so many small files."""
POLL = 0.02
PART = ".part"
MARKS_BYTES = 1024
"""Room beside a part for the marks by which a server knows its content."""


@dataclass(frozen=True)
class FileCache:
    """Copies in a folder; plain data, so that any process can use the same folder."""

    folder: Path
    max_bytes: int
    """Bytes that all copies together may take."""

    def get(self, storage: Storage, file: StoredFile) -> Path:
        """A whole copy of a file on this machine. It may go again once other files need its room.

        Raises:
            DatasetError: it is not to be had, damaged, or larger than the cache.
        """
        path = self.folder / f"{file.sha256}{Path(file.name).suffix}"
        if _touch(path):
            return path
        if file.size + MARKS_BYTES > self.max_bytes:
            raise DatasetError(
                f"{storage.address(file.name)}: {file.size:,} bytes do not fit into a cache of {self.max_bytes:,}; "
                "make the cache larger"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._claim(file)) as claim:
            claim.truncate(0)  # what a process that was killed has left there
            if _touch(path):
                return path  # another process has fetched it while this one waited
            self._make_room(claim, file)
            try:
                return storage.fetch(file.name, path, file.size, file.sha256)
            finally:
                claim.truncate(0)

    def holds(self, file: StoredFile) -> bool:
        """Whether a copy is there now."""
        return (self.folder / f"{file.sha256}{Path(file.name).suffix}").is_file()

    def used(self) -> int:
        """Bytes of all copies, whole and partial."""
        # A part may become whole while its folder is listed, so that both names are met.
        sizes: dict[str, int] = {}
        for _, path, size in self._files():
            name = path.name.removesuffix(PART)
            sizes[name] = max(size, sizes.get(name, 0))
        return sum(sizes.values())

    def _claim(self, file: StoredFile) -> Path:
        return self.folder / f"claim-{int(file.sha256[:8], 16) % CLAIMS:02d}"

    def _make_room(self, claim: IO[bytes], file: StoredFile) -> None:
        """Remove old copies until the file fits, and write down that its bytes are promised."""
        mine = f"{file.sha256}{Path(file.name).suffix}{PART}"
        needed = file.size + MARKS_BYTES
        while True:
            with _locked(self.folder / "lock"):
                promised = self._promised()
                # A part that is being filled, or will be, counts by what is promised for it.
                counted = tuple(name for part in (mine, *promised) for name in (part, f"{part}.json"))
                files = sorted(entry for entry in self._files() if entry[1].name not in counted)
                free = self.max_bytes - sum(promised.values()) - sum(size for _, _, size in files)
                while free < needed and files:
                    _, oldest, size = files.pop(0)
                    if _removed(oldest):
                        free += size
                if free >= needed:
                    claim.truncate(0)
                    claim.write(f"{needed} {mine}".encode("ascii"))
                    claim.flush()
                    return
            time.sleep(POLL)  # all of it is promised to others; their files can go once they are there

    def _promised(self) -> dict[str, int]:
        """The parts that living processes fill, and the bytes that they will have."""
        promised = {}
        for path in self.folder.glob("claim-*"):
            said = path.read_bytes().split()
            if len(said) == 2 and _is_locked(path):
                promised[said[1].decode("ascii")] = int(said[0])
        return promised

    def _files(self) -> list[tuple[int, Path, int]]:
        """(time of last use, path, bytes) of every copy."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name != "lock" and not path.name.startswith("claim-"):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue  # a part that has just become whole, or a copy that has just gone
                found.append((state.st_mtime_ns, path, state.st_size))
        return found


def _touch(path: Path) -> bool:
    """Note that a copy is used; whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _removed(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False  # open in a process, on a system that keeps such files
    return True


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Hold the lock of a file, which is made if need be; processes take turns (on systems with `flock`)."""
    with path.open("ab") as stream:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _is_locked(path: Path) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
