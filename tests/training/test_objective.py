"""The retrieval objective equals a loop over events written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import sequence_batch
from moerec.features.spec import FeatureSpec
from moerec.losses.balance import auxiliary_loss, z_loss
from moerec.models.sasrec import SASRecConfig
from moerec.nn.inputs import FeatureTable
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
    objective.model.encode_items_with_gate = lambda items=None: (vectors, None)
    objective.loss(stage, batch).backward()
    assert vectors.grad[COLD].abs().max() == 0
    assert vectors.grad[[item for item in range(2, NUM_INDICES) if item != COLD]].abs().sum(1).min() > 0


def balanced(kind: str, **balance: object) -> RetrievalObjective:
    """An objective whose items are mixed by a gate that leans."""
    objective, _ = make(20)
    torch.manual_seed(0)
    tower = {"id_dropout": 0, "gate": {"kind": "top_k", "k": 1, "balance": {"kind": kind, **balance}}}
    config = SASRecConfig(width=8, blocks=1, feed_forward=8, max_length=20, dropout=0.0, item_tower=tower)
    table = FeatureTable(
        (FeatureSpec(name="text", kind="vector"),), {"text": 4}, {"text": torch.randn(NUM_INDICES, 4)}, {}
    )
    model = config.build(objective.trained, table)
    with torch.no_grad():
        model.item_tower.fusion.gate.scores[-1].bias.copy_(torch.tensor([2.0, 0.0, 0.0, -1.0]))
    return replace(objective, model=model)


@pytest.mark.parametrize(("kind", "weight"), [("auxiliary", 0.3), ("z_loss", 0.2)])
def test_the_balance_of_the_item_towers_gate_counts_once_for_each_target(kind, weight):
    plain, with_balance = balanced("none"), balanced(kind, weight=weight)
    stage = RetrieverStageConfig(epochs=1, batch_size=2)
    for batch in plain.epoch(stage, 0, 0):
        gate = with_balance.model.item_tower.fusion.gate
        logits = gate.scores(
            with_balance.model.item_tower.fusion.norm(with_balance.model.item_tower.embed().flatten(1))
        )
        chosen = torch.nn.functional.one_hot(logits.argmax(1), 4).bool()
        mean = auxiliary_loss(logits, chosen) if kind == "auxiliary" else z_loss(logits)
        expected = plain.loss(stage, batch) + plain.targets(batch) * weight * mean
        torch.testing.assert_close(with_balance.loss(stage, batch), expected)
    gate.zero_grad()
    with_balance.loss(stage, batch).backward()
    assert gate.scores[-1].bias.grad.abs().sum() > 0
    torch.testing.assert_close(
        with_balance.model.eval() and with_balance.loss(stage, batch), plain.model.eval() and plain.loss(stage, batch)
    )


def test_a_balance_loss_evens_out_the_use_of_the_item_towers_experts():
    stage, largest = RetrieverStageConfig(epochs=1, batch_size=4), {}
    for kind, more in (("none", {}), ("auxiliary", {"weight": 1.0})):
        objective = balanced(kind, **more)
        optimizer = torch.optim.Adam(objective.model.parameters(), lr=0.02)
        for epoch in range(30):
            for batch in objective.epoch(stage, epoch, 0):
                optimizer.zero_grad()
                (objective.loss(stage, batch) / objective.targets(batch)).backward()
                optimizer.step()
        weights = objective.model.eval().item_tower.gate_weights()
        largest[kind] = float((weights > 0).float().mean(0).max())
    assert largest["none"] > 0.9
    assert largest["auxiliary"] < 0.7
