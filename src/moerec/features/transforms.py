"""Dense values as a model reads them: a transform is fitted on train values, then applied to any.

The transform of one value never depends on the other values it is applied with.

Shape letters: N values, K knots.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from moerec.config import Config
from moerec.errors import ConfigError
from moerec.features.spec import DenseTransformKind, FeatureSpec

MOST_KNOTS = 257
"""Knots of a quantile transform; fewer train values give as many knots as there are values."""

# A spread this small beside the values themselves is rounding, not information.
_LEAST_SPREAD = 1e-9
# No train value can be further from the mean than the square root of their number; this cuts only what is seen
# after training, where a column that was nearly constant would otherwise give astronomic inputs.
_MOST_DEVIATIONS = 1e4
# Beyond this the difference of two knots could overflow.
_FURTHEST_KNOT = 1e300


class DenseTransform(Config):
    """A fitted transform; plain data."""

    kind: DenseTransformKind = "standardise"
    """As in FeatureSpec.transform."""
    mean: float = 0.0
    """standardise and log: mean of the train values, after the logarithm if there is one."""
    deviation: float = 1.0
    """standardise and log: standard deviation (population) of the train values; 1 if there is no spread."""
    knots: tuple[float, ...] = ()
    """quantile: different values, ascending, from the least to the greatest train value."""
    scores: tuple[float, ...] = ()
    """quantile: what each knot becomes, ascending."""


def fit_transform(spec: FeatureSpec, values: NDArray[np.float64]) -> DenseTransform:
    """Learn the transform that a spec names; the order of the values does not matter.

    Args:
        spec: a dense feature.
        values: [N] train values, NaN where missing; none at all are allowed.

    Raises:
        ConfigError: a negative value for `log`.
    """
    numbers = _prepared(spec.transform, values, f"features.{spec.name}")
    numbers = numbers[np.isfinite(numbers)]
    if spec.transform == "none" or len(numbers) == 0:
        return DenseTransform(kind=spec.transform)
    if spec.transform == "quantile":
        knots, scores = _quantile_knots(numbers)
        return DenseTransform(kind=spec.transform, knots=tuple(knots.tolist()), scores=tuple(scores.tolist()))
    # Exact sums: the result is the same in any order of the values. Scaled, so that squares cannot overflow.
    scale = float(np.abs(numbers).max()) or 1.0
    scaled = numbers / scale
    mean = math.fsum(scaled) / len(scaled)
    deviation = math.sqrt(math.fsum((scaled - mean) ** 2) / len(scaled))
    spread = deviation * scale if deviation > _LEAST_SPREAD else 0.0
    # Of values next to the smallest float the spread itself is 0.
    return DenseTransform(kind=spec.transform, mean=mean * scale, deviation=spread or 1.0)


def apply_transform(
    transform: DenseTransform, values: NDArray[np.float64], where: str = "features"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Transform values, also ones that were not there to fit it.

    Args:
        transform: from `fit_transform`.
        values: [N], NaN where missing; an infinity is missing too.
        where: key path for messages.

    Returns:
        the transformed values, 0 where missing: standardise and log cut at 10,000 deviations, quantile at the outer
        knots; and which are there. Each [N].

    Raises:
        ConfigError: a negative value for `log`.
    """
    numbers = _prepared(transform.kind, values, where)
    present = np.isfinite(numbers)  # [N]
    numbers = np.where(present, numbers, 0.0)
    if transform.kind == "quantile":
        transformed = _interpolated(numbers, transform)
    elif transform.kind == "none":
        limit = float(np.finfo(np.float32).max)
        transformed = np.clip(numbers, -limit, limit)
    else:
        with np.errstate(over="ignore"):
            transformed = (numbers - transform.mean) / transform.deviation
        transformed = np.clip(transformed, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    return np.where(present, transformed, 0.0).astype(np.float32), present


def _prepared(kind: DenseTransformKind, values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if kind == "quantile":
        return np.where(np.isfinite(numbers), np.clip(numbers, -_FURTHEST_KNOT, _FURTHEST_KNOT), math.nan)
    if kind == "log":
        finite = np.isfinite(numbers)
        if (numbers[finite] < 0).any():
            wrong = numbers[finite & (numbers < 0)][0]
            raise ConfigError(f"{where}: {wrong:g} has no logarithm; use transform standardise or quantile")
        return np.log1p(np.where(finite, numbers, math.nan))
    return numbers


def _quantile_knots(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantiles at evenly spaced levels, the extremes among them, and the normal scores of their mean ranks; each [K].

    Knots of the same value become one.
    """
    count = min(MOST_KNOTS, len(numbers))
    places = np.linspace(0, len(numbers) - 1, count)  # [K]
    ordered = np.sort(numbers)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, len(numbers) - 1)
    part = places - below
    # Rounding must not lead a knot beyond the values that it lies between.
    knots = np.clip(ordered[below] * (1 - part) + ordered[above] * part, ordered[below], ordered[above])  # [K]
    knots = np.unique(knots)
    ranks = np.searchsorted(ordered, knots, side="left") + np.searchsorted(ordered, knots, side="right")
    levels = ranks / (2 * len(ordered))  # never 0 or 1, so that every score is finite
    normal = NormalDist()
    return knots, np.array([normal.inv_cdf(level) for level in levels.tolist()])


def _interpolated(numbers: NDArray[np.float64], transform: DenseTransform) -> NDArray[np.float64]:
    """Scores between the knots, [N]; 0 if there is no knot."""
    knots, scores = np.array(transform.knots), np.array(transform.scores)  # each [K]
    if len(knots) == 0:
        return np.zeros_like(numbers)
    last = len(knots) - 1
    numbers = np.clip(numbers, knots[0], knots[-1])
    low = np.clip(np.searchsorted(knots, numbers, side="right") - 1, 0, max(last - 1, 0))  # [N]
    high = np.minimum(low + 1, last)
    width = np.where(high > low, knots[high] - knots[low], 1.0)
    part = (numbers - knots[low]) / width
    # The clip keeps it monotone where rounding would pass the next knot.
    return np.clip(scores[low] + part * (scores[high] - scores[low]), scores[low], scores[high])
