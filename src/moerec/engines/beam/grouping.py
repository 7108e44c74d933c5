"""The two shuffles: by product, where reviews meet category and price; by user, where frames of whole users are made.

Whatever order rows arrive in, the first in file order counts, so each row carries the number of its file and its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import polars as pl

from moerec.dataset.sources.amazon_rows import ITEM_SCHEMA, REPEATED_ITEM, REPEATED_REVIEW, REVIEW_SCHEMA
from moerec.dataset.sources.columns import LONGEST_RAW_ROW
from moerec.engines.beam.reading import TEXTS, RawFile, refused
from moerec.engines.beam.writing import in_global_window, packed, sharded
from moerec.features.reviews import EVENT_ORDER, EVENT_SCHEMA, with_keys

ITEMS = "items"
"""Tag of the output that holds the catalogue."""
PRODUCTS, REVIEWS = "products", "reviews"
"""Tags of what is grouped by product."""
EVENTS = "events"
"""Tag of what is grouped by user, beside TEXTS."""
CATALOGUE_SCHEMA = ITEM_SCHEMA | {"category": pl.String}
"""Products, and items of which there are but reviews; the category is that of the file."""
TEXT_SCHEMA = {"key": pl.String, "title": pl.String, "text": pl.String}
"""What was written, by the key of the review."""
PRICE, CATEGORY = list(ITEM_SCHEMA).index("price"), list(ITEM_SCHEMA).index("main_category")
FRAME_SCHEMA = EVENT_SCHEMA | {"category": pl.String, "title": pl.String, "text": pl.String}
"""Rows of whole users; the category is its name yet, since codes are given when all products are known."""


class JoinProduct(beam.DoFn):
    """Reviews of one product with its category and price, by user.

    Gives `(user_id, (file, line, item_id, timestamp, rating, category, price))`, and the product for ITEMS.
    """

    def __init__(self, review_files: tuple[RawFile, ...], product_files: tuple[RawFile, ...]) -> None:
        self._review_files, self._product_files = review_files, product_files

    def process(self, group: tuple[str, Mapping[str, Sequence[Any]]]) -> Iterator[Any]:
        """Join one group."""
        item, parts = group
        products = sorted(parts[PRODUCTS], key=lambda product: product[:2])
        for file, line, row in products[1:]:
            yield _repeated(self._product_files[file], line, REPEATED_ITEM, ITEM_SCHEMA, row)
        if products:
            file, _, row = products[0]
            row = (*row, self._product_files[file].category)
        else:
            first = min(review[:2] for review in parts[REVIEWS])
            row = _bare(item, self._review_files[first[0]].category)
        yield beam.pvalue.TaggedOutput(ITEMS, row)
        for file, line, user, timestamp, rating in parts[REVIEWS]:
            yield user, (file, line, item, timestamp, rating, row[CATEGORY], row[PRICE])


class FrameUsers(beam.DoFn):
    """Frames of whole users, as Arrow bytes; a review that is there twice is refused.

    A frame ends with the user that makes it reach its size, so the memory is that of a frame and one user. The texts
    go to the output TEXTS, `(shard, Arrow bytes)`.
    """

    def __init__(self, files: tuple[RawFile, ...], rows_in_frame: int, shards: int) -> None:
        self._files, self._rows_in_frame, self._shards = files, rows_in_frame, shards
        self._rows: list[tuple[Any, ...]] = []

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._rows = []

    def process(self, group: tuple[str, Mapping[str, Sequence[Any]]]) -> Iterator[Any]:
        """Add one user."""
        user, parts = group
        texts = {tuple(written[:2]): written[2:] for written in parts[TEXTS]}
        met = set()
        for file, line, item, timestamp, rating, category, price in sorted(parts[EVENTS]):
            verified, helpful, title, text = texts[file, line]
            if (item, timestamp) in met:
                row = (user, item, timestamp, rating, verified, helpful, title, text)
                yield _repeated(self._files[file], line, REPEATED_REVIEW, REVIEW_SCHEMA, row)
                continue
            met.add((item, timestamp))
            self._rows.append((user, item, timestamp, rating, category, price, title, text))
        if len(self._rows) >= self._rows_in_frame:
            yield from self._frame()

    def finish_bundle(self) -> Iterator[Any]:
        """Give what is left."""
        if self._rows:
            for output in self._frame():
                yield in_global_window(output)

    def _frame(self) -> Iterator[Any]:
        frame = with_keys(pl.DataFrame(self._rows, schema=FRAME_SCHEMA, orient="row").sort(EVENT_ORDER))
        self._rows = []
        yield packed(frame.select(*EVENT_SCHEMA, "key"))
        for shard, rows in sharded(frame, "user_id", self._shards):
            yield beam.pvalue.TaggedOutput(TEXTS, (shard, packed(rows.select(*TEXT_SCHEMA))))


def _repeated(file: RawFile, line: int, reason: str, schema: Mapping[str, Any], row: Sequence[Any]) -> Any:
    values = dict(zip(schema, row, strict=True)) | {"category": file.category}
    return refused(file, line, reason, json.dumps(values, ensure_ascii=False)[:LONGEST_RAW_ROW])


def _bare(item: str, category: str) -> tuple[Any, ...]:
    """A product of which nothing is known but its reviews."""
    known = {"item_id": item, "category": category}
    return tuple(known.get(name) for name in CATALOGUE_SCHEMA)
