"""Negatives are drawn as they say, and logQ undoes how they were drawn."""

import numpy as np
import pytest
import torch

from moerec.errors import ConfigError
from moerec.losses.retrieval import ItemPopulation, NegativesConfig, NextItems
from tests.losses.retrieval.problems import ITEMS, loss_of, population

KINDS = [
    NegativesConfig(kind="uniform", count=20),
    NegativesConfig(kind="popularity", count=20),
    NegativesConfig(kind="popularity", count=20, power=1.0),
    NegativesConfig(kind="uniform", count=2, shared=False),
    NegativesConfig(kind="popularity", count=2, shared=False),
    NegativesConfig(kind="in_batch"),
    NegativesConfig(kind="mixed", count=6),
    NegativesConfig(kind="mixed", count=6, power=0.75),
]


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_expected_counts_are_those_of_many_draws(config):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    shares = population().counts / population().counts.sum()
    met, expected = torch.zeros(ITEMS), torch.full((ITEMS,), torch.nan)
    rounds, events = 400, 10
    for _ in range(rounds):
        positives = torch.multinomial(shares, events, replacement=True, generator=generator)
        drawn = config.draw(population(), positives)
        assert drawn.shared == config.is_shared
        counts = torch.ones(drawn.items.shape) if drawn.counts is None else drawn.counts
        met.index_add_(0, drawn.items.flatten(), counts.flatten().float())
        expected[drawn.items.flatten()] = drawn.log_expected.exp().flatten()
    assert met[4] == 0  # not trained
    met, expected = np.delete(met.numpy(), 4), np.delete(expected.numpy(), 4)
    if not config.is_shared:
        rounds *= events
    # A count of many draws has about the variance of its mean.
    assert (np.abs(met - rounds * expected) < 4.5 * np.sqrt(rounds * expected) + 1).all()
    assert expected.sum() == pytest.approx(
        config.drawn + (events if config.kind in ("in_batch", "mixed") else 0), rel=1e-5
    )


def test_a_seed_decides_the_draw():
    config = NegativesConfig(kind="mixed", count=30, power=0.75)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(config.draw(population(), torch.tensor([2, 3])).counts)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_million_items_of_very_unequal_counts():
    counts = torch.ones(10**6, dtype=torch.int64)
    counts[:3] = 10**6
    everything = ItemPopulation.of(torch.ones(10**6, dtype=torch.bool), counts)
    torch.manual_seed(0)
    drawn = everything.draw((20_000,), 1.0)
    assert [(drawn == head).float().mean().item() for head in range(3)] == pytest.approx([0.25] * 3, abs=0.015)
    assert (drawn > 500_000).float().mean().item() == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize("config", [KINDS[0], KINDS[2], KINDS[3], KINDS[6]], ids=str)
def test_with_log_q_the_gradient_is_that_of_the_full_softmax_on_average(config):
    """The sum over negatives has the right mean, so with many of them the gradient comes near the full one."""
    torch.manual_seed(0)
    events = 64
    users, items = torch.randn(events, 3) * 0.7, (torch.randn(ITEMS, 3) * 0.7).requires_grad_()
    positives = population().draw((events,), 1.0)
    trained = population().items
    row = torch.full((ITEMS,), -1)
    row[trained] = torch.arange(len(trained))
    full = loss_of("full_softmax")(NextItems(users, items[trained], row[positives]))
    (wanted,) = torch.autograd.grad(full, items)
    many = config.model_copy(update={"count": 40 * (config.count or 1)})
    found = {}
    for log_q in (True, False):
        loss = loss_of("sampled_softmax", negatives=many, log_q=log_q)
        total = torch.zeros_like(items)
        for seed in range(30):
            torch.manual_seed(seed)
            # Fresh positives with each draw are what in-batch negatives assume; the loss is that of the fixed ones.
            drawn = loss.draw(population(), population().draw((events,), 1.0))
            total += torch.autograd.grad(loss(NextItems(users, items, positives, negatives=drawn)), items)[0]
        found[log_q] = ((total / 30 - wanted).norm() / wanted.norm()).item()
    assert found[True] < 0.05
    assert found[False] > 3 * found[True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "in_batch", "count": 5}, "in_batch draws nothing"),
        ({"kind": "mixed", "shared": False}, "mixed: the positives of a batch are shared"),
        ({"kind": "uniform", "power": 0.5}, "uniform has no power"),
        ({"kind": "unifrom"}, "kind"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        loss_of("sampled_softmax", negatives=settings)


@pytest.mark.parametrize(
    ("kind", "negatives", "size", "shared"),
    [
        ("sampled_softmax", {}, 512, True),
        ("info_nce", {}, 512, True),
        ("info_nce", {"kind": "uniform"}, 512, True),
        ("gbce", {}, 256, True),
        ("bce", {}, 1, False),
        ("bpr", {"kind": "popularity"}, 1, False),
        ("bce", {"kind": "in_batch"}, 0, True),
        ("bce", {"kind": "mixed"}, 512, True),
        ("bce", {"count": 3, "shared": True}, 3, True),
    ],
)
def test_each_loss_has_defaults_of_its_own(kind, negatives, size, shared):
    chosen = loss_of(kind, negatives=negatives).negatives
    assert (chosen.drawn, chosen.is_shared) == (size, shared)
