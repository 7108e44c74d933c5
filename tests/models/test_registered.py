"""One test over every registered retriever: forward, backward, gradients, save, load, export."""

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import sequence_batch
from moerec.config import discover, implementations
from moerec.features.spec import FeatureSpec
from moerec.models.roles import Retriever
from moerec.models.saved import load_retriever, save_retriever
from moerec.nn.inputs import FeatureTable
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig

NUM_INDICES = 30


def feature_table() -> FeatureTable:
    generator = torch.Generator().manual_seed(0)
    specs = (
        FeatureSpec(name="genres", kind="multi"),
        FeatureSpec(name="year", kind="dense"),
        FeatureSpec(name="text", kind="vector"),
    )
    columns = {
        "genres": torch.randint(0, 6, (NUM_INDICES, 3), generator=generator),
        "year": torch.randn(NUM_INDICES, generator=generator),
        "text": torch.randn(NUM_INDICES, 8, generator=generator),
    }
    present = {name: torch.arange(NUM_INDICES) % 4 > 0 for name in ("year", "text")}
    return FeatureTable(specs, {"genres": 6, "year": 1, "text": 8}, columns, present)


def build(kind: str) -> Retriever:
    torch.manual_seed(0)
    trained = torch.ones(NUM_INDICES, dtype=torch.bool)
    trained[[0, 1, 5]] = False
    return discover("retriever", {"kind": kind}).build(trained, feature_table())


every_retriever = pytest.mark.parametrize("kind", sorted(implementations("retriever")))


@every_retriever
def test_every_parameter_gets_a_gradient(kind):
    model = build(kind)
    generator = np.random.default_rng(0)
    # The start of a history is longer than the window, so all positions are used.
    lengths = generator.integers(40, 80, size=12)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = generator.choice([item for item in range(2, NUM_INDICES) if item != 5], size=offsets[-1])
    objective = RetrievalObjective(
        model, TrainHistories(items, offsets, None, NUM_INDICES), model.item_tower.trained, seed=0
    )
    stage = RetrieverStageConfig(epochs=1, batch_size=32)
    for batch in objective.epoch(stage, 0, 0):
        objective.loss(stage, batch).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@every_retriever
def test_saved_and_loaded_model_scores_the_same(kind, tmp_path):
    model = build(kind).eval()
    save_retriever(tmp_path, model)
    loaded = load_retriever(tmp_path)
    batch = sequence_batch([[3, 4, 5], [], [7]])
    torch.testing.assert_close(loaded.score(batch), model.score(batch), rtol=0, atol=0)
    candidates = torch.tensor([[2, 9], [3, 3], [5, 4]])
    torch.testing.assert_close(loaded.score(batch, candidates), model.score(batch).gather(1, candidates))


@every_retriever
def test_scores_do_not_depend_on_the_company_in_the_batch(kind):
    model = build(kind).eval()
    histories = [[3, 4, 5], list(range(2, 29)) * 3, [], [7]]
    together = model.score(sequence_batch(histories))
    for row, history in enumerate(histories):
        torch.testing.assert_close(model.score(sequence_batch([history]))[0], together[row], atol=1e-5, rtol=1e-5)


@every_retriever
def test_user_vector_is_that_after_the_last_event(kind):
    model = build(kind).eval()
    batch = sequence_batch([[3, 4, 5], [9], list(range(2, 20))])
    ends = batch.offsets[1:] - 1
    torch.testing.assert_close(model.encode_users(batch), model.encode_events(batch)[ends], atol=1e-5, rtol=1e-5)


@every_retriever
def test_export_gives_the_same_vectors(kind):
    model = build(kind).eval()

    class Padded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return self.model.encode_padded(items, lengths)

    batch = sequence_batch([[3, 4, 5], [9], [2, 8]])
    users = torch.export.Dim("users", min=2, max=4096)
    exported = torch.export.export(
        Padded(), (batch.padded_items(), batch.lengths), dynamic_shapes={"items": {0: users}, "lengths": {0: users}}
    ).module()
    other = sequence_batch([[3, 4, 5], [], [2, 8], [6], [3, 3]])
    out = exported(other.padded_items(), other.lengths)
    torch.testing.assert_close(out, model.encode_users(other), atol=1e-5, rtol=1e-5)
