"""The state of reviews: mergeable in any grouping, saved and loaded, train reviews alone."""

import pickle
from functools import reduce

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from moerec.features.reviews import (
    SUMMARY_SCHEMA,
    ReviewExamplesConfig,
    ReviewNegativesConfig,
    ReviewState,
    category_names,
    combine,
    make_examples,
    merge,
    summarise,
)
from tests.features.reviews.review_logs import CATEGORIES, TRAIN_ENDS, crowd, fitted

RULES = [
    ReviewExamplesConfig(),
    ReviewExamplesConfig(negatives=ReviewNegativesConfig(sampling="popularity")),
    ReviewExamplesConfig(negatives=None),
]


@pytest.mark.parametrize("config", RULES)
def test_summaries_combine_in_any_grouping(config):
    events = crowd()
    whole = summarise(events, config)
    assert whole.schema == pl.Schema(SUMMARY_SCHEMA)
    parts = [summarise(events[number::7], config) for number in range(7)]
    assert_frame_equal(combine(parts, config), whole)
    one_by_one = reduce(lambda left, right: combine([right, left], config), parts)
    assert_frame_equal(one_by_one, whole)


@pytest.mark.parametrize("config", RULES)
def test_later_parts_tell_the_state_nothing(config):
    events = crowd()
    train = events.filter(pl.col("timestamp") < TRAIN_ENDS)
    assert_frame_equal(summarise(events, config), summarise(train, config))
    assert train.height < events.height


@pytest.mark.parametrize("config", RULES)
def test_a_state_that_was_saved_or_sent_makes_the_same_examples(config):
    events = crowd(users=50)
    state = fitted(events, config)
    saved = state.to_feature_state()
    for other in (ReviewState.from_feature_state(saved), pickle.loads(pickle.dumps(state))):
        assert other.categories == CATEGORIES
        assert_frame_equal(make_examples(events, other, config, 1), make_examples(events, state, config, 1))


def test_categories_of_the_most_products_get_codes_in_alphabetical_order():
    products = {"Tools": 3, "Books": 9, "Art": 3, "Games": 4}
    assert category_names(products, ReviewExamplesConfig()) == ("Art", "Books", "Games", "Tools")
    assert category_names(products, ReviewExamplesConfig(most_categories=3)) == ("Art", "Books", "Games")


def test_merging_nothing_is_an_empty_state():
    for config in RULES:
        state = merge([], (), config)
        assert len(state.items) == 0
