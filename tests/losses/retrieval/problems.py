"""Small problems for losses."""

import torch

from moerec.config import discover
from moerec.losses.retrieval import ItemPopulation, NextItems, RetrievalLossConfig, SeenItems

T, ITEMS, WIDTH = 13, 11, 5


def loss_of(kind: str, **settings: object) -> RetrievalLossConfig:
    loss = discover("retrieval_loss", {"kind": kind} | settings)
    assert isinstance(loss, RetrievalLossConfig)
    return loss


def population() -> ItemPopulation:
    """Eleven items, of which number 4 is not trained."""
    trained = torch.ones(ITEMS, dtype=torch.bool)
    trained[4] = False
    counts = torch.arange(1, ITEMS + 1) ** 2
    counts[4] = 0
    return ItemPopulation.of(trained, counts)


def problem(loss: RetrievalLossConfig, seed: int = 0, *, seen: bool = False, weights: bool = False) -> NextItems:
    """Random events in 64 bits with negatives drawn for the loss."""
    torch.manual_seed(seed)
    users = torch.randn(T, WIDTH, dtype=torch.float64, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, dtype=torch.float64, requires_grad=True)
    positives = population().draw((T,), 1.0)
    met = SeenItems(
        torch.randint(-1, 8, (4, ITEMS), dtype=torch.int16),
        torch.randint(4, (T,)),
        torch.randint(0, 4, (T,), dtype=torch.int16),
    )
    return NextItems(
        users,
        items,
        positives,
        met if seen else None,
        torch.rand(T) if weights else None,
        loss.draw(population(), positives),
    )
