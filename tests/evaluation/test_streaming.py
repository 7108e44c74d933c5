"""Items that pass by in chunks give the places and lists of whole rows of scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import MoerecError
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import ProtocolConfig
from moerec.evaluation.ranking import place_targets, top_columns
from moerec.evaluation.streaming import ScoreStream, stream_places

from .scorers import MeanRetriever, random_cases


@st.composite
def blocks(draw):
    """Users, items, seen pairs and targets; whole numbers, so that any order of sums gives the same score."""
    seed, users, items = draw(st.integers(0, 10**6)), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randint(-2, 3, shape, generator=generator).float()

    seen = torch.rand(users, items, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    targets = torch.rand(users, items, generator=generator) < 0.2
    return numbers(users, 3), numbers(items, 3), seen, targets


@given(blocks(), st.integers(1, 45), st.integers(1, 12))
@settings(max_examples=150)
def test_chunks_equal_whole_rows(block, width, k):
    users, items, seen, targets = block
    scores = (users @ items.T).masked_fill(seen, -torch.inf)
    rows, columns = torch.nonzero(targets, as_tuple=True)
    found, owners = torch.nonzero(seen.T, as_tuple=True)
    *places, top = stream_places(ScoreStream(users, items, owners, found, width), rows, columns, k)
    assert top.tolist() == top_columns(scores, k).tolist()
    expected = place_targets(scores, rows, columns)
    listed = expected[2]
    assert places[2].tolist() == listed.tolist()
    for one, other in zip(places[:2], expected[:2], strict=True):
        assert one[listed].tolist() == other[listed].tolist()


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_a_catalogue_in_chunks_is_judged_as_one_in_whole_rows(targets, filter_seen):
    whole, parts = (
        ProtocolConfig(filter_seen=filter_seen, users_per_batch=7, scores_in_memory=memory) for memory in (2**24, 7 * 8)
    )
    cases = random_cases(users=60, items=80, targets=targets, protocol=whole)
    model = MeanRetriever(82, 6).double()
    expected, found = evaluate(model, cases, whole), evaluate(model, cases, parts)
    np.testing.assert_array_equal(found.top_items, expected.top_items)
    for name, values in expected.per_case.items():
        np.testing.assert_array_equal(found.per_case[name], values)


def test_equal_items_tie_wherever_they_stand():
    generator = torch.Generator().manual_seed(0)
    kinds, kind_of = torch.randn(5, 64, generator=generator), torch.randint(0, 5, (1000,), generator=generator)
    items, users = kinds[kind_of], torch.randn(16, 64, generator=generator)
    nothing = torch.zeros(0, dtype=torch.int64)
    rows, targets = torch.arange(16), torch.randint(0, 1000, (16,), generator=generator)
    _, tied, _, top = stream_places(ScoreStream(users, items, nothing, nothing, 256), rows, targets, 10)
    assert tied.tolist() == [int((kind_of == kind_of[target]).sum()) - 1 for target in targets]
    best = (users.double() @ kinds.double().T).argmax(1)
    assert top.tolist() == [torch.nonzero(kind_of == kind)[:10, 0].tolist() for kind in best]


def test_nan_in_a_chunk_names_user_and_item():
    protocol = ProtocolConfig(scores_in_memory=2000)
    cases = random_cases(protocol=protocol)
    model = MeanRetriever(42, 6)
    with torch.no_grad():
        model.items[37] = torch.nan
        model.items[0] = torch.nan  # a reserved item has no score
    kept = cases.history_items != 37
    assert kept.any()
    with pytest.raises(MoerecError, match=r"MeanRetriever: gives a NaN score \(user \d+, item \d+\)"):
        evaluate(model, cases, protocol)
