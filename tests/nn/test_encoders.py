"""Encoders: equal to literal references, causal, blind to padding, with the last event alone or with all."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from moerec.nn.attention import CausalSelfAttention, TransformerBlock, softmax_attention
from moerec.nn.attention_context import AttentionContext
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.encoders import SequenceEncoder
from moerec.nn.hstu import HSTUBlock
from moerec.nn.ligr import LiGRBlock
from moerec.nn.positions import time_buckets
from moerec.nn.sequence_layout import SequenceLayout
from tests.nn.literal_encoders import literal_encoder

OPTIONS = EncoderOptions(width=12, blocks=2, heads=3, query_width=4, max_length=12, dropout=0.3)
BLOCKS = {
    "transformer": partial(TransformerBlock, hidden=16),
    "ligr": partial(LiGRBlock, hidden=16),
    "hstu silu": partial(HSTUBlock, attention="silu", value_width=5),
    "hstu softmax": partial(HSTUBlock, attention="softmax", value_width=5),
}
VARIANTS = {
    "plain": {},
    "rms, rope": {"norm": "rms", "positions": "rope"},
    "both biases": {"positions": "none", "relative_bias": True, "time_bias": True},
    "time, packed": {"time_bias": True, "packed": True},
}
every_block = pytest.mark.parametrize("block", BLOCKS)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def build(block: str, variant: str = "plain", **changes) -> SequenceEncoder:
    """An encoder in evaluation mode whose every parameter matters, those included that start at zero."""
    torch.manual_seed(1)
    options = replace(OPTIONS, **VARIANTS[variant] | changes)
    encoder = SequenceEncoder(options, BLOCKS[block]).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.4)
    return encoder


def times_like(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Times [B, L] that rise, with gaps from none to years."""
    generator = torch.Generator().manual_seed(2)
    gaps = 10 ** (12 * torch.rand(len(lengths), longest, generator=generator)) - 1
    return 10**12 + gaps.long().cumsum(1)


