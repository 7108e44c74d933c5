"""How sure a number is: bootstrap intervals, paired tests of two models, means over seeds.

Shape letters: C cases, M metrics, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Interval = tuple[float, float]

NUMBERS_IN_MEMORY = 2**22
"""Random numbers that a resampling holds at once."""


def describe(level: float = 0.95, resamples: int = 1000, flips: int = 10_000) -> dict[str, str]:
    """The procedures in words, for reports: `interval` and `test`."""
    return {
        "interval": f"{level:.0%} percentile bootstrap over users, {resamples:,} resamples",
        "test": f"paired randomisation test over users, two-sided, {flips:,} random sign flips",
    }


def bootstrap_intervals(
    per_case: Mapping[str, Floats],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Percentile intervals of means over cases (Efron 1979); all metrics share the same resamples.

    Args:
        per_case: {metric: [C]}.
        generator: source of the resamples.
        level: coverage wanted.
        resamples: number of resamples.

    Returns:
        {metric: (low, high)}.
    """
    if not per_case:
        return {}
    values = np.stack(list(per_case.values()), axis=1)  # [C, M]
    count = len(values)
    means = np.empty((resamples, values.shape[1]))  # [R, M]
    size = max(1, NUMBERS_IN_MEMORY // count)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(0, count, size=(rows, count), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)  # how often each case
        means[start : start + rows] = times @ values / count
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)  # each [M]
    return {name: (float(low[m]), float(high[m])) for m, name in enumerate(per_case)}


def bootstrap_interval(
    values: Floats, generator: np.random.Generator, level: float = 0.95, resamples: int = 1000
) -> Interval:
    """Percentile interval of the mean of one vector [C]; see `bootstrap_intervals`."""
    return bootstrap_intervals({"mean": np.asarray(values, dtype=np.float64)}, generator, level, resamples)["mean"]


@dataclass(frozen=True)
class PairedComparison:
    """The difference of two models on the same cases."""

    difference: float
    """Mean of first minus second."""
    interval: Interval
    """Bootstrap interval of the difference."""
    p_value: float
    """Two-sided randomisation test: the signs of the cases' differences are exchangeable under no difference."""
    p_value_t: float
    """Two-sided paired t test."""
    cases: int
    """Number of cases."""


def compare_paired(
    first: Floats,
    second: Floats,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
    flips: int = 10_000,
) -> PairedComparison:
    """Compare two vectors of the same metric over the same cases.

    Args:
        first: [C] metric of one model.
        second: [C] of the other.
        generator: source of resamples and signs.
        level: coverage of the interval.
        resamples: resamples of the interval.
        flips: random sign vectors of the randomisation test; all of them are used if there are no more.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return PairedComparison(
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences, generator, level, resamples),
        p_value=randomisation_test(differences, generator, flips),
        p_value_t=paired_t_test(differences),
        cases=len(differences),
    )


def randomisation_test(differences: Floats, generator: np.random.Generator, flips: int = 10_000) -> float:
    """Two-sided p-value of a mean difference under random signs (Fisher 1935; Smucker et al. 2007).

    With at most `flips` sign vectors in all the test is exact; else they are drawn at random, and the observed
    one counts among them, so that the p-value is never 0.
    """
    moving = differences[differences != 0]  # a difference of 0 stays 0 under either sign
    observed = abs(moving.sum())
    # Sums of the same numbers in another order differ in the last bits and must still count as equal.
    threshold = observed - 1e-9 * max(1.0, float(np.abs(moving).sum()))
    if 2 ** min(len(moving), 62) <= flips:
        every = (np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1
        return float((np.abs((1 - 2 * every) @ moving) >= threshold).mean())
    extreme = 0
    size = max(1, NUMBERS_IN_MEMORY // len(moving))
    for start in range(0, flips, size):
        rows = min(size, flips - start)
        bits = np.frombuffer(generator.bytes(rows * math.ceil(len(moving) / 8)), dtype=np.uint8)
        negative = np.unpackbits(bits.reshape(rows, -1), axis=1, count=len(moving))
        sums = moving.sum() - 2 * (negative @ moving)
        extreme += int((np.abs(sums) >= threshold).sum())
    return (extreme + 1) / (flips + 1)


def paired_t_test(differences: Floats) -> float:
    """Two-sided p-value of Student's t test that the mean difference is 0; 1 if every difference is 0."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    deviation = float(differences.std(ddof=1))
    if deviation == 0:
        return 0.0
    statistic = float(differences.mean()) / (deviation / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(statistic), len(differences) - 1))


@dataclass(frozen=True)
class SeedSummary:
    """One metric over several seeds."""

    mean: float
    """Mean over the seeds."""
    deviation: float
    """Sample standard deviation; 0 for one seed."""
    interval: Interval | None
    """Interval of the mean by Student's t; None for one seed, which says nothing about others."""
    seeds: int
    """Number of seeds."""


def summarise_seeds(values: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Mean and interval of one metric over seeds.

    Args:
        values: one value for each seed.
        level: coverage of the interval.
    """
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return SeedSummary(mean, 0.0, None, count)
    deviation = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * deviation / math.sqrt(count)
    return SeedSummary(mean, deviation, (mean - half, mean + half), count)
