"""Where a source's bytes lie: files of a folder or members of a zip archive, gzip opened on the way."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from moerec.errors import DatasetError

GZIP_MAGIC = b"\x1f\x8b"
HASHED_BYTES = 1 << 30
"""Files up to this size are known by their sha256, larger ones by size and time of change."""


@dataclass(frozen=True)
class SourceFile:
    """One file to read: on disk, or inside a zip archive."""

    path: Path
    """The file, or the archive."""
    member: str | None = None
    """Name inside the archive."""

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def size(self) -> int:
        """Bytes as they lie there."""
        if self.member is None:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.member).file_size

    @contextmanager
    def open_stored(self) -> Iterator[IO[bytes]]:
        """Open the bytes as they lie there (of a gzip file, the compressed ones)."""
        with named_errors(self):
            if self.member is None:
                with self.path.open("rb") as stream:
                    yield stream
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the content; a gzip file is known by its first bytes, not by its name."""
        with self.open_stored() as stored, unpacked(stored) as content:
            yield content

    def identity(self) -> dict[str, Any]:
        """What tells this content from any other: name, bytes, and sha256 (or time of change when huge)."""
        size = self.size
        if size > HASHED_BYTES:
            return {"name": self.name, "bytes": size, "changed_ns": self.path.stat().st_mtime_ns}
        with self.open_stored() as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        return {"name": self.name, "bytes": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class SourceFolder:
    """A folder, or a zip archive taken as one (wherever in it the files lie)."""

    path: Path

    @property
    def is_archive(self) -> bool:
        """Whether it is one file, to be opened as a zip archive."""
        return self.path.is_file()

    def names(self) -> list[str]:
        """The names of all files, without folders."""
        return sorted({PurePosixPath(name).name for name in self._members()})

    def find(self, name: str) -> SourceFile | None:
        """The file of that name, or its `.gz`; in an archive the one nearest to the root."""
        for wanted in (name, f"{name}.gz"):
            if not self.is_archive:
                if (self.path / wanted).is_file():
                    return SourceFile(self.path / wanted)
                continue
            found = [member for member in self._members() if PurePosixPath(member).name == wanted]
            if found:
                return SourceFile(self.path, min(found, key=lambda member: (member.count("/"), member)))
        return None

    def _members(self) -> list[str]:
        if not self.is_archive:
            return [entry.name for entry in self.path.iterdir() if entry.is_file()] if self.path.is_dir() else []
        with named_errors(SourceFile(self.path)), zipfile.ZipFile(self.path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]


@contextmanager
def unpacked(stored: IO[bytes]) -> Iterator[IO[bytes]]:
    """The content of a file that is open; a gzip file is known by its first bytes."""
    magic = stored.read(2)
    stored.seek(0)
    if magic != GZIP_MAGIC:
        yield stored
        return
    with gzip.open(stored, "rb") as content:
        yield cast(IO[bytes], content)


@contextmanager
def named_errors(file: SourceFile) -> Iterator[None]:
    """Turn what can go wrong with bytes on disk into one line that names the file.

    Raises:
        DatasetError: missing, not readable, or a damaged archive.
    """
    where = f"{file.path}: {file.member}" if file.member else str(file.path)
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{where}: there is no such file") from None
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"{where}: the compressed file is damaged or cut off ({error}); get it again") from None
    except OSError as error:
        raise DatasetError(f"{where}: cannot be read ({error.strerror or error})") from None
