"""Moments: mean, spread and distance equal to plain statistics of the earlier events."""

import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features.feature import Catalogue
from moerec.features.moments import MomentsConfig
from tests.features import properties

YEAR = MomentsConfig(column="year")
CATALOGUE = properties.make_catalogue()


def catalogue_of(numbers) -> Catalogue:
    return Catalogue(pl.DataFrame({"price": pl.Series(numbers)}), len(numbers) + 2)


def applied(feature, events, catalogue, train=None) -> pl.DataFrame:
    return feature.apply(events, events, feature.fit(events if train is None else train, catalogue))


@settings(max_examples=3)
@given(properties.event_frames(), st.sampled_from(["year", "price"]))
def test_the_properties_of_a_feature(events, column):
    properties.check_all(MomentsConfig(column=column), events, CATALOGUE)


@settings(max_examples=40)
@given(properties.event_frames(most=12))
def test_equal_to_plain_statistics(events):
    years = {row["item"]: row["year"] for row in CATALOGUE.items.iter_rows(named=True)}
    columns = applied(YEAR, events, CATALOGUE)
    for row, result in zip(events.iter_rows(named=True), columns.iter_rows(), strict=True):
        past = events.filter((pl.col("user") == row["user"]) & (pl.col("timestamp") < row["timestamp"]))
        numbers = [years[item] for item in past["item"] if years[item] is not None]
        mean = statistics.mean(numbers) if numbers else None
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
        year = years[row["item"]]
        distance = (year - mean) / deviation if deviation and year is not None else None
        for value, right in zip(result, (mean, deviation, distance), strict=True):
            assert value is right is None or value == pytest.approx(right, rel=1e-9)


def test_rounding_to_units_hardly_shows():
    generator = np.random.default_rng(0)
    prices = np.exp(generator.normal(3, 1, 50)).round(2)
    rows = [(0, int(item) + 2, time, None, None) for time, item in enumerate(generator.integers(0, 50, 3000))]
    events = properties.frame(rows)
    columns = applied(MomentsConfig(column="price"), events, catalogue_of(prices))
    past = prices[events["item"].to_numpy()[:-1] - 2]
    mean, deviation, _ = columns.row(-1)
    assert mean == pytest.approx(past.mean(), rel=1e-4)
    assert deviation == pytest.approx(past.std(ddof=1), rel=1e-4)


def test_equal_numbers_have_no_spread_and_give_no_distance():
    events = properties.frame([(0, 2 + n % 2, n, None, None) for n in range(2000)])
    columns = applied(MomentsConfig(column="price"), events, catalogue_of([19.99, 19.99]))
    assert columns["user_price_deviation"][2:].unique().to_list() == [0.0]
    assert columns["item_price_distance"].null_count() == 2000


def test_the_event_itself_and_its_ties_are_not_in_its_past():
    rows = [(0, 2, 0, None, None), (0, 3, 5, None, None), (0, 4, 9, None, None), (0, 5, 9, None, None)]
    columns = applied(MomentsConfig(column="price"), properties.frame(rows), catalogue_of([1.0, 3.0, 100.0, 500.0]))
    assert columns["user_price_mean"].to_list() == [None, 1, 2, 2]
    distances = columns["item_price_distance"].to_list()
    assert distances[:2] == [None, None]
    assert distances[2:] == pytest.approx([98 / 2**0.5, 498 / 2**0.5])


def test_a_planted_taste_for_cheap_things_shows():
    generator = np.random.default_rng(1)
    prices = generator.uniform(0, 100, 200)
    rows = []
    for user in range(40):
        likes = generator.uniform(20, 80)
        near = np.flatnonzero(abs(prices - likes) < 10)
        far = np.flatnonzero(abs(prices - likes) > 30)
        for time in range(20):
            rows.append((user, int(generator.choice(near)) + 2, time, 5.0, 1.0))
        rows.append((user, int(generator.choice(far)) + 2, 20, 1.0, 0.0))
    events = properties.frame(rows)
    distance = applied(MomentsConfig(column="price"), events, catalogue_of(prices))["item_price_distance"].abs()
    late = events["timestamp"] >= 10
    liked, disliked = (distance.filter(late & (events["like"] == value)) for value in (1, 0))
    assert disliked.min() > liked.quantile(0.99)


def test_mistakes_are_one_line():
    events = properties.make_events(users=2)
    with pytest.raises(ConfigError, match=r"features\.moments: there is no column 'yeer'; did you mean 'year'\?"):
        MomentsConfig(column="yeer").fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match="is no number"):
        MomentsConfig(column="title").fit(events, CATALOGUE)
    with pytest.raises(ConfigError, match="cannot name a feature"):
        validate(MomentsConfig, {"column": "price in EUR"})
    named = MomentsConfig(column="price in EUR", name="price")
    assert [spec.name for spec in named.specs] == ["user_price_mean", "user_price_deviation", "item_price_distance"]
