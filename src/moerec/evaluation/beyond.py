"""Beyond accuracy: what the lists look like as a whole.

Shape letters: C cases, k length of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.audit import gini
from moerec.dataset.schema import FIRST_ITEM, PADDING


def beyond_accuracy(
    top_items: NDArray[np.integer], train_counts: NDArray[np.integer], cutoffs: Sequence[int] = (10,)
) -> dict[str, float]:
    """Coverage, novelty, concentration and popularity of the recommended items.

    - `coverage@k`: share of the catalogue that stands on at least one list.
    - `novelty@k`: mean self-information of a recommended item in bits, -log2 of its share of the train events
      (an item without any counts as if it had one).
    - `gini@k`: Gini coefficient of how often each item of the catalogue is shown; 0 all alike, near 1 a few
      items take everything.
    - `popularity@k`: mean number of train events of a recommended item.

    Args:
        top_items: [C, longest k] item indices, best first, PADDING where a list is shorter.
        train_counts: [num_indices] train events of each item.
        cutoffs: the values of k.
    """
    catalogue = len(train_counts) - FIRST_ITEM
    events = max(int(train_counts[FIRST_ITEM:].sum()), 1)
    information = -np.log2(np.maximum(train_counts, 1) / events)
    values: dict[str, float] = {}
    for k in cutoffs:
        if k > top_items.shape[1]:
            raise ValueError(f"the lists hold {top_items.shape[1]} items, fewer than k = {k}")
        shown = top_items[:, :k][top_items[:, :k] != PADDING]
        exposure = np.bincount(shown, minlength=len(train_counts))[FIRST_ITEM:]
        values[f"coverage@{k}"] = float(np.count_nonzero(exposure) / catalogue)
        values[f"novelty@{k}"] = float(information[shown].mean()) if len(shown) else 0.0
        values[f"gini@{k}"] = gini(exposure)
        values[f"popularity@{k}"] = float(train_counts[shown].mean()) if len(shown) else 0.0
    return values