def every_event(encoder: SequenceEncoder, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """[1, L, D] -> [L, D]."""
    lengths = torch.tensor([x.shape[1]])
    return encoder(x.flatten(0, 1), SequenceLayout.padded(lengths, x.shape[1]), times)


@every_block
@every_variant
def test_an_encoder_equals_its_literal_reference(block, variant):
    encoder = build(block, variant)
    lengths = torch.tensor([7, 1, 4])
    times = times_like(lengths, 7)
    events = [torch.randn(length, 12) for length in lengths.tolist()]
    expected = [
        literal_encoder(encoder, sequence, row[: len(sequence)].tolist())
        for sequence, row in zip(events, times, strict=True)
    ]
    out = encoder(torch.cat(events), SequenceLayout.packed(lengths), times)
    torch.testing.assert_close(out, torch.cat(expected), atol=1e-5, rtol=1e-5)
    block_of = nn.utils.rnn.pad_sequence(events, batch_first=True, padding_value=3.0)  # [B, L, D]
    newest = encoder.last(block_of, lengths, times)
    torch.testing.assert_close(newest, torch.stack([rows[-1] for rows in expected]), atol=1e-5, rtol=1e-5)


@every_block
@every_variant
def test_no_output_depends_on_a_later_event(block, variant):
    encoder = build(block, variant)
    x = torch.randn(1, 9, 12, requires_grad=True)
    out = every_event(encoder, x, times_like(torch.tensor([9]), 9))
    for now in range(9):
        (gradient,) = torch.autograd.grad(out[now].sum(), x, retain_graph=True)
        assert torch.count_nonzero(gradient[0, now + 1 :]) == 0
        assert torch.count_nonzero(gradient[0, : now + 1].abs().sum(-1)) == now + 1


@every_block
def test_no_output_depends_on_the_time_of_a_later_event(block):
    encoder = build(block, "both biases")
    x, times = torch.randn(1, 6, 12), times_like(torch.tensor([6]), 6)
    out = every_event(encoder, x, times)
    for now in range(1, 6):
        later = times.clone()
        later[0, now:] += 10**10
        changed = every_event(encoder, x, later)
        torch.testing.assert_close(changed[:now], out[:now], atol=0, rtol=0)
        assert (changed[now] - out[now]).abs().max() > 1e-3


@every_block
@every_variant
def test_padding_and_company_change_nothing(block, variant):
    encoder = build(block, variant)
    lengths = torch.tensor([5, 2])
    x, times = torch.randn(2, 5, 12), times_like(lengths, 5)
    wide = torch.cat([x, torch.full((2, 4, 12), 1e4)], dim=1)
    wide[1, 2:] = -1e4
    wide_times = torch.cat([times, torch.zeros(2, 4, dtype=torch.int64)], dim=1)
    wide_times[1, 2:] = 10**14
    layout = SequenceLayout.padded(lengths, 9)
    out = encoder(wide.flatten(0, 1), layout, wide_times).view(2, 9, 12)
    newest = encoder.last(wide, lengths, wide_times)
    packed = encoder(torch.cat([x[0], x[1, :2]]), SequenceLayout.packed(lengths), times)
    for row, length in enumerate(lengths.tolist()):
        alone = every_event(encoder, x[row : row + 1, :length], times[row : row + 1, :length])
        torch.testing.assert_close(out[row, :length], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(newest[row], alone[-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed[5 * row : 5 * row + length], alone, atol=1e-5, rtol=1e-5)


@every_block
@every_variant
def test_a_sequence_without_events_stays_finite_and_leaves_no_trace(block, variant):
    encoder = build(block, variant)
    lengths = torch.tensor([0, 3, 0])
    x = torch.randn(3, 3, 12, requires_grad=True)
    times = times_like(lengths, 3)
    out = encoder.last(x, lengths, times)
    assert torch.isfinite(out).all()
    (gradient,) = torch.autograd.grad(out[1].sum(), x, retain_graph=True)
    assert torch.count_nonzero(gradient[[0, 2]]) == 0
    # What is discarded later must not poison what is learned.
    (gradient,) = torch.autograd.grad(torch.where(lengths[:, None] > 0, out, 0.0).sum(), x)
    assert torch.isfinite(gradient).all()
    packed = encoder(x[1], SequenceLayout.packed(lengths), times)
    torch.testing.assert_close(packed[2], out[1], atol=1e-5, rtol=1e-5)
    assert encoder(x[1, :0], SequenceLayout.packed(lengths * 0), times[:, :1]).shape == (0, 12)


@every_block
def test_a_masked_position_has_no_weight(block):
    """Values that only masked positions hold never reach an output, however large."""
    encoder = build(block, "both biases")
    lengths = torch.tensor([2, 0])
    times = times_like(lengths, 4)
    small = torch.zeros(2, 4, 12)
    large = small.clone()
    large[0, 2:], large[1] = 1e6, 1e6
    out, out_large = (encoder.last(x, lengths, times)[0] for x in (small, large))
    torch.testing.assert_close(out, out_large, atol=0, rtol=0)


@every_block
def test_rotation_knows_distances_alone(block):
    encoder = build(block, "rms, rope")
    x = torch.randn(6, 12)
    layout = SequenceLayout.packed(torch.tensor([6]))
    moved = replace(layout, columns=layout.columns + 5)
    torch.testing.assert_close(encoder(x, moved), encoder(x, layout), atol=1e-5, rtol=1e-5)
    stretched = replace(layout, columns=layout.columns * 2)
    assert (encoder(x, stretched) - encoder(x, layout)).abs().max() > 1e-3


def test_rotation_needs_an_even_width():
    with pytest.raises(ValueError, match="even width"):
        EncoderOptions(width=9, blocks=1, heads=3, query_width=3, max_length=4, positions="rope")


def test_width_must_be_divisible_by_heads():
    with pytest.raises(ValueError, match="not divisible"):
        CausalSelfAttention(replace(OPTIONS, width=10))


def test_time_buckets_have_whole_edges():
    seconds = torch.tensor([0, 0.999, 1, 2.999, 3, 6.999, 7, 2**20 - 1.001, 2**20 - 1, 2.0**33], dtype=torch.float64)
    times = torch.cat([torch.zeros(1, dtype=torch.int64), (seconds * 1000).round().long()])
    buckets = time_buckets(times[None])[0, :, 0]
    assert buckets.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 19, 20, 31]
    assert time_buckets(times[None])[0, 0].tolist() == [0] * 11  # what follows is never looked at


@every_block
def test_a_block_is_pre_norm(block):
    """With silent branches the block is the identity, which a post-norm block is not."""
    encoder = build(block)
    module = encoder.blocks[0]
    silent = [module.out] if "hstu" in block else [module.attention.out]
    if "hstu" not in block:
        silent.append(module.feed_forward.out if block == "ligr" else module.feed_forward[-1])
    for linear in silent:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = 3 + torch.randn(4, 12)
    layout = SequenceLayout.packed(torch.tensor([4]))
    torch.testing.assert_close(module(x, encoder._context(layout, None)), x)


@every_block
@pytest.mark.parametrize("packed", [False, True])
def test_computing_blocks_again_gives_equal_gradients(block, packed):
    gradients = []
    for checkpointed in (False, True):
        encoder = build(block, "time, packed", packed=packed, checkpoint_activations=checkpointed, stochastic_depth=0.4)
        encoder.train()
        torch.manual_seed(3)
        lengths = torch.tensor([6, 3])
        x = torch.randn(9, 12, requires_grad=True)
        out = encoder(x, SequenceLayout.packed(lengths), times_like(lengths, 6))
        gradients.append(torch.autograd.grad(out.square().sum(), [x, *encoder.parameters()]))
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, again, atol=0, rtol=0)


def test_checkpointing_keeps_fewer_activations():
    def kept(checkpointed: bool) -> int:
        encoder = build("transformer", checkpoint_activations=checkpointed, dropout=0.0).train()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda value: saved.append(value.numel()) or value, lambda v: v):
            encoder(torch.randn(60, 12, requires_grad=True), SequenceLayout.packed(torch.tensor([10] * 6)))
        return sum(saved)

    assert kept(True) < kept(False) / 2


