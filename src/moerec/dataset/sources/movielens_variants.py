"""The published MovieLens data sets by name, with the counts that a whole one has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from moerec.dataset.schema import RawTables
from moerec.errors import DatasetError

LICENCE = (
    "MovieLens, GroupLens Research, University of Minnesota (Harper and Konstan 2015, doi 10.1145/2827872): "
    "for research; acknowledge it; no redistribution and no commercial use without permission"
)
GROUPLENS = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Variant:
    """One data set under its own name."""

    folder: str
    """Name of its folder in a mirror, and of the zip archive without `.zip`."""
    layouts: tuple[str, ...]
    """The layouts in which it is found, in order of preference (keys of `LAYOUTS`)."""
    events: int | None = None
    """Rows of the log; None where the publisher changes them from time to time."""
    users: int | None = None
    """Users with events."""
    items: int | None = None
    """Items of the catalogue."""
    items_with_events: int | None = None
    """Items that occur in the log, where that is known."""
    encoding: str = "utf-8"
    """Encoding of the text files as published."""
    has_users: bool = False
    """Whether a file about the users belongs to it."""
    published: bool = True
    """Whether GroupLens offers it as FOLDER.zip."""


VARIANTS: dict[str, Variant] = {
    "ml-100k": Variant("ml-100k", ("u", "atomic"), 100_000, 943, 1_682, 1_682, "latin-1", has_users=True),
    "ml-1m": Variant("ml-1m", ("dat",), 1_000_209, 6_040, 3_883, 3_706, "latin-1", has_users=True),
    "ml-1m-users-2999": Variant(
        "ml-1m", ("dat",), 487_650, 2_999, 3_883, None, "latin-1", has_users=True, published=False
    ),
    "ml-1m-sequences": Variant(
        "ml-1m", ("sequences",), 999_611, 6_040, 3_416, 3_416, "latin-1", has_users=True, published=False
    ),
    "ml-10m": Variant("ml-10m", ("dat",), 10_000_054, 69_878, 10_681, 10_677),
    "ml-20m": Variant("ml-20m", ("csv",), 20_000_263, 138_493, 27_278, 26_744),
    "ml-25m": Variant("ml-25m", ("csv",), 25_000_095, 162_541, 62_423, 59_047),
    "ml-32m": Variant("ml-32m", ("csv",), 32_000_204, 200_948, 87_585),
    "ml-latest-small": Variant("ml-latest-small", ("csv",)),
    "ml-latest": Variant("ml-latest", ("csv",)),
}
"""Named variants. The two `latest` sets grow with time, so of them it is only checked that they are not empty."""

CUSTOM = "custom"
"""The variant of one's own subset: any layout, no counts expected."""
CUSTOM_VARIANT = Variant("", ("u", "dat", "csv", "atomic"), published=False)


def check_counts(name: str, variant: Variant, tables: RawTables, event_files: Sequence[str]) -> None:
    """Refuse a part of a data set that goes by the name of the whole.

    A row that was read and refused does count: a file with a damaged line is still the whole file. So what
    is expected must lie between the rows that were kept and all rows that were read.

    Args:
        name: of the variant, for the message.
        variant: the counts expected.
        tables: what was read.
        event_files: names of the files that the events came from.

    Raises:
        DatasetError: with all counts that differ, expected and found.
    """
    counts = _counts(tables)
    refused = tables.rejects.group_by("source").len()
    refused_events = int(refused.filter(pl.col("source").is_in(list(event_files)))["len"].sum())
    refused_all = tables.rejects.height
    slack = {"events": refused_events, "users": refused_events, "items": refused_all - refused_events}
    slack["items_with_events"] = refused_events
    wrong = [
        f"{count:,} {words}, expected {expected:,}"
        for key, words in _WORDS.items()
        if (expected := getattr(variant, key)) is not None
        and not (count := counts[key]) <= expected <= count + slack[key]
    ]
    if not wrong:
        return
    others = [
        other
        for other, known in VARIANTS.items()
        if other != name and known.events == counts["events"] and known.users == counts["users"]
    ]
    first = "" if not refused_all else f" ({refused_all:,} rows were refused)"
    remedy = f"this is variant {others[0]}" if others else f"get it again, or set `variant: {CUSTOM}` for a part of it"
    raise DatasetError(f"this is not the whole of {name}: {'; '.join(wrong)}{first}; {remedy}")


_WORDS = {
    "events": "events",
    "users": "users with events",
    "items": "items in the catalogue",
    "items_with_events": "items with events",
}


def _counts(tables: RawTables) -> dict[str, int]:
    return {
        "events": tables.events.height,
        "users": tables.events["user_id"].n_unique(),
        "items": 0 if tables.items is None else tables.items.height,
        "items_with_events": tables.events["item_id"].n_unique(),
    }
