"""One test over every registered retriever and its variants: forward, backward, gradients, save, load, export."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import SequenceBatch, sequence_batch
from moerec.config import discover, implementations
from moerec.features.spec import FeatureSpec
from moerec.models.roles import Retriever
from moerec.models.saved import load_retriever, save_retriever
from moerec.nn.inputs import FeatureTable
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig
from tests.order_of_sums import sums_in_any_order

NUM_INDICES = 30
ENCODERS = {
    "sasrec": {"kind": "sasrec"},
    "ligr": {"kind": "ligr"},
    "hstu": {"kind": "hstu"},
    "hstu softmax": {"kind": "hstu", "attention": "softmax"},
}
OPTIONS = {
    "rms, rope": {"norm": "rms", "positions": "rope", "checkpoint_activations": True},
    "biases": {"positions": "none", "relative_bias": True, "time_bias": True},
    "time": {"time_bias": True, "relative_bias": False, "stochastic_depth": 0.3},
}
VARIANTS = {
    f"{name}, {option}": encoder | settings | {"packed": (place + row) % 2 == 0}
    for row, (name, encoder) in enumerate(ENCODERS.items())
    for place, (option, settings) in enumerate(OPTIONS.items())
} | {
    "hstu softmax": ENCODERS["hstu softmax"],
    "hstu of its own widths": {"kind": "hstu", "qk_width": 6, "value_width": 10, "heads": 3},
    "sasrec, padded": {"kind": "sasrec", "packed": False},
}
"""Settings by name; any other name is a kind with its defaults."""


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
    return discover("retriever", VARIANTS.get(kind, {"kind": kind})).build(trained, feature_table())


def with_learned_zeros(model: Retriever) -> Retriever:
    """What starts at zero (biases, the empty history) as if it had been trained; in evaluation mode."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model.eval()


def timed_batch(histories: list[list[int]]) -> SequenceBatch:
    """Histories with times that depend on nothing but a history's own length."""
    times = [10**12 + 10**3 * place**5 for history in histories for place in range(len(history))]
    return replace(sequence_batch(histories), timestamps=torch.tensor(times, dtype=torch.int64))


def padded_times(model: Retriever, batch: SequenceBatch) -> tuple[torch.Tensor, ...]:
    return (batch.padded(batch.timestamps),) if model.reads_times else ()


KINDS = sorted(implementations("retriever"))
every_retriever = pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
# An export takes seconds, so most variants are exported among the slow tests alone.
QUICKLY_EXPORTED = {"hstu softmax, biases"}
every_export = pytest.mark.parametrize(
    "kind",
    [*KINDS, *(pytest.param(name, marks=[] if name in QUICKLY_EXPORTED else pytest.mark.slow) for name in VARIANTS)],
)


@every_retriever
def test_every_parameter_gets_a_gradient(kind):
    model = build(kind)
    generator = np.random.default_rng(0)
    # The start of a history is longer than the window, so all positions are used.
    lengths = generator.integers(40, 80, size=12)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = generator.choice([item for item in range(2, NUM_INDICES) if item != 5], size=offsets[-1])
    times = np.cumsum(generator.integers(0, 10**7, size=len(items)))
    objective = RetrievalObjective(
        model, TrainHistories(items, offsets, times, NUM_INDICES), model.item_tower.trained, seed=0
    )
    stage = RetrieverStageConfig(epochs=1, batch_size=32)
    with sums_in_any_order() as unordered:
        for batch in objective.epoch(stage, 0, 0):
            objective.loss(stage, batch).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert not unordered  # the same recipe gives the same numbers, with any number of threads


@every_retriever
def test_saved_and_loaded_model_scores_the_same(kind, tmp_path):
    model = with_learned_zeros(build(kind))
    save_retriever(tmp_path, model)
    loaded = load_retriever(tmp_path)
    batch = timed_batch([[3, 4, 5], [], [7]])
    torch.testing.assert_close(loaded.score(batch), model.score(batch), rtol=0, atol=0)
    candidates = torch.tensor([[2, 9], [3, 3], [5, 4]])
    torch.testing.assert_close(loaded.score(batch, candidates), model.score(batch).gather(1, candidates))


@every_retriever
def test_scores_do_not_depend_on_the_company_in_the_batch(kind):
    model = with_learned_zeros(build(kind))
    histories = [[3, 4, 5], list(range(2, 29)) * 3, [], [7]]
    together = model.score(timed_batch(histories))
    for row, history in enumerate(histories):
        torch.testing.assert_close(model.score(timed_batch([history]))[0], together[row], atol=1e-5, rtol=1e-5)


@every_retriever
def test_user_vector_is_that_after_the_last_event(kind):
    model = with_learned_zeros(build(kind))
    batch = timed_batch([[3, 4, 5], [9], list(range(2, 20))])
    ends = batch.offsets[1:] - 1
    torch.testing.assert_close(model.encode_users(batch), model.encode_events(batch)[ends], atol=1e-5, rtol=1e-5)


@every_export
def test_export_gives_the_same_vectors(kind):
    model = with_learned_zeros(build(kind))

    class Padded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, items: torch.Tensor, lengths: torch.Tensor, times: torch.Tensor | None = None
        ) -> torch.Tensor:
            if times is None:
                return self.model.encode_padded(items, lengths)
            return self.model.encode_padded(items, lengths, timestamps=times)

    batch = timed_batch([[3, 4, 5], [9], [2, 8]])
    users = torch.export.Dim("users", min=2, max=4096)
    arguments = (batch.padded_items(), batch.lengths, *padded_times(model, batch))
    shapes = {name: {0: users} for name in ("items", "lengths", "times")[: len(arguments)]}
    exported = torch.export.export(Padded(), arguments, dynamic_shapes=shapes).module()
    other = timed_batch([[3, 4, 5], [], [2, 8], [6], [3, 3]])
    out = exported(other.padded_items(), other.lengths, *padded_times(model, other))
    torch.testing.assert_close(out, model.encode_users(other), atol=1e-5, rtol=1e-5)
