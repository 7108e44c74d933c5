"""A tar archive whose bytes depend on nothing but its members: no times, no owners, one order."""

from __future__ import annotations

import hashlib
import tarfile
from typing import IO

BLOCK = tarfile.BLOCKSIZE
MODE = 0o644


class ArchiveWriter:
    """Appends members, counts bytes and takes the checksum on the way."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.bytes = 0

    def add(self, name: str, content: bytes) -> int:
        """Write a member; return where its content begins."""
        header = tarfile.TarInfo(name)
        header.size, header.mode = len(content), MODE  # time, user and group of a new header are 0
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.bytes
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return offset

    def close(self) -> str:
        """Write the end mark; return the SHA-256 of the whole archive."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.bytes % tarfile.RECORDSIZE))
        return self._digest.hexdigest()

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._digest.update(content)
        self.bytes += len(content)
