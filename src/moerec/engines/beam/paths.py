"""Paths for the file systems of Beam, which take every path to be listed or deleted for a pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence


def literal(path: str) -> str:
    """A pattern that only this path fits."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def delete(paths: Sequence[str]) -> None:
    """Remove files; there must be at least one, and all must be there."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.delete([literal(path) for path in paths])
