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
from moerec.engines.beam.reading import COUNTS, WRITTEN, RawFile, refused
from moerec.engines.beam.writing import in_global_window, packed
from moerec.engines.spill import TEXTS
from moerec.features.reviews import EVENT_ORDER, EVENT_SCHEMA, with_keys

ITEMS = "items"
"""Tag of the output that holds the catalogue: the row of a product, or of an item that is none but was reviewed."""
PRODUCTS, REVIEWS = "products", "reviews"
"""Tags of what is grouped by product."""
EVENTS = "events"
"""Tag of what is grouped by user, beside WRITTEN."""
PRICE, CATEGORY = list(ITEM_SCHEMA).index("price"), list(ITEM_SCHEMA).index("main_category")
IS_PRODUCT = "__is_product__"
"""Hidden column: whether there is a product of the item."""


class JoinProduct(beam.DoFn):
    """Reviews of one product with its category and price, by user.

    Gives `(user_id, (file, line, item_id, timestamp, rating, category, price, is_product))`.
    """

    def __init__(self, product_files: tuple[RawFile, ...]) -> None:
        self._files = product_files

    def process(self, group: tuple[str, Mapping[str, Sequence[Any]]]) -> Iterator[Any]:
        """Join one group."""
        item, parts = group
        products = sorted(parts[PRODUCTS], key=lambda product: product[:2])
        for file, line, row in products[1:]:
            yield _repeated(self._files[file], line, REPEATED_ITEM, ITEM_SCHEMA, row)
        is_product = bool(products)
        row = tuple(products[0][2]) if is_product else (item, *[None] * (len(ITEM_SCHEMA) - 1))
        yield beam.pvalue.TaggedOutput(ITEMS, row)
        if not is_product:
            yield beam.pvalue.TaggedOutput(COUNTS, (("unknown", "items without product"), 1))
        for file, line, user, timestamp, rating in parts[REVIEWS]:
            yield user, (file, line, item, timestamp, rating, row[CATEGORY], row[PRICE], is_product)


class FrameUsers(beam.DoFn):
    """Frames of whole users, as Arrow bytes; a review that is there twice is refused.

    A frame ends with the user that makes it reach its size, so the memory is that of a frame and one user.
    """

    def __init__(self, files: tuple[RawFile, ...], rows_in_frame: int, texts: bool) -> None:
        self._files, self._rows_in_frame = files, rows_in_frame
        self._schema = {name: kind for name, kind in REVIEW_SCHEMA.items() if texts or name not in TEXTS}
        self._rows: list[tuple[Any, ...]] = []

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._rows = []

    def process(self, group: tuple[str, Mapping[str, Sequence[Any]]]) -> Iterator[Any]:
        """Add one user."""
        user, parts = group
        written = {tuple(row[:2]): row[2:] for row in parts[WRITTEN]}
        met = set()
        for file, line, item, timestamp, rating, *product in sorted(parts[EVENTS], key=lambda row: row[:2]):
            row = (user, item, timestamp, rating, *written[file, line])
            if (item, timestamp) in met:
                yield _repeated(self._files[file], line, REPEATED_REVIEW, self._schema, row)
                continue
            met.add((item, timestamp))
            self._rows.append((*row, *product))
        if len(self._rows) >= self._rows_in_frame:
            yield self._frame()

    def finish_bundle(self) -> Iterator[Any]:
        """Give what is left."""
        if self._rows:
            yield in_global_window(self._frame())

    def _frame(self) -> bytes:
        # The category is its name yet; codes are given when all products are known.
        schema = self._schema | {"category": pl.String, "price": EVENT_SCHEMA["price"], IS_PRODUCT: pl.Boolean}
        frame = pl.DataFrame(self._rows, schema=schema, orient="row").sort(EVENT_ORDER)
        self._rows = []
        return packed(with_keys(frame))


def _repeated(file: RawFile, line: int, reason: str, schema: Mapping[str, Any], row: Sequence[Any]) -> Any:
    shown = json.dumps(dict(zip(schema, row, strict=True)), ensure_ascii=False)
    return refused(file.name, line, reason, shown[:LONGEST_RAW_ROW])
