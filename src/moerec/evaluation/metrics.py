"""HR, Recall, NDCG and MRR at k from the places of the targets: expectations over a random order of ties.

A target's place is known up to ties: `better` candidates stand before it, `tied` other candidates share its
score, so its rank is uniform on better + 1 .. better + tied + 1. Recall and NDCG are sums over targets, so
only this marginal matters. HR and MRR ask for the first hit, which lies in the best tie group that holds a
target; with m targets among its n candidates the position of the first follows the negative hypergeometric
distribution.

Shape letters: C cases, K targets of all cases together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

METRICS = ("hr", "recall", "ndcg", "mrr")
MEAN_RANK = "mean_rank"


@dataclass(frozen=True, eq=False)
class Places:
    """Where the targets of all cases stand among the candidates."""

    better: Ints  # [K]
    """Candidates with a higher score."""
    tied: Ints  # [K]
    """Other candidates with the same score."""
    listed: NDArray[np.bool_]  # [K]
    """False where the scorer gave -inf: the target is no candidate and is never found."""
    items: Ints  # [K]
    """Number of items that the case's list could hold: the rank of a target that is not listed."""

    def select(self, chosen: NDArray[np.bool_]) -> Places:
        """The places of some targets."""
        return Places(self.better[chosen], self.tied[chosen], self.listed[chosen], self.items[chosen])

    @property
    def expected_ranks(self) -> Floats:
        """Expected rank of each target, [K]; 1 is the best."""
        return np.where(self.listed, self.better + self.tied / 2 + 1, self.items)


def metrics_of_places(places: Places, offsets: Ints, cutoffs: Sequence[int]) -> dict[str, Floats]:
    """Every metric of every case.

    `hr@k`: the chance that a target is among the first k. `recall@k`: share of the targets among them.
    `ndcg@k`: binary gains, log2 discount, over the best possible list of min(targets, k) hits. `mrr@k`:
    reciprocal rank of the first hit, 0 beyond k. `mean_rank`: mean expected rank of the targets.

    Args:
        places: of all targets, one case after another.
        offsets: [C + 1] targets of each case; every case has at least one.
        cutoffs: the values of k.

    Returns:
        {name: [C] float64}.
    """
    counts = np.diff(offsets)  # [C]
    if len(counts) and counts.min() < 1:
        raise ValueError("every case must have at least one target")
    starts = offsets[:-1]
    largest = max(cutoffs)
    discounts = 1 / np.log2(np.arange(2, largest + 2))
    values: dict[str, Floats] = {}
    hits, reciprocals = _first_hits(places, starts, counts, cutoffs)
    for position, k in enumerate(cutoffs):
        recall = _expected_gain(places, np.ones(k))
        gain = _expected_gain(places, discounts[:k])
        ideal = np.cumsum(discounts[:k])[np.minimum(counts, k) - 1]
        values[f"hr@{k}"] = hits[position]
        values[f"recall@{k}"] = np.add.reduceat(recall, starts) / counts
        values[f"ndcg@{k}"] = np.add.reduceat(gain, starts) / ideal
        values[f"mrr@{k}"] = reciprocals[position]
    values[MEAN_RANK] = np.add.reduceat(places.expected_ranks, starts) / counts
    return values


def _expected_gain(places: Places, gains: Floats) -> Floats:
    """Mean gain over the ranks that each target may take; gains [k] of ranks 1 to k, 0 beyond. Returns [K]."""
    k = len(gains)
    cumulated = np.concatenate([np.zeros(1), np.cumsum(gains)])
    upper = cumulated[np.minimum(places.better + places.tied + 1, k)]
    lower = cumulated[np.minimum(places.better, k)]
    return np.where(places.listed, (upper - lower) / (places.tied + 1), 0.0)


def _first_hits(
    places: Places, starts: Ints, counts: Ints, cutoffs: Sequence[int]
) -> tuple[list[Floats], list[Floats]]:
    """Chance of a hit within k and expected reciprocal rank of the first one, each [C], for every k."""
    nowhere = np.iinfo(np.int64).max // 2
    better = np.where(places.listed, places.better, nowhere)  # [K]
    best = np.minimum.reduceat(better, starts)  # [C] candidates before the best group that holds a target
    in_best = (better == np.repeat(best, counts)) & places.listed  # [K]
    targets = np.add.reduceat(in_best.astype(np.int64), starts)  # [C] m
    size = np.maximum.reduceat(np.where(in_best, places.tied + 1, 0), starts)  # [C] n
    hits = [np.zeros(len(starts)) for _ in cutoffs]
    reciprocals = [np.zeros(len(starts)) for _ in cutoffs]
    none_yet = np.ones(len(starts))  # chance that the first j places of the group hold no target
    for j in range(max(cutoffs)):
        chance = none_yet * np.minimum(targets / np.maximum(size - j, 1), 1)
        chance[size <= j] = 0
        none_yet -= chance
        rank = best + j + 1
        for position, k in enumerate(cutoffs):
            within = np.where(rank <= k, chance, 0)
            hits[position] += within
            reciprocals[position] += within / rank
    return hits, reciprocals
