"""Missing rates: every example counted once at each level, against a naive count."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from moerec.modalities.missing import missing_as_json, missing_rates


@pytest.fixture(scope="module")
def tables():
    draw = np.random.default_rng(0)
    reasons = [None, None, "http 404", "timeout", "no image named"]
    outcomes = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(40)], "reason": [reasons[k] for k in draw.integers(0, 5, 40)]}
    )
    examples = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in draw.integers(0, 45, 500)],  # five items have no outcome
            "part": draw.integers(0, 3, 500).astype(np.int8),
            "category": [("a", "b", None)[k] for k in draw.integers(0, 3, 500)],
        }
    )
    return outcomes, examples


def test_the_counts_are_those_of_a_loop(tables):
    outcomes, examples = tables
    reason_of = dict(outcomes.iter_rows())
    rates = missing_rates(outcomes, examples)
    assert rates["level"].to_list() == [0] + [1] * 3 + [2] * 9
    for row in missing_as_json(rates):
        of = [
            reason_of.get(item, "not known")
            for item, part, category in examples.iter_rows()
            if (row["level"] < 1 or part == row["part"]) and (row["level"] < 2 or category == row["category"])
        ]
        reasons = Counter(reason for reason in of if reason is not None)
        assert row["reasons"] == reasons
        assert (row["examples"], row["missing"]) == (len(of), reasons.total())
        assert row["rate"] == pytest.approx(reasons.total() / len(of))
    for level in range(3):
        assert rates.filter(pl.col("level") == level)["examples"].sum() == 500


def test_order_does_not_matter_and_nothing_missing_is_zero(tables):
    outcomes, examples = tables
    shuffled = missing_rates(outcomes.sample(fraction=1, shuffle=True, seed=1), examples[::-1])
    assert shuffled.equals(missing_rates(outcomes, examples))
    whole = missing_rates(pl.DataFrame({"item_id": examples["item_id"].unique(), "reason": None}), examples, ["part"])
    assert set(whole["rate"]) == {0.0}
    assert all(not reasons.len() for reasons in whole["reasons"])
    assert missing_rates(outcomes, examples.clear()).height <= 1
