"""Keys: a hash of who, what and when; text and halves are each other's inverse."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from moerec.features.reviews import review_key, with_keys
from moerec.features.reviews.keys import key_texts, key_words, negative_words

PINNED = "0b3eca12fc9b835e1045a1513b9af8d8"


def test_a_key_is_pinned():
    assert review_key("AG01", "B001", 1_588_687_728_923) == PINNED


def test_a_column_of_keys_is_the_keys_one_by_one():
    events = pl.DataFrame({"user_id": ["a", "ab", "ü"], "item_id": ["bc", "c", "🙂"], "timestamp": [1, 1, -5]})
    keys = with_keys(events)["key"]
    assert keys.to_list() == [review_key(*row) for row in events.iter_rows()]
    assert keys.n_unique() == 3
    named = events.with_columns(key=pl.lit("0" * 32))
    assert with_keys(named) is named


@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 2), max_size=5), st.integers(0, 3))
def test_text_and_halves_are_inverse(halves, skipped):
    words = np.array(halves, np.uint64).reshape(-1, 2)
    texts = key_texts(words)
    assert texts.to_list() == [f"{first:016x}{second:016x}" for first, second in halves]
    assert (key_words(texts) == words).all()
    assert (key_words(texts[skipped:]) == words[skipped:]).all()


def test_negatives_of_different_reviews_have_different_keys():
    words = np.random.default_rng(0).integers(0, 2**64, (1000, 2), np.uint64)
    keys = pl.concat([key_texts(words), *(key_texts(negative_words(words, number)) for number in range(1, 6))])
    assert keys.n_unique() == len(keys)
