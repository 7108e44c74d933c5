"""Similarity: cosines equal to a plain computation up to rounding, and the same bits however they are computed."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from sklearn.metrics import roc_auc_score

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features import similarity
from moerec.features.feature import Catalogue
from moerec.features.similarity import SimilarityConfig
from tests.features import properties

CATALOGUE = properties.make_catalogue()
WINDOWS = SimilarityConfig(modality="text", last=(3, 1, 5), label="rating", at_least=3.5)


def catalogue_of(vectors: np.ndarray) -> Catalogue:
    """Items with these vectors; a row of zeros is an item without one."""
    both = np.concatenate([np.zeros((2, vectors.shape[1])), vectors]).astype(np.float32)
    present = np.arange(len(both)) >= 2
    return Catalogue(pl.DataFrame({"item": np.arange(len(vectors))}), len(both), {"text": (both, present)})


@settings(max_examples=3)
@given(properties.event_frames())
def test_the_properties_of_a_feature(events):
    properties.check_all(WINDOWS, events, CATALOGUE)


def reference(past: list[int], candidate: int, length: int, vectors: np.ndarray) -> tuple[float | None, float | None]:
    """The cosine with the mean of the last vectors, and the greatest cosine; vectors [I, V] of length 1 or 0."""
    last = [vectors[item] for item in past[-length:] if vectors[item].any()]
    if not last or not vectors[candidate].any():
        return None, None
    mean = np.mean(last, axis=0)
    length = np.linalg.norm(mean)
    nearest = max(float(vectors[candidate] @ vector) for vector in last)
    return (float(vectors[candidate] @ mean / length) if length > 1e-3 else None), nearest


@settings(max_examples=25)
@given(properties.event_frames(most=12))
def test_equal_to_plain_cosines(events):
    vectors, present = CATALOGUE.vectors["text"]
    units = np.where(
        present[:, None], vectors / np.linalg.norm(np.where(present[:, None], vectors, 1), axis=1)[:, None], 0
    )
    columns = WINDOWS.apply(events, events, WINDOWS.fit(events, CATALOGUE))
    rows = list(events.iter_rows(named=True))
    for row, result in zip(rows, columns.iter_rows(named=True), strict=True):
        past = [other for other in rows if other["user"] == row["user"] and other["timestamp"] < row["timestamp"]]
        items = [other["item"] for other in past]
        liked = [other["item"] for other in past if other["rating"] is not None and other["rating"] >= 3.5]
        right = {"item_text_previous": reference(items, row["item"], 1, units)[0]}
        for length in (1, 3, 5):
            mean, nearest = reference(items, row["item"], length, units)
            right |= {f"item_text_mean_{length}": mean, f"item_text_nearest_{length}": nearest}
            right[f"item_text_liked_{length}"] = reference(liked, row["item"], length, units)[0]
        assert right.keys() == result.keys()
        for name, value in right.items():
            assert (result[name] is None) == (value is None)
            assert value is None or result[name] == pytest.approx(value, abs=0.005)


def large(width: int, users: int = 12, most: int = 80, items: int = 90) -> tuple[pl.DataFrame, Catalogue]:
    generator = np.random.default_rng(width)
    vectors = generator.normal(size=(items, width)) + 0.3
    vectors[generator.random(items) < 0.2] = 0
    return properties.make_events(users, items, most), catalogue_of(vectors)


@pytest.mark.parametrize(("rows", "span"), [(1, 1), (7, 3), (10_000, 10_000)])
def test_the_same_bits_for_blocks_of_any_size(rows, span, monkeypatch):
    events, catalogue = large(384)
    feature = SimilarityConfig(modality="text", last=(5, 50), label="like")
    state = feature.fit(events, catalogue)
    before = feature.apply(events, events, state)
    monkeypatch.setattr(similarity, "_BLOCK_ROWS", rows)
    monkeypatch.setattr(similarity, "_BLOCK_EVENTS", span)
    properties.assert_same(before, feature.apply(events, events, state), "blocks of another size")


def test_the_same_bits_for_a_wide_vector_and_a_long_history():
    events, catalogue = large(768, users=2, most=120)
    feature = SimilarityConfig(modality="text", last=(2, 100))
    properties.check_fold(feature, events, catalogue)
    properties.check_partition(feature, events, catalogue)


def test_no_sum_of_products_is_beyond_what_is_exact():
    generator = np.random.default_rng(0)
    for width in (1, 4, 384, 4096):
        vectors = generator.normal(size=(50, width))
        vectors[0] = 1  # all of a vector's numbers are rounded the same way
        whole = SimilarityConfig(modality="text").fit(pl.DataFrame(), catalogue_of(vectors)).arrays["whole"]
        whole = whole.astype(np.int64)
        assert (np.abs(whole) @ np.abs(whole).T).max() < 2**24
    assert 2**11 * (similarity._LONGEST + similarity._BLOCK_EVENTS) < 2**24


def test_the_event_itself_and_its_ties_are_not_in_its_past():
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, 0]])
    feature = SimilarityConfig(modality="text", last=(1, 2))
    rows = [(0, 2, 0, None, None), (0, 2, 5, None, None), (0, 3, 5, None, None), (0, 5, 8, None, None)]
    rows += [(0, 4, 9, None, None), (0, 2, 10, None, None)]
    events = properties.frame(rows)
    columns = feature.apply(events, events, feature.fit(events, catalogue_of(vectors)))
    assert columns["item_text_previous"].to_list() == [None, 1, 0, None, None, -1]
    assert columns["item_text_nearest_2"].to_list() == [None, 1, 0, None, 0, -1]
    # The mean of opposite vectors has no direction, and an item without a vector counts in the window alone.
    assert columns["item_text_mean_2"].to_list() == [None, 1, 0, None, 0, -1]


def test_a_planted_taste_in_vectors_predicts_what_is_liked():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(100, 16))
    rows = []
    for user in range(50):
        taste = generator.normal(size=16)
        for time in range(40):
            item = int(generator.integers(100))
            rows.append((user, item + 2, time, None, float(vectors[item] @ taste > 0)))
    events = properties.frame(rows)
    feature = SimilarityConfig(modality="text", last=(50,), label="like")
    columns = feature.apply(events, events, feature.fit(events, catalogue_of(vectors)))
    late = (events["timestamp"] >= 25).to_numpy()
    likes, liked, mean = (
        column.to_numpy()[late]
        for column in (events["like"], columns["item_text_liked_50"], columns["item_text_mean_50"])
    )
    assert roc_auc_score(likes, liked) > 0.8
    assert roc_auc_score(likes, liked) > roc_auc_score(likes, mean) + 0.2


def test_mistakes_are_one_line():
    events = properties.make_events(users=2)
    with pytest.raises(ConfigError, match=r"similarity\.modality: there is no modality 'image'; there are: text"):
        SimilarityConfig(modality="image").fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match="the events have no label column 'stars'"):
        SimilarityConfig(modality="text", label="stars").fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match="at_least needs a label"):
        validate(SimilarityConfig, {"modality": "text", "at_least": 4})
    with pytest.raises(ConfigError, match="give each length once, from 1 to 4096"):
        validate(SimilarityConfig, {"modality": "text", "last": [5, 5]})
