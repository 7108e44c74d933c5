"""List statistics against naive formulas."""

import math

import numpy as np
import pytest

from moerec.evaluation.beyond import beyond_accuracy


def test_naive_reference():
    generator = np.random.default_rng(3)
    counts = generator.integers(0, 30, size=22)
    counts[:2] = 0
    lists = np.stack([generator.permutation(np.arange(2, 22))[:10] for _ in range(15)])
    lists[3, 4:] = 0
    values = beyond_accuracy(lists, counts, cutoffs=(5, 10))
    for k in (5, 10):
        shown = [int(item) for row in lists for item in row[:k] if item]
        assert values[f"coverage@{k}"] == len(set(shown)) / 20
        information = [-math.log2(max(counts[item], 1) / counts.sum()) for item in shown]
        assert values[f"novelty@{k}"] == pytest.approx(np.mean(information))
        assert values[f"popularity@{k}"] == pytest.approx(np.mean([counts[item] for item in shown]))


def test_extremes():
    counts = np.array([0, 0, 5, 5, 5, 5])
    same = beyond_accuracy(np.full((8, 1), 3), counts, cutoffs=(1,))
    even = beyond_accuracy(np.array([[2], [3], [4], [5]]), counts, cutoffs=(1,))
    assert (same["coverage@1"], same["gini@1"]) == (0.25, 0.75)
    assert (even["coverage@1"], even["gini@1"]) == (1.0, 0.0)
    assert even["novelty@1"] == 2.0


def test_lists_shorter_than_k_are_refused():
    with pytest.raises(ValueError, match="fewer than k"):
        beyond_accuracy(np.zeros((1, 5), int), np.ones(4, int), cutoffs=(10,))
