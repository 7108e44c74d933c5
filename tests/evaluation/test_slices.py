"""Slices against evaluations of the same cases with fewer targets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moerec.dataset.schema import Part
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import ProtocolConfig, make_cases
from moerec.evaluation.slices import evaluate_slices, head_items, slice_targets

from .scorers import TableScorer, random_cases


@given(st.lists(st.integers(0, 9), min_size=3, max_size=20), st.floats(0.05, 0.95))
def test_the_head_is_the_fewest_items_that_reach_the_share(counts, share):
    counts = np.array(counts)
    counts[:2] = 0
    head = head_items(counts, share)
    total = counts.sum()
    assert counts[head].sum() >= share * total
    if head.any():
        assert counts[head].sum() - counts[head].min() < share * total
        assert counts[head].min() >= counts[~head].max(initial=0)


USERS = np.random.default_rng(5).integers(0, 2, 40)
"""Train events of each user; about half have none."""


def slices_of(targets=1):
    cases = random_cases(users=40, targets=targets)
    counts = np.random.default_rng(0).integers(0, 8, 42)
    table = torch.randint(0, 12, (40, 42), generator=torch.Generator().manual_seed(3)).float()
    return cases, counts, evaluate(TableScorer(table), cases, ProtocolConfig())


def test_items_and_lengths_each_split_the_targets():
    cases, counts, _ = slices_of(targets=3)
    slices = slice_targets(cases, counts, USERS)
    assert (sum(slices[name].astype(int) for name in ("head", "tail", "new items")) == 1).all()
    lengths = [f"{name} history" for name in ("short", "medium", "long")]
    assert (sum(slices[name].astype(int) for name in lengths) == 1).all()
    of_users = ("known users", "new users", "users without history")
    assert (sum(slices[name].astype(int) for name in of_users) == 1).all()
    np.testing.assert_array_equal(slices["new items"], counts[cases.target_items] == 0)
    of_case = cases.history_lengths[cases.target_cases]
    assert of_case[slices["short history"]].max() < of_case[slices["medium history"]].min()
    assert of_case[slices["medium history"]].max() < of_case[slices["long history"]].min()


def test_a_bigger_share_moves_targets_to_the_head():
    cases, counts, _ = slices_of(targets=3)
    few, many = (slice_targets(cases, counts, USERS, share)["head"] for share in (0.2, 0.9))
    assert few.sum() < many.sum()
    assert (few <= many).all()


def test_with_one_target_a_slice_is_the_mean_of_its_cases():
    cases, counts, result = slices_of()
    slices = slice_targets(cases, counts, USERS)
    for name, values in evaluate_slices(result, slices).items():
        assert values["cases"] == slices[name].sum()
        for metric in result.metrics if values["cases"] else ():
            assert values[metric] == pytest.approx(result.per_case[metric][slices[name]].mean())


def test_with_several_targets_only_those_of_the_slice_count_as_relevant():
    cases, counts, result = slices_of(targets=3)
    everything = evaluate_slices(result, {"all": np.ones(len(cases.target_items), dtype=bool)})["all"]
    assert everything.pop("cases") == len(cases)
    assert everything == pytest.approx(result.metrics)
    head = slice_targets(cases, counts, USERS)["head"]
    values = evaluate_slices(result, {"head": head})["head"]
    assert values["cases"] == len(set(cases.target_cases[head].tolist()))
    shares = [
        np.mean([np.clip((10 - b) / (t + 1), 0, 1) for b, t in zip(better, tied, strict=True)])
        for case in np.unique(cases.target_cases[head])
        for better, tied in [
            (
                result.places.better[head & (cases.target_cases == case)],
                result.places.tied[head & (cases.target_cases == case)],
            )
        ]
    ]
    assert values["recall@10"] == pytest.approx(np.mean(shares))


def test_an_empty_slice_has_no_metrics():
    cases, _, result = slices_of()
    assert evaluate_slices(result, {"none": np.zeros(len(cases.target_items), dtype=bool)}) == {"none": {"cases": 0}}


def test_new_users_are_those_whose_events_all_come_after_the_train_part():
    """A split by date: one user trains, one begins in the validation part, one in the test part."""
    train, valid, test = (int(part) for part in (Part.TRAIN, Part.VALID, Part.TEST))
    users = np.array([0, 0, 0, 1, 1, 2, 2])
    items = np.array([2, 3, 4, 3, 5, 2, 3])
    codes = np.array([train, train, test, valid, test, test, test])
    times = np.arange(7)
    item_counts, user_counts = np.bincount(items[codes == train], minlength=6), np.array([2, 0, 0])
    wanted = {
        "test": {"known users": [4], "new users": [5], "users without history": [2, 3], "new items": [4, 5]},
        "valid": {"known users": [], "new users": [], "users without history": [3], "new items": []},
    }
    for part, expected in wanted.items():
        cases = make_cases(users, items, times, codes, ProtocolConfig(part=part))
        slices = slice_targets(cases, item_counts, user_counts)
        assert {name: cases.target_items[slices[name]].tolist() for name in expected} == expected
    cases = make_cases(users, items, times, codes, ProtocolConfig())
    (new,) = np.flatnonzero(slice_targets(cases, item_counts, user_counts)["new users"])
    history = cases.batch(cases.target_cases[[new]]).items.tolist()
    assert history == [3], "a new user is judged by what validation knows of them"
