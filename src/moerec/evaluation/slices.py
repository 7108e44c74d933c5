"""Metrics of groups of targets: popular and rare items, cold ones, short and long histories.

Shape letters: C cases, K targets of all cases together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.schema import FIRST_ITEM
from moerec.evaluation.evaluate import EvaluationResult
from moerec.evaluation.metrics import metrics_of_places
from moerec.evaluation.protocols import EvaluationCases

Chosen = NDArray[np.bool_]


def head_items(train_counts: NDArray[np.integer], head_share: float = 0.5) -> Chosen:
    """The most popular items that together make up a share of the train events.

    Args:
        train_counts: [num_indices] train events of each item.
        head_share: share of the events, between 0 and 1.

    Returns:
        [num_indices] bool: the fewest items that reach the share, among equals the lower index first.
    """
    counts = np.asarray(train_counts, dtype=np.int64).copy()
    counts[:FIRST_ITEM] = 0
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), dtype=bool)
    head[order] = (before < head_share * counts.sum()) & (counts[order] > 0)
    return head


def slice_targets(
    cases: EvaluationCases, train_counts: NDArray[np.integer], head_share: float = 0.5
) -> dict[str, Chosen]:
    """Which targets belong to which slice, {name: [K] bool}.

    `head`, `tail` and `cold` split the targets by item: the popular ones of `head_items`, the other trained
    ones, those without a train event. `short history`, `medium history` and `long history` split the cases into
    thirds by length; equal lengths stay together, so the thirds may differ in size.
    """
    head = head_items(train_counts, head_share)[cases.target_items]
    cold = np.asarray(train_counts)[cases.target_items] == 0
    lengths = cases.history_lengths
    low, high = np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf")
    length = lengths[cases.target_cases]
    return {
        "head": head,
        "tail": ~head & ~cold,
        "cold": cold,
        "short history": length <= low,
        "medium history": (length > low) & (length <= high),
        "long history": length > high,
    }


def evaluate_slices(result: EvaluationResult, slices: dict[str, Chosen]) -> dict[str, dict[str, float]]:
    """Metrics of each slice, and `cases`: how many cases have a target in it.

    Ranks are those of the whole evaluation; within a slice only its own targets count as relevant. A slice
    without cases has no metrics.

    Args:
        result: an evaluation.
        slices: {name: [K] bool over the targets}, from `slice_targets` or one's own.
    """
    suffix = result.protocol.suffix
    values: dict[str, dict[str, float]] = {}
    for name, chosen in slices.items():
        counts = np.bincount(result.cases.target_cases[chosen], minlength=len(result.cases))
        counts = counts[counts > 0]
        values[name] = {"cases": len(counts)}
        if len(counts):
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            metrics = metrics_of_places(result.places.select(chosen), offsets, result.protocol.cutoffs)
            values[name] |= {metric + suffix: float(value.mean()) for metric, value in metrics.items()}
    return values
