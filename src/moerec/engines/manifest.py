"""The manifest of a folder of examples: what went in, what came out, what was refused, what is unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from moerec.dataset.schema import Part

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


def count_parts(counts: Iterable[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    """Reviews and drawn items of each part.

    Args:
        counts: name of a part, 1 for drawn items, number of rows.
    """
    found = {part.name.lower(): {"reviews": 0, "negatives": 0} for part in (Part.TRAIN, Part.VALID, Part.TEST)}
    for part, negative, rows in counts:
        found[part]["negatives" if negative else "reviews"] += rows
    return found


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums by name, the largest first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))


def manifest_of(**entries: Any) -> dict[str, Any]:
    """The content of manifest.json; the same names for every engine."""
    return {"format_version": FORMAT_VERSION, **entries}
