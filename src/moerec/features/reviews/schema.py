"""The frames of reviews: events that come in, examples that come out."""

from __future__ import annotations

from typing import Any

import polars as pl

from moerec.errors import DatasetError

EVENT_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "rating": pl.Float64,
    "category": pl.Int32,
    "price": pl.Float64,
}
"""One row for each review: milliseconds since 1970, 1 to 5 stars, the category's code (0: unknown), the product's price
(null: unknown). A column `key`, see `with_keys`, may stand beside them; it is made where it is missing."""
EVENT_ORDER = ("user_id", "timestamp", "item_id")
"""A user may not review an item twice at the same time, so this order is one."""


def share_column(code: int) -> str:
    """The column of the share of earlier reviews that are of a category, by its code from 1 on."""
    return f"category_share_{code}"


def example_schema(categories: int) -> dict[str, Any]:
    """The columns of examples, with that many known categories.

    - `key` names the example, `positive` the review it belongs to: its own key, or for a drawn item that of the review
      whose time it has.
    - `part` is a `moerec.dataset.schema.Part`; `negative` is 1 for drawn items, which have no `rating`, and whose
      labels `good` (4 stars or more) and `best` (5 stars) are 0 by definition: no user judged them.
    - The rest is the profile: what the user had reviewed strictly before. `review_count`; `price_mean` and
      `price_deviation` (sample) of the prices that are known, null for none and for fewer than two; for each category
      the share among the earlier reviews of a known category, 0 if there are none; `history`: keys of the last
      reviews, newest first.
    """
    profile: dict[str, Any] = {
        "review_count": pl.Int64,
        "price_mean": pl.Float64,
        "price_deviation": pl.Float64,
        **{share_column(code): pl.Float64 for code in range(1, categories + 1)},
        "history": pl.List(pl.String),
    }
    return {
        "key": pl.String,
        "positive": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "part": pl.Int8,
        "negative": pl.Int8,
        "rating": pl.Float64,
        "good": pl.Int8,
        "best": pl.Int8,
        **profile,
    }


def require_events(events: pl.DataFrame, categories: int | None = None) -> pl.DataFrame:
    """The columns of events, and the keys if they are there.

    Args:
        events: the table.
        categories: number of known categories, if the codes are to be looked at.

    Raises:
        DatasetError: a column is missing, one that every review must have is null somewhere, or a code is unknown.
    """
    for name, dtype in EVENT_SCHEMA.items():
        if name not in events.columns or events.schema[name] != dtype:
            found = events.schema.get(name, "missing")
            raise DatasetError(f"reviews: column '{name}' is {found}; it must be {dtype}")
        if name != "price" and events[name].null_count():
            raise DatasetError(f"reviews: column '{name}' has nulls; refuse these rows before examples are made")
    if categories is not None and not events["category"].is_between(0, categories).all():
        raise DatasetError(
            f"reviews: column 'category' has other codes than 0 to {categories}, which the state knows; use the codes "
            "that the state was made with"
        )
    return events.select(*EVENT_SCHEMA, *({"key"} & set(events.columns)))
