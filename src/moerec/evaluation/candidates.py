"""Fixed candidate lists of sampled protocols, laid beside the cases (`dataset/candidates.py` draws them).

Shape letters: C cases, N candidates of the longest list.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from moerec.batches.candidates import CandidateBatch
from moerec.dataset.schema import PADDING
from moerec.errors import DatasetError
from moerec.evaluation.protocols import EvaluationCases, occurs_in


def align_candidates(frame: pl.DataFrame, cases: EvaluationCases, filter_seen: bool = True) -> CandidateBatch:
    """The items that are ranked in each case: its targets and its list, each item once.

    Args:
        frame: columns `user` and `items` (list), as `Dataset.candidates` gives them; targets may be in the list.
        cases: the cases.
        filter_seen: leave out items of the history.

    Returns:
        Lists ascending in each row, so that a target's column tells nothing.

    Raises:
        DatasetError: a case has no list.
    """
    lists = dict(zip(frame["user"].to_list(), range(len(frame)), strict=True))
    missing = [int(user) for user in cases.users if int(user) not in lists]
    if missing:
        raise DatasetError(
            f"the candidate lists have none for user {missing[0]} ({len(missing)} users); draw them for this split"
        )
    rows = frame[[lists[int(user)] for user in cases.users], "items"]
    lengths = rows.list.len().to_numpy().astype(np.int64)
    listed = rows.explode().drop_nulls().to_numpy().astype(np.int64)
    hidden_cases, hidden_items = cases.hidden(np.arange(len(cases)))
    met = np.concatenate([cases.history_items, hidden_items])
    width = int(max(listed.max(initial=0), cases.target_items.max(), met.max(initial=0))) + 1
    # With counts NumPy sorts; without, it hashes, which is ten times slower on keys like these.
    keys, _ = np.unique(
        np.concatenate(
            [
                np.repeat(np.arange(len(cases)), lengths) * width + listed,
                cases.target_cases * width + cases.target_items,
            ]
        ),
        return_counts=True,
    )
    if filter_seen:
        history_cases = np.repeat(np.arange(len(cases)), cases.history_lengths)
        met_cases = np.concatenate([history_cases, hidden_cases])
        keys = keys[~occurs_in(keys, met_cases * width + met)]
    case, item = np.divmod(keys, width)
    counts = np.bincount(case, minlength=len(cases))
    within = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    aligned = np.full((len(cases), int(counts.max())), PADDING, dtype=np.int64)
    aligned[case, within] = item
    lists_of_cases = torch.from_numpy(aligned)
    return CandidateBatch(items=lists_of_cases, mask=lists_of_cases != PADDING)
