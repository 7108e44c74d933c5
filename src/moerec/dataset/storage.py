"""A folder of files, on this machine or at any address that fsspec knows; http(s) goes by our own downloads.

What is written is whole or absent: on a disk by a rename, on an object store because it shows an object only once the
upload has ended.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from moerec.dataset.download import download
from moerec.dataset.parallel import Watch
from moerec.errors import DatasetError, MoerecError
from moerec.files import atomic_file, sha256_of_file

BLOCK_BYTES = 1 << 23
ATTEMPTS = 5
BACKOFF = 0.2
"""Seconds before the second attempt at a block; doubled for each further one."""
LOCAL_PROTOCOLS = ("file://", "local://")


@dataclass(frozen=True)
class Storage:
    """A folder; plain data, so that any process can open it for itself."""

    url: str
    """Path, or an address such as `s3://bucket/folder`, `memory://folder` or `https://host/folder`."""

    @property
    def local(self) -> Path | None:
        """The folder on this machine, if it is one."""
        for protocol in LOCAL_PROTOCOLS:
            if self.url.startswith(protocol):
                return Path(self.url.removeprefix(protocol))
        return None if "://" in self.url else Path(self.url).expanduser()

    @property
    def is_http(self) -> bool:
        """Whether a web server has it: no listing and no writing then."""
        return self.url.startswith(("http://", "https://"))

    def address(self, name: str) -> str:
        """A file of the folder as a message names it."""
        return f"{self.url.rstrip('/')}/{name}"

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None if it is not there.

        Raises:
            DatasetError: the storage does not answer.
        """
        if self.local is not None:
            path = self.local / name
            return path.stat().st_size if path.is_file() else None
        with self._named(name):
            try:
                return int(self._fs().size(self._path(name)))
            except FileNotFoundError:
                return None

    def mark(self, name: str) -> str:
        """What changes when a file elsewhere does: its tag, or its size and time of change; no content is read.

        Raises:
            DatasetError: missing, or the storage does not answer.
        """
        with self._named(name):
            return str(self._fs().ukey(self._path(name)))

    def read(self, name: str) -> bytes:
        """A small file as a whole.

        Raises:
            DatasetError: missing, or not to be read.
        """
        with self._named(name):
            if self.local is not None:
                return (self.local / name).read_bytes()
            if self.is_http:
                with tempfile.TemporaryDirectory(prefix="moerec-") as folder:
                    return self.fetch(name, Path(folder) / "file").read_bytes()
            return bytes(self._fs().cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, all or nothing."""
        with self._named(name):
            if self.local is not None:
                with atomic_file(self.local / name) as temporary:
                    temporary.write_bytes(content)
                return
            self._writable().pipe_file(self._path(name), content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a path on this machine; what lies there when the block ends well becomes the file `name`.

        Errors of the block come out as they are.
        """
        if self.local is not None:
            with atomic_file(self.local / name) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="moerec-") as folder:
            temporary = Path(folder) / name.rpartition("/")[2]
            yield temporary
            with self._named(name):
                self._writable().put_file(str(temporary), self._path(name))

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        with self._named(name):
            if self.local is not None:
                (self.local / name).unlink(missing_ok=True)
            elif self.size(name) is not None:
                self._writable().rm_file(self._path(name))

    def names(self) -> list[str]:
        """The names of all files directly in the folder, in alphabetical order.

        Raises:
            DatasetError: a web server, which lists nothing.
        """
        if self.is_http:
            raise DatasetError(f"{self.url}: a web server does not list its files; name them")
        with self._named(""):
            if self.local is not None:
                return sorted(entry.name for entry in self.local.iterdir()) if self.local.is_dir() else []
            fs = self._fs()
            if not fs.exists(self._path("")):
                return []
            entries = fs.ls(self._path(""), detail=True)
            return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def fetch(
        self,
        name: str,
        target: Path,
        size: int | None = None,
        sha256: str | None = None,
        watch: Watch | None = None,
    ) -> Path:
        """Copy a file to this machine; a transfer that breaks goes on where it stopped, and the name comes last.

        Args:
            name: the file.
            target: the copy.
            size: expected bytes.
            sha256: expected checksum.
            watch: is told of every block, and may end the transfer; by default there is a bar.

        Raises:
            DatasetError: missing, cut off at every attempt, or not of the given size and checksum.
        """
        if self.is_http:
            advance, stop = (None, None) if watch is None else (watch.advance, watch.stop)
            return download(self.address(name), target, sha256, size, use_mirror=False, advance=advance, stop=stop)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with self._named(name):
            if self.local is not None:
                shutil.copyfile(self.local / name, part)
            else:
                self._copy_blocks(name, part, watch)
        found = part.stat().st_size
        if size is not None and found != size:
            part.unlink()
            raise DatasetError(f"{self.address(name)}: it has {found:,} bytes, expected {size:,}; write it again")
        if sha256 is not None and sha256_of_file(part) != sha256:
            part.unlink()
            raise DatasetError(f"{self.address(name)}: its content is not what was written; write it again")
        os.replace(part, target)
        return target

    def _copy_blocks(self, name: str, part: Path, watch: Watch | None) -> None:
        fs, path = self._fs(), self._path(name)
        total = int(fs.size(path))
        with part.open("wb") as stream:
            while (start := stream.tell()) < total:
                if watch is not None and watch.stop.is_set():
                    raise DatasetError(f"{self.address(name)}: the transfer was stopped; run again")
                stream.write(_block(fs, path, start, min(start + BLOCK_BYTES, total)))
                if watch is not None:
                    watch.advance(stream.tell() - start)

    def _fs(self) -> Any:
        return url_to_fs(self.url)[0]

    def _writable(self) -> Any:
        if self.is_http:
            raise DatasetError(f"{self.url}: nothing can be written to a web server; name another place")
        fs = self._fs()
        fs.makedirs(self._path(""), exist_ok=True)
        return fs

    def _path(self, name: str) -> str:
        root = str(url_to_fs(self.url)[1]).rstrip("/")
        return f"{root}/{name}" if name else root

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Turn what goes wrong into one line that names the file."""
        try:
            yield
        except FileNotFoundError:
            raise DatasetError(f"{self.address(name)}: there is no such file") from None
        except ImportError as error:
            library = error.name or str(error)
            raise DatasetError(f"{self.url}: this kind of address needs a library; pip install it: {library}") from None
        except MoerecError:
            raise
        except Exception as error:
            # Each store has a library with errors of its own; on a disk there are only those of the system.
            if self.local is not None and not isinstance(error, OSError):
                raise
            said = " ".join(str(error).split()) or type(error).__name__
            raise DatasetError(f"{self.address(name)}: cannot be read or written ({said})") from None


def is_address(path: str) -> bool:
    """Whether a path is an address of another place and no path on this machine."""
    return Storage(path).local is None


def _block(fs: Any, path: str, start: int, stop: int) -> bytes:
    """A range of a file; a connection that breaks is tried again."""
    for attempt in range(ATTEMPTS):
        try:
            content = bytes(fs.cat_file(path, start=start, end=stop))
            if len(content) == stop - start:
                return content
            problem = f"{len(content):,} bytes came instead of {stop - start:,}"
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - each file system raises what its library raises
            problem = " ".join(str(error).split()) or type(error).__name__
        time.sleep(BACKOFF * 2**attempt if attempt + 1 < ATTEMPTS else 0)
    raise OSError(f"{problem}, tried {ATTEMPTS} times")
