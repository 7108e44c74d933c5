"""Dense transforms: monotone, the same for any order of rows, blind to the other rows, and plain data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moerec.errors import ConfigError
from moerec.features.columns import FittedColumn
from moerec.features.spec import FeatureSpec
from moerec.features.transforms import MOST_KNOTS, DenseTransform, apply_transform, fit_transform

KINDS = ("none", "standardise", "log", "quantile")
ANY = st.floats(allow_nan=True, allow_infinity=True)
POSITIVE = st.floats(0) | st.just(math.nan)
quickly = settings(max_examples=40)


def fitted(kind: str, values) -> DenseTransform:
    return fit_transform(FeatureSpec(name="x", kind="dense", transform=kind), np.array(values, np.float64))


def transformed(transform: DenseTransform, values) -> np.ndarray:
    return apply_transform(transform, np.array(values, np.float64))[0]


@pytest.mark.parametrize("kind", KINDS)
@quickly
@given(data=st.data())
def test_finite_monotone_and_blind_to_other_rows(kind, data):
    numbers = st.lists(POSITIVE if kind == "log" else ANY, max_size=12)
    train, values = data.draw(numbers), data.draw(numbers)
    transform = fitted(kind, train)
    result, present = apply_transform(transform, np.array([*values, *train]))
    assert np.isfinite(result).all()
    assert present.tolist() == [math.isfinite(value) for value in [*values, *train]]
    assert not result[~present].any()
    ascending = sorted(value for value in [*values, *train] if math.isfinite(value))
    assert (np.diff(transformed(transform, ascending)) >= 0).all()
    alone = [transformed(transform, [value])[0] for value in [*values, *train]]
    assert np.array_equal(result, alone)


@pytest.mark.parametrize("kind", KINDS)
@quickly
@given(numbers=st.lists(POSITIVE, max_size=12), random=st.randoms(use_true_random=False))
def test_fitting_knows_no_order_and_survives_json(kind, numbers, random):
    transform = fitted(kind, numbers)
    shuffled = random.sample(numbers, len(numbers))
    assert fitted(kind, [*shuffled, math.nan]) == transform
    assert DenseTransform.model_validate_json(transform.model_dump_json()) == transform


@quickly
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_few_values_become_the_normal_score_of_their_mean_rank(numbers):
    ranks = stats.rankdata(numbers)
    right = stats.norm.ppf((ranks - 0.5) / len(numbers))
    np.testing.assert_allclose(transformed(fitted("quantile", numbers), numbers), right, atol=1e-6)


def test_many_values_of_any_shape_become_normal():
    generator = np.random.default_rng(0)
    numbers = np.exp(3 * generator.standard_normal(20_000))
    transform = fitted("quantile", numbers)
    assert len(transform.knots) == MOST_KNOTS
    assert transform.knots[0] == numbers.min()
    assert transform.knots[-1] == numbers.max()
    result = np.sort(transformed(transform, numbers))
    levels = (np.arange(len(numbers)) + 0.5) / len(numbers)
    inner = (levels > 0.01) & (levels < 0.99)
    np.testing.assert_allclose(result[inner], stats.norm.ppf(levels[inner]), atol=0.02)


def test_what_lies_outside_is_cut_and_one_value_is_zero():
    transform = fitted("quantile", [1.0, 2.0, 3.0])
    assert transformed(transform, [-1e308, 1e308]).tolist() == transformed(transform, [1.0, 3.0]).tolist()
    assert transformed(fitted("quantile", [4.0] * 9), [3.0, 4.0, 5.0]).tolist() == [0, 0, 0]
    assert transformed(fitted("quantile", []), [3.0]).tolist() == [0]


def test_a_heavy_tie_keeps_the_rare_values_apart():
    numbers = [0.0] * 9_990 + [1.0] * 5 + [7.0] * 5
    low, high = transformed(fitted("quantile", numbers), [0.0, 7.0])
    assert low == pytest.approx(0, abs=0.01)
    assert high > 2


def test_standardise_and_log_by_hand():
    numbers = np.array([1.0, 2.0, 6.0, math.nan])
    right = (numbers - 3) / math.sqrt(14 / 3)
    np.testing.assert_allclose(transformed(fitted("standardise", numbers), numbers)[:3], right[:3], rtol=1e-6)
    logs = np.log1p(numbers[:3])
    right = (logs - logs.mean()) / logs.std()
    np.testing.assert_allclose(transformed(fitted("log", numbers), numbers)[:3], right, rtol=1e-6)
    assert transformed(fitted("standardise", [0.0, 1e-3]), [1e9]).tolist() == [1e4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_spread_too_small_for_a_float_makes_no_nan(kind):
    values = [0.0, 5e-324]
    assert np.isfinite(transformed(fitted(kind, values), values)).all()


def test_a_negative_value_has_no_logarithm():
    with pytest.raises(ConfigError, match=r"features\.x: -1 has no logarithm; use transform standardise or quantile"):
        fitted("log", [3.0, -1.0])
    with pytest.raises(ConfigError, match=r"features\.y: -2 has no logarithm"):
        apply_transform(fitted("log", [1.0]), np.array([-2.0]), "features.y")


def test_columns_fitted_in_the_first_form_still_load():
    spec = {"name": "year", "kind": "dense", "transform": "log"}
    old = FittedColumn.model_validate({"spec": spec, "values": [], "mean": 1.5, "deviation": 0.5})
    assert old.transform == DenseTransform(kind="log", mean=1.5, deviation=0.5)
    assert FittedColumn.model_validate(old.model_dump(mode="json")) == old
