"""Category shares: profiles equal to a count by hand, and never the event's own category in them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from sklearn.metrics import roc_auc_score

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features.category_shares import CategorySharesConfig
from moerec.features.feature import Catalogue
from tests.features import properties

GENRES = CategorySharesConfig(column="genres", labels=("rating", "like"), top=5)
CATALOGUE = properties.make_catalogue()


def applied(feature: CategorySharesConfig, events: pl.DataFrame, catalogue: Catalogue = CATALOGUE) -> pl.DataFrame:
    return feature.apply(events, events, feature.fit(events, catalogue))


def catalogue_of(categories: list[str | None]) -> Catalogue:
    return Catalogue(pl.DataFrame({"category": categories}), len(categories) + 2)


@settings(max_examples=3)
@given(properties.event_frames())
def test_the_properties_of_a_feature(events):
    properties.check_all(GENRES, events, CATALOGUE)


def test_the_properties_with_one_category_an_item_and_fewer_places_than_categories():
    events = properties.make_events(users=4)
    properties.check_all(CategorySharesConfig(column="category", separator=None, top=1), events, CATALOGUE)


def reference(past: list[dict], item: int, cells: dict[int, set[str]], categories: list[str | None]) -> list:
    """The columns of GENRES by plain counting."""
    mine = cells[item] & set(categories)
    share = {name: sum(name in cells[row["item"]] for row in past) / len(past) for name in categories if past and name}
    values = [share.get(name) for name in categories]
    known = bool(past and mine)
    values.append(sum(share[name] for name in mine) / len(mine) if known else None)
    values.append(sum(share[name] > 0 for name in mine) / len(mine) if known else None)
    for label in ("rating", "like"):
        weights = [(len(mine & cells[row["item"]]), row[label]) for row in past if row[label] is not None]
        total = sum(weight for weight, _ in weights)
        values.append(sum(weight * value for weight, value in weights) / total if total else None)
    return values


@settings(max_examples=30)
@given(properties.event_frames(most=10))
def test_equal_to_counting_by_hand(events):
    cells = {row["item"]: set((row["genres"] or "").split("|")) - {""} for row in CATALOGUE.items.iter_rows(named=True)}
    counts = {name: sum(name in cells[item] for item in events["item"]) for name in "abcd"}
    categories = sorted((name for name, count in counts.items() if count), key=lambda name: (-counts[name], name))
    state = GENRES.fit(events, CATALOGUE)
    assert state.values["categories"] == categories
    columns = GENRES.apply(events, events, state)
    rows = list(events.iter_rows(named=True))
    padded = [*categories, *[None] * (5 - len(categories))]
    for row, result in zip(rows, columns.iter_rows(), strict=True):
        past = [other for other in rows if other["user"] == row["user"] and other["timestamp"] < row["timestamp"]]
        right = reference(past, row["item"], cells, padded)
        assert [value is None for value in result] == [value is None for value in right]
        known = [value for value in right if value is not None]
        assert [value for value in result if value is not None] == pytest.approx(known, rel=1e-12)


def test_an_event_is_never_in_its_own_profile():
    feature = CategorySharesConfig(column="category", labels=("like",), top=3)
    catalogue = catalogue_of(["x", "y", "z", None])
    rows = [(0, 2, 0, None, 1.0), (0, 3, 5, None, 0.0), (0, 3, 5, None, 1.0), (0, 4, 9, None, 1.0)]
    rows += [(1, 2, 0, None, 1.0), (1, 2, 0, None, 0.0), (1, 5, 3, None, 1.0)]
    columns = applied(feature, properties.frame(rows), catalogue)
    # Of y and x (three events each) x comes first by name; z has one event.
    assert feature.fit(properties.frame(rows), catalogue).values["categories"] == ["x", "y", "z"]
    profile = columns.select(pl.concat_list(pl.col("^user_category_share_.*$"))).to_series().to_list()
    nothing = [None, None, None]
    assert profile[:4] == [nothing, [1, 0, 0], [1, 0, 0], [1 / 3, 2 / 3, 0]]
    assert profile[4:] == [nothing, nothing, [1, 0, 0]]
    # Each event here is of a category that its user has not met before, and its own label is not in its mean.
    assert columns["item_category_match"].to_list() == [None, 0, 0, 0, None, None, None]
    assert columns["item_category_met"].to_list() == [None, 0, 0, 0, None, None, None]
    assert columns["item_category_like_mean"].null_count() == 7


def test_changing_the_events_own_item_and_label_leaves_its_profile():
    events = properties.make_events(users=3)
    state = GENRES.fit(events, CATALOGUE)
    profile = [name for name in GENRES.apply(events, events, state).columns if name.startswith("user_")]
    before = GENRES.apply(events, events, state).select(profile)
    for row in range(events.height):
        here = pl.int_range(pl.len()) == row
        changed = events.with_columns(
            pl.when(here).then(pl.col("item") % 6 + 2).otherwise("item").alias("item"),
            pl.when(here).then(0.5).otherwise("rating").alias("rating"),
        )
        assert GENRES.apply(changed, changed, state).select(profile).row(row) == before.row(row)


def test_a_planted_taste_for_categories_predicts_what_is_liked():
    generator = np.random.default_rng(0)
    catalogue = catalogue_of([f"c{number % 8}" for number in range(80)])
    rows = []
    for user in range(60):
        liked = set(generator.choice(8, 3, replace=False).tolist())
        for time in range(30):
            item = int(generator.integers(80))
            rows.append((user, item + 2, time, None, float((item % 8 in liked) != (generator.random() < 0.1))))
    events = properties.frame(rows)
    feature = CategorySharesConfig(column="category", labels=("like",), top=8)
    columns = applied(feature, events, catalogue).with_columns(events["like"], events["timestamp"])
    late = columns.filter((pl.col("timestamp") >= 15) & pl.col("item_category_like_mean").is_not_null())
    assert roc_auc_score(late["like"], late["item_category_like_mean"]) > 0.75


def test_mistakes_are_one_line():
    events = properties.make_events(users=2)
    with pytest.raises(
        ConfigError, match=r"features\.category_shares: there is no column 'genre'; did you mean 'genre"
    ):
        CategorySharesConfig(column="genre").fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match=r"category_shares\.labels: the events have no label column 'stars'"):
        CategorySharesConfig(column="genres", labels=("stars",)).fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match="cannot name a feature"):
        validate(CategorySharesConfig, {"column": "main category"})
