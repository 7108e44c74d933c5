"""Target attention: what it computes, padding, empty histories."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from moerec.nn.target_attention import MeanPooling, TargetAttention


def make(kind: type) -> TargetAttention | MeanPooling:
    torch.manual_seed(0)
    pooling = TargetAttention(6, 4) if kind is TargetAttention else MeanPooling(6)
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter)
    return pooling


both = pytest.mark.parametrize("kind", [TargetAttention, MeanPooling])


def test_equals_the_activation_unit_written_out():
    unit = make(TargetAttention)
    events, query = torch.randn(3, 5, 6), torch.randn(3, 6)
    real = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    out = unit(events, query, real)
    for row in range(3):
        kept = events[row][real[row]]
        pieces = torch.cat([kept, query[row].expand_as(kept), kept * query[row]], dim=1)
        first = torch.cat([unit.event.weight.T, unit.query.weight.T, unit.product])
        logits = F.relu(pieces @ first + unit.event.bias) @ unit.logit.weight[0]
        torch.testing.assert_close(out[row], torch.softmax(logits, 0) @ kept)


@both
@given(extra=st.integers(1, 7), junk=st.floats(-1e6, 1e6))
@settings(max_examples=15)
def test_padding_changes_nothing(kind, extra, junk):
    pooling = make(kind)
    events, query = torch.randn(4, 5, 6), torch.randn(4, 6)
    real = torch.arange(5) >= torch.tensor([0, 2, 4, 5])[:, None]
    before = pooling(events, query, real)
    wide = torch.cat([torch.full((4, extra, 6), junk), torch.where(real[:, :, None], events, junk)], dim=1)
    after = pooling(wide, query, torch.cat([torch.zeros(4, extra, dtype=torch.bool), real], dim=1))
    torch.testing.assert_close(after, before)


@both
def test_an_empty_history_is_the_learned_vector(kind):
    pooling = make(kind)
    events = torch.randn(2, 3, 6, requires_grad=True)
    real = torch.tensor([[False, False, False], [False, True, True]])
    out = pooling(events, torch.randn(2, 6), real)
    torch.testing.assert_close(out[0], pooling.empty)
    out.sum().backward()
    assert torch.count_nonzero(events.grad[0]) == 0
    assert torch.count_nonzero(events.grad[1, 0]) == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in pooling.parameters())


@both
def test_a_history_without_places_is_empty(kind):
    pooling = make(kind)
    out = pooling(torch.zeros(2, 0, 6), torch.randn(2, 6), torch.zeros(2, 0, dtype=torch.bool))
    torch.testing.assert_close(out, pooling.empty.expand(2, -1))


def test_the_candidate_decides_what_counts_in_the_history():
    """The same history gives different vectors to different candidates; the mean does not."""
    events, real = torch.randn(1, 5, 6).expand(2, -1, -1), torch.ones(2, 5, dtype=torch.bool)
    query = torch.randn(2, 6)
    attended, mean = make(TargetAttention)(events, query, real), make(MeanPooling)(events, query, real)
    assert (attended[0] - attended[1]).abs().max() > 1e-3
    torch.testing.assert_close(mean[0], mean[1])
    torch.testing.assert_close(mean[0], events[0].mean(0))
