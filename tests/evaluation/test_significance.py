"""Intervals that cover what was planted, p-values that scipy gives too."""

import numpy as np
import pytest
from scipy import stats

from moerec.evaluation import significance
from moerec.evaluation.significance import (
    bootstrap_interval,
    bootstrap_intervals,
    compare_paired,
    describe,
    paired_t_test,
    randomisation_test,
    summarise_seeds,
)


def test_the_interval_covers_a_planted_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = bootstrap_interval(generator.binomial(1, 0.2, 150).astype(float), generator, 0.9, 300)
        covered += low <= 0.2 <= high
    assert 0.85 <= covered / 400 <= 0.95


def test_the_interval_equals_scipys():
    values = np.random.default_rng(1).exponential(size=200)
    ours = bootstrap_interval(values, np.random.default_rng(2), resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_metrics_share_resamples_and_blocks_change_nothing(monkeypatch):
    values = np.random.default_rng(4).random(50)
    whole = bootstrap_intervals({"a": values, "b": 2 * values}, np.random.default_rng(5))
    assert whole["b"] == pytest.approx((2 * whole["a"][0], 2 * whole["a"][1]))
    monkeypatch.setattr(significance, "NUMBERS_IN_MEMORY", 333)
    blocks = bootstrap_intervals({"a": values, "b": 2 * values}, np.random.default_rng(5))
    assert blocks["a"] == pytest.approx(whole["a"])


def test_a_wider_level_gives_a_wider_interval_and_constants_give_a_point():
    values = np.random.default_rng(6).random(80)
    narrow = bootstrap_interval(values, np.random.default_rng(7), level=0.5)
    wide = bootstrap_interval(values, np.random.default_rng(7), level=0.99)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert bootstrap_interval(np.full(9, 0.25), np.random.default_rng(8)) == (0.25, 0.25)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_few_cases_are_tested_exactly(count):
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    theirs = stats.permutation_test(
        (differences, np.zeros(count)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    ours = randomisation_test(differences, np.random.default_rng(0))
    assert ours == pytest.approx(theirs.pvalue)


def test_many_cases_agree_with_scipy(monkeypatch):
    differences = np.random.default_rng(9).normal(0.12, 1, 200)
    theirs = stats.permutation_test(
        (differences, np.zeros(200)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=5_000,
        vectorized=True,
        rng=np.random.default_rng(10),
    )
    monkeypatch.setattr(significance, "NUMBERS_IN_MEMORY", 100_000)
    ours = randomisation_test(differences, np.random.default_rng(11), flips=5_000)
    assert ours == pytest.approx(theirs.pvalue, abs=0.025)
    assert 0.01 < ours < 0.5


def test_p_values_are_uniform_without_a_difference():
    generator = np.random.default_rng(12)
    values = [randomisation_test(generator.normal(size=40), generator, flips=200) for _ in range(300)]
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_cases_that_do_not_differ_change_no_p_value():
    differences = np.array([1.0, -0.5, 2.0, 1.5, 0.5])
    padded = np.concatenate([differences, np.zeros(40)])
    generator = np.random.default_rng(13)
    assert randomisation_test(padded, generator) == randomisation_test(differences, generator)


def test_t_test_equals_scipys():
    first, second = np.random.default_rng(14).random((2, 60))
    assert paired_t_test(first - second) == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert paired_t_test(np.zeros(5)) == 1.0
    assert paired_t_test(np.full(5, 0.5)) == 0.0


def test_a_comparison_is_antisymmetric():
    first, second = np.random.default_rng(15).random((2, 60)) + np.array([[0.3], [0.0]])
    forward = compare_paired(first, second, np.random.default_rng(16))
    backward = compare_paired(second, first, np.random.default_rng(16))
    assert forward.difference == pytest.approx(-backward.difference)
    assert forward.interval == pytest.approx((-backward.interval[1], -backward.interval[0]))
    assert forward.p_value == pytest.approx(backward.p_value)
    assert forward.interval[0] > 0
    assert forward.p_value < 0.01
    assert forward.cases == 60
    same = compare_paired(first, first, np.random.default_rng(17))
    assert (same.difference, same.p_value, same.p_value_t) == (0.0, 1.0, 1.0)


def test_seeds_are_summarised_by_students_t():
    values = [0.20, 0.21, 0.19, 0.22, 0.20]
    summary = summarise_seeds(values)
    theirs = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert summary.interval == pytest.approx(theirs)
    assert summary.deviation == pytest.approx(np.std(values, ddof=1))
    assert summarise_seeds([0.2]).interval is None


def test_the_words_name_level_and_counts():
    assert "95%" in describe()["interval"]
    assert "1,000" in describe()["interval"]
    assert "10,000" in describe()["test"]
