"""Metrics of groups of targets: popular, rare and new items, known and new users, short and long histories.

Shape letters: C cases, K targets of all cases together, U users.
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
    cases: EvaluationCases,
    train_counts: NDArray[np.integer],
    user_train_counts: NDArray[np.integer],
    head_share: float = 0.5,
) -> dict[str, Chosen]:
    """Which targets belong to which slice, {name: [K] bool}.

    `head`, `tail` and `new items` split the targets by item: the popular ones of `head_items`, the other trained
    ones, those without a train event. `known users`, `new users` and `users without history` split the cases by user:
    a new one has no train event, and what the model sees of him are events after the train part. `short history`,
    `medium history` and `long history` split the cases into thirds by length; equal lengths stay together, so the
    thirds may differ in size.

    Args:
        cases: the cases.
        train_counts: [num_indices] train events of each item.
        user_train_counts: [U] train events of each user.
        head_share: share of the train events that the head items have.
    """
    head = head_items(train_counts, head_share)[cases.target_items]
    new = np.asarray(train_counts)[cases.target_items] == 0
    known = (np.asarray(user_train_counts)[cases.users] > 0)[cases.target_cases]
    lengths = cases.history_lengths
    low, high = np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf")
    length = lengths[cases.target_cases]
    return {
        "head": head,
        "tail": ~head & ~new,
        "new items": new,
        "known users": known,
        "new users": ~known & (length > 0),
        "users without history": ~known & (length == 0),
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
