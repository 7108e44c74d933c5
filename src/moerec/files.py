"""Files that are whole or absent: write beside the target, then rename; and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a path beside `target`; it takes the target's place only if the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.tmp-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a data set is to be read by whoever may read its folder.
        temporary.chmod(0o666 & ~_umask())
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target`; it takes the target's place only if the block ends without an error.

    An existing target is replaced as a whole, so look first what is there where a user named the place. No file in
    it is more private than the umask says.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        yield temporary
        # mkdtemp makes a private folder, and some writers private files, such as that of safetensors.
        allowed = ~_umask()
        for path in (temporary, *temporary.rglob("*")):
            if path.is_symlink():
                continue
            path.chmod((0o777 if path.is_dir() else 0o666) & allowed)
            if path.is_file():
                _flush_to_disk(path)
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
            os.replace(target, retired)
            os.replace(temporary, target)
            shutil.rmtree(retired)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(target: Path, value: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    with atomic_file(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """A short, stable name for plain data: the first 16 hexadecimal digits of its canonical JSON's SHA-256."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
