"""The chunked softmax equals the plain one, in value and gradient, with and without seen items."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from moerec.batches.sequences import sequence_batch
from moerec.losses.retrieval import FullSoftmaxConfig, NextItems, SeenItems
from moerec.losses.retrieval.seen import NEVER
from tests.losses.retrieval.problems import seen_items


def problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(23, 6, generator=generator, requires_grad=True)
    items = torch.randn(11, 6, generator=generator, requires_grad=True)
    return users, items, torch.randint(11, (23,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 7, 23, 1000])
@pytest.mark.parametrize("with_seen", [False, True])
def test_equals_plain_cross_entropy(chunk, with_seen):
    users, items, positives = problem(chunk)
    first = torch.randint(-1, 8, (4, 11), dtype=torch.int16)
    rows, places = torch.randint(4, (23,)), torch.randint(0, 6, (23,), dtype=torch.int16)
    seen = seen_items(first, rows, places) if with_seen else None
    logits = users @ items.T
    if with_seen:
        mask = first[rows] <= places[:, None]
        mask[torch.arange(23), positives] = False
        logits = logits.masked_fill(mask, -torch.inf)
    expected = F.cross_entropy(logits, positives, reduction="sum")
    loss = FullSoftmaxConfig(chunk=chunk)(NextItems(users, items, positives, seen))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, (users, items)), torch.autograd.grad(3 * expected, (users, items)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_seen_item_is_not_pushed_away_and_an_unseen_one_is():
    users, items, _ = problem(0)
    first = torch.full((1, 11), NEVER, dtype=torch.int16)
    first[0, 3] = -1
    seen = seen_items(first, torch.zeros(23, dtype=torch.int64), torch.zeros(23, dtype=torch.int16))
    FullSoftmaxConfig()(NextItems(users, items, torch.full((23,), 5), seen)).backward()
    assert items.grad[3].abs().max() == 0
    assert items.grad[4].abs().max() > 0


def test_meetings_of_a_hand_case():
    batch = sequence_batch([[4, 2, 4], [3]])
    batch = replace(batch, earlier=torch.tensor([5, 5, 2]), earlier_offsets=torch.tensor([0, 1, 3]))
    nobody = torch.zeros(0, dtype=torch.int64)
    first = SeenItems.of(batch.meetings(), 2, 6, nobody, nobody).table().first_met
    never = NEVER
    assert first.tolist() == [[never, never, 1, never, 0, -1], [never, never, -1, 0, never, -1]]


def test_a_sequence_that_is_too_long_is_refused_and_not_wrapped_around():
    nobody = torch.zeros(0, dtype=torch.int64)
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="shorter than 32767 events"):
        SeenItems.of((one, one, one + NEVER), 1, 3, nobody, nobody)


def test_met_items_take_no_more_memory_than_the_setting_says():
    """A table of all sequences and items would take 2 bytes for each of 4,000 x 50,000 pairs."""
    rows = torch.arange(4000)
    met = rows, rows % 50_000, torch.zeros(4000, dtype=torch.int64)
    seen = SeenItems.of(met, 4000, 50_000, rows, torch.zeros(4000, dtype=torch.int16))
    numbers = sum(value.numel() for value in vars(seen).values() if isinstance(value, torch.Tensor))
    assert numbers < 5 * 4001
    users, items = torch.randn(4000, 4), torch.randn(50_000, 4)
    held = []
    whole = SeenItems._first_met
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeenItems, "_first_met", lambda self, rows: held.append(whole(self, rows)) or held[-1])
        FullSoftmaxConfig(memory_mb=8)(NextItems(users[:100], items, torch.zeros(100, dtype=torch.int64), seen))
    assert max(table.numel() for table in held) * (2 + 2 + 4 + 4) <= 8 * 2**20
