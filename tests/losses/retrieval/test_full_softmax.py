"""The chunked softmax equals the plain one, in value and gradient, with and without seen items."""

import pytest
import torch
from torch.nn import functional as F

from moerec.batches.sequences import sequence_batch
from moerec.losses.retrieval import FullSoftmaxConfig, NextItems, SeenItems


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
    seen = SeenItems(first, rows, places) if with_seen else None
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
    first = torch.full((1, 11), 99, dtype=torch.int16)
    first[0, 3] = -1
    seen = SeenItems(first, torch.zeros(23, dtype=torch.int64), torch.zeros(23, dtype=torch.int16))
    FullSoftmaxConfig()(NextItems(users, items, torch.full((23,), 5), seen)).backward()
    assert items.grad[3].abs().max() == 0
    assert items.grad[4].abs().max() > 0


def test_first_seen_of_a_hand_case():
    batch = sequence_batch([[4, 2, 4], [3]])
    first = batch.first_seen(6)
    never = first[0, 0]
    assert first.tolist() == [[never, never, 1, never, 0, never], [never, never, never, 0, never, never]]
    assert int(never) > 10**4
