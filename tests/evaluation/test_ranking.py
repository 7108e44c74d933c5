"""Places and lists against sorting in plain Python."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.evaluation.ranking import place_targets, top_columns


@st.composite
def score_block(draw):
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    values = st.sampled_from([0.0, 1.0, 2.0, 0.5, -3.0, -math.inf])
    return draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=rows, max_size=rows))


@given(score_block(), st.integers(1, 12))
@settings(max_examples=100)
def test_top_columns_are_the_best_and_among_equals_the_lowest(block, k):
    found = top_columns(torch.tensor(block), k)
    assert found.shape == (len(block), k)
    for row, columns in zip(block, found.tolist(), strict=True):
        ranked = sorted((-score, column) for column, score in enumerate(row) if score > -math.inf)
        expected = [column for _, column in ranked][:k]
        assert columns == expected + [-1] * (k - len(expected))


@given(score_block(), st.data())
@settings(max_examples=100)
def test_places_count_what_is_better_and_what_is_equal(block, data):
    width = len(block[0])
    wanted = [data.draw(st.lists(st.integers(0, width - 1), unique=True)) for _ in block]
    rows = torch.tensor([row for row, columns in enumerate(wanted) for _ in columns], dtype=torch.int64)
    columns = torch.tensor([column for columns in wanted for column in columns], dtype=torch.int64)
    better, tied, listed = place_targets(torch.tensor(block), rows, columns)
    for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        own = block[row][column]
        assert better[n] == sum(score > own for score in block[row])
        assert tied[n] == sum(score == own for score in block[row]) - 1
        assert listed[n] == (own > -math.inf)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0]], dtype=dtype)
    assert top_columns(scores, 3).tolist() == [[1, 2, 3]]
    better, tied, _ = place_targets(scores, torch.tensor([0]), torch.tensor([2]))
    assert (better.item(), tied.item()) == (0, 1)
