"""How sure the metrics of predictions are: bootstrap over users, and the difference of two models.

Rows of one user depend on each other, so whole users are drawn (the cluster bootstrap of Field and Welsh 2007). A
user that is drawn twice counts as two users, so a resample is a whole number of times for each user; see
`prediction_resamples`.

Two models are compared by the same bootstrap, not by swapping their predictions within users: AUC and the
calibration errors pool rows over users, and scores of two models that are equally good but on different scales
may not be mixed. The p-value belongs to the interval: 0.05 is about where the 95% interval begins to leave
out 0.

Shape letters: U users, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation.prediction_resamples import RESAMPLERS
from moerec.evaluation.predictions import Predictions, evaluate_predictions, metric_name
from moerec.evaluation.significance import NUMBERS_IN_MEMORY, Interval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RECENTRED = ("ece", "ece_mass")
"""Sums of absolute values grow by the noise of resampling; their resamples are moved to the measured value."""
MOST_UNDEFINED = 0.05
"""A metric that more of the resamples do not define (too few positives, for instance) gets no interval."""


def describe(level: float = 0.95, resamples: int = 1000) -> dict[str, str]:
    """The procedures in words, for reports: `interval` and `test`."""
    words = f"{level:.0%} percentile bootstrap over users (all rows of a user together), {resamples:,} resamples"
    return {
        "interval": f"{words}; those of ECE are moved to the measured value",
        "test": f"paired bootstrap over users, two-sided, {resamples:,} resamples: how often the sign changes",
    }


def prediction_intervals(
    predictions: Sequence[Predictions],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Percentile intervals (Efron 1979) of every metric of one or more tasks, by full name.

    All metrics of all tasks share the same resamples of users.

    Args:
        predictions: of a model, one for each task.
        generator: source of the resamples.
        level: coverage wanted.
        resamples: number of resamples.
    """
    users = _all_users(predictions)
    drawn = _resampled(predictions, users, generator, resamples)
    intervals: dict[str, Interval] = {}
    for part, samples in zip(predictions, drawn, strict=True):
        for name, value in evaluate_predictions(part).items():
            values = _settled(samples[name], value, name)
            if values is not None:
                intervals[name] = _percentiles(values, level)
    return intervals


@dataclass(frozen=True)
class PredictionComparison:
    """The difference of two models in one metric on the same rows."""

    difference: float
    """First minus second."""
    interval: Interval
    """Bootstrap interval of the difference."""
    p_value: float
    """Two-sided; never 0, because the observed difference counts as one more resample."""
    users: int
    """Users that were drawn from."""


def compare_predictions(
    first: Predictions,
    second: Predictions,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> dict[str, PredictionComparison]:
    """Compare two models on the rows of one task, in every metric that both have, by full name.

    Args:
        first: one model.
        second: the other, on the same rows in the same order.
        generator: source of the resamples, which both models share.
        level: coverage of the intervals.
        resamples: number of resamples.

    Raises:
        ValueError: the rows differ.
    """
    if (
        metric_name(first.task, "") != metric_name(second.task, "")
        or not np.array_equal(first.users, second.users)
        or not np.array_equal(first.labels, second.labels)
    ):
        raise ValueError(f"{first.model} and {second.model} were not evaluated on the same rows of one task")
    users = _all_users([first])
    ours, theirs = _resampled([first, second], users, generator, resamples)
    values = evaluate_predictions(second)
    comparisons: dict[str, PredictionComparison] = {}
    for name, value in evaluate_predictions(first).items():
        if name in values:
            difference = value - values[name]
            samples = _settled(ours[name] - theirs[name], difference, name)
            if samples is not None:
                comparisons[name] = PredictionComparison(
                    difference, _percentiles(samples, level), _p_value(samples), len(users)
                )
    return comparisons


def _all_users(predictions: Sequence[Predictions]) -> Ints:
    """Users of any of them, ascending, [U]."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(part.users for part in predictions)]))


def _settled(samples: Floats, value: float, name: str) -> Floats | None:
    """The resamples that define a metric, recentred where it needs it; None if too many do not."""
    defined = samples[~np.isnan(samples)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(samples):
        return None
    return defined + (value - np.median(defined)) if name.split("/")[1] in RECENTRED else defined


def _percentiles(samples: Floats, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _p_value(samples: Floats) -> float:
    """Twice the smaller share of resampled differences on one side of 0."""
    # Equal sums in another order differ in the last bits; a difference that small is none.
    below = int((samples <= 1e-12).sum())
    above = int((samples >= -1e-12).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(samples) + 1))


def _resampled(
    predictions: Sequence[Predictions], users: Ints, generator: np.random.Generator, resamples: int
) -> list[dict[str, Floats]]:
    """Metrics of each part in every resample: a list of {full name: [R]}."""
    if len(users) == 0:
        return [{} for _ in predictions]
    prepared = [RESAMPLERS[part.task.type](part, users) for part in predictions]
    blocks = [[resampler(times) for resampler in prepared] for times in _resamples(len(users), resamples, generator)]
    return [
        {name: np.concatenate([block[p][name] for block in blocks]) for name in blocks[0][p]}
        for p in range(len(predictions))
    ]


def _resamples(users: int, resamples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """How often each user is drawn, in blocks of [R, U]."""
    size = max(1, NUMBERS_IN_MEMORY // users)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(0, users, size=(rows, users), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
