"""Workers make the very batches that are made without them, end with the training, and tell what went wrong."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from moerec.batches.example_loader import ExampleLoader
from moerec.batches.examples import ExampleBatch, ExampleSchema, ExampleTable, Gathered
from moerec.batches.histories import TrainHistories
from moerec.batches.loader import SequenceLoader
from moerec.batches.sequences import SequenceBatch
from moerec.batches.shared_copy import SharedCopy
from moerec.batches.workers import BatchStream
from moerec.errors import ConfigError, MoerecError
from moerec.features.spec import FeatureSpec


def loader(**changes) -> SequenceLoader:
    lengths = np.random.default_rng(0).geometric(0.1, 60)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    histories = TrainHistories(np.arange(offsets[-1]) + 2, offsets, np.arange(offsets[-1]), int(offsets[-1]) + 2)
    return SequenceLoader(**{"histories": histories, "max_length": 7, "batch_size": 8, "seed": 1} | changes)


def example_loader() -> ExampleLoader:
    specs = (FeatureSpec(name="genre", kind="categorical"), FeatureSpec(name="age", kind="dense"))
    table = ExampleTable(
        schema=ExampleSchema(specs, {"genre": 5, "age": 1}),
        users=np.arange(40),
        items=np.arange(40),
        timestamps=None,
        negative=np.zeros(40, np.bool_),
        labels={},
        columns={
            "genre": Gathered(np.arange(5, dtype=np.int32), np.arange(40) % 5),
            "age": np.linspace(0, 1, 40, dtype=np.float32),
        },
        present={"age": np.arange(40) % 3 > 0},
    )
    labels, masks = {"like": np.arange(40, dtype=np.float32)}, {"like": np.arange(40) % 2 > 0}
    return ExampleLoader(table, np.arange(5, 38), labels, masks, batch_size=8, seed=2)


def plain(batch: SequenceBatch | ExampleBatch) -> dict[str, object]:
    """Everything in a batch as plain data."""
    return {
        name: {key: part.tolist() for key, part in value.items()} if isinstance(value, dict) else value.tolist()
        for name, value in vars(batch).items()
        if value is not None
    }


def workers_of_this_process() -> set[int]:
    """Processes that this one has started afresh and that still run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@dataclass
class Failing:
    """A source whose second batch cannot be made."""

    error: type[Exception]

    def batches_per_epoch(self, epoch):
        return 3

    def batches(self, epoch):
        return self

    def __len__(self):
        return 3

    def __getitem__(self, number):
        if number == 1:
            raise self.error("no such\nbatch")
        return torch.tensor(number)


def test_workers_make_the_same_batches_and_end():
    packed = loader(batch_size=None, batch_events=30, windows="last")
    sources = [loader(), packed, Failing(KeyError), Failing(ConfigError), example_loader()]
    with BatchStream(sources) as here, BatchStream(sources, workers=2) as there:
        state = torch.get_rng_state()
        for stage, epoch, start in ((0, 0, 0), (0, 1, 5), (1, 0, 2), (1, 1, 10**6), (4, 0, 1)):
            expected = [plain(batch) for batch in here.epoch(stage, epoch, start)]
            assert [plain(batch) for batch in there.epoch(stage, epoch, start)] == expected
        next(there.epoch(0, 2))  # left before its end, as when a stage has had its updates
        again = [plain(batch) for batch in there.epoch(0, 3)]
        assert again == [plain(batch) for batch in here.epoch(0, 3)]
        assert torch.equal(state, torch.get_rng_state()), "dropout must not depend on workers"
        for stage, said in (
            (2, r"^training.workers: .* batch 1 of epoch 5 \(KeyError: .*\); write.*$"),
            (3, "^no such\n"),
        ):
            with pytest.raises(MoerecError, match=said) as caught:
                list(there.epoch(stage, 4))
            assert stage == 3 or "\n" not in str(caught.value)
        running = workers_of_this_process()
        assert len(running) == 2
        os.kill(min(running), signal.SIGKILL)
        with pytest.raises(MoerecError, match=r"^training.workers: a worker process is no more .*$"):
            list(there.epoch(0, 5))
    assert not workers_of_this_process()


def test_arrays_are_shared_and_not_copied():
    values = {"a": np.arange(1000), "b": [np.zeros((0, 3)), np.array([True, False])], "c": np.asfortranarray(np.eye(3))}
    shared = SharedCopy.of(values)
    assert len(shared.plain) < 2000
    one, other = shared.value(), shared.value()
    assert one["a"].tolist() == list(range(1000))
    assert one["b"][0].shape == (0, 3)
    assert one["b"][1].tolist() == [True, False]
    assert one["c"].tolist() == np.eye(3).tolist()
    one["a"][5] = -1
    assert other["a"][5] == -1
    assert values["a"][5] == 5
