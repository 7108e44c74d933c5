"""Examples of reviews: causal, the same from any partition and order, labels and parts as promised."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import blake2b

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from moerec.config import validate
from moerec.dataset.schema import Part
from moerec.errors import ConfigError, DatasetError
from moerec.features.reviews import (
    EVENT_SCHEMA,
    ReviewExamplesConfig,
    ReviewNegativesConfig,
    example_schema,
    make_examples,
    merge,
    summarise,
)
from tests.features.reviews.review_logs import (
    CATEGORIES,
    TRAIN_ENDS,
    configs,
    crowd,
    fitted,
    literal_profile,
    review_logs,
)

PROFILE = ["review_count", "price_mean", "price_deviation", *(f"category_share_{c}" for c in (1, 2, 3)), "history"]


def key_of(row: dict) -> str:
    text = f"{row['user_id']}\0{row['item_id']}\0{row['timestamp']}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def positives_of(examples: pl.DataFrame) -> pl.DataFrame:
    return examples.filter(negative=0)


@settings(max_examples=60)
@given(events=review_logs(), config=configs, seed=st.integers(0, 2**40))
def test_labels_parts_and_profiles_equal_a_literal_reference(events, config, seed):
    examples = make_examples(events, fitted(events, config), config, seed)
    assert examples.schema == pl.Schema(example_schema(len(CATEGORIES)))
    keys = {(row["user_id"], row["item_id"], row["timestamp"]): key_of(row) for row in events.iter_rows(named=True)}
    rows = {keys[row["user_id"], row["item_id"], row["timestamp"]]: row for row in events.iter_rows(named=True)}
    for example in examples.iter_rows(named=True):
        row = rows[example["positive"]]
        profile = literal_profile(events, row, config, keys)
        deviation = profile.pop("price_deviation")
        # Never the target review, and none of its moment.
        assert {name: example[name] for name in profile} == profile
        assert example["price_deviation"] == (None if deviation is None else pytest.approx(deviation, rel=1e-9))
        day = datetime.fromtimestamp(row["timestamp"] / 1000, UTC).date().isoformat()
        assert example["part"] == (day > "2023-06-30") + (day > "2023-09-30")
        assert (example["user_id"], example["timestamp"]) == (row["user_id"], row["timestamp"])
        judged = (row["item_id"], row["rating"], row["rating"] >= 4, row["rating"] == 5)
        found = tuple(example[name] for name in ("item_id", "rating", "good", "best"))
        assert example["key"] == example["positive"] if not example["negative"] else example["key"] not in rows
        assert found == (judged if not example["negative"] else (example["item_id"], None, 0, 0))
    assert examples["key"].n_unique() == examples.height


@settings(max_examples=40)
@given(events=review_logs(users=4), config=configs, data=st.data())
def test_partitions_and_order_change_nothing(events, config, data):
    whole = make_examples(events, fitted(events, config), config, 5)
    users = events["user_id"].unique().to_list()
    place = {user: data.draw(st.integers(0, 2)) for user in users}
    shuffled = events[data.draw(st.permutations(range(events.height)))]
    pieces = [shuffled.filter(pl.col("user_id").replace_strict(place) == number) for number in range(3)]
    order = data.draw(st.permutations(range(3)))
    state = merge([summarise(pieces[number], config) for number in order], CATEGORIES, config)
    parts = pl.concat([make_examples(pieces[number], state, config, 5) for number in order])
    assert_frame_equal(parts.sort("user_id", maintain_order=True), whole)


@settings(max_examples=40)
@given(events=review_logs(), config=configs, cut=st.integers(-8, 12))
def test_deleting_the_future_changes_nothing(events, config, cut):
    moment = TRAIN_ENDS + cut * 12 * 86_400_000
    past = events.filter(pl.col("timestamp") <= moment)
    whole = make_examples(events, fitted(events, config), config, 5).filter(pl.col("timestamp") <= moment)
    left = make_examples(past, fitted(past, config), config, 5)
    assert_frame_equal(positives_of(left), positives_of(whole))
    # What a user never reviews is known by the whole of his own log alone: that much future is in the drawn items,
    # unless only the past counts.
    later = events.filter(pl.col("timestamp") > moment)["user_id"]
    others = ~pl.col("user_id").is_in(later.implode())
    if config.negatives is not None and config.negatives.exclude == "past":
        others = pl.lit(True)
    assert_frame_equal(left.filter(others), whole.filter(others))


@settings(max_examples=40)
@given(events=review_logs(), config=configs, seed=st.integers(0, 9))
def test_negatives_are_items_of_the_train_part_that_the_user_never_reviews(events, config, seed):
    examples = make_examples(events, fitted(events, config), config, seed)
    known = config.negatives
    for positive in positives_of(examples).iter_rows(named=True):
        drawn = examples.filter(pl.col("positive") == positive["key"], negative=1)["item_id"].to_list()
        if known is None:
            assert drawn == []
            continue
        strictly = known.sampling == "popularity" and known.smoothing == 0
        train = events.filter(pl.col("timestamp") < TRAIN_ENDS)
        until = train.filter(pl.col("timestamp") < positive["timestamp"] + (not strictly))
        own = train if known.exclude == "train" and positive["part"] == Part.TRAIN else events
        if known.exclude == "past":
            own = events.filter(
                (pl.col("timestamp") < positive["timestamp"]) | (pl.col("item_id") == positive["item_id"])
            )
        possible = set(until["item_id"]) - set(own.filter(user_id=positive["user_id"])["item_id"])
        assert len(set(drawn)) == len(drawn) == min(known.count, len(possible))
        assert set(drawn) <= possible


def test_by_default_no_negative_is_ever_reviewed_and_every_part_has_five_for_each_review():
    # Trap: negatives of another time than their positive all fall into one part.
    events, config = crowd(), ReviewExamplesConfig()
    examples = make_examples(events, fitted(events, config), config, 0)
    met = examples.filter(negative=1).join(events, on=["user_id", "item_id"], how="semi")
    assert met.height == 0
    counts = examples.group_by("part").agg(rows=pl.len(), negatives=pl.col("negative").sum()).sort("part")
    assert counts["part"].to_list() == [Part.TRAIN, Part.VALID, Part.TEST]
    assert (counts["rows"] > 500).all()
    share = (counts["negatives"] / (counts["rows"] - counts["negatives"])).to_list()
    # At the very start of the log fewer items exist than are to be drawn.
    assert share[0] == pytest.approx(5, abs=0.2)
    assert share[1:] == [5.0, 5.0]


def test_popular_items_are_drawn_more_often():
    events = crowd(users=200, items=60)
    counts = {}
    for sampling in ("uniform", "popularity"):
        config = ReviewExamplesConfig(negatives=ReviewNegativesConfig(sampling=sampling, exclude="train"))
        examples = make_examples(events, fitted(events, config), config, 0).filter(negative=1)
        counts[sampling] = examples.filter(pl.col("item_id").is_in(["item 0", "item 1", "item 2"])).height
    assert counts["popularity"] > 1.5 * counts["uniform"]


def test_down_sampling_touches_five_star_reviews_of_the_train_part_and_nothing_else():
    # Trap: histories that lose their five-star reviews, and measured parts of another distribution.
    events = crowd()
    few, all_ = (ReviewExamplesConfig(keep_five_stars=share) for share in (0.2, 1.0))
    state = fitted(events, few)
    kept, whole = (make_examples(events, state, config, 3) for config in (few, all_))
    assert positives_of(whole).height == events.height
    gone = whole.join(kept, on="key", how="anti")
    dropped = positives_of(gone)
    assert (dropped["part"] == Part.TRAIN).all()
    assert (dropped["rating"] == 5).all()
    five = positives_of(whole).filter(part=Part.TRAIN, rating=5.0).height
    assert 1 - dropped.height / five == pytest.approx(0.2, abs=0.05)
    assert set(gone["positive"]) == set(dropped["key"])
    assert_frame_equal(kept, whole.join(kept, on="key", how="semi", maintain_order="left"))
    # The profile still counts what was dropped.
    assert not set(kept.explode("history", empty_as_null=True)["history"].drop_nulls()).isdisjoint(dropped["key"])
    other = make_examples(events, state, few, 4)
    assert set(positives_of(other)["key"]) != set(positives_of(kept)["key"])


def test_the_same_examples_in_other_processes_whatever_pythons_hash_seed():
    # Trap: hash() of a string differs from process to process.
    program = (
        "from tests.features.reviews.review_logs import crowd, fitted\n"
        "from moerec.features.reviews import *\n"
        "config = ReviewExamplesConfig()\n"
        "events = crowd(users=40)\n"
        "examples = make_examples(events, fitted(events, config), config, 7)\n"
        "print(examples.drop('history').write_csv())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"\n") > 200


@pytest.mark.parametrize(("sampling", "digest"), [("uniform", "19c87597ee719556"), ("popularity", "7329285bdb2527ce")])
def test_keys_and_draws_are_pinned(sampling, digest):
    # Files of one version must fit those of the next, on any machine: these values may never change.
    rows = [
        (f"u{user}", f"i{(7 * user + 3 * step) % 23}", TRAIN_ENDS + (step - 6) * 86_400_000, 3.0 + step % 3, 0, None)
        for user in range(4)
        for step in range(9)
    ]
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")
    config = ReviewExamplesConfig(negatives=ReviewNegativesConfig(sampling=sampling))
    examples = make_examples(events, fitted(events, config), config, 7)
    assert examples["negative"].sum() > 50
    assert blake2b(examples.select("key", "item_id").write_csv().encode(), digest_size=8).hexdigest() == digest


def test_many_expensive_reviews_of_one_user_stay_exact():
    count = 5001
    events = pl.DataFrame(
        {
            "user_id": ["u"] * count,
            "item_id": ["i"] * count,
            "timestamp": TRAIN_ENDS + np.arange(count),
            "rating": [3.0] * count,
            "category": np.ones(count, np.int32),
            "price": np.where(np.arange(count) % 2, 100_000.0, 99_999.99),
        }
    )
    config = ReviewExamplesConfig(highest_price=100_000)
    last = make_examples(events, fitted(events, config), config, 0).tail(1)
    assert last["price_mean"].item() == pytest.approx(99_999.995, rel=1e-15)
    assert last["price_deviation"].item() == pytest.approx(0.005 * (5000 / 4999) ** 0.5, rel=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": pl.lit(None, pl.Int64)}, "column 'timestamp' has nulls"),
        ({"rating": pl.lit(5, pl.Int32)}, "column 'rating' is Int32"),
        ({"category": pl.lit(4, pl.Int32)}, "other codes than 0 to 3"),
        ({"category": pl.lit(-1, pl.Int32)}, "other codes than 0 to 3"),
        ({"item_id": pl.lit("i"), "timestamp": pl.lit(7, pl.Int64)}, "two reviews of one item"),
    ],
)
def test_events_that_are_not_as_they_must_be_are_refused(change, message):
    events, config = crowd(users=3), ReviewExamplesConfig()
    with pytest.raises(DatasetError, match=message):
        make_examples(events.with_columns(**change), fitted(events, config), config, 0)


def test_a_price_that_is_no_number_is_an_unknown_one():
    events, config = crowd(users=30), ReviewExamplesConfig()
    odd = events.with_columns(pl.col("price").fill_null(float("inf")))
    odd = odd.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then("price").otherwise(pl.lit(float("nan"))))
    plain = odd.with_columns(pl.when(pl.col("price").is_finite()).then("price").alias("price"))
    state = fitted(events, config)
    assert_frame_equal(make_examples(odd, state, config, 0), make_examples(plain, state, config, 0))


def test_dates_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match="valid_until must be after train_until"):
        validate(ReviewExamplesConfig, {"valid_until": "2023-06-30"})


def test_no_reviews_and_a_train_part_without_reviews_give_what_there_is():
    config = ReviewExamplesConfig()
    events = crowd(users=20)
    late = events.filter(pl.col("timestamp") >= TRAIN_ENDS)
    examples = make_examples(late, fitted(late, config), config, 0)
    assert examples.height == late.height
    assert examples["negative"].sum() == 0
    empty = make_examples(events.clear(), fitted(events, config), config, 0)
    assert empty.height == 0
    assert empty.schema == examples.schema
