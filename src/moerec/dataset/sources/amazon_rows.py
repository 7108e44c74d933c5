"""Rows of the Amazon files: a review or a product of any year becomes the same columns, or is refused with a reason."""

from __future__ import annotations

import ast
import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from moerec.dataset.sources import amazon_fields as fields
from moerec.dataset.sources.json_lines import RowRefusedError

Year = Literal[2023, 2018, 2014]

REVIEW_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "rating": pl.Float64,
    "verified": pl.Int8,
    "helpful": pl.Int32,
    # What the user wrote with this very rating. It may be read for later events of the user, never as an input of its
    # own event; nothing reads it yet.
    "review_title": pl.String,
    "review_text": pl.String,
}
ITEM_SCHEMA = {
    "item_id": pl.String,
    "title": pl.String,
    "main_category": pl.String,
    "categories": pl.String,
    "price": pl.Float64,
    "brand": pl.String,
    "features": pl.String,
    "description": pl.String,
    "details": pl.String,
    "image": pl.String,
}
"""`average_rating` and `rating_number` of the products are no columns: they count the reviews of all times, those that
are to be predicted among them."""

NO_USER = "no user id"
NO_ITEM = "no item id"
NO_RATING = "no rating"
BAD_RATING = "the rating is not a number from 1 to 5"
NO_TIME = "no time"
BAD_TIME = "the time is not between 1995 and 2100"
REPEATED_REVIEW = "duplicate review"
REPEATED_ITEM = "duplicate item"

TITLE_IS_MARKUP = "titles that are HTML or JavaScript"
PRICE_UNREADABLE = "prices that cannot be read"


@dataclass(frozen=True)
class ReviewNames:
    """How a year calls the parts of a review; of several names the first that holds something counts."""

    user: str
    items: tuple[str, ...]
    rating: str
    time: str
    title: str
    text: str
    helpful: str
    verified: str | None


REVIEW_NAMES: Mapping[int, ReviewNames] = {
    2023: ReviewNames(
        user="user_id",
        items=("parent_asin", "asin"),
        rating="rating",
        time="timestamp",
        title="title",
        text="text",
        helpful="helpful_vote",
        verified="verified_purchase",
    ),
    2018: ReviewNames(
        user="reviewerID",
        items=("asin",),
        rating="overall",
        time="unixReviewTime",
        title="summary",
        text="reviewText",
        helpful="vote",
        verified="verified",
    ),
    2014: ReviewNames(
        user="reviewerID",
        items=("asin",),
        rating="overall",
        time="unixReviewTime",
        title="summary",
        text="reviewText",
        helpful="helpful",
        verified=None,
    ),
}


def review_row(record: Mapping[str, Any], names: ReviewNames) -> tuple[Any, ...]:
    """The values of a review in the order of REVIEW_SCHEMA.

    Raises:
        RowRefusedError: no user, item, rating or time, or an impossible rating or time.
    """
    user = fields.identifier(record.get(names.user))
    if user is None:
        raise RowRefusedError(NO_USER)
    item = _item_id(record, names.items)
    if _is_absent(record.get(names.rating)):
        raise RowRefusedError(NO_RATING)
    rating = fields.number(record[names.rating])
    if rating is None or not 1 <= rating <= 5:
        raise RowRefusedError(BAD_RATING)
    if _is_absent(record.get(names.time)):
        raise RowRefusedError(NO_TIME)
    time = fields.milliseconds(record[names.time])
    if time is None:
        raise RowRefusedError(BAD_TIME)
    return (
        user,
        item,
        time,
        rating,
        None if names.verified is None else fields.truth(record.get(names.verified)),
        fields.votes(record.get(names.helpful)),
        fields.text(record.get(names.title)),
        fields.text(record.get(names.text)),
    )


def item_row(record: Mapping[str, Any], nulled: Counter[str]) -> tuple[Any, ...]:
    """The values of a product of any year in the order of ITEM_SCHEMA.

    Args:
        record: the product.
        nulled: counts what stood there and was left out, because it is not what it should be.

    Raises:
        RowRefusedError: no item id.
    """
    item = _item_id(record, ("parent_asin", "asin"))
    title = fields.text(record.get("title"))
    if title and fields.is_markup(title):
        title, nulled[TITLE_IS_MARKUP] = None, nulled[TITLE_IS_MARKUP] + 1
    price, unreadable = fields.price(record.get("price"))
    nulled[PRICE_UNREADABLE] += unreadable
    path = fields.category_path(record.get("categories") or record.get("category"))
    main = fields.text(record.get("main_category") or record.get("main_cat"))
    if main is None or fields.is_markup(main):
        main = path[0] if path else None
    details = fields.details(record.get("details"))
    brand = fields.text(record.get("store") or record.get("brand")) or details.get("Brand")
    return (
        item,
        title,
        main,
        "|".join(name.replace("|", "/") for name in path) or None,
        price,
        brand,
        fields.text(record.get("features") or record.get("feature")),
        fields.text(record.get("description")),
        "; ".join(f"{name}: {value}" for name, value in details.items()) or None,
        fields.first_image(record),
    )


def json_or_python(line: str) -> Any:
    """A record in JSON, or as Python writes a dictionary: so are the products of 2014.

    Raises:
        ValueError: neither.
    """
    try:
        return json.loads(line)
    except ValueError:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # titles hold backslashes that Python would rather see doubled
                return ast.literal_eval(line)
        except (SyntaxError, TypeError, MemoryError):
            raise ValueError("neither JSON nor a literal of Python") from None


def _item_id(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if (item := fields.identifier(record.get(name))) is not None:
            return item
    raise RowRefusedError(NO_ITEM)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
