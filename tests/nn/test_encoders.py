"""Attention and encoder: equal to a literal reference, causal, blind to padding."""

import math

import pytest
import torch
from torch import nn

from moerec.nn.attention import CausalSelfAttention, TransformerBlock
from moerec.nn.encoders import TransformerEncoder


@torch.no_grad()
def literal_attention(module: CausalSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """Attention of one sequence [L, D], written out event by event and head by head."""
    length, width = x.shape
    size = width // module.heads
    queries = module.query(x)
    keys, values = module.key_value(x).split(width, dim=-1)
    out = torch.zeros(length, width)
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        for now in range(length):
            scores = torch.tensor([float(queries[now, part] @ keys[then, part]) for then in range(now + 1)])
            weights = torch.softmax(scores / math.sqrt(size), 0)
            out[now, part] = sum(weights[then] * values[then, part] for then in range(now + 1))
    return module.out(out)


def test_attention_equals_the_literal_reference():
    torch.manual_seed(0)
    module = CausalSelfAttention(12, 3)
    x = torch.randn(2, 7, 12)
    expected = torch.stack([literal_attention(module, sequence) for sequence in x])
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


def test_width_must_be_divisible_by_heads():
    with pytest.raises(ValueError, match="not divisible"):
        CausalSelfAttention(10, 3)


@pytest.fixture
def encoder() -> TransformerEncoder:
    torch.manual_seed(1)
    made = TransformerEncoder(width=16, blocks=2, heads=2, hidden=32, dropout=0.3, max_length=12).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def test_no_output_depends_on_a_later_event(encoder):
    x = torch.randn(1, 9, 16, requires_grad=True)
    out = encoder(x, torch.tensor([9]))
    for now in range(9):
        (gradient,) = torch.autograd.grad(out[0, now].sum(), x, retain_graph=True)
        assert torch.count_nonzero(gradient[0, now + 1 :]) == 0
        assert torch.count_nonzero(gradient[0, : now + 1].abs().sum(-1)) == now + 1


def test_padding_changes_nothing(encoder):
    lengths = torch.tensor([5, 2])
    x = torch.randn(2, 5, 16)
    wide = torch.cat([x, torch.full((2, 4, 16), 1e4)], dim=1)
    wide[1, 2:] = -1e4
    out, out_wide = encoder(x, lengths), encoder(wide, lengths)
    torch.testing.assert_close(out_wide[0, :5], out[0, :5])
    torch.testing.assert_close(out_wide[1, :2], out[1, :2])


def test_last_equals_the_last_row_of_all(encoder):
    lengths = torch.tensor([6, 1, 4])
    x = torch.randn(3, 6, 16)
    every = encoder(x, lengths)
    torch.testing.assert_close(encoder.last(x, lengths), every[torch.arange(3), lengths - 1])


def test_a_sequence_without_events_stays_finite(encoder):
    out = encoder.last(torch.randn(2, 3, 16), torch.tensor([0, 3]))
    assert torch.isfinite(out).all()


def test_block_is_pre_norm():
    """With silent attention and feed-forward the block is the identity, which a post-norm block is not."""
    block = TransformerBlock(8, 2, 16, 0.0)
    for linear in (block.attention.out, block.feed_forward[-1]):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = 3 + torch.randn(2, 4, 8)
    torch.testing.assert_close(block(x), x)
