"""Labels in whole units: nothing lost for ratings, little for other numbers, no sum that overflows."""

import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError
from moerec.features.fixed_point import FixedPoint, label_values, mean, sample_deviation, shrunk_mean

quickly = settings(max_examples=50)


@pytest.mark.parametrize("values", [[0.5, 5.0, 3.5], [0.0, 1.0], [-1.0, 10.0], [1.0, 250.0], [0.0]])
def test_ratings_and_counts_lose_nothing(values):
    units = FixedPoint.fitted(np.array(values), 10**6)
    whole, known = units.whole(np.array([*values, math.nan]))
    assert known.tolist() == [True] * len(values) + [False]
    assert (whole * units.unit).tolist() == [*values, 0.0]


@quickly
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20))
def test_other_numbers_keep_five_digits_of_the_largest(values):
    array = np.array(values)
    units = FixedPoint.fitted(array, len(values))
    whole, _ = units.whole(array)
    assert np.abs(whole * units.unit - array).max() <= units.unit / 2
    assert units.unit <= max(16 * np.abs(array).max() / 2**20, 2.0**-16)


@pytest.mark.parametrize("rows", [1, 1000, 2**22, 2**40])
def test_no_sum_of_squares_can_overflow(rows):
    units = FixedPoint.fitted(np.array([15.9]), rows)
    whole, _ = units.whole(np.array([1e300, -1e300, 15.9]))
    assert rows * int(np.abs(whole).max()) ** 2 < 2**63
    assert units.unit < 0.2


def test_labels_beyond_those_of_the_train_events_are_cut():
    units = FixedPoint.fitted(np.array([5.0]), 100)
    assert (units.whole(np.array([1e9, -1e9]))[0] * units.unit).tolist() == [16.0, -16.0]


def exact_variance(numbers) -> Fraction:
    centre = Fraction(sum(numbers), len(numbers))
    return sum((number - centre) ** 2 for number in numbers) / (len(numbers) - 1)


@quickly
@given(st.lists(st.integers(-(2**20), 2**20), max_size=12), st.integers(1, 200))
def test_means_and_deviations_of_whole_numbers(numbers, times):
    numbers = numbers * times  # long lists of few values, where floating-point sums cancel badly
    array = np.array(numbers, np.int64)
    totals = np.array([len(numbers)]), np.array([array.sum()])
    deviation = sample_deviation(*totals, np.array([(array * array).sum()]))[0]
    if len(numbers) < 2:
        assert math.isnan(deviation)
    else:
        assert deviation == pytest.approx(float(exact_variance(numbers)) ** 0.5, rel=1e-12)
        assert deviation > 0 or len(set(numbers)) == 1
        assert deviation == 0 or len(set(numbers)) > 1
    assert math.isnan(mean(*totals)[0]) if not numbers else mean(*totals)[0] == sum(numbers) / len(numbers)


def test_a_shrunk_mean_goes_from_the_centre_to_the_mean():
    counts, sums = np.array([0, 1, 1000]), np.array([0, 9, 9000])
    values = shrunk_mean(counts, sums, np.full(3, 3.0), 5.0)
    assert values[0] == 3
    assert 3 < values[1] < values[2] < 9


def test_a_column_that_cannot_be_a_label_is_named():
    events = pl.DataFrame({"user": [0], "item": [2], "timestamp": [0], "rating": [1], "word": ["a"]})
    assert label_values(events, "rating", "features.x").tolist() == [1.0]
    with pytest.raises(ConfigError, match=r"features\.x\.labels: the events have no label column 'stars'.*rating"):
        label_values(events, "stars", "features.x")
    with pytest.raises(ConfigError, match="type String"):
        label_values(events, "word", "features.x")
