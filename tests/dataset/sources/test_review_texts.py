"""Review texts: labels that the words bear out, negations, neutral reviews without a sentiment."""

import polars as pl
import pytest

from moerec.dataset.dataset import Dataset
from moerec.dataset.sources.review_texts import BAD, GOOD, NEUTRAL, THINGS, ReviewTextsConfig

NAMES = list(THINGS)


def reviews(**settings) -> pl.DataFrame:
    raw = ReviewTextsConfig(**{"reviews": 600, **settings}).read()
    assert raw.items is not None
    return raw.events.join(raw.items, on="item_id", validate="1:1")


def judged(text: str) -> str:
    """The one sentence that says what is thought of the thing."""
    sentences = [part for part in text.split(". ") if not part.startswith(("The colour", "My neighbour"))]
    (found,) = [part for part in sentences if " is " in part or "I find the" in part]
    return found.rstrip(".")


def test_the_category_is_that_of_the_thing_that_is_judged():
    for code, text in reviews().select("category", "text").iter_rows():
        of_sentence = {name for name, things in THINGS.items() for thing in things if thing in judged(text)}
        assert of_sentence == {NAMES[code]}, text


def test_the_sentiment_is_the_adjective_turned_around_by_a_negation():
    seen = set()
    for positive, text in reviews().select("positive", "text").iter_rows():
        words = judged(text)
        good, bad = any(words.endswith(word) for word in GOOD), any(words.endswith(word) for word in BAD)
        negated = " not " in words
        if positive is None:
            assert any(words.endswith(word) for word in NEUTRAL)
            assert not negated
        else:
            assert good != bad
            assert bool(positive) == (good != negated), text
        seen.add((positive, negated))
    assert seen == {(None, False), (0, False), (0, True), (1, False), (1, True)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_negations_come_as_often_as_asked_for(share):
    found = reviews(negated=share).drop_nulls("positive")["text"].str.contains(" not ")
    assert found.mean() == pytest.approx(share, abs=0.08)


def test_shares_of_neutral_reviews_and_mentions():
    frame = reviews(reviews=2000, neutral=0.25, mentions=0.4)
    assert frame["positive"].null_count() / 2000 == pytest.approx(0.25, abs=0.04)
    assert frame["positive"].mean() == pytest.approx(0.5, abs=0.05)
    assert frame["text"].str.contains("together with").mean() == pytest.approx(0.4, abs=0.05)
    assert reviews(neutral=0)["positive"].null_count() == 0


def test_one_column_for_each_category_stands_beside_its_code():
    frame = reviews()
    for code, name in enumerate(NAMES):
        assert (frame[f"is_{name}"] == (frame["category"] == code)).all()
        assert 0.1 < frame[f"is_{name}"].mean() < 0.25


def test_each_review_is_a_row_with_a_text_of_its_own():
    raw = ReviewTextsConfig(reviews=50).read()
    dataset = Dataset.from_raw(raw, "reviews")
    dataset.validate()
    assert (dataset.num_users, dataset.num_items, dataset.info.timestamps) == (50, 50, False)
    assert raw.items is not None
    assert raw.items["text"].null_count() == 0
    again, other = (ReviewTextsConfig(reviews=50, seed=seed).read().items for seed in (0, 1))
    assert raw.items.equals(again)
    assert not raw.items.equals(other)
