"""Small problems for losses."""

import torch

from moerec.config import discover
from moerec.losses.retrieval import ItemPopulation, NextItems, RetrievalLossConfig, SeenItems
from moerec.losses.retrieval.seen import NEVER

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


def seen_items(first_met: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> SeenItems:
    """From a table [B, N] of when each sequence first met each item, NEVER for never; some meet it later once more."""
    sequences, items = (first_met < NEVER).nonzero(as_tuple=True)
    times = first_met[sequences, items]
    again = torch.arange(0, len(items), 3)
    met = (
        torch.cat([sequences[again], sequences]),
        torch.cat([items[again], items]),
        torch.cat([times[again] + 2, times]),
    )
    return SeenItems.of(met, len(first_met), first_met.shape[1], rows, places)


def problem(loss: RetrievalLossConfig, seed: int = 0, *, seen: bool = False, weights: bool = False) -> NextItems:
    """Random events in 64 bits with negatives drawn for the loss."""
    torch.manual_seed(seed)
    users = torch.randn(T, WIDTH, dtype=torch.float64, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, dtype=torch.float64, requires_grad=True)
    positives = population().draw((T,), 1.0)
    first_met = torch.randint(-1, 8, (4, ITEMS), dtype=torch.int16)
    met = seen_items(first_met, torch.randint(4, (T,)), torch.randint(0, 4, (T,), dtype=torch.int16))
    return NextItems(
        users,
        items,
        positives,
        met if seen else None,
        torch.rand(T) if weights else None,
        loss.draw(population(), positives),
    )
