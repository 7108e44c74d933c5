"""Logs of reviews for tests, and the profile of each review written down literally, review by review."""

from fractions import Fraction
from math import sqrt

import numpy as np
import polars as pl
from hypothesis import strategies as st

from moerec.features.reviews import EVENT_SCHEMA, ReviewExamplesConfig, ReviewNegativesConfig, ReviewState, summarise
from moerec.features.reviews import merge as merged

TRAIN_ENDS = 1_688_169_600_000
"""2023-07-01 in UTC; the train part ends just before."""
VALID_ENDS = 1_696_118_400_000
"""2023-10-01."""
DAY = 86_400_000
CATEGORIES = ("Books", "Games", "Tools")
ITEMS = 12

_TIMES = st.one_of(
    st.sampled_from([TRAIN_ENDS - 1, TRAIN_ENDS, VALID_ENDS - 1, VALID_ENDS]),
    st.integers(-8, 12).map(lambda step: TRAIN_ENDS + step * 12 * DAY),
)
_PRICES = st.none() | st.sampled_from([0.0, 0.01, 9.99, 19.999, 1234.5, 10_000.0, 99_999.0])


@st.composite
def review_logs(draw: st.DrawFn, users: int = 4, most: int = 9) -> pl.DataFrame:
    """Reviews of a few users over all three parts, with ties in time, repeated items, unknown prices and categories."""
    rows = {}
    for number in range(draw(st.integers(1, users))):
        # Ids with letters outside ASCII, and one that is the beginning of another.
        user = ("ann", "an", "Ünal", "zoë🙂")[number]
        for item, time in draw(st.lists(st.tuples(st.integers(0, ITEMS - 1), _TIMES), min_size=1, max_size=most)):
            rating = draw(st.sampled_from([1.0, 3.0, 4.0, 4.5, 5.0, 5.0]))
            rows[user, f"item {item}", time] = (user, f"item {item}", time, rating, item % 4, draw(_PRICES))
    return pl.DataFrame(list(rows.values()), schema=EVENT_SCHEMA, orient="row")


configs = st.builds(
    ReviewExamplesConfig,
    keep_five_stars=st.sampled_from([0.0, 0.5, 1.0]),
    history=st.integers(0, 4),
    negatives=st.none()
    | st.builds(
        ReviewNegativesConfig,
        count=st.integers(1, 5),
        sampling=st.sampled_from(["uniform", "popularity"]),
        power=st.sampled_from([0.5, 1.0]),
        smoothing=st.sampled_from([0.0, 1.0]),
        exclude=st.sampled_from(["train", "ever", "past"]),
    ),
)


def crowd(users: int = 300, items: int = 400, seed: int = 0, most: int = 12) -> pl.DataFrame:
    """Reviews of many users, equally spread over a year around the ends of the parts; no review stands there twice."""
    draw = np.random.default_rng(seed)
    count = users * most // 2
    return pl.DataFrame(
        {
            "user_id": [f"user {user}" for user in draw.integers(0, users, count)],
            "item_id": [f"item {item}" for item in (draw.random(count) ** 2 * items).astype(int)],
            "timestamp": TRAIN_ENDS + draw.integers(-250, 150, count) * DAY,
            "rating": draw.choice([1.0, 2.0, 3.0, 4.0, 5.0], count, p=[0.05, 0.05, 0.1, 0.2, 0.6]),
            "category": draw.integers(0, 4, count).astype(np.int32),
            "price": [None if price < 200 else price / 100 for price in draw.integers(0, 5000, count).tolist()],
        },
        schema=EVENT_SCHEMA,
    ).unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)


def fitted(events: pl.DataFrame, config: ReviewExamplesConfig) -> ReviewState:
    return merged([summarise(events, config)], CATEGORIES, config)


def literal_profile(events: pl.DataFrame, row: dict, config: ReviewExamplesConfig, keys: dict) -> dict:
    """What the user of one review had reviewed strictly before it."""
    earlier = [
        other
        for other in sorted(events.iter_rows(named=True), key=lambda each: (each["timestamp"], each["item_id"]))
        if other["user_id"] == row["user_id"] and other["timestamp"] < row["timestamp"]
    ]
    cents = [round(min(other["price"], 10_000) * 100) for other in earlier if other["price"] is not None]
    known = [other["category"] for other in earlier if other["category"]]
    profile = {"review_count": len(earlier), "price_mean": None, "price_deviation": None}
    if cents:
        profile["price_mean"] = sum(cents) / len(cents) / 100
    if len(cents) > 1:
        mean = Fraction(sum(cents), len(cents))
        profile["price_deviation"] = sqrt(sum((cent - mean) ** 2 for cent in cents) / (len(cents) - 1)) / 100
    for code in range(1, len(CATEGORIES) + 1):
        profile[f"category_share_{code}"] = known.count(code) / len(known) if known else 0.0
    newest = earlier[::-1][: config.history]
    profile["history"] = [keys[other["user_id"], other["item_id"], other["timestamp"]] for other in newest]
    return profile
