"""Metrics of groups of rows: new users, short and long histories, popular, rare and cold items, real rows and drawn.

Shape letters: T rows of the table, N rows that count, E train events, K codes of time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from moerec.evaluation.predictions import Predictions, evaluate_predictions
from moerec.evaluation.slices import head_items

Ints = NDArray[np.int64]
Chosen = NDArray[np.bool_]

COLD_BELOW = 5
"""A user with fewer earlier train events is cold."""


def count_earlier_events(users: Ints, timestamps: Ints, train_users: Ints, train_timestamps: Ints) -> Ints:
    """Train events of the row's user that are strictly earlier than the row, [T].

    Args:
        users: [T] user of each row.
        timestamps: [T] time of each row.
        train_users: [E] user of each train event.
        train_timestamps: [E] its time.
    """
    times = np.unique(np.concatenate([timestamps, train_timestamps]))  # [K]
    train = np.sort(train_users * len(times) + np.searchsorted(times, train_timestamps))  # by user, then time
    before = np.searchsorted(train, users * len(times) + np.searchsorted(times, timestamps))
    return (before - np.searchsorted(train, users * len(times))).astype(np.int64)


def slice_rows(
    items: Ints,
    earlier_events: Ints | None,
    train_counts: NDArray[np.integer],
    cold_below: int = COLD_BELOW,
    head_share: float = 0.5,
) -> dict[str, Chosen]:
    """Which rows belong to which slice, {name: [T] bool}.

    `cold user` and `known user` split the rows by the user's earlier train events; `short history`,
    `medium history` and `long history` split them into thirds by the same number, equal numbers together;
    `head item`, `tail item` and `cold item` split them by item: the popular ones of `head_items`, the other
    trained ones, those without a train event.

    Args:
        items: [T] item of each row.
        earlier_events: [T] train events of the user before the row; see `count_earlier_events`. None where events
            have no times: then there are no slices by user, and none that would hold every row.
        train_counts: [num_indices] train events of each item.
        cold_below: a user with fewer earlier events is cold.
        head_share: share of the train events that the head items have.
    """
    head = head_items(train_counts, head_share)[items]
    cold = np.asarray(train_counts)[items] == 0
    of_items = {"head item": head, "tail item": ~head & ~cold, "cold item": cold}
    if earlier_events is None:
        return {name: chosen for name, chosen in of_items.items() if not chosen.all()}
    low, high = (
        np.quantile(earlier_events, [1 / 3, 2 / 3], method="inverted_cdf") if len(earlier_events) else (0.0, 0.0)
    )
    return {
        "cold user": earlier_events < cold_below,
        "known user": earlier_events >= cold_below,
        "short history": earlier_events <= low,
        "medium history": (earlier_events > low) & (earlier_events <= high),
        "long history": earlier_events > high,
        **of_items,
    }


def evaluate_prediction_slices(
    predictions: Predictions, mask: Chosen, negative: Chosen, slices: Mapping[str, Chosen]
) -> dict[str, dict[str, float]]:
    """Metrics of each slice by full name, with `rows`, `users` and `label_known`.

    `label_known` is the share of the slice's rows, among those of the task's population, that have a label. A
    metric that a slice does not define is left out; a slice without rows has counts alone. If the population
    holds drawn negatives of a task with a label, the slice `reviews` has the metrics of the real rows, which is
    what their names say, and `negatives` those of the drawn ones.

    Args:
        predictions: of one task.
        mask: [T] rows of the table that count: those of the predictions.
        negative: [T] drawn rows of the table.
        slices: {name: [T] bool over the table}, from `slice_rows` or one's own.

    Raises:
        ValueError: the mask does not have as many rows as the predictions.
    """
    task = predictions.task
    population = np.ones_like(negative) if task.population == "reviews+negatives" else ~negative
    kept = mask & population
    if int(kept.sum()) != len(predictions):
        raise ValueError(f"task '{task.name}': {len(predictions)} predictions for {int(kept.sum())} rows that count")
    values = {name: _evaluate(predictions.select(chosen[kept]), population & chosen) for name, chosen in slices.items()}
    if task.population == "reviews+negatives" and task.label is not None:
        values["reviews"] = _evaluate(predictions.reviews(), population & ~negative)
        values["negatives"] = _evaluate(predictions.select(predictions.negative), population & negative)
    return values


def _evaluate(predictions: Predictions, rows: Chosen) -> dict[str, float]:
    """Metrics and counts of the predictions in a slice whose rows, known label or not, are given [T]."""
    count = int(rows.sum())
    return {
        "rows": len(predictions),
        "users": len(np.unique(predictions.users)),
        "label_known": len(predictions) / count if count else 0.0,
    } | evaluate_predictions(predictions)
