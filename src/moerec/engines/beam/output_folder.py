"""The folder that a Beam run fills: begun, unfinished, whole, and replaced by the result of other files or settings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from moerec.engines.beam.paths import delete, literal
from moerec.engines.manifest import MANIFEST
from moerec.errors import DatasetError

UNFINISHED = "unfinished"
"""Name of the file that stands in the output folder until it is whole."""


def read_manifest(out: str) -> dict[str, Any] | None:
    """The manifest of a whole folder, whatever its files and settings were; None if there is none.

    Raises:
        DatasetError: no engine has written it.
    """
    from apache_beam.io.filesystems import FileSystems

    path = FileSystems.join(out, MANIFEST)
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as stream:
        content = stream.read()
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not {"engine", "fingerprint", "format_version"} <= manifest.keys():
        raise _something_else(out)
    return manifest


def beside(out: str) -> str:
    """The folder where a new result is made while one of other files or settings stands in `out`.

    Raises:
        DatasetError: `out` is not on this machine; a folder of an object store cannot be put in another's place.
    """
    if "://" in out:
        raise DatasetError(f"{out}: it holds the examples of other files or settings; choose another folder")
    path = Path(out)
    return str(path.parent / f".{path.name}.work-beam")


def replace(made: str, out: str) -> None:
    """Put a whole folder of this machine in the place of another."""
    retired = beside(out) + "-retired"
    shutil.rmtree(retired, ignore_errors=True)
    os.replace(out, retired)
    os.replace(made, out)
    shutil.rmtree(retired)


def begin(out: str) -> None:
    """Mark the folder as unfinished, and remove what a run that did not end has left there.

    Raises:
        DatasetError: it holds something that no run has left.
    """
    from apache_beam.io.filesystems import FileSystems

    marker = FileSystems.join(out, UNFINISHED)
    patterns = [FileSystems.join(literal(out), *names) for names in (("*",), ("*", "*"))]
    matches = FileSystems.match(patterns)
    left = [found.path for match in matches for found in match.metadata_list if found.path != marker]
    # A manifest beside no marker is that of a result whose replacement was made, but not yet put in its place.
    if left and not FileSystems.exists(marker) and read_manifest(out) is None:
        raise _something_else(out)
    if left:
        delete(left)
    with FileSystems.create(marker, compression_type="uncompressed") as stream:
        stream.write(b"A run of moerec writes here. If none does any more, start it again.\n")


def _something_else(out: str) -> DatasetError:
    return DatasetError(f"{out}: holds something else than examples of reviews; choose another folder")
