"""Where a stream begins: the examples that an engine made of files, their rule, and the users as they stood there.

The state was fitted on the train part of these files. A stream of new reviews begins with the users of the files; one
that replays the files themselves begins with nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from moerec.config import validate
from moerec.engines.manifest import MANIFEST
from moerec.engines.state_files import load_state
from moerec.engines.stream_reviews import ReviewRules
from moerec.engines.stream_store import StreamTransaction
from moerec.errors import DatasetError
from moerec.features.reviews import EVENT_ORDER, EVENT_SCHEMA, Memory, Review, ReviewExamplesConfig, start, update

BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class Prepared:
    """A folder that an engine made."""

    folder: Path
    rules: ReviewRules
    fingerprint: str
    """Of all that went into it."""

    def settings(self, users: bool) -> dict[str, Any]:
        """What decides the rows of a stream that begins here."""
        return self.rules.settings() | {"began_with_users_of": self.fingerprint if users else None}

    def begin(self, transaction: StreamTransaction, users: bool) -> None:
        """Fill a new store.

        Args:
            transaction: the one that makes the store.
            users: whether it begins with the reviews of the files.
        """
        for path in _item_files(self.folder):
            for batch in pq.ParquetFile(path).iter_batches(BLOCK_ROWS, columns=["item_id", "category", "price"]):
                names, *rows = (batch.column(name).to_pylist() for name in ("item_id", "category", "price"))
                transaction.put_items(zip(names, zip(*rows, strict=True), strict=True))
        if users:
            for path in sorted((self.folder / "events").glob("part-*.parquet")):
                for user, reviews in _by_user(path):
                    transaction.put_states({user: {"reviews": self._memory(reviews)}})
                    for review in reviews:
                        transaction.add_review(user, review.item_id, review.timestamp)

    def _memory(self, reviews: list[Review]) -> Memory:
        memory = start()
        for review in reviews:
            memory = update(memory, review, self.rules.config) | {"items": {}}
        return memory


def open_prepared(folder: Path) -> Prepared:
    """Read what decides the rows of a folder that an engine made.

    Raises:
        DatasetError: there is none, or it is not whole.
    """
    if not (folder / MANIFEST).is_file():
        raise DatasetError(f"{folder}: no {MANIFEST}; give a folder of examples that were made of files of reviews")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    try:
        config = validate(ReviewExamplesConfig, manifest["config"], f"{folder / MANIFEST}: config")
        state = load_state(folder / "state")
        _item_files(folder)
        rules = ReviewRules(config, state, int(manifest["seed"]), manifest["year"])
        return Prepared(folder, rules, str(manifest["fingerprint"]))
    except (KeyError, FileNotFoundError) as error:
        raise DatasetError(f"{folder}: it is not whole ({error}); make the examples again") from None


def _item_files(folder: Path) -> list[Path]:
    """The products: one file of the local engine, or the files of the Beam engine.

    Raises:
        FileNotFoundError: there are none.
    """
    single = folder / "items.parquet"
    found = [single] if single.is_file() else sorted((folder / "items").glob("*.parquet"))
    if not found:
        raise FileNotFoundError(f"neither {single.name} nor items/*.parquet")
    return found


def _by_user(path: Path) -> Iterator[tuple[str, list[Review]]]:
    """The reviews of each user, in the order of time; a file holds whole users, and its rows may lie in any order."""
    events = pl.read_parquet(path, columns=list(EVENT_SCHEMA), glob=False).select(list(EVENT_SCHEMA)).sort(EVENT_ORDER)
    rows = (Review(*row) for row in events.iter_rows())
    for user, reviews in groupby(rows, key=lambda review: review.user_id):
        yield user, list(reviews)
