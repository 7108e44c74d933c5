"""One table for several features equals a table for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.nn.joint_embedding import JointEmbedding, mean_of_values

SIZES = {"item": 6, "decade": 4, "genres": 5, "history": 6}


@pytest.fixture
def table() -> JointEmbedding:
    torch.manual_seed(0)
    return JointEmbedding(SIZES, width=3, shared={"history": "item"})


def columns() -> dict[str, torch.Tensor]:
    return {
        "item": torch.tensor([0, 5]),
        "decade": torch.tensor([3, 1]),
        "genres": torch.tensor([[2, 0], [4, 1]]),
        "history": torch.tensor([[0, 0, 5], [1, 2, 3]]),
        "colour": torch.tensor([9, 9]),
    }


def test_each_feature_has_rows_of_its_own_or_those_it_shares(table):
    own = dict(zip(("item", "decade", "genres"), table.weight.split([6, 4, 5]), strict=True))
    found = table(columns())
    assert table.weight.shape == (15, 3)
    for name, vectors in found.items():
        codes = columns()[name].view(2, -1)
        torch.testing.assert_close(vectors, own["item" if name == "history" else name][codes])


def test_only_the_rows_that_were_read_get_a_gradient(table):
    table({name: torch.zeros_like(codes) for name, codes in columns().items()})["decade"].sum().backward()
    assert table.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize(("name", "code"), [("decade", 4), ("decade", -1), ("history", 6), ("genres", 99)])
def test_a_code_out_of_range_does_not_read_another_feature(table, name, code):
    wrong = columns()
    wrong[name] = wrong[name].clone()
    wrong[name].view(-1)[-1] = code
    with pytest.raises(IndexError, match=f"feature '{name}': code {code} is not among its {SIZES[name]}"):
        table(wrong)


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=30)
def test_mean_of_values_equals_a_loop(rows):
    codes = torch.tensor(rows)
    vectors = torch.randn(4, 2)[codes]
    expected = []
    for row, values in zip(vectors, rows, strict=True):
        kept = [vector for vector, code in zip(row, values, strict=True) if code] or [row[0]]
        expected.append(torch.stack(kept).mean(0))
    torch.testing.assert_close(mean_of_values(vectors, codes), torch.stack(expected))
