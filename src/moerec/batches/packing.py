"""Which sequences share a batch, so that little padding is computed; the same for training, evaluation and serving.

Shape letters: B sequences, T values of the chosen rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def pack_by_length(lengths: Ints, *, sequences: int | None = None, events: int | None = None) -> list[Ints]:
    """Positions of sequences in batches of like length, short ones first.

    Args:
        lengths: [B] length of each sequence; equal ones stay in their order.
        sequences: most sequences of a batch; give this, or `events`, or both.
        events: most places of a batch, padding counted: its sequences times the longest of them. A longer sequence
            stands alone.
    """
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    if events is None:
        return [order[start : start + (sequences or 1)] for start in range(0, len(order), sequences or 1)]
    descending = order[::-1]
    starts = budget_starts(np.maximum(lengths[descending], 1), events, most=sequences)
    return [batch[::-1] for batch in reversed(np.split(descending, starts[1:]))] if len(order) else []


def budget_starts(lengths: Ints, budget: int, *, first: float = 1.0, most: int | None = None) -> Ints:
    """Where batches start when sequences are taken in order, longest first, as many as fit into a budget of places.

    Args:
        lengths: [B] descending, at least 1.
        budget: most places of a batch: its sequences times the longest of them, which is its first.
        first: share of the budget that the first batch may fill; another share moves all boundaries.
        most: most sequences of a batch.
    """
    starts, start, share = [], 0, first
    while start < len(lengths):
        starts.append(start)
        fitting = max(1, int(budget * share) // int(lengths[start]))
        start += fitting if most is None else min(fitting, most)
        share = 1.0
    return np.array(starts, np.int64)


def slices(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Where the values of some slices of one long array stand.

    Args:
        starts: [B] first value of each slice.
        ends: [B] the place behind its last value.

    Returns:
        index [T] of each value in the long array, and the offsets [B + 1] of the slices among these.
    """
    lengths = ends - starts
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets


def jagged_rows(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Where the values of some rows of a jagged block stand.

    Returns:
        index of each value in the whole block, and the offsets [B + 1] of the chosen rows.
    """
    return slices(offsets[:-1][rows], offsets[1:][rows])
