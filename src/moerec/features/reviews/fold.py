"""A user's past, review by review: the memory that a stream keeps, and from which it goes on.

`make_examples(events, ..., memories=...)` gives for new events what it gives for them in the whole log, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from moerec.errors import DatasetError
from moerec.features.reviews.config import ReviewExamplesConfig
from moerec.features.reviews.examples import make_examples
from moerec.features.reviews.keys import review_key
from moerec.features.reviews.past import Memory, cents_of
from moerec.features.reviews.schema import EVENT_SCHEMA
from moerec.features.reviews.state import ReviewState


@dataclass(frozen=True)
class Review:
    """One review, as it arrives."""

    user_id: str
    item_id: str
    timestamp: int
    """Milliseconds since 1970."""
    rating: float
    category: int = 0
    """Code of the main category; 0 for unknown."""
    price: float | None = None
    """Price of the product; None for unknown."""


def start() -> Memory:
    """A user without any review; JSON data."""
    return {
        "last": None,
        "count": 0,
        "priced": 0,
        "cents": 0,
        "squares": 0,
        "categories": {},
        "history": [],
        "pending": [],
        "items": {},
    }


def update(memory: Memory, review: Review, config: ReviewExamplesConfig) -> Memory:
    """The memory after one more review of the user; reviews come in the order of time.

    Reviews of the last time stay pending, since examples of that time may not see them.

    Raises:
        DatasetError: the review is earlier than the last one, or is there already.
    """
    last = memory["last"]
    if last is not None and review.timestamp < last:
        raise DatasetError(
            f"reviews: user {review.user_id} has a review at {review.timestamp}, before the last one at {last}; "
            "give the reviews of a user in the order of time"
        )
    if is_known(memory, review):
        raise DatasetError(
            f"reviews: user {review.user_id} reviewed {review.item_id} at {review.timestamp} twice; refuse duplicates"
        )
    later = dict(memory) if last is None or review.timestamp == last else _settled(memory, review.user_id, config)
    pending = [review.item_id, review.rating, review.category, review.price]
    later["pending"] = [*later["pending"], pending]
    later["last"] = review.timestamp
    later["items"] = {**later["items"], review.item_id: later["items"].get(review.item_id, review.timestamp)}
    return later


def is_known(memory: Memory, review: Review) -> bool:
    """Whether the memory holds this very review: same item, same time; such duplicates are refused."""
    return memory["last"] == review.timestamp and any(entry[0] == review.item_id for entry in memory["pending"])


def read(memory: Memory, review: Review, state: ReviewState, config: ReviewExamplesConfig, seed: int) -> pl.DataFrame:
    """The examples of one more review of the user, as `make_examples` gives them; the memory is as before it.

    The user's items are those in the memory and the review's own: what comes later is not known yet.
    """
    row = {name: [getattr(review, name)] for name in EVENT_SCHEMA}
    return make_examples(pl.DataFrame(row, schema=EVENT_SCHEMA), state, config, seed, {review.user_id: memory})


def _settled(memory: Memory, user_id: str, config: ReviewExamplesConfig) -> dict[str, Any]:
    """The memory with its pending reviews counted."""
    later = dict(memory)
    later["categories"] = dict(memory["categories"])
    # As in the batch: within one time by item.
    for item_id, _, category, price in sorted(memory["pending"], key=lambda entry: entry[0]):
        later["count"] += 1
        if price is not None and math.isfinite(price):
            cents = cents_of(price, config)
            later["priced"] += 1
            later["cents"] += cents
            later["squares"] += cents * cents
        if category:
            later["categories"][str(category)] = later["categories"].get(str(category), 0) + 1
        later["history"] = [review_key(user_id, item_id, memory["last"]), *later["history"]][: config.history]
    later["pending"] = []
    return later
