"""Aligned candidate lists against sets."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import DatasetError
from moerec.evaluation.candidates import align_candidates
from moerec.evaluation.protocols import ProtocolConfig, make_cases

ITEMS = st.integers(2, 12)


@given(st.lists(st.tuples(st.sets(ITEMS), ITEMS, st.lists(ITEMS)), min_size=1, max_size=5), st.booleans())
@settings(max_examples=100)
def test_rows_hold_targets_and_lists_once_in_ascending_order(users, filter_seen):
    users = [(history - {target}, target, listed) for history, target, listed in users]
    rows = [
        (user, item, part)
        for user, (history, target, _) in enumerate(users)
        for item, part in [*((item, 0) for item in sorted(history)), (target, 2)]
    ]
    event_users, items, codes = np.array(rows).T
    cases = make_cases(event_users, items, None, codes, ProtocolConfig(filter_seen=filter_seen))
    frame = pl.DataFrame(
        {"user": range(len(users)), "items": [listed for _, _, listed in users]},
        schema={"user": pl.Int32, "items": pl.List(pl.Int32)},
    ).reverse()
    aligned = align_candidates(frame, cases, filter_seen)
    assert torch.equal(aligned.mask, aligned.items > 0)
    for row, (history, target, listed) in zip(aligned.items.tolist(), users, strict=True):
        expected = sorted({*listed, target} - (history if filter_seen else set()))
        assert row == expected + [0] * (len(row) - len(expected))


def test_a_user_without_a_list_is_named():
    columns = (np.array([0, 0, 7, 7]), np.array([2, 3, 2, 3]), None, np.array([0, 2, 0, 2]))
    cases = make_cases(*columns, ProtocolConfig())
    with pytest.raises(DatasetError, match="none for user 7"):
        align_candidates(pl.DataFrame({"user": [0], "items": [[3, 4]]}), cases)
