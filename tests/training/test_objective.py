"""The retrieval objective equals a loop over events written out by hand."""

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import sequence_batch
from moerec.models.sasrec import SASRecConfig
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig

NUM_INDICES = 15
COLD = 7


def make(max_length: int) -> tuple[RetrievalObjective, list[list[int]]]:
    torch.manual_seed(0)
    trained = torch.ones(NUM_INDICES, dtype=torch.bool)
    trained[[0, 1, COLD]] = False
    model = SASRecConfig(width=8, blocks=1, feed_forward=8, max_length=max_length, dropout=0.0).build(trained)
    torch.nn.init.normal_(model.empty_history)
    torch.nn.init.normal_(model.item_tower.id_embedding.weight)
    warm = [item for item in range(2, NUM_INDICES) if item != COLD]
    generator = np.random.default_rng(0)
    users = [generator.choice(warm, size=size).tolist() for size in (9, 2, 1, 5)]
    offsets = np.cumsum([0, *map(len, users)])
    histories = TrainHistories(np.concatenate(users), offsets, None, NUM_INDICES)
    return RetrievalObjective(model, histories, trained, seed=3), users


def loss_of(vector: torch.Tensor, items: torch.Tensor, positive: int, seen: set[int]) -> torch.Tensor:
    candidates = [item for item in range(2, NUM_INDICES) if item != COLD and (item not in seen or item == positive)]
    logits = torch.stack([vector @ items[item] for item in candidates])
    return torch.logsumexp(logits, 0) - vector @ items[positive]


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("max_length", [3, 20])
def test_equals_a_loop_over_events(exclude_seen, max_length):
    objective, users = make(max_length)
    stage = RetrieverStageConfig(epochs=1, batch_size=2, loss={"exclude_seen": exclude_seen})
    items = objective.model.encode_items()
    expected, targets = torch.zeros(()), 0
    ours = torch.zeros(())
    for batch in objective.epoch(stage, 0, 0):
        ours = ours + objective.loss(stage, batch)
        targets += objective.targets(batch)
        for row in range(len(batch)):
            window = batch.items[batch.offsets[row] : batch.offsets[row + 1]].tolist()
            history = users[int(batch.users[row])]
            start = int(batch.earlier_offsets[row + 1] - batch.earlier_offsets[row])
            assert history[start : start + len(window)] == window
            # The whole window at once: positions count from its end.
            vectors = objective.model.encode_events(sequence_batch([window]))
            for place in range(len(window)):
                seen = set(history[: start + place + 1]) if exclude_seen else set()
                expected = expected + loss_of(vectors[place], items, history[start + place + 1], seen)
            if start == 0:
                expected = expected + loss_of(objective.model.empty_history, items, history[0], set())
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-5)
    # Every event of a user with two events or more is a target once.
    assert targets == sum(len(user) for user in users if len(user) > 1)


def test_a_cold_item_is_no_negative():
    objective, _ = make(20)
    stage = RetrieverStageConfig(epochs=1, batch_size=8)
    (batch,) = objective.epoch(stage, 0, 0)
    vectors = objective.model.encode_items().detach().requires_grad_()
    objective.model.encode_items = lambda items=None: vectors
    objective.loss(stage, batch).backward()
    assert vectors.grad[COLD].abs().max() == 0
    assert vectors.grad[[item for item in range(2, NUM_INDICES) if item != COLD]].abs().sum(1).min() > 0