@every_block
def test_stochastic_depth_drops_branches_of_whole_sequences(block):
    """A dropped branch leaves its input; on the mean nothing changes; deeper blocks are dropped more often."""
    encoder = build(block, stochastic_depth=0.6, dropout=0.0)
    assert [module.branch.drop_share for module in encoder.blocks] == pytest.approx([0.3, 0.6])
    layout = SequenceLayout.packed(torch.full((4000,), 2))
    context = encoder._context(layout, None)
    branch = encoder.blocks[0].branch.train()
    x = torch.ones(8000, 3)
    torch.manual_seed(0)
    out = branch(x, context).view(4000, 2, 3)
    assert ((out == out[:, :1, :1]).flatten(1)).all()  # the whole sequence shares its fate
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert out.mean().item() == pytest.approx(1.0, abs=0.04)
    torch.testing.assert_close(branch.eval()(x, context), x, atol=0, rtol=0)
    few = SequenceLayout.packed(torch.tensor([3, 2]))
    events = torch.randn(5, 12)
    off, unlike = encoder(events, few), encoder.train()(events, few)
    torch.testing.assert_close(build(block)(events, few), off, atol=0, rtol=0)
    assert (unlike - off).abs().max() > 1e-3


@pytest.mark.parametrize("packed", [False, True])
def test_the_published_shape_of_hstu_can_be_built(packed):
    """16 blocks, 8 heads, queries 32 and values 64 wide."""
    options = EncoderOptions(
        width=16, blocks=16, heads=8, query_width=32, max_length=6, packed=packed, relative_bias=True, time_bias=True
    )
    encoder = SequenceEncoder(options, partial(HSTUBlock, attention="silu", value_width=64))
    assert encoder.blocks[15].gate_query_value_key.weight.shape == (2 * 8 * (32 + 64), 16)
    lengths = torch.tensor([3])
    assert torch.isfinite(encoder.last(torch.randn(1, 3, 16), lengths, times_like(lengths, 3))).all()


@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_16_bits_is_computed_in_32_on_the_cpu(biased):
    torch.manual_seed(0)
    context = AttentionContext(SequenceLayout.packed(torch.tensor([6, 6])))
    whole = [torch.randn(2, 2, 6, 4).bfloat16() for _ in range(3)]
    bias = torch.randn(1, 2, 6, 6) if biased else None
    exact = softmax_attention(*(part.float() for part in whole), bias, context)
    with torch.autocast("cpu", torch.bfloat16):
        out = softmax_attention(*whole, bias, context)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, rtol=0, atol=0)
