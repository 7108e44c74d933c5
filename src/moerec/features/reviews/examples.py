"""Causal examples of reviews: labels, part, down-sampling, negatives of the same time, profile of the past.

A function of a user's own reviews, the state and the seed: which other users are in the partition, and how its rows are
ordered, changes nothing.

Shape letters: N reviews, P positives, D negatives of a positive, R examples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.dataset.schema import Part
from moerec.errors import DatasetError
from moerec.features.counter_random import Words, keys_of, share
from moerec.features.negatives import Log as NegativeLog
from moerec.features.negatives import draw_items
from moerec.features.reviews.config import ReviewExamplesConfig
from moerec.features.reviews.keys import key_texts, key_words, negative_words, review_key, with_keys
from moerec.features.reviews.past import Carried, Ints, Log, Memory, profiles
from moerec.features.reviews.schema import EVENT_ORDER, EVENT_SCHEMA, example_schema, require_events
from moerec.features.reviews.state import ReviewState

GOOD, BEST = 4, 5
"""Stars of the labels."""
_KEEP, _DRAW = 1, 2
"""What a key is mixed with, so that down-sampling and drawing do not hang together."""


def make_examples(
    events: pl.DataFrame,
    state: ReviewState,
    config: ReviewExamplesConfig,
    seed: int,
    memories: Mapping[str, Memory] | None = None,
) -> pl.DataFrame:
    """The examples of whole users.

    Args:
        events: columns of EVENT_SCHEMA, all reviews of the users; no review twice.
        state: from `merge`.
        config: the rule, the one of the state.
        seed: other seeds keep other five-star reviews and draw other negatives.
        memories: by user id, what came before; then `events` are the later reviews alone. Users may lack.

    Returns:
        Columns of `example_schema`; by user, time, item, and each review before its negatives.

    Raises:
        DatasetError: the events are not as they must be, or a review stands there twice.
    """
    log_events = _ordered(with_keys(require_events(events, len(state.categories))), memories or {})
    log = Log.of(log_events)
    times = log.times
    parts = config.parts(times)
    words = key_words(log.keys)  # [N, 2]
    rows = np.flatnonzero(log_events["new"].to_numpy() & _kept(log_events, parts, words, config, seed))  # [P]
    carried = Carried.nothing(len(log.first), len(state.categories))
    if memories:
        users = log_events["user_id"].gather(log.first).to_list()
        carried = Carried.of([memories.get(user) for user in users], len(state.categories))
    profile = profiles(log, rows, len(state.categories), config, carried)
    positives = log_events.select("user_id", "item_id", "timestamp", "rating", "key")[rows].with_columns(
        part=pl.Series(parts[rows])
    )
    drawn = _drawn(log_events, log, rows, words, parts, state, config, seed, memories or {})  # [P, D]
    return _assembled(positives, profile, words[rows], drawn, state)


def _ordered(events: pl.DataFrame, memories: Mapping[str, Memory]) -> pl.DataFrame:
    """The events in order, with those pending in the memories among them; `new` marks the ones that were given."""
    events = events.with_columns(new=pl.lit(True))
    pending = [
        (user, item, memory["last"], rating, category, price, review_key(user, item, memory["last"]), False)
        for user in (events["user_id"].unique().to_list() if memories else ())
        if (memory := memories.get(user))
        for item, rating, category, price in memory["pending"]
    ]
    if pending:
        schema = {**EVENT_SCHEMA, "key": pl.String, "new": pl.Boolean}
        events = pl.concat([events.select(*schema), pl.DataFrame(pending, schema=schema, orient="row")])
    if not events.select(_follows()).to_series().all():
        events = events.sort(EVENT_ORDER)
        if not events.select(_follows()).to_series().all():
            raise DatasetError("reviews: a user has two reviews of one item at the same time; refuse duplicates before")
    return events


def _follows() -> pl.Expr:
    """Whether each review but the first stands strictly behind the one before it."""
    follows, same = pl.lit(False), pl.lit(True)
    for name in EVENT_ORDER:
        column, before = pl.col(name), pl.col(name).shift(1)
        follows, same = follows | (same & (column > before)), same & (column == before)
    return follows.fill_null(True)


def _kept(
    events: pl.DataFrame, parts: NDArray[np.int8], words: Words, config: ReviewExamplesConfig, seed: int
) -> NDArray[np.bool_]:
    """[N] all but the five-star reviews of the train part that are sampled away."""
    five = (events["rating"].to_numpy() == BEST) & (parts == Part.TRAIN)  # [N]
    drawn = share(keys_of(np.array([seed]), np.array([_KEEP]), words[:, 0], words[:, 1]))  # [N]
    kept: NDArray[np.bool_] = ~five | (drawn < config.keep_five_stars)
    return kept


def _drawn(
    events: pl.DataFrame,
    log: Log,
    rows: Ints,
    words: Words,
    parts: NDArray[np.int8],
    state: ReviewState,
    config: ReviewExamplesConfig,
    seed: int,
    memories: Mapping[str, Memory],
) -> Ints:
    """[P, D] numbers of the items drawn beside each positive, -1 where there is none."""
    if config.negatives is None or state.supply is None:
        return np.zeros((len(rows), 0), np.int64)
    users, times, items = log.users, log.times, events["item_id"]
    train = parts == Part.TRAIN
    if memories:
        numbers = dict(zip(events["user_id"].gather(log.first).to_list(), range(len(log.first)), strict=True))
        earlier = [
            (numbers[user], item, time)
            for user in numbers
            if (memory := memories.get(user))
            for item, time in memory["items"].items()
        ]
        more = pl.DataFrame(earlier, schema={"user": pl.Int64, "item": pl.String, "time": pl.Int64}, orient="row")
        users, times = np.append(users, more["user"].to_numpy()), np.append(times, more["time"].to_numpy())
        items, train = pl.concat([items, more["item"].alias("item_id")]), times < config.train_end
    number = items.to_frame().join(
        state.items.to_frame().with_row_index("number"), on="item_id", how="left", maintain_order="left"
    )["number"]
    unknown = len(state.items)
    everything = NegativeLog(users, number.fill_null(unknown).cast(pl.Int64).to_numpy(), times, train)
    return draw_items(state.supply, config.negatives, everything, rows, draw_keys(words[rows], seed))


def draw_keys(words: Words, seed: int) -> Words:
    """[P] what seeds the draw beside each positive, from the halves of its key [P, 2]."""
    return keys_of(np.array([seed]), np.array([_DRAW]), words[:, 0], words[:, 1])


def _assembled(
    positives: pl.DataFrame, profile: pl.DataFrame, words: Words, drawn: Ints, state: ReviewState
) -> pl.DataFrame:
    """[R] rows: each positive, then its negatives as drawn."""
    there = np.concatenate([np.ones((len(drawn), 1), np.bool_), drawn >= 0], axis=1)  # [P, 1 + D]
    owner, place = np.nonzero(there)  # [R], [R]
    negative = place > 0
    rating = positives["rating"].to_numpy()[owner]
    keys = np.stack([words, *(negative_words(words, number + 1) for number in range(drawn.shape[1]))], axis=1)
    items = positives["item_id"].gather(owner)
    if negative.any():
        names = pl.concat([positives["item_id"], state.items])
        number = np.concatenate([np.arange(len(drawn))[:, None], len(drawn) + drawn], axis=1)  # [P, 1 + D]
        items = names.gather(number[there])
    rows = positives[owner]
    return pl.DataFrame(
        [
            key_texts(keys[there]),
            rows["key"].alias("positive"),
            rows["user_id"],
            items.alias("item_id"),
            rows["timestamp"],
            rows["part"],
            pl.Series("negative", negative.astype(np.int8)),
            pl.Series("rating", np.where(negative, np.nan, rating), nan_to_null=True),
            pl.Series("good", (~negative & (rating >= GOOD)).astype(np.int8)),
            pl.Series("best", (~negative & (rating == BEST)).astype(np.int8)),
            *profile[owner].get_columns(),
        ]
    ).match_to_schema(example_schema(len(state.categories)))
