"""The retrieval objective equals a loop over events written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import sequence_batch
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSpec
from moerec.losses.balance import auxiliary_loss, z_loss
from moerec.losses.retrieval import FullSoftmaxConfig, Negatives
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
    # Every event is a target once, those of users with one event too.
    assert targets == sum(map(len, users))


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


SAMPLED = [
    {"kind": "sampled_softmax", "negatives": {"count": 4}},
    {"kind": "info_nce", "negatives": {"kind": "mixed", "count": 3}},
    {"kind": "bce", "negatives": {"count": 2, "shared": False}},
]


@pytest.mark.parametrize("loss", SAMPLED, ids=lambda loss: loss["kind"])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("max_length", [3, 20])
def test_a_sampled_loss_reads_only_the_items_that_it_needs_and_is_the_same(loss, exclude_seen, max_length, monkeypatch):
    objective, _ = make(max_length)
    stage = RetrieverStageConfig(epochs=1, batch_size=2, loss=loss | {"exclude_seen": exclude_seen})
    encode, asked = objective.model.encode_items_with_gate, []
    monkeypatch.setattr(
        objective.model, "encode_items_with_gate", lambda items=None: (asked.append(items), encode(items))[1]
    )
    for batch in objective.epoch(stage, 0, 0):
        found = []
        for size in (0, 10**6):
            # What counts as a small catalogue decides whether all of it is encoded.
            monkeypatch.setattr(
                type(objective.model), "num_indices", property(lambda _, size=size: size or NUM_INDICES)
            )
            torch.manual_seed(1)
            value = objective.loss(stage, batch)
            objective.model.zero_grad()
            value.backward()
            found.append((value, [parameter.grad.clone() for parameter in objective.model.parameters()]))
        (whole, gradients), (part, others) = found
        torch.testing.assert_close(whole, part)
        torch.testing.assert_close(gradients, others, atol=1e-5, rtol=1e-5)
        needed = set(asked[-1].tolist())
        assert needed >= {0, 1, *batch.items.tolist(), *batch.positives.tolist()} - {COLD}


def test_a_cold_item_is_never_drawn():
    objective, _ = make(20)
    stage = RetrieverStageConfig(epochs=1, batch_size=8, loss=SAMPLED[0])
    (batch,) = objective.epoch(stage, 0, 0)
    vectors = objective.model.encode_items().detach().requires_grad_()
    objective.model.encode_items_with_gate = lambda items=None: (vectors, None)
    for _ in range(20):
        objective.loss(stage, batch).backward()
    assert vectors.grad[COLD].abs().max() == 0


def test_what_is_known_by_its_id_alone_and_never_met_does_not_stand_before_what_was_learned():
    """A loss that judges each item by itself pushes all drawn items below 0, where a cold one would stay."""
    objective, users = make(20)
    loss = {"kind": "bce", "negatives": {"kind": "uniform", "count": 64, "shared": True}}
    stage = RetrieverStageConfig(epochs=1, batch_size=8, loss=loss)
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=0.02)
    torch.manual_seed(0)
    for epoch in range(60):
        for batch in objective.epoch(stage, epoch, 0):
            optimizer.zero_grad()
            (objective.loss(stage, batch) / objective.targets(batch)).backward()
            optimizer.step()
    scores = objective.model.eval().score(sequence_batch(users))  # [U, N]
    trained = objective.trained.clone()
    trained[:2] = False
    assert scores[:, trained].mean() < -1
    assert scores[:, COLD].mean() < scores[:, trained].mean()


@pytest.mark.parametrize("loss", [{}, *SAMPLED], ids=lambda loss: loss.get("kind", "full_softmax"))
def test_weights_of_events_are_repetitions_of_them(loss):
    """Weight 2 counts twice and weight 0 not at all, in the loss and in what it is divided by."""
    objective, users = make(20)
    ratings = np.concatenate([np.arange(len(user)) % 3 for user in users]).astype(float)
    objective = replace(objective, histories=replace(objective.histories, labels={"rating": ratings}))
    plain = RetrieverStageConfig(epochs=1, batch_size=8, loss=loss)
    stages = {
        name: RetrieverStageConfig.model_validate(
            {"epochs": 1, "batch_size": 8, "loss": loss, "action_weights": {"column": "rating", "weights": weights}}
        )
        for name, weights in {"0": {0: 1, 1: 0, 2: 0}, "1": {0: 0, 1: 1, 2: 0}, "2": {0: 0, 1: 0, 2: 1}}.items()
    }
    stages["all"] = RetrieverStageConfig.model_validate(
        {
            "epochs": 1,
            "loss": loss,
            "batch_size": 8,
            "action_weights": {"column": "rating", "weights": {1: 2.0, 2: 0.5}},
        }
    )
    values, targets = {}, {}
    for name, stage in stages.items():
        (batch,) = objective.epoch(stage, 0, 0)
        assert int((batch.weights > 0).sum() + (batch.first_weights > 0).sum()) <= len(ratings)
        # Each event's loss must not depend on which others count, so the negatives are fixed.
        values[name] = float(with_fixed_negatives(objective, stage, batch).detach())
        targets[name] = objective.targets(batch)
    assert values["all"] == pytest.approx(values["0"] + 2 * values["1"] + 0.5 * values["2"], rel=1e-5)
    assert targets["all"] == np.sum((ratings == 0) + 2.0 * (ratings == 1) + 0.5 * (ratings == 2))
    assert objective.targets(next(objective.epoch(plain, 0, 0))) == len(ratings)


def with_fixed_negatives(objective: RetrievalObjective, stage: RetrieverStageConfig, batch: object) -> torch.Tensor:
    def draw(population: object, positives: torch.Tensor) -> Negatives | None:
        if isinstance(stage.loss, FullSoftmaxConfig):
            return None
        items = torch.tensor([3, 4, 9])
        return Negatives(items, torch.zeros(3), NUM_INDICES - 3)

    object.__setattr__(stage.loss, "draw", draw)
    return objective.loss(stage, batch)


def test_an_unknown_column_and_cosines_without_their_tower_are_told_before_any_work():
    objective, _ = make(20)
    objective = replace(objective, histories=replace(objective.histories, labels={"rating": np.ones(17)}))
    weighed = {"epochs": 1, "action_weights": {"column": "ratings", "kind": "class_balanced"}}
    with pytest.raises(ConfigError, match=r"stage 'main': action_weights.column: .*did you mean 'rating'\?"):
        objective.check(RetrieverStageConfig.model_validate(weighed))
    cosine = RetrieverStageConfig(epochs=1, loss={"kind": "info_nce", "normalize": True})
    with pytest.raises(ConfigError, match=r"set retriever\.item_tower\.normalize: true too"):
        objective.check(cosine)
    tower = objective.model.item_tower
    tower.config = tower.config.model_copy(update={"normalize": True})
    objective.check(cosine)
    torch.testing.assert_close(objective.model.encode_items().norm(dim=1)[2:], torch.ones(NUM_INDICES - 2))
