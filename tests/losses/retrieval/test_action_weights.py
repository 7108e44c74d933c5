"""Weights of events by what the user did."""

import numpy as np
import pytest

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.losses.retrieval import ActionWeightsConfig

LABELS = {"rating": np.array([5, 1, 5, 3, 5], dtype=np.int64), "liked": np.array([True, False, True, False, True])}


def weights(labels=LABELS, **settings: object) -> list[float]:
    return validate(ActionWeightsConfig, settings).of(labels, "stage 'main'").tolist()


def test_fixed_weights_go_by_value_and_others_are_1():
    assert weights(column="rating", weights={5: 2.0, 1: 0}) == [2, 0, 2, 1, 2]
    assert weights(column="liked", weights={True: 0.5}) == [0.5, 1, 0.5, 1, 0.5]
    assert weights(column="rating", weights={"5.0": 0.5}) == [0.5, 1, 0.5, 1, 0.5]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_class_balanced_is_the_inverse_of_the_effective_number(beta):
    effective = {5: sum(beta**n for n in range(3)), 1: 1.0, 3: 1.0}  # 1 + beta + beta^2 + ...
    raw = np.array([1 / effective[value] for value in LABELS["rating"].tolist()])
    assert weights(column="rating", kind="class_balanced", beta=beta) == pytest.approx(raw / raw.mean(), rel=1e-6)


def test_beta_has_a_default():
    assert weights(column="rating", kind="class_balanced") == weights(
        column="rating", kind="class_balanced", beta=0.999
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "ratng", "weights": {5: 2.0}}, r"no column 'ratng'; did you mean 'rating'\?"),
        ({"column": "rating", "weights": {4: 2.0}}, "no train event has rating 4; there are: 1, 3, 5"),
        ({"column": "rating", "weights": {"high": 2.0}}, "labels are numbers or true and false, not 'high'"),
        ({"column": "rating"}, "fixed needs weights"),
        ({"column": "rating", "kind": "class_balanced", "weights": {5: 1.0}}, "class_balanced computes them"),
        ({"column": "rating", "weights": {5: 1.0}, "beta": 0.9}, "beta belongs to"),
        ({"column": "rating", "weights": {5: -1.0}}, "weights of 0 or more"),
        ({"column": "rating", "weights": {5: 0.0}}, "not all of them 0"),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        weights(**settings)


def test_gaps_are_told():
    with pytest.raises(ConfigError, match="'rating' is missing in some events"):
        weights({"rating": np.array([1.0, np.nan])}, column="rating", kind="class_balanced")
    with pytest.raises(ConfigError, match="this data set has no labels"):
        weights({}, column="rating", kind="class_balanced")
