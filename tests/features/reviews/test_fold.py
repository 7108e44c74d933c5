"""The fold of reviews: a memory and the next reviews give what the whole log gives, bit for bit."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from moerec.errors import DatasetError
from moerec.features.reviews import (
    Review,
    ReviewExamplesConfig,
    is_known,
    make_examples,
    read,
    start,
    update,
)
from tests.features.reviews.review_logs import TRAIN_ENDS, configs, crowd, fitted, review_logs


def folded(events: pl.DataFrame, config: ReviewExamplesConfig) -> dict[str, dict]:
    """The memory of each user, by way of JSON after every review."""
    memories: dict[str, dict] = {}
    for row in events.sort("timestamp", maintain_order=True).iter_rows(named=True):
        review = Review(**row)
        memory = update(memories.get(review.user_id, start()), review, config)
        memories[review.user_id] = json.loads(json.dumps(memory))
    return memories


@settings(max_examples=40)
@given(events=review_logs(), config=configs, seed=st.integers(0, 99))
def test_reading_before_each_review_gives_the_profiles_of_the_whole_log(events, config, seed):
    state = fitted(events, config)
    # What a stream can know is what was there before; only by that rule are the drawn items those of the whole log.
    causal = config.negatives is None or config.negatives.exclude == "past"
    whole = make_examples(events, state, config, seed).filter(pl.lit(causal) | (pl.col("negative") == 0))
    memories: dict[str, dict] = {}
    rows = []
    for row in events.sort("timestamp", maintain_order=True).iter_rows(named=True):
        review = Review(**row)
        memory = memories.get(review.user_id, start())
        assert not is_known(memory, review)
        rows.append(read(memory, review, state, config, seed))
        memories[review.user_id] = update(memory, review, config)
        assert is_known(memories[review.user_id], review)
    examples = pl.concat(rows).filter(pl.lit(causal) | (pl.col("negative") == 0))
    order = whole.select("positive").unique(maintain_order=True).with_row_index()
    examples = examples.join(order, on="positive", how="left", maintain_order="left").sort("index", maintain_order=True)
    assert_frame_equal(examples.drop("index"), whole, check_exact=True)


@settings(max_examples=40)
@given(events=review_logs(), config=configs, cut=st.integers(-8, 12), data=st.data())
def test_going_on_from_memories_gives_the_later_examples_of_the_whole_log(events, config, cut, data):
    state = fitted(events, config)
    moment = TRAIN_ENDS + cut * 12 * 86_400_000
    # Some of the reviews of the last moment are in the memory, others still to come.
    early = pl.Series([data.draw(st.booleans()) for _ in range(events.height)])
    earlier = events.filter((pl.col("timestamp") < moment) | ((pl.col("timestamp") == moment) & early))
    later = events.join(earlier, on=["user_id", "item_id", "timestamp"], how="anti", maintain_order="left")
    examples = make_examples(later, state, config, 5, folded(earlier, config))
    whole = make_examples(events, state, config, 5)
    wanted = later.select("user_id", "timestamp", of="item_id")
    names = whole.filter(negative=0).select("positive", "user_id", "timestamp", of="item_id")
    kept = names.join(wanted, on=["user_id", "timestamp", "of"], how="semi")
    assert_frame_equal(examples, whole.join(kept, on="positive", how="semi", maintain_order="left"), check_exact=True)


def test_many_users_go_on_from_their_memories():
    events, config = crowd(), ReviewExamplesConfig()
    state = fitted(events, config)
    later = events.filter(pl.col("timestamp") > TRAIN_ENDS)
    memories = folded(events.filter(pl.col("timestamp") <= TRAIN_ENDS), config)
    examples = make_examples(later, state, config, 0, memories)
    whole = make_examples(events, state, config, 0).filter(pl.col("timestamp") > TRAIN_ENDS)
    assert_frame_equal(examples, whole, check_exact=True)


def test_reviews_out_of_order_and_duplicates_are_refused():
    config = ReviewExamplesConfig()
    memory = update(start(), Review("u", "i", 1000, 5.0), config)
    with pytest.raises(DatasetError, match="in the order of time"):
        update(memory, Review("u", "j", 999, 5.0), config)
    with pytest.raises(DatasetError, match="refuse duplicates"):
        update(memory, Review("u", "i", 1000, 5.0), config)
    # The same item at another time is another review.
    assert update(memory, Review("u", "i", 1001, 5.0), config)["count"] == 1
