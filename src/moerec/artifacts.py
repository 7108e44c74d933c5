"""Derived data in `artifacts/<stage>/<fingerprint>/`, each with a manifest, made once and found again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moerec import __version__
from moerec.files import atomic_directory, fingerprint, sha256_of_file, write_json

MANIFEST = "manifest.json"
CHECKED_BYTES = 64 * 2**20
"""Files up to this size are compared by checksum, larger ones by size alone."""


@dataclass(frozen=True)
class ArtifactCache:
    """A folder of derived data, addressed by what it was made from."""

    root: Path

    def path(self, stage: str, inputs: Mapping[str, Any]) -> Path:
        """Where the artifact of these inputs lies, whether it exists yet or not."""
        return self.root / stage / fingerprint({"inputs": inputs, "code": __version__})

    def exists(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a whole artifact of these inputs is there: every file by its size and, up to 64 MiB, its content."""
        directory = self.path(stage, inputs)
        manifest = directory / MANIFEST
        if not manifest.is_file():
            return False
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        except (ValueError, KeyError):
            return False  # the disk was full or lost power: what is here is not whole
        return all(_is_whole(directory / name, entry) for name, entry in files.items())

    def get(self, stage: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the artifact's folder, made by `make(folder)` if it is not there; and whether it was made now.

        Args:
            stage: name of the step, for instance `prepare`.
            inputs: plain data that decides the content: configuration, checksums of what was read.
            make: fills an empty folder; an error leaves nothing behind.
        """
        directory = self.path(stage, inputs)
        if self.exists(stage, inputs):
            return directory, False
        with atomic_directory(directory) as temporary:
            make(temporary)
            files = {
                str(path.relative_to(temporary)): {
                    "bytes": path.stat().st_size,
                    "sha256": sha256_of_file(path),
                }
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            }
            write_json(
                temporary / MANIFEST,
                {"stage": stage, "inputs": dict(inputs), "code": __version__, "files": files},
            )
        return directory, True


def _is_whole(path: Path, entry: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    # Reading gigabytes at each start would cost more than it finds.
    return entry["bytes"] > CHECKED_BYTES or sha256_of_file(path) == entry["sha256"]
